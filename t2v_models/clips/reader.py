"""The judge's eye: from pixels to the motion they show, by closed forms only. Inverse of `render`.

Frame to state: opacity of the object's colour over the ground, then its mass, centroid and spread. Clip to validity:
one compact object of a sane size in every frame, on a clean ground. State to motion: the law of every motion is fitted
by least squares and the best one wins; when none fits within `TOLERANCE`, the motion reads `other`.

The score of a law is the Bayesian information criterion t ln(mse + noise²) + k ln t with k free numbers
(Schwarz 1978); the noise floor keeps exact fits of many parameters from beating simple laws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.motions import DIRECTIONS, triangle
from t2v_models.clips.spec import GROUND, PALETTE, UNIT_SIZE, Colour

READER_VERSION = "1"

Floats = NDArray[np.float64]
CHUNK = 16
"""Clips read at once: the working set of 64-px clips stays near the size of the cache."""

NOISE = 0.3
"""px: centroid error below which a fit is as good as exact."""
TOLERANCE = 2.0
"""px at 64 px: greatest root mean square distance from the law to still count as that motion."""
LEAST_SPEED = 0.5
"""px/frame at 64 px: half the slowest rendered motion; anything slower reads `still`."""
LEAST_SWING = 3.0
LEAST_ORBIT_RADIUS = 4.0
LEAST_ORBIT_ANGLE = np.pi / 2
LEAST_LOG_RATIO = 0.4
"""|log(last radius / first radius)| from which a clip shrinks or expands: a factor of about 1.5."""
FOREGROUND = 0.25
LEAST_RADIUS, GREATEST_RADIUS = 2.8, 18.0
GREATEST_SPREAD = 1.7
"""Second moment of the opacity over that of a disc of equal mass: two discs, streaks and smears exceed it."""
GREATEST_GROUND_ERROR = 0.02
"""Mean absolute difference from the ground outside the object's window, as a share of full scale."""


@dataclass(frozen=True)
class Reading:
    """What `n` clips show. `action` is a motion, `still`, `other` or `invalid`; `reason` says why, or is empty."""

    action: list[str]
    reason: list[str]
    x: Floats  # (n, t) px
    y: Floats
    radius: Floats
    rmse: Floats  # (n,) px, distance from the winning law; nan where invalid

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([a != "invalid" for a in self.action])


def read(frames: NDArray[np.uint8], colours: Sequence[Colour]) -> Reading:
    """Read clips of shape `(n, t, h, w, 3)`; `colours[i]` is the colour the object of clip i should have."""
    assert frames.dtype == np.uint8 and frames.ndim == 5 and len(frames) == len(colours), (frames.dtype, frames.shape)
    unit = frames.shape[2] / UNIT_SIZE
    states = [_states(frames[i : i + CHUNK], colours[i : i + CHUNK]) for i in range(0, len(frames), CHUNK)]
    x, y, radius, spread, ground_error = (np.concatenate(part) for part in zip(*states, strict=True))
    reason = _faults(radius, spread, ground_error, unit)
    action, rmse = _best_law(x, y, radius, unit)
    for i, fault in enumerate(reason):
        if fault:
            action[i], rmse[i] = "invalid", np.nan
        elif action[i] in ("other", "still"):
            reason[i] = "no motion" if action[i] == "still" else "fits no known motion"
    return Reading(action, reason, x, y, radius, rmse)


