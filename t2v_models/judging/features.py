"""Features B: what a small network of our own sees in a clip, `(n, 32)`. Trained by `feature_training`, numpy only.

The network looks at one frame at a time and tells eight numbers from its pixels; it has no part in common with the
reader, and has never seen a motion. A clip is described by four moments of these numbers along time: their mean, which
is what it looks like, their slope, which is where it leads, and how large their second and third differences are.
Frames out of order, lost or shaken make large differences, pixels spoilt alike in every frame move the mean. So time
counts by construction: features of appearance are nearly blind to it (Ge et al. 2024), and learned ones of whole clips
were so here. No generator is trained on them.

Every stage folds neighbouring pixels into channels and multiplies, so the same lines run on numpy and on torch.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

WEIGHTS = Path(__file__).with_name("features.safetensors")
"""float16; `python -m t2v_models.judging.feature_training` makes it again."""
FRAMES, SIZE = 10, 32
"""What the network looks at; clips of another length show the nearest frames, of another size are averaged."""
FOLDS = (4, 8, 1, 1)
"""Pixels along each side that every stage folds into one place: 32 px become 8, then 1 and stay 1."""
NUMBERS = ("x", "y", "size", "red", "green", "blue", "blur", "noise")
"""Of a frame: place and four times the radius, -1 to 1 across the frame; darkness of the object as shown, 0 to 1; how
strong blur and noise are, 0 to 1 of what `feature_training` calls full strength."""
CHUNK = 64
"""Clips at once. All are looked at in chunks of this size, so that equal clips give equal bits."""


def prepare(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Clips `(n, t, h, w, 3)` as darkness `(n, 10, 32, 32, 3)`, 0 on the white background to 1."""
    n, t, h, w, _ = frames.shape
    chosen = frames[:, np.rint(np.linspace(0, t - 1, FRAMES)).astype(np.intp)]
    return darkness(chosen.reshape(-1, h, w, 3)).reshape(n, FRAMES, SIZE, SIZE, 3)


def darkness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Frames `(n, h, w, 3)` as darkness `(n, 32, 32, 3)`, 0 on the white background to 1."""
    n, h, w, _ = frames.shape
    if (h, w) != (SIZE, SIZE):
        # frames below one another: none mixes with the next, for each becomes a whole number of rows
        strip = cv2.resize(frames.reshape(-1, w, 3), (SIZE, n * SIZE), interpolation=cv2.INTER_AREA)
        frames = np.asarray(strip, np.uint8).reshape(n, SIZE, SIZE, 3)
    return np.asarray(1 - frames.astype(np.float32) / 255, np.float32)


def code(x: Any, weights: Mapping[str, Any]) -> Any:
    """The network on numpy arrays or torch tensors: frames of darkness `(n, 32, 32, 3)` to `NUMBERS`, `(n, 8)`.

    Stage k has weights `(channels in, channels out)` and is rectified unless it is the last.
    """
    for k, fold in enumerate(FOLDS):
        n, h, w, c = x.shape
        x = x.reshape(n, h // fold, fold, w // fold, fold, c).swapaxes(2, 3)
        x = x.reshape(n, h // fold, w // fold, fold * fold * c) @ weights[f"weight{k}"] + weights[f"bias{k}"]
        if k < len(FOLDS) - 1:
            x = x.clip(0, None)
    return x.reshape(len(x), -1)


def along_time(codes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Codes `(n, t, c)` along time: mean, slope, and root mean squares of second and third differences, `(n, 4 c)`.

    Two neighbours that change places count 2.2 times a turn of the path of equal size in second differences, 3 times
    in third ones; a constant error of the codes counts in neither.
    """
    codes = codes.astype(np.float64)
    ramp = np.arange(codes.shape[1]) - (codes.shape[1] - 1) / 2
    slope = np.einsum("t,ntc->nc", ramp / np.linalg.norm(ramp), codes)
    bends = [np.sqrt((np.diff(codes, order, axis=1) ** 2).mean(1)) for order in (2, 3)]
    return np.concatenate([codes.mean(1), slope, *bends], 1)


@cache
def _weights() -> dict[str, NDArray[np.float64]]:
    """In double precision, so that the order in which a processor adds shows in the last digits only."""
    return {name: array.astype(np.float64) for name, array in load(WEIGHTS.read_bytes()).items()}


@cache
def features_digest() -> str:
    """16 hex digits that change when any weight does."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]


def features(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features B of clips `(n, t, h, w, 3)` of any size and length: `(n, 32)`."""
    assert frames.dtype == np.uint8 and frames.ndim == 5, (frames.dtype, frames.shape)
    parts = []
    for i in range(0, len(frames), CHUNK):
        clips = prepare(frames[i : i + CHUNK])
        codes = code(clips.reshape(-1, SIZE, SIZE, 3), _weights())
        parts.append(along_time(codes.reshape(len(clips), FRAMES, -1)))
    return np.concatenate(parts)
