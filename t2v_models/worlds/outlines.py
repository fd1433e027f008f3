"""What each shape covers. `radius` always means the radius of the disc of equal area, so size and shape are free of
each other and the area of any object is pi radius². The centre is the centre of mass.

Coverage of a pixel is exact for whatever has straight edges, corners included: for squares and crosses the product of
overlaps along x and y, for triangles and diamonds the area under an edge (`_swept`). For discs and rings it is a linear
ramp, one pixel wide, over the signed distance from the pixel's centre to the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.appearance import Shape

Reals = NDArray[np.floating]

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


def cover(shape: Shape, dx: Reals, dy: Reals, radius: Reals) -> Reals:
    """Share of each pixel inside the shape, 0–1; pixel centres lie `dx` (rightwards), `dy` (downwards) from its centre.

    The three arrays broadcast against each other; pass `dx` as `(…, 1, w)` and `dy` as `(…, h, 1)`, rows one after
    another.
    """
    if shape == "square":
        return np.asarray(_overlap(dx, SQUARE * radius) * _overlap(dy, SQUARE * radius))
    if shape == "cross":
        long_x, long_y, short_x, short_y = (_overlap(d, k * radius) for k in (CROSS, CROSS / 3) for d in (dx, dy))
        inside: Reals = long_x * short_y
        inside += short_x * (long_y - short_y)
        return inside
    if shape in ("diamond", "triangle"):
        return (_diamond if shape == "diamond" else _triangle)(dx, _edges(dy), radius)
    away = dx**2 + dy**2
    np.sqrt(away, out=away)
    if shape == "ring":
        inside = _ramp(away - RING * radius)
        away -= HOLE * RING * radius
        inside -= _ramp(away)
        return inside
    away -= radius
    return _ramp(away)


def _ramp(distance: Reals) -> Reals:
    """Overwrites the distances, as `_swept` does its own: new memory for every step costs four times as much."""
    np.subtract(0.5, distance, out=distance)
    return np.asarray(np.clip(distance, 0.0, 1.0, out=distance))


def _edges(dy: Reals) -> Reals:
    """Upper edges of all rows `(…, h, 1)` and the lower edge of the last."""
    return np.concatenate([dy - 0.5, dy[..., -1:, :] + 0.5], -2)


def _triangle(dx: Reals, edges: Reals, radius: Reals) -> Reals:
    inner = TRIANGLE * radius  # the tip lies 2 of it above the centre, the base 1 below
    slope = math.sqrt(1 / 3)
    width = np.clip(edges, -2 * inner, inner)
    width += 2 * inner
    width *= slope
    inside = _between(_swept(dx, width))
    inside *= 1 / slope
    return inside


def _diamond(dx: Reals, edges: Reals, radius: Reals) -> Reals:
    tip = np.asarray(DIAMOND * radius)
    from_tip, half = _swept(dx, np.maximum(tip - np.abs(edges), 0)), _swept(dx, tip)
    inside = _between(from_tip)
    np.abs(inside, out=inside)  # below the middle it shrinks from row to row
    middle = np.abs(edges[..., :-1, :] + 0.5).argmin(-2, keepdims=True)  # this row lies on both sides
    above, below = (
        np.sign(np.take_along_axis(edges, row, -2)) * (half - np.take_along_axis(from_tip, row, -2))
        for row in (middle, middle + 1)
    )
    np.put_along_axis(inside, middle, below - above, -2)
    return inside


def _between(swept: Reals) -> Reals:
    """What is in each row, given what is up to each of its edges."""
    return np.asarray(swept[..., 1:, :] - swept[..., :-1, :])


def _swept(dx: Reals, width: Reals) -> Reals:
    """Area of each pixel's columns that [-w, w] sweeps while w grows from 0 to `width`: `(…, 1, w)`, `(…, h, 1)`."""
    far = np.abs(dx)
    swept = _area(width + (0.5 - far), 1)
    middle = far.min(-1, keepdims=True)  # this column lies on both sides of the axis
    near, other = np.maximum(middle - 0.5, 0), np.maximum(0.5 - middle, 0)
    both = _area(width - near, middle + 0.5 - near) + _area(np.array(width), other)
    np.put_along_axis(swept, far.argmin(-1, keepdims=True), both, -1)
    return swept


def _area(width: Reals, most: Reals | int) -> Reals:
    """Integral of min(w, most) over w from 0 to `width`, 0 where that is negative. Overwrites `width`."""
    clipped = np.clip(width, 0, most)
    width += width
    width -= clipped
    clipped *= width
    clipped *= 0.5
    return clipped


def _overlap(place: Reals, half: Reals) -> Reals:
    """Length of [place - 1/2, place + 1/2] inside [-half, half]."""
    return np.asarray(np.clip(half + 0.5 - np.abs(place), 0.0, np.minimum(2 * half, 1.0)))
