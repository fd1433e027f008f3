"""A dataset to a folder of media files, each with its caption in a text file beside it: what fine-tuners read.

`t2v ingest` reads such a folder back; WebP and npz keep every pixel.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from t2v_models.config import LabError, near
from t2v_models.files import write
from t2v_models.media import to_gif, to_mp4, to_webp
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import clip_key

Kind = Literal["mp4", "gif", "webp", "npz"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]


def to_npz(frames: NDArray[np.uint8], fps: float) -> bytes:
    """An archive of `frames`, uint8 `(t, h, w, 3)`, and `fps`."""
    content = io.BytesIO()
    np.savez_compressed(content, frames=frames, fps=np.float64(fps))
    return content.getvalue()


def export(
    manifest: Manifest, out: Path, kind: str, on_clip: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Write every clip as `KEY.KIND` with its caption in `KEY.txt`; returns their number.

    Files that are there are written again, so a broken export is finished by another one.

    Raises:
        LabError: an unknown kind; the folder holds files of something else, or cannot be written.
    """
    encoders = {"mp4": to_mp4, "gif": to_gif, "webp": to_webp, "npz": to_npz}
    if kind not in encoders:
        raise LabError(f"unknown kind {kind!r}: {near(kind, KINDS)}")
    store = ClipStore(manifest)
    names = {clip_key(row) + suffix for row in range(len(store)) for suffix in (f".{kind}", ".txt")}
    strangers = sorted(p.name for p in out.iterdir() if p.name not in names) if out.is_dir() else []
    if strangers:
        raise LabError(f"{out} holds other files ({strangers[0]}): choose an empty folder")
    for row, caption in enumerate(store.captions):
        path = out / f"{clip_key(row)}.{kind}"
        write(path, encoders[kind](store.frames([row])[0], manifest.spec.fps))
        write(path.with_suffix(".txt"), caption + "\n")
        on_clip(row + 1, len(store))
    return len(store)
