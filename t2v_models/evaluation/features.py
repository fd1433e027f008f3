"""Features B: what a small network of our own sees in a clip, `(n, 32)`. Trained by `feature_training`, numpy only.

It names the motion, shape and colour, measures the path, and says how much of each kind of damage it sees, damage to
time included: features of appearance alone are nearly blind to motion (Ge et al. 2024). No generator is trained on it.
Every step folds neighbouring pixels into channels and multiplies, so the same lines run on numpy and on torch.
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
"""float16; `python -m t2v_models.evaluation.feature_training` makes it again."""
FRAMES, SIZE = 10, 32
"""What the network looks at; clips of another length show the nearest frames, of another size are averaged."""
FOLDS = (4, 2, 2, 2, 1)
"""Pixels along each side that every stage folds into one place: 32 px become 8, 4, 2, 1 and stay 1."""
CHUNK = 64
"""Clips at once. All are looked at in chunks of this size, so that equal clips give equal bits."""


def prepare(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Clips `(n, t, h, w, 3)` as ink `(n, 10, 32, 32, 3)`, 0 on the white ground to 1."""
    n, t, h, w, _ = frames.shape
    chosen = frames[:, np.rint(np.linspace(0, t - 1, FRAMES)).astype(np.intp)]
    if (h, w) != (SIZE, SIZE):
        # frames below one another: none mixes with the next, for each becomes a whole number of rows
        strip = cv2.resize(chosen.reshape(-1, w, 3), (SIZE, n * FRAMES * SIZE), interpolation=cv2.INTER_AREA)
        chosen = np.asarray(strip, np.uint8).reshape(n, FRAMES, SIZE, SIZE, 3)
    return np.asarray(1 - chosen.astype(np.float32) / 255, np.float32)


def forward(ink: Any, weights: Mapping[str, Any]) -> Any:
    """The network on numpy arrays or torch tensors: `(n, 10, 32, 32, 3)` to `(n, 32)`.

    Stage k has weights `(frames, channels in, channels out)`: it looks at so many frames at once, and is rectified
    unless it is the last.
    """
    x = ink
    for k, fold in enumerate(FOLDS):
        n, t, h, w, c = x.shape
        x = x.reshape(n, t, h // fold, fold, w // fold, fold, c).swapaxes(3, 4)
        x = x.reshape(n, t, h // fold, w // fold, fold * fold * c)
        weight = weights[f"weight{k}"]
        left = t - len(weight) + 1
        x = sum(x[:, i : i + left] @ weight[i] for i in range(len(weight))) + weights[f"bias{k}"]
        if k < len(FOLDS) - 1:
            x = x.clip(0, None)
    return x.reshape(len(x), -1)


@cache
def _weights() -> dict[str, NDArray[np.float32]]:
    return {name: array.astype(np.float32) for name, array in load(WEIGHTS.read_bytes()).items()}


@cache
def features_digest() -> str:
    """16 hex digits that change when any weight does."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]


def features(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features B of clips `(n, t, h, w, 3)` of any size and length: `(n, 32)`."""
    assert frames.dtype == np.uint8 and frames.ndim == 5, (frames.dtype, frames.shape)
    parts = [forward(prepare(frames[i : i + CHUNK]), _weights()) for i in range(0, len(frames), CHUNK)]
    return np.concatenate(parts).astype(np.float64)
