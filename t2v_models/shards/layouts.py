"""Folders as fine-tuners read them: clips as mp4 with captions beside, and the file that tells the loader of them.

Their models take frames in fours and one, and sides in sixteens: the file asks for the most of both that a clip has,
and the clips are written whole. Where each rule stands is in docs/own-clips.md.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import write
from t2v_models.shards.export import Captioned, export
from t2v_models.shards.write import clip_key

CLIPS, CACHE = "clips", "cache"
"""Folders inside one of these: the clips; what the loader keeps."""
LEAST_FRAMES = 5
Shapes = Sequence[tuple[int, int, int]]
"""Frames, height and width that are learnt."""


@dataclass(frozen=True)
class Layout:
    """What a fine-tuner reads."""

    config: str
    """Name of the file that it is given."""
    text: Callable[[Path, Shapes], str]
    """The content of that file, for a folder with clips of some shapes."""
    several: bool = False
    """Whether each line of a clip's text is a caption; else there is only the first."""
    table: bool = False
    """Whether captions also stand in a table beside the clips."""


def export_for(
    tuner: str, store: Captioned, out: Path, on_clip: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Write every clip, and the file that is to be named to the fine-tuner: last, so that it stands for the whole.

    Returns:
        The number of clips.

    Raises:
        LabError: clips are too short; the folder holds something else, or cannot be written.
    """
    layout, clips = LAYOUTS[tuner], out / CLIPS
    if short := [spec.name for spec in store.shapes if spec.frames < LEAST_FRAMES]:
        raise LabError(
            f"there are clips of the shape {short[0]}, and models that {tuner} trains take {LEAST_FRAMES} frames or "
            "more: leave short ones out, or export them as --kind png"
        )
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if path.name not in (CLIPS, CACHE, layout.config):
            raise LabError(f"{out} holds other files ({path.name}): choose an empty folder")
    captions = store.captions if layout.several else [caption.split("\n")[0] for caption in store.captions]
    beside = {METADATA} if layout.table else set[str]()
    count = export(store, clips, "mp4", on_clip, captions, beside)
    if layout.table:
        write(clips / METADATA, _table(captions))
    write(out / layout.config, layout.text(out.resolve(), sorted({_learnt(spec) for spec in store.shapes})))
    return count


METADATA = "metadata.csv"


def _learnt(spec: ClipSpec) -> tuple[int, int, int]:
    """Frames, height and width that models of latents can take of a clip."""
    return (spec.frames - 1) // 4 * 4 + 1, spec.height // 16 * 16, spec.width // 16 * 16


def _table(captions: Sequence[str]) -> str:
    content = io.StringIO()
    rows = csv.writer(content, lineterminator="\n")
    rows.writerow(("file_name", "caption"))
    rows.writerows((f"{clip_key(row)}.mp4", caption) for row, caption in enumerate(captions))
    return content.getvalue()


def _finetrainers(out: Path, shapes: Shapes) -> str:
    one = {"data_root": str(out / CLIPS), "dataset_type": "video", "video_resolution_buckets": shapes}
    return json.dumps({"datasets": [one | {"reshape_mode": "bicubic"}]}, indent=2)


def _diffusion_pipe(out: Path, shapes: Shapes) -> str:
    buckets = [[width, height, frames] for frames, height, width in shapes]
    return _toml({"size_buckets": buckets}) + _toml({"path": str(out / CLIPS), "num_repeats": 1}, "[[directory]]")


def _musubi_tuner(out: Path, shapes: Shapes) -> str:
    sizes = {(width, height) for _, height, width in shapes}
    general = {
        "resolution": max(sizes, key=lambda size: size[0] * size[1]), "caption_extension": ".txt", "batch_size": 1,
        "enable_bucket": len(sizes) > 1, "bucket_no_upscale": False,
    }  # fmt: skip
    films = {
        "video_directory": str(out / CLIPS), "cache_directory": str(out / CACHE),
        "target_frames": sorted({frames for frames, _, _ in shapes}), "frame_extraction": "head",
    }  # fmt: skip
    return _toml(general, "[general]") + _toml(films, "[[datasets]]")


def _simple_tuner(out: Path, shapes: Shapes) -> str:
    side, frames = min(min(shape[1:]) for shape in shapes), min(frames for frames, _, _ in shapes)
    clips = {
        "id": "clips", "type": "local", "dataset_type": "video", "instance_data_dir": str(out / CLIPS),
        "caption_strategy": "textfile", "metadata_backend": "discovery", "crop": False, "resolution": side,
        "resolution_type": "pixel", "minimum_image_size": side, "cache_dir_vae": str(out / CACHE / "vae"),
        "repeats": 0, "video": {"num_frames": frames, "min_frames": frames},
    }  # fmt: skip
    texts = {
        "id": "captions", "type": "local", "dataset_type": "text_embeds", "default": True,
        "cache_dir": str(out / CACHE / "text"),
    }  # fmt: skip
    return json.dumps([clips, texts], indent=2)


def _toml(values: Mapping[str, object], head: str = "") -> str:
    """A table of TOML, whose words, numbers and lists are those of JSON."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([head, *lines] if head else lines) + "\n\n"


LAYOUTS = {
    "finetrainers": Layout("training.json", _finetrainers, table=True),
    "diffusion-pipe": Layout("dataset.toml", _diffusion_pipe),
    "musubi-tuner": Layout("dataset.toml", _musubi_tuner),
    "SimpleTuner": Layout("multidatabackend.json", _simple_tuner, several=True),
}
