"""What each shape covers. `radius` always means the radius of the disc of equal area, so size and shape are free of
each other and the area of any object is pi radius². The centre is the centre of mass.

Coverage of a pixel is exact for squares and crosses (products of overlaps along x and y), exact but at the corners for
diamonds, and elsewhere a linear ramp, one pixel wide, over the signed distance from the pixel's centre to the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import Shape

Floats = NDArray[np.floating]

DIAGONAL = math.sqrt(0.5)
SQUARE = math.sqrt(math.pi) / 2
"""Half the side of the square of unit radius."""
DIAMOND = math.sqrt(math.pi / 2)
"""Half a diagonal: the diamond is the square on its corner."""
TRIANGLE = math.sqrt(math.pi / (3 * math.sqrt(3)))
"""Radius of the circle inside the equilateral triangle, which points up."""
CROSS = math.sqrt(9 * math.pi / 5) / 2
"""Half the length of the two bars, which are a third as wide."""
HOLE = 0.45
"""Radius of the hole of the ring as a share of its outer radius."""
RING = 1 / math.sqrt(1 - HOLE**2)


@dataclass(frozen=True)
class Extent:
    """How far a shape of unit radius reaches from its centre: to either side, upwards and downwards."""

    side: float
    up: float
    down: float

    @property
    def greatest(self) -> float:
        return max(self.side, self.up, self.down)


EXTENTS: dict[Shape, Extent] = {
    "circle": Extent(1, 1, 1), "square": Extent(SQUARE, SQUARE, SQUARE), "diamond": Extent(DIAMOND, DIAMOND, DIAMOND),
    "triangle": Extent(math.sqrt(3) * TRIANGLE, 2 * TRIANGLE, TRIANGLE), "cross": Extent(CROSS, CROSS, CROSS),
    "ring": Extent(RING, RING, RING),
}  # fmt: skip


def extents(shapes: Sequence[Shape]) -> NDArray[np.float64]:
    """Reach to either side, upwards and downwards of n shapes of unit radius, `(3, n)`."""
    return np.array([(EXTENTS[s].side, EXTENTS[s].up, EXTENTS[s].down) for s in shapes]).T


def cover(shape: Shape, dx: Floats, dy: Floats, radius: Floats) -> Floats:
    """Share of each pixel inside the shape, 0–1; pixel centres lie `dx` (rightwards), `dy` (downwards) from its centre.

    The three arrays broadcast against each other; pass `dx` as `(…, 1, w)` and `dy` as `(…, h, 1)`.
    """
    if shape == "square":
        return _overlap(dx, SQUARE * radius) * _overlap(dy, SQUARE * radius)
    if shape == "cross":
        long_x, long_y, short_x, short_y = (_overlap(d, k * radius) for k in (CROSS, CROSS / 3) for d in (dx, dy))
        return long_x * short_y + short_x * long_y - short_x * short_y
    if shape == "diamond":
        return _slanted(np.abs(dx + dy) * DIAGONAL - SQUARE * radius) * _slanted(
            np.abs(dx - dy) * DIAGONAL - SQUARE * radius
        )
    if shape == "triangle":
        slanted = np.abs(dx) * math.sqrt(0.75) - 0.5 * dy
        return _ramp(np.maximum(slanted, dy) - TRIANGLE * radius)
    away = np.sqrt(dx**2 + dy**2)
    if shape == "ring":
        return _ramp(away - RING * radius) - _ramp(away - HOLE * RING * radius)
    return _ramp(away - radius)


def _ramp(distance: Floats) -> Floats:
    return np.asarray(np.clip(0.5 - distance, 0.0, 1.0))


def _slanted(distance: Floats) -> Floats:
    """Share of a pixel on the near side of an edge at 45 degrees, `distance` from its centre: a corner or the rest."""
    corner = np.maximum(DIAGONAL - np.abs(distance), 0) ** 2
    return np.where(distance > 0, corner, 1 - corner)


def _overlap(place: Floats, half: Floats) -> Floats:
    """Length of [place - 1/2, place + 1/2] inside [-half, half]; `half` is at least 1/2."""
    return np.asarray(np.clip(half + 0.5 - np.abs(place), 0.0, 1.0))
