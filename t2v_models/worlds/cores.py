"""The colour of objects, from the pixels of their cores: of many objects at once, by counting.

All sums are of whole numbers and exact, so an object has the same colour whichever others are read with it.
"""

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.appearance import BACKGROUND, PALETTE, Colour
from t2v_models.worlds.moments import CORE, FOREGROUND, full_rank

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

COLOURS: tuple[Colour, ...] = tuple(PALETTE)
BACKGROUND_LEVELS = np.array(BACKGROUND, np.float64)
DARKNESS = BACKGROUND_LEVELS - np.array([PALETTE[c] for c in COLOURS], np.float64)
LEVELS = 256


def cores_of(darkness: NDArray[np.uint8], cell: Places, n: int, t: int) -> tuple[Floats, Floats, Places]:
    """What n objects look like in t frames, given the darkness `(3, k)` of all their pixels and the cell of each pixel:
    its object times t and its frame.

    Returns:
        Mean darkness of the core `(n, 3)`; RGB distance `(n,)` of the frame whose core is farthest from the mean of all
        frames'; place in the palette `(n,)`. Of objects without a pixel nan, nan and -1.

    Every frame has its own core, from `CORE` of its peak: a pale one would have no part in the clip's. Frames without
    an object are left out.
    """
    strength = darkness.max(0)
    counts = np.bincount(cell * LEVELS + strength, minlength=n * t * LEVELS).reshape(n, t, LEVELS)
    present: NDArray[np.bool_] = np.greater(counts, 0)
    shown: NDArray[np.bool_] = np.asarray(present.any(2))
    there, of_clip = np.asarray(shown.any(1)), counts.sum(1)
    full = (of_clip.cumsum(1) <= full_rank(of_clip.sum(1, keepdims=True))).sum(1)
    peak = LEVELS - 1 - present[:, :, ::-1].argmax(2)
    mean = _means(darkness, strength >= (CORE * full)[cell // t], cell // t, n)
    colour = _means(darkness, strength >= (CORE * peak).reshape(-1)[cell], cell, n * t).reshape(n, t, 3)
    centre = colour.sum(1) / np.maximum(shown.sum(1), 1)[:, None]
    change = (np.linalg.norm(colour - centre[:, None], axis=2) * shown).max(1)
    share = np.clip(mean @ DARKNESS.T / (DARKNESS**2).sum(1), FOREGROUND, 1)
    name = np.linalg.norm(mean[:, None] - share[..., None] * DARKNESS, axis=2).argmin(1)
    return np.where(there[:, None], mean, np.nan), np.where(there, change, np.nan), np.where(there, name, -1)


def _means(darkness: NDArray[np.uint8], core: NDArray[np.bool_], group: Places, groups: int) -> Floats:
    """Mean darkness of the core's pixels of each group `(groups, 3)`, 0 where there are none."""
    inside = np.flatnonzero(core)
    own = group[inside]
    total = np.stack([np.bincount(own, plane[inside], groups) for plane in darkness], 1)
    return np.asarray(total / np.maximum(np.bincount(own, minlength=groups), 1)[:, None])
