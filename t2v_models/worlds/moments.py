"""From the opacity of pixels to what an object looks like: its shape, how soft its edges are, how pale it is.

Blur convolves an object with a Gaussian. Cumulants add under convolution and a Gaussian has none above the second, so
the third and fourth cumulants tell a shape however soft it is, down to objects of a few pixels. They are compared, with
the spread and two measures of paleness, to a table of every shape at every softness and opacity; the nearest row wins.
"""

from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.appearance import SHAPES
from t2v_models.worlds.outlines import cover

Floats = NDArray[np.float64]

ORDERS = 5
"""Powers 0 to 4 of each axis."""
SOFTEST, PALEST = 0.6, 0.3
"""Of the table: standard deviation of the blur as a share of the radius, and opacity."""
TRUST = np.array([0.15, 0.05, 0.05, 0.05, 0.05, 0.02])
"""How far each number of `Moments.look` lies from its row, as a rule, in clips with noise of 5 %, blur of one pixel or
colours off by 10 %."""
FOREGROUND = 0.25
"""Opacity from which a pixel is part of an object."""
CORE = 0.93
"""Share of an object's full strength from which a pixel belongs to its core."""
_DRAWN_RADIUS, _DRAWN_SIDE = 10.0, 75
"""px: of the objects of which the table is made."""


@dataclass(frozen=True)
class Moments:
    """Numbers of `n` clips of `t` frames."""

    mass: Floats  # (n, t) px, sum of opacities
    x: Floats  # (n, t) px, centroid
    y: Floats
    spread: Floats  # (n, t) second moment over that of a disc of equal mass and full opacity
    look: Floats
    """`(n, 6)`: spread; cumulants of Im z³ (triangles), Re z⁴ (squares below 0, diamonds and crosses above) and |z|⁴
    (rings far below 0), in units of the radius; mean opacity, evenness of opacity. Frames weigh as their mass squared.
    """


def measure(weight: NDArray[np.float32], looked_at: NDArray[np.bool_] | None = None) -> Moments:
    """Moments of opacities `(n, t, h, w)`; what is not the object must be 0. Frames that are not `looked_at`, `(n, t)`,
    have no part in the look."""
    size = max(weight.shape[-2:])  # the unit of length
    middle_y, middle_x = (side / size / 2 for side in weight.shape[-2:])
    powers_y, powers_x = (
        ((np.arange(side) + 0.5) / size - side / size / 2)[:, None] ** np.arange(ORDERS) for side in weight.shape[-2:]
    )
    raw = powers_y.T @ (weight @ powers_x)  # (n, t, y orders, x orders)
    mass = np.maximum(raw[..., 0, 0], 1e-6)
    raw /= mass[..., None, None]
    x, y = raw[..., 0, 1], raw[..., 1, 0]
    m = _shift(y) @ raw @ _shift(x).swapaxes(-1, -2)
    unit = mass / (np.pi * size**2)  # squared radius, in the unit of the powers
    second = m[..., 0, 2] + m[..., 2, 0]
    fourth = m[..., 0, 4] + m[..., 4, 0] + 2 * m[..., 2, 2]
    skewed = (m[..., 0, 2] - m[..., 2, 0]) ** 2 + 4 * m[..., 1, 1] ** 2
    flat = weight.reshape(*mass.shape, -1)
    squared = flat * flat
    squares, cubes = (np.asarray(k.sum(2), np.float64) for k in (squared, squared * flat))
    spread = 2 * second / unit
    look = [
        spread, (3 * m[..., 1, 2] - m[..., 3, 0]) / unit**1.5,
        (m[..., 0, 4] + m[..., 4, 0] - 6 * m[..., 2, 2]) / unit**2, (fourth - 2 * second**2 - skewed) / unit**2,
        squares / mass, squares**2 / np.maximum(mass * cubes, 1e-12),
    ]  # fmt: skip
    heavy = mass**2 if looked_at is None else mass**2 * looked_at
    pull = heavy / heavy.sum(1, keepdims=True)
    mean = np.stack([(number * pull).sum(1) for number in look], 1)
    return Moments(mass, (x + middle_x) * size, (y + middle_y) * size, spread, mean)


_BINOMIAL = np.array([[comb(a, i) for i in range(ORDERS)] for a in range(ORDERS)], np.float64)
_ORDER = np.maximum(np.subtract.outer(np.arange(ORDERS), np.arange(ORDERS)), 0)


def _shift(mean: Floats) -> Floats:
    """Matrices from moments about 0 to moments about `mean`, `(..., ORDERS, ORDERS)`."""
    powers = (-mean[..., None]) ** np.arange(ORDERS)
    return np.asarray(_BINOMIAL * powers[..., _ORDER])


def name_shapes(look: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Place in `SHAPES` of each clip `(n,)`, and the share of full strength that softness leaves in its core."""
    looks, shape, core = _table()
    nearest = ((((look[:, None] - looks) / TRUST) ** 2).sum(2)).argmin(1)
    return shape[nearest], core[nearest]


def core_from(strength: NDArray[np.generic]) -> float:
    """Strength from which a pixel of an object belongs to its core, given those of its pixels."""
    rank = int(full_rank(strength.size))
    return float(CORE * np.partition(strength.ravel(), rank)[rank])


def full_rank(pixels: int | NDArray[np.integer]) -> NDArray[np.integer]:
    """Which of an object's pixels, the weakest first, is at full strength: a tenth may be brighter by chance."""
    return (0.9 * (np.asarray(pixels) - 1)).astype(np.intp)


@cache
def _table() -> tuple[Floats, NDArray[np.intp], Floats]:
    """Looks `(rows, 6)`, the shape of each row and the opacity of its core, were it opaque."""
    place = np.arange(_DRAWN_SIDE, dtype=np.float64) + 0.5 - _DRAWN_SIDE / 2
    opacity = np.linspace(1, PALEST, 8)
    paler = np.stack([1 / opacity, opacity**-1.5, opacity**-2, opacity**-2, opacity, np.ones(8)], 1)
    looks, shapes, cores = [], [], []
    for k, shape in enumerate(SHAPES):
        sharp = cover(shape, place[None], place[:, None], np.array([[_DRAWN_RADIUS]]))
        for softness in np.linspace(0, SOFTEST, 13):
            blur = np.exp(-((np.subtract.outer(place, place) / max(softness * _DRAWN_RADIUS, 0.2)) ** 2) / 2)
            blur /= blur.sum(1).max()
            soft = (blur @ sharp @ blur.T).astype(np.float32)
            looks.append(measure(soft[None, None]).look * paler)
            shapes += [k] * len(opacity)
            strength = soft[soft > FOREGROUND]
            cores += [float(strength[strength >= core_from(strength)].mean())] * len(opacity)
    return np.concatenate(looks), np.array(shapes), np.array(cores)
