"""Folders for fine-tuners, read back as the documentation of each loader says, and by `t2v ingest`."""

import csv
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from t2v_models.clips import media
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.layouts import LAYOUTS, export_for
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from tests.tiny import put, smooth

SHAPES = ClipSpec(height=32, width=48, frames=6, fps=8), ClipSpec(height=36, width=32, frames=10, fps=8)
CAPTIONS = ['a "wide" clip, of one\na ramp that moves', "höher als breit"]
Read = tuple[list[tuple[Path, list[str]]], list[tuple[int, int, int]]]
"""Films with their captions, and frames, height and width of every bucket."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    folder = tmp_path_factory.mktemp("own")
    for number in range(4):
        spec, caption = SHAPES[number % 2], CAPTIONS[number % 2]
        pixels = smooth(number, spec.frames, spec.height, spec.width)
        put(folder / "films", f"{number}.npz", to_npz(pixels, spec.fps), caption.encode())
    ingest(folder / "films", folder / "data", IngestOptions(shapes=SHAPES, validation=0))
    return ClipStore(Manifest.load(folder / "data"))


def pairs(folder: str, several: bool = False) -> list[tuple[Path, list[str]]]:
    """Films in a folder, each with what stands in the text of its name."""
    films = sorted(Path(folder).glob("*.mp4"))
    texts = [film.with_suffix(".txt").read_text(encoding="utf-8").strip() for film in films]
    return [(film, text.split("\n") if several else [text]) for film, text in zip(films, texts, strict=True)]


def by_finetrainers(out: Path) -> Read:
    """docs/dataset/README.md: a `metadata.csv`, of file_name and caption, goes before pairs of names; buckets are
    frames, height, width."""
    (one,) = json.loads((out / "training.json").read_text())["datasets"]
    assert one["dataset_type"] == "video"
    root = Path(one["data_root"])
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        found = [(root / row["file_name"], [row["caption"]]) for row in csv.DictReader(file)]
    assert found == pairs(one["data_root"])
    return found, [tuple(bucket) for bucket in one["video_resolution_buckets"]]


def by_diffusion_pipe(out: Path) -> Read:
    """examples/dataset.toml, utils/dataset.py: every file of the folder that is neither text nor JSON is opened as a
    film; buckets are width, height, frames, those of a directory before those of all."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    films, buckets = [], []
    for one in config["directory"]:
        assert {path.suffix for path in Path(one["path"]).iterdir()} == {".mp4", ".txt"}
        for film, captions in pairs(one["path"]):
            pixels, _ = opened(film)
            taken = taken_by_diffusion_pipe(one["size_buckets"], *pixels.shape[:3])
            frames, height, width = pixels.shape[:3]
            assert taken == ((frames - 1) // 4 * 4 + 1, height // 16 * 16, width // 16 * 16), (film, pixels.shape)
            films.append((film, captions))
            buckets.append(taken)
    return films, buckets


def taken_by_diffusion_pipe(buckets: list[list[int]], frames: int, height: int, width: int) -> tuple[int, ...] | None:
    """Frames, height and width of the bucket that a film comes into, or None where it is dropped.

    As utils/dataset.py has it, its slip as well: buckets go from long to short, and of them those are tried, in this
    order, whose places are the places of the nearest ratios in a list of the different ratios, which go up.
    """
    longest_first = sorted(buckets, key=lambda bucket: -bucket[2])
    ratios = sorted({round(w / h, 3) for w, h, _ in buckets})
    nearest = sorted(range(len(ratios)), key=lambda place: abs(np.log(width / height) - np.log(ratios[place])))
    for w, h, most in (longest_first[place] for place in nearest):
        if most <= frames:
            return most, h, w
    return None


def by_musubi_tuner(out: Path) -> Read:
    """docs/dataset_config.md; config_utils.py refuses keys that it does not know. One resolution, width first, whose
    area is that of all buckets."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    (one,), general = config["datasets"], config["general"]
    assert general.keys() <= {"resolution", "caption_extension", "batch_size", "enable_bucket", "bucket_no_upscale"}
    assert one.keys() == {"video_directory", "cache_directory", "target_frames", "frame_extraction"}
    assert general["enable_bucket"] and general["caption_extension"] == ".txt" and one["frame_extraction"] == "head"
    width, height = general["resolution"]
    assert (width, height) == (48, 32)
    return pairs(one["video_directory"]), [(frames, height, width) for frames in one["target_frames"]]


def by_simple_tuner(out: Path) -> Read:
    """documentation/DATALOADER.md: each line is a caption; clips of fewer frames, or of shorter sides, are left out."""
    clips, texts = json.loads((out / "multidatabackend.json").read_text())
    assert texts["dataset_type"] == "text_embeds" and texts["default"] and clips["dataset_type"] == "video"
    assert clips["caption_strategy"] == "textfile" and clips["resolution_type"] == "pixel"
    assert clips["minimum_image_size"] == clips["resolution"] == 32
    frames = clips["video"]["num_frames"]
    return pairs(clips["instance_data_dir"], several=True), [(frames, 32, 32)]


READERS: dict[str, Callable[[Path], Read]] = {
    "finetrainers": by_finetrainers, "diffusion-pipe": by_diffusion_pipe, "musubi-tuner": by_musubi_tuner,
    "SimpleTuner": by_simple_tuner,
}  # fmt: skip


@pytest.mark.parametrize("tuner", LAYOUTS)
def test_a_folder_is_what_its_loader_reads_and_comes_back(tuner: str, store: ClipStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second time over the first
        assert export_for(tuner, store, out) == 4
    films, buckets = READERS[tuner](out)
    several = LAYOUTS[tuner].several
    for (film, captions), row in zip(films, rows_in_order(tuner, store), strict=True):
        assert captions == (store.captions[row].split("\n") if several else store.captions[row].split("\n")[:1])
        pixels, fps = opened(film)
        exact = store.frames([row])[0]
        assert pixels.shape == exact.shape and fps == 8, "all frames, even sides as they are"
        assert np.abs(pixels.astype(int) - exact).mean() < 4
        assert any(pixels.shape[0] >= frames for frames, _, _ in buckets), "no film is too short for every bucket"
    for frames, height, width in buckets:
        assert frames % 4 == 1 and frames >= 5 and height % 16 == width % 16 == 0
    assert {frames for frames, _, _ in buckets} == ({5} if tuner == "SimpleTuner" else {5, 9})

    ingest(out, tmp_path / "back", IngestOptions(shapes=SHAPES, validation=0))
    back = ClipStore(Manifest.load(tmp_path / "back"))
    assert sorted(back.captions) == sorted("\n".join(captions) for _, captions in films)
    for rows, own in zip(back.manifest.buckets, store.manifest.buckets, strict=True):
        assert np.abs(back.frames(rows).astype(int) - store.frames(own)).mean() < 4


def rows_in_order(tuner: str, store: ClipStore) -> list[int]:
    """Those of the films: of a loader that has a folder for each shape, shape by shape."""
    rows = range(len(store.captions))
    return sorted(rows, key=lambda row: store.shapes.index(store.spec_of(row))) if LAYOUTS[tuner].apart else list(rows)


@pytest.mark.parametrize("shapes", [
    [(32, 32, 6), (32, 32, 10)], [(64, 32, 10), (32, 32, 6)], [(64, 64, 10), (32, 32, 10)],
    [(32, 64, 17), (64, 32, 9), (32, 32, 5), (32, 32, 9)],
])  # fmt: skip
def test_each_shape_comes_into_its_own_bucket_of_diffusion_pipe(shapes: list[tuple[int, int, int]]) -> None:
    specs = [ClipSpec(width=width, height=height, frames=frames) for width, height, frames in shapes]
    found = tomllib.loads(LAYOUTS["diffusion-pipe"].text(Path("/data"), specs))
    assert "size_buckets" not in found and len({one["path"] for one in found["directory"]}) == len(shapes)
    for (width, height, frames), one in zip(shapes, found["directory"], strict=True):
        taken = taken_by_diffusion_pipe(one["size_buckets"], frames, height, width)
        assert taken == ((frames - 1) // 4 * 4 + 1, height, width)


def opened(film: Path) -> tuple[np.ndarray, float]:
    """As OpenCV reads it, which most of these loaders use in the end."""
    capture = cv2.VideoCapture(str(film))
    fps, pictures = capture.get(cv2.CAP_PROP_FPS), []
    while (picture := capture.read())[0]:
        pictures.append(picture[1][..., ::-1])
    return np.stack(pictures), fps


def test_short_clips_and_foreign_files_are_refused_before_anything_is_written(store: ClipStore, tmp_path: Path) -> None:
    with pytest.raises(
        LabError, match=r"clips of the shape 16x16x4, and models that musubi-tuner trains take 5 frames"
    ):
        export_for("musubi-tuner", Few(), tmp_path / "few")
    assert not (tmp_path / "few").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.md").touch()
    with pytest.raises(LabError, match=r"holds other files \(notes.md\)"):
        export_for("SimpleTuner", store, tmp_path / "full")


class Few:
    captions = ("a clip",)
    spec = ClipSpec(size=16, frames=4)
    shapes = (spec,)

    def spec_of(self, row: int) -> ClipSpec:
        return self.spec

    def frames(self, rows: Any) -> np.ndarray:
        raise AssertionError(rows)


FORMS = pytest.mark.parametrize(("height", "width", "fps"), [(17, 33, 7), (16, 16, 60), (18, 250, 1)])


def full_range(height: int, width: int) -> np.ndarray:
    """A ramp from black to white below, and greys that change with time above."""
    clip = np.empty((9, height, width, 3), np.uint8)
    clip[:] = np.linspace(0, 255, width).astype(np.uint8)[:, None]
    clip[:, : height // 2] = np.arange(9, dtype=np.uint8)[:, None, None, None] * 28
    return clip


@FORMS
def test_films_of_ours_have_their_size_rate_and_range_for_others(
    height: int, width: int, fps: int, tmp_path: Path
) -> None:
    clip = full_range(height, width)
    (tmp_path / "ours.mp4").write_bytes(media.to_mp4(clip, fps))
    pixels, rate = opened(tmp_path / "ours.mp4")
    assert rate == fps and pixels.shape == (9, height + height % 2, width + width % 2, 3)
    assert near(pixels[:, :height, :width], clip) < 3
    assert pixels.min() < 4 and pixels.max() > 251, "black is black and white is white"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@FORMS
def test_diffusers_reads_ours_and_we_what_it_writes(height: int, width: int, fps: int, tmp_path: Path) -> None:
    utils = pytest.importorskip("diffusers.utils", reason="the extra `pretrained` is not installed")
    clip = full_range(height, width)
    (tmp_path / "ours.gif").write_bytes(media.to_gif(clip, 10))
    pictures, rate = utils.load_video(str(tmp_path / "ours.gif"), return_fps=True)
    assert rate == 10 and near(np.stack([picture.convert("RGB") for picture in pictures]), clip) < 5

    # what it is given must be numbers from 0 to 1: it multiplies bytes by 255 as well
    film = Path(utils.export_to_video(list(clip.astype(np.float32) / 255), str(tmp_path / "theirs.mp4"), fps=fps))
    theirs = media.decode(film.read_bytes(), fps=fps)
    assert near(theirs, clip[:, : theirs.shape[1], : theirs.shape[2]]) < 6 and len(theirs) == 9


def near(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("tuner", ["musubi-tuner", "finetrainers"])
def test_clips_of_another_dataset_are_not_written_over(tuner: str, store: ClipStore, tmp_path: Path) -> None:
    put(tmp_path / "films", "0.npz", to_npz(smooth(9, 6, 32, 48), 8), b"another caption")
    ingest(tmp_path / "films", tmp_path / "data", IngestOptions(shapes=SHAPES[:1], validation=0))
    export_for(tuner, ClipStore(Manifest.load(tmp_path / "data")), tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(
        LabError, match="holds clips of something else .000000000.txt is another caption.: choose an empty"
    ):
        export_for(tuner, store, tmp_path / "out")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


def test_what_a_loader_made_of_earlier_clips_is_told_of(store: ClipStore, tmp_path: Path, caplog) -> None:
    export_for("musubi-tuner", store, tmp_path / "out")
    put(tmp_path / "out" / "cache", "latents.safetensors", b"of those clips")
    assert not caplog.text
    export_for("musubi-tuner", store, tmp_path / "out")
    assert "cache holds what musubi-tuner made of clips that lay here: remove it" in caplog.text
