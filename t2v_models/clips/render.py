"""From a motion to pixels: anti-aliased, in double precision, drawing only the window the object is in.

What a shape covers of each pixel is in `shapes`: within 1 % of the true area for a disc of radius 2 px or more.
No state, no randomness.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.motions import Motion, Trace, trace
from t2v_models.clips.shapes import EXTENTS, cover
from t2v_models.clips.spec import GROUND, PALETTE, ClipSpec, Colour, Shape


def render(motion: Motion, spec: ClipSpec) -> NDArray[np.uint8]:
    """Draw a clip: uint8, shape `(t, h, w, 3)`, RGB."""
    return paint(trace(motion, spec), motion.shape, motion.colour, spec)


def paint(path: Trace, shape: Shape, colour: Colour, spec: ClipSpec) -> NDArray[np.uint8]:
    """Draw an object wherever it is in each frame: uint8, shape `(t, h, w, 3)`, RGB."""
    reach = EXTENTS[shape].greatest * path.radius.max()
    side = min(spec.size, math.ceil(2 * reach) + 4)  # of a square window that holds the object
    columns, rows = (_window(place, side, spec.size) for place in (path.x, path.y))  # (t, side)
    dx, dy = columns + 0.5 - path.x[:, None], rows + 0.5 - path.y[:, None]
    inside = cover(shape, dx[:, None, :], dy[:, :, None], path.radius[:, None, None])[..., None]
    ground, ink = np.array(GROUND, np.float64), np.array(PALETTE[colour], np.float64)
    frames = _blank(spec).copy()
    frame = np.arange(spec.frames)[:, None, None]
    frames[frame, rows[:, :, None], columns[:, None, :]] = np.rint(ground + (ink - ground) * inside)
    return frames


def _window(place: NDArray[np.float64], side: int, size: int) -> NDArray[np.intp]:
    """For every frame the `side` pixels along one axis around the place of the object, all inside the frame."""
    first = np.clip(np.floor(place - side / 2), 0, size - side).astype(np.intp)
    return first[:, None] + np.arange(side)


@lru_cache(8)
def _blank(spec: ClipSpec) -> NDArray[np.uint8]:
    """A clip of nothing but ground: copying it is several times faster than filling it with a colour."""
    return np.full((spec.frames, spec.size, spec.size, 3), GROUND, np.uint8)
