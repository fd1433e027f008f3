"""Captioned clips to a folder of media files, each with its caption in a text file beside it: what fine-tuners read.

`t2v ingest` reads such a folder back; WebP, npz and folders of PNG frames keep every pixel.
"""

import io
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v_models.clips.media import to_gif, to_mp4, to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError, near
from t2v_models.files import write
from t2v_models.shards.write import clear_stale, clip_key

Kind = Literal["mp4", "gif", "webp", "npz", "png"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]


def to_npz(frames: NDArray[np.uint8], fps: float) -> bytes:
    """An archive of `frames`, uint8 `(t, h, w, 3)`, and `fps`."""
    content = io.BytesIO()
    np.savez_compressed(content, frames=frames, fps=np.float64(fps))
    return content.getvalue()


class Captioned(Protocol):
    """Clips and what they show: of a dataset, or of a model that makes them when they are asked for."""

    @property
    def captions(self) -> Sequence[str]:
        """One a clip; a clip's several stand in lines."""

    @property
    def spec(self) -> ClipSpec:
        """Of all clips, or of the most."""

    @property
    def shapes(self) -> Sequence[ClipSpec]:
        """One, or several."""

    def spec_of(self, row: int) -> ClipSpec:
        """Of one clip."""

    def frames(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Clips of these numbers, `(b, t, h, w, 3)`."""


def export(
    store: Captioned,
    out: Path,
    kind: str,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
    captions: Sequence[str] | None = None,
    beside: Set[str] = frozenset(),
) -> int:
    """Write every clip as `KEY.KIND`, or as frames in a folder `KEY`, with its caption in `KEY.txt`.

    Args:
        store: the clips.
        out: the folder.
        kind: of the files.
        on_clip: is told how many are written, of how many.
        captions: in place of those of the clips.
        beside: names of other files that may be there.

    Returns:
        The number of clips.

    Files that are there are written again, so a broken export is finished by another one.

    Raises:
        LabError: an unknown kind; the folder holds files of something else, or cannot be written.
    """
    if kind not in KINDS:
        raise LabError(f"unknown kind {kind!r}: {near(kind, KINDS)}")
    captions = store.captions if captions is None else captions
    _require_own(out, store, kind, beside, captions)
    for row, caption in enumerate(captions):
        frames = store.frames([row])[0]
        for name, content in _files(frames, store.spec.fps, kind):
            write(out / f"{clip_key(row)}{name}", content)
        write(out / f"{clip_key(row)}.txt", caption + "\n")
        on_clip(row + 1, len(store.captions))
    return len(store.captions)


def _require_own(out: Path, store: Captioned, kind: str, beside: Set[str], captions: Sequence[str]) -> None:
    """Refuse a folder with files or captions that this export would not write; those of a killed one are removed."""
    own = "" if kind == "png" else f".{kind}"
    names = {clip_key(row) + suffix for row in range(len(store.captions)) for suffix in (own, ".txt")}
    frames = {_frame_name(number) for number in range(max(spec.frames for spec in store.shapes))}
    for folder in (out, *(path for path in out.glob("*") if kind == "png" and path.is_dir())):
        clear_stale(folder / "[0-9]*")
        allowed = names if folder == out else frames
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in allowed | beside:
                raise LabError(f"{out} holds other files ({path.relative_to(out)}): choose an empty folder")
    for row, caption in enumerate(captions):
        text = out / f"{clip_key(row)}.txt"
        if text.is_file() and text.read_bytes() != f"{caption}\n".encode():
            raise LabError(
                f"{out} holds clips of something else ({text.name} is another caption): choose an empty folder"
            )


def _frame_name(number: int) -> str:
    return f"{number:04d}.png"


def _files(frames: NDArray[np.uint8], fps: float, kind: str) -> Iterator[tuple[str, bytes]]:
    """The files of a clip: what follows its key in their names, and their bytes."""
    if kind != "png":
        encode = {"mp4": to_mp4, "gif": to_gif, "webp": to_webp, "npz": to_npz}[kind]
        yield f".{kind}", encode(frames, fps)
        return
    for number, frame in enumerate(frames):
        content = io.BytesIO()
        Image.fromarray(frame).save(content, "PNG")
        yield f"/{_frame_name(number)}", content.getvalue()
