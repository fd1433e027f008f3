"""Which clips are nearest to which, by pixels; and copies of training clips, however bright and a little aside."""

import math

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.encoders import Views

MOVED = 2
"""px at 32 px, down and across together, by which a copy of a clip may lie aside."""
HALVES = [(y, x) for y in (-0.5, 0, 0.5) for x in (-0.5, 0, 0.5) if y or x]
LEAST_CONTRAST = 0.02
"""Standard deviation of pixels, of full scale, below which a clip is even: its noise is not made larger."""


def thumbnails(views: Views) -> NDArray[np.float32]:
    """What clips look like at 16 px in every second frame, 0 to 1: `(n, pixels)`."""
    n, _, c, h, w = views.shape
    small = views[:, ::2].reshape(n, -1, c, h // 2, 2, w // 2, 2).mean((4, 6), dtype=np.float32)
    return np.asarray(small.reshape(n, -1) / 255, np.float32)


def nearest_to(points: NDArray[np.float32], known: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of each of `(n, d)` the row of the nearest of `(m, d)`, and how far it is: a root mean square."""
    squares, rows, far = (known**2).sum(1), [], []
    for part in np.array_split(points, -(-len(points) // 256)):
        table = squares - 2 * part @ known.T
        rows.append(table.argmin(1))
        far.append(((part - known[rows[-1]]) ** 2).mean(1, dtype=np.float64))  # a difference of large sums is noise
    return np.concatenate(rows), np.sqrt(np.concatenate(far))


def inner(views: Views) -> NDArray[np.float32]:
    """What `nearest_copy` compares, `(n, pixels)`: thumbnails without their rim, which a copy that lies aside lacks,
    without the brightness and the contrast of each clip."""
    points = thumbnails(views[..., MOVED:-MOVED, MOVED:-MOVED])
    points -= points.mean(1, keepdims=True)
    return np.asarray(points / np.maximum(points.std(1, keepdims=True), LEAST_CONTRAST))


def nearest_copy(views: Views, known: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far each clip, moved by `MOVED` px at most, is from the nearest of `inner` training clips `(m, d)`, as a root
    mean square of their contrast: a copy that is brighter, fainter or a little aside is one.

    The training clip is sought by whole pixels, and set beside the clip moved by halves around the best of these."""
    whole = [(y, x) for y in range(-MOVED, MOVED + 1) for x in range(-MOVED, MOVED + 1) if abs(y) + abs(x) <= MOVED]
    rows, far = map(np.array, zip(*(nearest_to(inner(_moved(views, *way)), known) for way in whole), strict=True))
    best, each = far.argmin(0), np.arange(len(views))
    nearest = known[rows[best, each]]
    found = far[best, each]
    for k in np.unique(best):
        here = np.flatnonzero(best == k)
        for y, x in HALVES:
            off = inner(_moved(views[here], whole[k][0] + y, whole[k][1] + x)) - nearest[here]
            found[here] = np.minimum(found[here], np.sqrt((off**2).mean(1)))
    return np.asarray(found, np.float64)


def _moved(views: Views, down: float, right: float) -> Views:
    """By whole or half pixels; what leaves at one side comes in at the other."""
    for axis, way in ((3, down), (4, right)):
        low = math.floor(way)
        moved = np.roll(views, low, axis)
        if way != low:
            moved = ((moved.astype(np.uint16) + np.roll(views, low + 1, axis) + 1) // 2).astype(np.uint8)
        views = moved
    return views
