"""From a path of centres to the law it follows: every motion is fitted by least squares and the best one wins.

The score of a law is the Bayesian information criterion t ln(mse + noise²) + k ln t with k free numbers
(Schwarz 1978); the noise floor keeps exact fits of many parameters from beating simple laws. Where a law is not linear
in its numbers (turns of a bounce or zigzag, rate of an orbit), a grid finds the neighbourhood and a shrinking search
the place. All grids are symmetric about the middle of the clip, so a reversed clip is read exactly as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.motions import DIRECTIONS, triangle

Floats = NDArray[np.float64]
CHUNK = 128
"""Paths fitted at once: keeps the table of residuals small."""

NOISE = 0.3
"""px at 64 px: centroid error below which a fit is as good as exact."""
LEAST_SPEED = 0.5
"""px/frame at 64 px: half the slowest rendered motion; anything slower reads `still`."""
LEAST_TRAVEL = 12.0
"""px at 64 px: in long clips, whose objects are slow, a motion covers at least this way."""
LEAST_SWING = 3.0
LEAST_ORBIT_RADIUS = 4.0
LEAST_ORBIT_ANGLE = np.pi / 2
FASTEST_TURNS = 0.15
"""Wall-to-wall crossings per frame: no drawn bounce is faster."""
TIE = 1e-9
"""Share of a path's energy below which two fits are equally good."""
ROUNDS = 22
SHRINK = 0.7
"""Of the search for the best turns: each round looks around the best place at `SHRINK` of the last distance."""

FREE_NUMBERS: dict[str, int] = {
    "still": 2, **dict.fromkeys(DIRECTIONS, 3),
    "bounce-v": 6, "bounce-h": 6, "zigzag-v": 7, "zigzag-h": 7, "rotate-cw": 6, "rotate-ccw": 6,
}  # fmt: skip
"""Turns and rates are searched for and find chance turns in noise: each such law counts one number more than it has.
With 1 px of noise on each axis 99.8 % of paths then keep their law, without it 99.3 %."""
NAMES = tuple(FREE_NUMBERS)


@dataclass(frozen=True)
class Nearest:
    """The path of one law nearest to each of n paths: `x`, `y` `(n, t)` px, `rmse` px and `speed` px/frame `(n,)`."""

    x: Floats
    y: Floats
    rmse: Floats
    speed: Floats


def best_law(x: Floats, y: Floats, unit: float) -> list[str]:
    """The law with the best score for each path `(n, t)`: a motion that keeps its size, or `still`."""
    best: list[str] = []
    for i in range(0, len(x), CHUNK):
        mse = _residuals(x[i : i + CHUNK], y[i : i + CHUNK], unit) / x.shape[1]
        penalty = np.array(list(FREE_NUMBERS.values())) * np.log(x.shape[1])
        best += [NAMES[k] for k in _least(x.shape[1] * np.log(mse + (NOISE * unit) ** 2) + penalty, np.ones(len(mse)))]
    return best


def nearest(names: Sequence[str], x: Floats, y: Floats, unit: float) -> Nearest:
    """The nearest path of law `names[i]` to path i; sizes that change in place are `still` here.

    A law is held to its meaning: the path of `left` goes left by at least the least speed, whatever was shown.
    """
    found = Nearest(np.zeros_like(x), np.zeros_like(y), np.zeros(len(x)), np.zeros(len(x)))
    for name in dict.fromkeys(names):
        rows = np.array([n == name for n in names])
        found.x[rows], found.y[rows], found.speed[rows] = _nearest(name, x[rows], y[rows], unit)
    found.rmse[:] = np.sqrt(((found.x - x) ** 2 + (found.y - y) ** 2).mean(1))
    return found


def nearest_again(
    found: Nearest, names: Sequence[str], others: Sequence[str], x: Floats, y: Floats, unit: float
) -> Nearest:
    """The fits of laws `others`, given those of `names`: only what differs is fitted."""
    rows = np.array([a != b for a, b in zip(names, others, strict=True)])
    new = nearest([b for b, differs in zip(others, rows, strict=True) if differs], x[rows], y[rows], unit)
    merged = Nearest(*(array.copy() for array in (found.x, found.y, found.rmse, found.speed)))
    merged.x[rows], merged.y[rows], merged.rmse[rows], merged.speed[rows] = new.x, new.y, new.rmse, new.speed
    return merged


def least_speed(t: int, unit: float) -> float:
    """px/frame below which a clip of `t` frames stands still; `unit` is px per unit of length."""
    return min(LEAST_SPEED, LEAST_TRAVEL / (t - 1)) * unit


def slope(values: Floats) -> Floats:
    """Slope of the best straight line through each row, per frame."""
    ramp = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return np.asarray(values @ ramp / (ramp @ ramp))