def _states(frames: NDArray[np.uint8], colours: Sequence[Colour]) -> tuple[Floats, ...]:
    """Per clip and frame: x, y, radius, spread `(n, t)`, and the error of the ground `(n, t)`."""
    n, t, h, w, _ = frames.shape
    ground = np.array(GROUND, np.float32)
    ink = ground - np.array([PALETTE[c] for c in colours], np.float32)  # (n, 3)
    along = ink / (ink**2).sum(1, keepdims=True)
    onto = np.stack([along, np.full_like(along, 1 / (3 * 255))], 2)  # (n, 3, 2): opacity, and darkness of any colour
    maps = (ground @ onto)[:, None] - frames.reshape(n, -1, 3).astype(np.float32) @ onto
    alpha, error = np.moveaxis(maps.reshape(n, t, h, w, 2), 4, 0)
    alpha = np.clip(alpha, 0, 1)
    near = _dilate(alpha > FOREGROUND)
    weight = np.where(near, alpha, 0)
    place = np.arange(frames.shape[2], dtype=np.float32) + 0.5
    mass = weight.sum((2, 3), dtype=np.float64)
    safe = np.maximum(mass, 1e-6)
    x = (weight.sum(2, dtype=np.float64) @ place) / safe
    y = (weight.sum(3, dtype=np.float64) @ place) / safe
    second = (weight.sum(2, dtype=np.float64) @ place**2 + weight.sum(3, dtype=np.float64) @ place**2) / safe
    spread = (second - x**2 - y**2) * 2 * np.pi / safe
    outside: NDArray[np.bool_] = np.logical_not(_dilate(_dilate(near)))
    ground_error = (error * outside).sum((2, 3)) / np.maximum(outside.sum((2, 3)), 1)
    return x, y, np.sqrt(mass / np.pi), spread, ground_error.astype(np.float64)


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow by one pixel in all eight directions."""
    tall = mask.copy()
    tall[:, :, 1:] |= mask[:, :, :-1]
    tall[:, :, :-1] |= mask[:, :, 1:]
    grown = tall.copy()
    grown[..., 1:] |= tall[..., :-1]
    grown[..., :-1] |= tall[..., 1:]
    return grown


def _faults(radius: Floats, spread: Floats, ground_error: Floats, unit: float) -> list[str]:
    """The first fault of each clip, or an empty string."""
    faults = (
        ("no object in a frame", radius.min(1) < LEAST_RADIUS * unit),
        ("object too large", radius.max(1) > GREATEST_RADIUS * unit),
        ("not one compact object", spread.max(1) > GREATEST_SPREAD),
        ("ground not clean", ground_error.max(1) > GREATEST_GROUND_ERROR),
    )
    return [next((name for name, hit in faults if hit[i]), "") for i in range(len(radius))]


@dataclass(frozen=True)
class _Waves:
    """A family of curves over time: for each member an orthonormal basis `(g, t, 2)` of {1, curve}, and the curves."""

    basis: Floats
    curve: Floats

    @staticmethod
    def of(curve: Floats) -> "_Waves":
        centred = curve - curve.mean(1, keepdims=True)
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        flat = np.full_like(curve, curve.shape[1] ** -0.5)
        return _Waves(np.stack([flat, centred / np.maximum(norm, 1e-9)], -1), curve)

    def fit(self, values: Floats) -> tuple[Floats, Floats]:
        """Residual sum of squares and coefficient of the curve, each `(n, g)`, for values `(n, t)`."""
        part = np.einsum("nt,gtk->ngk", values, self.basis, optimize=True)
        rss = np.maximum((values**2).sum(1)[:, None] - (part**2).sum(2), 0)
        scale = (self.basis[..., 1] * self.curve).sum(1)
        return rss, part[..., 1] / np.maximum(scale, 1e-9)


@cache
def _line(t: int) -> _Waves:
    return _Waves.of(np.arange(t, dtype=np.float64)[None])


@cache
def _bounces(t: int) -> _Waves:
    """Paths between two walls at unit speed: first turn from frame 1 to t - 2, all gaps between turns up to none."""
    time = np.arange(t, dtype=np.float64)
    curves = []
    for turns_per_frame in np.arange(0, 0.2, 0.5 / t):
        gap = 1 / turns_per_frame if turns_per_frame else 4.0 * t
        curves += [gap / 2 * triangle((time - first) / gap) for first in np.arange(1, min(t - 2, gap + 1) + 0.01, 0.25)]
    return _Waves.of(np.array(curves))


@cache
def _swings(t: int) -> _Waves:
    """Triangle waves of unit height with at least two turns inside the clip."""
    time = np.arange(t, dtype=np.float64)
    longest = (t - 2) / 2
    gaps = np.geomspace(max(1.0, 0.4 * longest), max(1.0, 1.2 * longest), 14)
    return _Waves.of(np.array([triangle((time - f) / g) for g in np.unique(gaps) for f in np.arange(0, g, g / 8)]))


@cache
def _turns(t: int) -> Floats:
    """Angular speeds tried for orbits, radians per frame: a quarter turn to one and a quarter turns in the clip."""
    most = min(2.5 * np.pi, 0.5 * np.pi * (t - 1))
    total = np.arange(LEAST_ORBIT_ANGLE, most + 0.01, 0.06)
    return total / (t - 1)


def _orbit(x: Floats, y: Floats, sense: int) -> tuple[Floats, Floats]:
    """Least squares of z = c + a exp(i sense rate t) over the grid of rates: rss and |a|, each `(n, g)`."""
    t = x.shape[1]
    z = x + 1j * y
    wave = np.exp(1j * sense * _turns(t)[:, None] * np.arange(t))  # (g, t)
    mean = wave.mean(1, keepdims=True)
    centred = wave - mean
    energy = (np.abs(centred) ** 2).sum(1)
    part = (z - z.mean(1, keepdims=True)) @ centred.conj().T  # (n, g)
    total = (np.abs(z - z.mean(1, keepdims=True)) ** 2).sum(1)
    return np.maximum(total[:, None] - np.abs(part) ** 2 / energy, 0), np.abs(part) / energy


def _laws(x: Floats, y: Floats, unit: float) -> Iterator[tuple[str, Floats, int]]:
    """Every law: name, residual sum of squares `(n,)` (infinite where the law is not met), free parameters."""
    t = x.shape[1]
    still_x, still_y = ((v - v.mean(1, keepdims=True)) for v in (x, y))
    rss_still = (still_x**2).sum(1) + (still_y**2).sum(1)
    yield "still", rss_still, 2
    ramp = np.arange(t) - (t - 1) / 2
    for action, (dx, dy) in DIRECTIONS.items():
        speed = (dx * still_x + dy * still_y) @ ramp / (ramp @ ramp)
        rss = rss_still - speed**2 * (ramp @ ramp)
        yield action, np.where(speed >= LEAST_SPEED * unit, rss, np.inf), 3
    for axis, other, name in ((y, still_x, "bounce-v"), (x, still_y, "bounce-h")):
        rss, speed = _bounces(t).fit(axis)
        best = np.where(np.abs(speed) >= LEAST_SPEED * unit, rss, np.inf).min(1)
        yield name, best + (other**2).sum(1), 5
    for axis, across, name in ((y, x, "zigzag-v"), (x, y, "zigzag-h")):
        along, speed = (v[:, 0] for v in _line(t).fit(axis))
        rss, swing = _swings(t).fit(across)
        best = np.where(np.abs(swing) >= LEAST_SWING * unit, rss, np.inf).min(1)
        yield name, np.where(np.abs(speed) >= LEAST_SPEED * unit, best + along, np.inf), 6
    for sense, name in ((1, "rotate-cw"), (-1, "rotate-ccw")):
        rss, swing = _orbit(x, y, sense)
        yield name, np.where(swing >= LEAST_ORBIT_RADIUS * unit, rss, np.inf).min(1), 5


def _best_law(x: Floats, y: Floats, radius: Floats, unit: float) -> tuple[list[str], Floats]:
    """The motion read from each clip and its distance from the law, px."""
    t = x.shape[1]
    laws = list(_laws(x, y, unit))
    names = [name for name, _, _ in laws]
    mse = np.stack([rss / t for _, rss, _ in laws], 1)
    penalty = np.array([k * np.log(t) for _, _, k in laws])
    best = (t * np.log(mse + NOISE**2) + penalty).argmin(1)
    rmse = np.sqrt(np.take_along_axis(mse, best[:, None], 1)[:, 0])
    action = [names[b] for b in best]
    log_ratio, radius_rmse = _growth(radius)
    for i in range(len(action)):
        changes_size = abs(log_ratio[i]) >= LEAST_LOG_RATIO
        if max(rmse[i], radius_rmse[i]) > TOLERANCE * unit or (changes_size and action[i] != "still"):
            action[i] = "other"
        elif changes_size:
            action[i] = "expand" if log_ratio[i] > 0 else "shrink"
    return action, rmse


def _growth(radius: Floats) -> tuple[Floats, Floats]:
    """Log of the last over the first radius of the best straight line, and the distance from that line, px."""
    t = radius.shape[1]
    rss, slope = (v[:, 0] for v in _line(t).fit(radius))
    middle, half = radius.mean(1), slope * (t - 1) / 2
    ends = np.maximum(np.stack([middle - half, middle + half]), 1e-3)
    return np.log(ends[1] / ends[0]), np.sqrt(rss / t)
