"""People's films and pictures as clips of several shapes: the size nearest to their own, as long as they can be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from t2v_models.clips.media import to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.export import export, to_npz
from t2v_models.shards.forms import chosen, with_chosen_sizes
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.isolated import in_turn
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.sources import Source, list_sources
from t2v_models.shards.spool import spool_path
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.shards.windows import Job, nearest
from tests.tiny import noise, put, put_frames, rejects


def shapes(sizes: list[tuple[int, int]], lengths: list[int]) -> list[ClipSpec]:
    return [ClipSpec(height=h, width=w, frames=t) for h, w in sizes for t in lengths]


OPTIONS = IngestOptions(shapes=tuple(shapes([(16, 16), (16, 32)], [6, 4, 1])), validation=0, clips_per_shard=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    put(folder, "a.npz", to_npz(noise(0, 17), 10))  # 6 and 6 and 4, and 1 is left
    put(folder, "b.webp", to_webp(noise(1, 5, 16, 32), 10), b"a wide dog")  # 4
    put(folder, "c.npz", to_npz(noise(2, 3, 16, 32), 10))  # too short
    put_frames(folder / "d", noise(3, 6, 18, 32), "frames")  # 6, wide
    for number, size in enumerate([(16, 16), (32, 16), (16, 16)]):
        put(folder, f"pictures/{number}.png", b"", b"a picture")
        Image.fromarray(noise(7 + number, 1, size[1], size[0])[0]).save(folder / f"pictures/{number}.png")
    return folder


@pytest.fixture(scope="module")
def out(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "out"
    ingest(source, out, OPTIONS)
    return out


def test_each_source_goes_to_its_shape_and_keeps_its_pixels(out: Path) -> None:
    manifest = Manifest.load(out)
    counts = {spec.name: len(rows) for spec, rows in zip(manifest.shapes, manifest.buckets, strict=True)}
    assert counts == {"16x16x6": 2, "16x16x4": 1, "16x16x1": 2, "32x16x6": 1, "32x16x4": 1, "32x16x1": 1}
    assert manifest.spec.name == "16x16x6" and verify(out) == []
    store, table = ClipStore(manifest), manifest.table.to_pylist()
    for row, told in enumerate(table):
        frames = store.frames([row])[0]
        assert frames.shape == (told["frames"], told["height"], told["width"], 3)
        if told["source"] == "a.npz":
            first = told["source_frame"]
            np.testing.assert_array_equal(frames, noise(0, 17)[first : first + len(frames)])
    assert [t["source_frame"] for t in table if t["source"] == "a.npz"] == [0, 6, 12]
    assert len({told["key"] for told in table}) == len(table) == manifest.config.clips
    assert all(
        len({(t["frames"], t["height"], t["width"]) for t in table if t["shard"] == s.name}) == 1
        for s in manifest.shards
    )
    assert rejects(out) == {"c.npz": "it has 3 frames at 10 frames per second; a clip needs 4"}


def test_it_is_left_alone_when_complete_and_grows_by_new_files(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ingest(source, out, OPTIONS)
    before = {path.name: path.read_bytes() for path in out.glob("shard-*")}
    assert ingest(source, out, OPTIONS) == first
    with pytest.raises(LabError, match="another dataset"):
        ingest(source, out, OPTIONS.model_copy(update={"shapes": OPTIONS.shapes[:3]}))
    more = tmp_path / "more"
    for number in range(5):
        put(more, f"{number}.npz", to_npz(noise(20 + number, 4), 10))
    added = ingest(more, out, OPTIONS, add=True)
    assert added.train == first.train + 5 and verify(out) == []
    manifest = Manifest.load(out)
    assert len(manifest.buckets[1]) == 6 and manifest.spec.name == "16x16x6", "what it is called by stays"
    assert all((out / name).read_bytes() == content for name, content in before.items())


def test_exported_clips_come_back_as_they_were(out: Path, tmp_path: Path) -> None:
    store = ClipStore(Manifest.load(out))
    for kind in ("webp", "png"):
        export(store, tmp_path / kind, kind)
        ingest(tmp_path / kind, tmp_path / f"back-{kind}", OPTIONS)
        back = ClipStore(Manifest.load(tmp_path / f"back-{kind}"))
        assert sorted(back.frames([row]).tobytes() for row in range(len(back))) == sorted(
            store.frames([row]).tobytes() for row in range(len(store))
        )


def test_the_nearest_size_is_of_the_nearest_form_and_not_larger() -> None:
    found = shapes([(64, 64), (32, 32), (36, 64)], [4])
    for width, height, name in ((500, 500, "64x64x4"), (40, 40, "32x32x4"), (8, 8, "32x32x4"), (1920, 1080, "64x36x4")):
        assert nearest(found, width, height).name == name


def test_without_a_length_of_one_pictures_stay_frames(source: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"shapes": tuple(shapes([(16, 16), (16, 32)], [6, 4]))})
    ingest(source, tmp_path / "out", options)
    assert {path for path in rejects(tmp_path / "out") if path.startswith("pictures")} == {"pictures"}
    with pytest.raises(ValidationError, match="the shape 16x16x4 is named twice"):
        IngestOptions(shapes=(ClipSpec(size=16, frames=4), ClipSpec(size=16, frames=4)))


def test_sizes_are_chosen_by_the_forms_of_the_files() -> None:
    wide, tall, square = 16 / 9, 9 / 16, 1.0
    assert chosen([square] * 9, 64 * 64) == [(64, 64)]
    assert chosen([wide] * 9 + [tall] * 5, 64 * 64) == [(48, 88), (88, 48)]
    assert chosen([wide] * 9 + [tall] * 5 + [square] * 7 + [2.4], 64 * 64) == [(48, 88), (64, 64), (88, 48)]
    forms = list(np.exp(np.random.default_rng(0).normal(0.2, 0.4, 300)))
    for pixels in (32 * 32, 64 * 64, 256 * 256):
        sizes = chosen(forms, pixels)
        assert 2 <= len(sizes) <= 5 and all(h % 8 == w % 8 == 0 for h, w in sizes)
        assert all(abs(h * w / pixels - 1) < 0.16 for h, w in sizes)
        kept = [max(min(form * h / w, w / h / form) for h, w in sizes) for form in forms]
        assert np.mean(kept) > 0.85


def test_an_ingest_chooses_its_sizes(source: Path, tmp_path: Path) -> None:
    sources = [*list_sources(source, images=True).sources, Source("none.mp4", source / "none.mp4", ())]
    jobs = [Job(item, spool_path(tmp_path, number)) for number, item in enumerate(sources)]
    options = IngestOptions(shapes=tuple(shapes([(24, 24)], [6, 4, 1])), validation=0)
    found, files = with_chosen_sizes(options, jobs, in_turn)
    assert files == {(16, 32): 4, (24, 24): 3}
    assert [spec.name for spec in found.shapes] == [f"{size}x{t}" for size in ("32x16", "24x24") for t in (6, 4, 1)]
    assert ingest(source, tmp_path / "out", found).train == 8
    alone, _ = with_chosen_sizes(IngestOptions(spec=ClipSpec(size=24, frames=4)), jobs[1:2], in_turn)
    assert alone.spec.name == "32x16x4" and not alone.shapes
    with pytest.raises(LabError, match="none of 1 files can be opened"):
        with_chosen_sizes(options, jobs[-1:], in_turn)