@dataclass(frozen=True)
class _Waves:
    """Triangle waves over `t` frames: each has a gap between turns and one turn `first` frames after the middle."""

    gap: Floats
    first: Floats
    spacing: tuple[float, float]
    """Of the grid, in ln gap and in frames: where the search starts."""
    unit_curve: Floats
    """(g, t), mean 0, norm 1."""
    norm: Floats
    """(g,): of the wave of height one, before it was made a unit."""

    @staticmethod
    def of(t: int, members: list[tuple[float, float]], spacing: tuple[float, float]) -> "_Waves":
        gap, first = np.array(members).T
        return _Waves(gap, first, spacing, *_unit(_wave(t, gap, first)))


def _wave(t: int, gap: Floats, first: Floats) -> Floats:
    """Triangle waves of height one with a turn at `first` frames after the middle of the clip: `(..., t)`."""
    time = np.arange(t) - (t - 1) / 2
    return triangle((time - first[..., None]) / gap[..., None])


def _unit(curves: Floats) -> tuple[Floats, Floats]:
    """Curves with mean 0 and norm 1, and the norms they had."""
    centred = curves - curves.mean(-1, keepdims=True)
    norm = np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-9)
    return centred / norm, norm[..., 0]


def _symmetric(reach: float, step: float) -> Floats:
    return np.asarray(step * np.arange(-int(reach / step), int(reach / step) + 1), np.float64)


@cache
def _bounces(t: int) -> _Waves:
    """Paths between two walls with at least one turn inside the clip, and any number that a drawn clip has."""
    spacing = 0.08 / t
    gaps = [4.0 * t, *1 / np.arange(spacing, FASTEST_TURNS, spacing)]
    members = [(gap, first) for gap in gaps for first in _symmetric(min(gap / 2, (t - 1) / 2 - 0.6), 0.25)]
    return _Waves.of(t, members, (0.05, 0.15))


@cache
def _swings(t: int) -> _Waves:
    """Waves with two turns or more inside the clip."""
    longest = (t - 2) / 2
    gaps = np.geomspace(max(1.0, 0.4 * longest), max(1.0, 1.2 * longest), 20)
    return _Waves.of(t, [(g, f) for g in np.unique(gaps) for f in _symmetric(g / 2, g / 12)], (0.04, longest / 20))


@cache
def _turns(t: int) -> Floats:
    """Angular speeds tried for orbits, radians per frame: a quarter turn to one and a quarter turns in the clip."""
    most = min(2.5 * np.pi, 0.5 * np.pi * (t - 1))
    return np.arange(LEAST_ORBIT_ANGLE, most + 0.01, 0.06) / (t - 1)


def _least(costs: Floats, scale: Floats) -> NDArray[np.intp]:
    """Place of the least cost of each row `(n, g)`, of equal ones the first.

    Costs that differ by less than `TIE` of the row's scale `(n,)` are equal: which of them rounding makes less depends
    on the machine, and a search goes on elsewhere from there.
    """
    return np.asarray((costs <= costs.min(1, keepdims=True) + TIE * scale[:, None]).argmax(1))


def _heights(values: Floats, waves: _Waves) -> tuple[Floats, Floats]:
    """Residual sum of squares and height of the best fit of every wave: `(n, g)`."""
    centred = values - values.mean(1, keepdims=True)
    part = centred @ waves.unit_curve.T
    return np.maximum((centred**2).sum(1)[:, None] - part**2, 0), part / waves.norm


def _orbit(x: Floats, y: Floats, sense: int, rate: Floats) -> tuple[Floats, NDArray[np.complex128]]:
    """Least squares of z = c + a exp(i sense rate time): rss and a, for rates `(g,)` or one a path `(n, g)`."""
    t = x.shape[1]
    z = (x + 1j * y) - (x + 1j * y).mean(1, keepdims=True)
    wave = np.exp(1j * sense * rate[..., None] * (np.arange(t) - (t - 1) / 2))
    wave -= wave.mean(-1, keepdims=True)
    energy = np.maximum((np.abs(wave) ** 2).sum(-1), 1e-9)
    part = z @ wave.conj().T if rate.ndim == 1 else np.einsum("nt,ngt->ng", z, wave.conj())
    return np.maximum((np.abs(z) ** 2).sum(1)[:, None] - np.abs(part) ** 2 / energy, 0), part / energy


def _residuals(x: Floats, y: Floats, unit: float) -> Floats:
    """Residual sums of squares `(n, laws)` in the order of `NAMES`; infinite where the law is not met."""
    t = x.shape[1]
    least = least_speed(t, unit)
    energy = (t**3 - t) / 12  # of the ramp of unit slope
    flat_x, flat_y = x.var(1) * t, y.var(1) * t
    slope_x, slope_y = slope(x), slope(y)
    rss = [flat_x + flat_y]
    for dx, dy in DIRECTIONS.values():
        speed = dx * slope_x + dy * slope_y
        rss.append(np.where(speed >= least, rss[0] - speed**2 * energy, np.inf))
    bounces, swings = _bounces(t), _swings(t)
    for along, other in ((y, flat_x), (x, flat_y)):
        left, height = _heights(along, bounces)
        left[np.abs(height) < least * bounces.gap / 2] = np.inf
        rss.append(left.min(1) + other)
    for line, across in ((y, x), (x, y)):
        left, height = _heights(across, swings)
        left[np.abs(height) < LEAST_SWING * unit] = np.inf
        speed = slope(line)
        straight = np.maximum(line.var(1) * t - speed**2 * energy, 0)
        rss.append(np.where(np.abs(speed) >= least, left.min(1) + straight, np.inf))
    for sense in (1, -1):
        left, arm = _orbit(x, y, sense, _turns(t))
        rss.append(np.where(np.abs(arm) >= LEAST_ORBIT_RADIUS * unit, left, np.inf).min(1))
    return np.asarray(np.maximum(np.stack(rss, 1), 0))


