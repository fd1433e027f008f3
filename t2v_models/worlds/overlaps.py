"""How far objects cover what they should: soft intersection over union with a shape, of many objects at once."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.appearance import SHAPES, Shape
from t2v_models.worlds.outlines import EXTENTS, cover

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SHAPE_FRAMES = 4
"""Frames of a clip, evenly spread, in which its overlap with the asked shape is measured."""


def overlaps_with(
    shape: Places, weight: NDArray[np.float32], looked_at: NDArray[np.bool_],
    x: Floats, y: Floats, radius: Floats, mass: Floats,
) -> Floats:  # fmt: skip
    """Overlap of n opacities `(n, t, h, w)` with the shapes at these places in `SHAPES`, `(n,)`; 0 where that is -1.

    Centre and radius, px, and mass, the sum of a frame's opacity, are `(n, t)`; only frames are used that are
    `looked_at`, `(n, t)`, one at least.
    """
    seen = looked_at & (shape >= 0)[:, None] & _spread(looked_at)
    side = 2 * np.array([EXTENTS[SHAPES[k]].greatest for k in shape]) * np.where(seen, radius, 0).max(1)
    side = np.minimum(side.astype(np.intp) + 5, min(weight.shape[2:]))
    found = np.zeros(len(shape))
    for k in np.unique(shape[shape >= 0]).tolist():
        clip, frame = np.nonzero(seen & (shape == k)[:, None])
        state = (numbers[clip, frame] for numbers in (x, y, radius))
        both, ideal = _of_frames(SHAPES[k], weight, clip, frame, side[clip], *state)
        found += np.bincount(clip, both / (mass[clip, frame] + ideal - both), len(shape))
    return np.asarray(found / np.maximum(seen.sum(1), 1))


def _of_frames(
    shape: Shape, weight: NDArray[np.float32], clip: Places, frame: Places, side: Places,
    x: Floats, y: Floats, radius: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Px² that m frames and their shapes have in common in windows of each one's `side`, px, and those of the shapes.

    All are looked at in a window of the greatest side, of which each has its part.
    """
    t, *lengths = weight.shape[1:]
    pixel = np.arange(most := int(side.max()))
    own = [np.clip(np.floor(at - side / 2), 0, n - side).astype(np.intp) for at, n in zip((y, x), lengths, strict=True)]
    top, left = (np.minimum(first, n - most) for first, n in zip(own, lengths, strict=True))
    start = (((clip * t + frame) * lengths[0] + top) * lengths[1] + left)[:, None] + pixel * lengths[1]
    window = np.lib.stride_tricks.sliding_window_view(weight.reshape(-1), most)[start]
    rows, columns = (first[:, None] + pixel for first in (top, left))
    ideal = cover(
        shape, (columns + 0.5 - x[:, None])[:, None], (rows + 0.5 - y[:, None])[..., None], radius[:, None, None]
    )
    part_y, part_x = (
        ((place >= first[:, None]) & (place < (first + side)[:, None])).astype(np.float64)
        for place, first in zip((rows, columns), own, strict=True)
    )
    both = part_y[:, None] @ np.minimum(ideal, window) @ part_x[..., None]
    return both[:, 0, 0], ideal.sum((1, 2))


def _spread(looked_at: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the frames that are looked at `(n, t)`, up to `SHAPE_FRAMES`, evenly spread."""
    rank = looked_at.cumsum(1)
    return np.take_along_axis(_ranks(looked_at.shape[1])[rank[:, -1]], rank, 1)


@cache
def _ranks(t: int) -> NDArray[np.bool_]:
    """Of c frames, which are used, counted from 1: `(t + 1, t + 1)`."""
    used = np.zeros((t + 1, t + 1), bool)
    for count in range(1, t + 1):
        used[count, 1 + np.linspace(0, count - 1, SHAPE_FRAMES).round().astype(int)] = True
    return used
