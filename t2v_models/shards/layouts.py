"""Folders as fine-tuners read them: clips as mp4 with captions beside, and the file that tells the loader of them.

Their models take frames in fours and one, and sides in sixteens: the file asks for the most of both that a clip has,
and the clips are written whole. Where each rule stands is in docs/own-clips.md.
"""

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import write
from t2v_models.shards.export import Captioned, export
from t2v_models.shards.write import clip_key

log = logging.getLogger(__name__)
CLIPS, CACHE = "clips", "cache"
"""Folders inside one of these: the clips; what the loader keeps."""
LEAST_FRAMES = 5
METADATA = "metadata.csv"
Shapes = Sequence[ClipSpec]
"""Of the clips."""


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
    apart: bool = False
    """Whether clips of several shapes lie in a folder for each."""


@dataclass(frozen=True)
class _Part:
    """Some clips of a store, all of one shape."""

    whole: Captioned
    spec: ClipSpec
    rows: Sequence[int]

    @property
    def captions(self) -> Sequence[str]:
        return [self.whole.captions[row] for row in self.rows]

    @property
    def shapes(self) -> Sequence[ClipSpec]:
        return (self.spec,)

    def spec_of(self, row: int) -> ClipSpec:
        return self.spec

    def frames(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        return self.whole.frames([self.rows[row] for row in rows])


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
    if any((out / CACHE).rglob("*")):
        log.warning(
            "%s holds what %s made of clips that lay here: remove it, unless they are the same", out / CACHE, tuner
        )
    total, done = len(store.captions), 0
    for folder, part in _parts(store, clips) if layout.apart else [(clips, store)]:
        captions = part.captions if layout.several else [caption.split("\n")[0] for caption in part.captions]
        tell = partial(_of_all, on_clip, done, total)
        done += export(part, folder, "mp4", tell, captions, {METADATA, CACHE})
        if layout.table:
            write(folder / METADATA, _table(captions))
    write(out / layout.config, layout.text(out.resolve(), store.shapes))
    return done


def _of_all(on_clip: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    on_clip(before + done, total)


def _parts(store: Captioned, clips: Path) -> Iterator[tuple[Path, Captioned]]:
    """Where clips of each shape lie, and those."""
    for shape in store.shapes:
        rows = [row for row in range(len(store.captions)) if store.spec_of(row) == shape]
        yield _folder(clips, shape, store.shapes), _Part(store, shape, rows)


def _folder(clips: Path, shape: ClipSpec, shapes: Shapes) -> Path:
    return clips / shape.name if len(shapes) > 1 else clips


def _buckets(shapes: Shapes) -> list[tuple[int, int, int]]:
    """What is learnt of clips, each once."""
    return sorted(set(map(_learnt, shapes)))


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
    one = {"data_root": str(out / CLIPS), "dataset_type": "video", "video_resolution_buckets": _buckets(shapes)}
    return json.dumps({"datasets": [one | {"reshape_mode": "bicubic"}]}, indent=2)


def _diffusion_pipe(out: Path, shapes: Shapes) -> str:
    """A directory for each shape, with its bucket alone: of several the loader may take one of other sides or none,
    for it looks them up by places in a list of the different ratios of sides."""
    text = ""
    for shape in shapes:
        frames, height, width = _learnt(shape)
        place = str(_folder(out / CLIPS, shape, shapes))
        one = {"path": place, "num_repeats": 1, "size_buckets": [[width, height, frames]]}
        text += _toml(one, "[[directory]]")
    return text


def _musubi_tuner(out: Path, shapes: Shapes) -> str:
    sizes = {(width, height) for _, height, width in _buckets(shapes)}
    general = {
        "resolution": max(sizes, key=lambda size: size[0] * size[1]), "caption_extension": ".txt", "batch_size": 1,
        "enable_bucket": len(sizes) > 1, "bucket_no_upscale": False,
    }  # fmt: skip
    films = {
        "video_directory": str(out / CLIPS), "cache_directory": str(out / CACHE),
        "target_frames": sorted({frames for frames, _, _ in _buckets(shapes)}), "frame_extraction": "head",
    }  # fmt: skip
    return _toml(general, "[general]") + _toml(films, "[[datasets]]")


def _simple_tuner(out: Path, shapes: Shapes) -> str:
    buckets = _buckets(shapes)
    side, frames = min(min(sides) for _, *sides in buckets), min(frames for frames, _, _ in buckets)
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
    "diffusion-pipe": Layout("dataset.toml", _diffusion_pipe, apart=True),
    "musubi-tuner": Layout("dataset.toml", _musubi_tuner),
    "SimpleTuner": Layout("multidatabackend.json", _simple_tuner, several=True),
}