def _nearest(name: str, x: Floats, y: Floats, unit: float) -> tuple[Floats, Floats, Floats]:
    """Nearest path of one law: x, y `(n, t)` and its speed `(n,)`."""
    least = least_speed(x.shape[1], unit)
    flat_x, flat_y = (np.broadcast_to(v.mean(1, keepdims=True), v.shape) for v in (x, y))
    if name in DIRECTIONS:
        dx, dy = DIRECTIONS[name]
        speed = np.maximum(dx * slope(x) + dy * slope(y), least)
        along = speed[:, None] * (np.arange(x.shape[1]) - (x.shape[1] - 1) / 2)
        return flat_x + dx * along, flat_y + dy * along, speed
    if name in ("bounce-v", "bounce-h"):
        values, waves = (y, _bounces(y.shape[1])) if name == "bounce-v" else (x, _bounces(x.shape[1]))
        path, speed = _nearest_wave(values, waves, least, per_frame=True)
        return (flat_x, path, speed) if name == "bounce-v" else (path, flat_y, speed)
    if name in ("zigzag-v", "zigzag-h"):
        across, line = (x, y) if name == "zigzag-v" else (y, x)
        swing, _ = _nearest_wave(across, _swings(x.shape[1]), LEAST_SWING * unit, per_frame=False)
        speed = slope(line)
        speed = np.where(speed < 0, -1, 1) * np.maximum(np.abs(speed), least)
        ramp = line.mean(1, keepdims=True) + speed[:, None] * (np.arange(x.shape[1]) - (x.shape[1] - 1) / 2)
        return (swing, ramp, np.abs(speed)) if name == "zigzag-v" else (ramp, swing, np.abs(speed))
    if name in ("rotate-cw", "rotate-ccw"):
        return _nearest_orbit(x, y, 1 if name == "rotate-cw" else -1, LEAST_ORBIT_RADIUS * unit)
    return flat_x, flat_y, np.zeros(len(x))


def _nearest_wave(values: Floats, waves: _Waves, least: float, *, per_frame: bool) -> tuple[Floats, Floats]:
    """Nearest triangle wave to each row and its steepness (`per_frame`) or height, at least `least`."""
    rows, t = np.arange(len(values)), values.shape[1]
    centred = values - values.mean(1, keepdims=True)
    energy = (centred**2).sum(1)
    best = _least(_heights(values, waves)[0], energy)
    gap, first = waves.gap[best], waves.first[best]
    widen, shift = (g.ravel() for g in np.meshgrid([-1, 0, 1], [-1, 0, 1]))
    for k in range(ROUNDS):
        gaps = gap[:, None] * np.exp(waves.spacing[0] * SHRINK**k * widen)
        firsts = first[:, None] + waves.spacing[1] * SHRINK**k * shift
        curves, _ = _unit(_wave(t, gaps, firsts))
        better = _least(-(np.einsum("nt,ngt->ng", centred, curves) ** 2), energy)
        gap, first = gaps[rows, better], firsts[rows, better]
    curve, norm = _unit(_wave(t, gap, first))
    height = (centred * curve).sum(1) / norm
    steep = 2 / gap if per_frame else np.ones_like(gap)
    height = np.where(height < 0, -1, 1) * np.maximum(np.abs(height), least / steep)
    return values.mean(1, keepdims=True) + height[:, None] * norm[:, None] * curve, np.abs(height) * steep


def _nearest_orbit(x: Floats, y: Floats, sense: int, least: float) -> tuple[Floats, Floats, Floats]:
    rows, t = np.arange(len(x)), x.shape[1]
    rates, energy = _turns(t), (x.var(1) + y.var(1)) * t
    rate = rates[_least(_orbit(x, y, sense, rates)[0], energy)]
    for k in range(ROUNDS):
        tried = rate[:, None] + 0.04 / (t - 1) * SHRINK**k * np.array([-1, 0, 1])
        rate = tried[rows, _least(_orbit(x, y, sense, tried)[0], energy)]
    arm = _orbit(x, y, sense, rate[:, None])[1][:, 0]
    arm = arm * np.maximum(np.abs(arm), least) / np.maximum(np.abs(arm), 1e-9)
    wave = np.exp(1j * sense * rate[:, None] * (np.arange(t) - (t - 1) / 2))
    path = (x + 1j * y).mean(1, keepdims=True) + arm[:, None] * (wave - wave.mean(1, keepdims=True))
    return path.real, path.imag, np.abs(arm) * rate
