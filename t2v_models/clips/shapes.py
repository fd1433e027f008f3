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
        return np.asarray(_overlap(dx, SQUARE * radius) * _overlap(dy, SQUARE * radius))
    if shape == "cross":
        long_x, long_y, short_x, short_y = (_overlap(d, k * radius) for k in (CROSS, CROSS / 3) for d in (dx, dy))
        inside: Floats = long_x * short_y
        inside += short_x * (long_y - short_y)
        return inside
    if shape == "diamond":
        inside = _slanted(dx + dy, SQUARE * radius)
        inside *= _slanted(dx - dy, SQUARE * radius)
        return inside
    if shape == "triangle":
        distance = np.abs(dx) * math.sqrt(0.75) - 0.5 * dy
        np.maximum(distance, dy, out=distance)
        distance -= TRIANGLE * radius
        return _ramp(distance)
    away = dx**2 + dy**2
    np.sqrt(away, out=away)
    if shape == "ring":
        inside = _ramp(away - RING * radius)
        away -= HOLE * RING * radius
        inside -= _ramp(away)
        return inside
    away -= radius
    return _ramp(away)


def _ramp(distance: Floats) -> Floats:
    """Overwrites the distances, as `_slanted` does: new memory for every step costs four times as much."""
    np.subtract(0.5, distance, out=distance)
    return np.asarray(np.clip(distance, 0.0, 1.0, out=distance))


def _slanted(across: Floats, half: Floats) -> Floats:
    """Share of a pixel between two edges at 45 degrees that run `half` to either side of a line.

    `across` is the distance of the pixel's centre from that line, times the root of 2.
    """
    depth = np.abs(across, out=across)
    depth *= -DIAGONAL
    depth += half
    corner = np.abs(depth)  # the triangle that the edge cuts off, at most half of the pixel
    np.subtract(DIAGONAL, corner, out=corner)
    np.maximum(corner, 0, out=corner)
    np.square(corner, out=corner)
    np.subtract(0.5, corner, out=corner)
    np.copysign(corner, depth, out=corner)
    corner += 0.5
    return corner


def _overlap(place: Floats, half: Floats) -> Floats:
    """Length of [place - 1/2, place + 1/2] inside [-half, half]; `half` is at least 1/2."""
    return np.asarray(np.clip(half + 0.5 - np.abs(place), 0.0, 1.0))
