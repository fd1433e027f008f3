"""The judge's eye: from pixels to the motion they show, by closed forms only. Inverse of `render`.

Clip to colour: mean of its fullest ink. Frame to state: opacity of that colour over the ground, then its mass, centroid
and spread; shape by overlap with every shape drawn at that state. Clip to validity: one compact object of a sane size
in every frame, on a clean ground. State to motion: `laws`; when no law fits within `TOLERANCE`, the motion is `other`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips import laws
from t2v_models.clips.motions import Action
from t2v_models.clips.shapes import EXTENTS, cover
from t2v_models.clips.spec import GROUND, PALETTE, SHAPES, UNIT_SIZE, Colour, Shape

READER_VERSION = "2"

Floats = NDArray[np.float64]
CHUNK = 16
"""Clips read at once: the working set of 64-px clips stays near the size of the cache."""

TOLERANCE = 2.0
"""px at 64 px: greatest root mean square distance from the law to still count as that motion."""
LEAST_LOG_RATIO = 0.4
"""|log(last radius / first radius)| from which a clip shrinks or expands: a factor of about 1.5."""
FOREGROUND = 0.25
TRACE_RADIUS, LEAST_RADIUS, GREATEST_RADIUS = 1.2, 2.8, 18.0
"""px at 64 px: nothing is there, an object is too small, an object is too large."""
GREATEST_SPREAD = 1.75
"""Second moment of the opacity over that of a disc of equal mass: two objects, streaks and smears exceed it."""
GREATEST_GROUND_ERROR = 0.035
"""Mean absolute difference from the ground outside the object's window, as a share of full scale; white noise of 5 %
that is cut off at white gives 0.02."""
FULL_INK = 0.93
"""Share of a clip's darkest ink from which a pixel belongs to the core of the object."""
LEAST_OPACITY = 0.68
GREATEST_COLOUR_ERROR = 80.0
"""RGB distance; an error of 10 % in every channel is at most 44."""
SHAPE_FRAMES = 4
"""Frames of a clip, evenly spread, in which its shape is looked at."""

_COLOURS: tuple[Colour, ...] = tuple(PALETTE)
_GROUND = np.array(GROUND, np.float64)
_INKS = _GROUND - np.array([PALETTE[c] for c in _COLOURS], np.float64)


@dataclass(frozen=True)
class Reading:
    """What `n` clips of `t` frames show, in px of the frames that were read.

    `action` is a motion, `still`, `other` or `invalid`, and `reason` says why it is none of the motions. `look` says
    what is wrong with a valid object itself (half opacity, wrong colour, wrong shape), whatever its motion. Both are
    empty when there is nothing to say.
    """

    action: list[str]
    reason: list[str]
    look: list[str]
    x: Floats  # (n, t) px
    y: Floats
    radius: Floats
    """Of the disc of equal area, for every shape."""
    rmse: Floats  # (n,) px, distance from the winning law; nan where invalid
    law_x: Floats  # (n, t) px: nearest path of the asked law, or of the winning one if none was asked
    law_y: Floats
    law_rmse: Floats  # (n,) px, distance from that path; of no meaning where invalid
    speed: Floats  # (n,) px/frame along that path, never negative
    angle: Floats  # (n,) degrees of the best straight line as seen: right 0, up 90, left 180, down -90
    colour: Floats  # (n, 3) mean RGB of the core, nan where there is none
    colour_name: list[str]
    """Nearest colour of the palette at any opacity; empty where there is none."""
    opacity: Floats  # (n,) share of the full ink of that colour
    shape: list[str]
    """Shape of greatest overlap; empty where there is no object."""
    shape_iou: Floats  # (n,) 0-1, soft overlap with the asked shape, or the best one if none was asked
    ground_error: Floats  # (n,) 0-1, mean absolute difference from the ground outside the object
    flicker: Floats  # (n,) 0-1, mean absolute change of the ground from frame to frame

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([a != "invalid" for a in self.action])


def read(
    frames: NDArray[np.uint8],
    colours: Sequence[Colour],
    shapes: Sequence[Shape] | None = None,
    actions: Sequence[Action] | None = None,
) -> Reading:
    """Read clips of shape `(n, t, h, w, 3)`; clip i should show `colours[i]`, `shapes[i]` and `actions[i]`.

    Without `shapes` any shape is right; without `actions` the law of a clip is the one that wins.
    """
    assert frames.dtype == np.uint8 and frames.ndim == 5 and len(frames) == len(colours), (frames.dtype, frames.shape)
    unit = frames.shape[2] / UNIT_SIZE
    chunks = [_look(frames[i : i + CHUNK], colours[i : i + CHUNK], unit) for i in range(0, len(frames), CHUNK)]
    seen = _Seen(*(np.concatenate(part) for part in zip(*(vars(c).values() for c in chunks), strict=True)))
    reason = _faults(seen, unit)
    action, rmse = _motions(seen, unit)
    for i, fault in enumerate(reason):
        if fault:
            action[i], rmse[i] = "invalid", np.nan
        elif action[i] in ("other", "still"):
            reason[i] = "no motion" if action[i] == "still" else "fits no known motion"
    law = laws.fit(actions or action, seen.x, seen.y, unit)
    there = seen.overlap.max(1) > 0
    asked = seen.overlap.argmax(1) if shapes is None else np.array([SHAPES.index(s) for s in shapes])
    return Reading(
        action, reason, _looks(seen, colours, asked, reason), seen.x, seen.y, seen.radius, rmse,
        law.x, law.y, law.rmse, law.speed,
        np.degrees(np.arctan2(-laws.slope(seen.y), laws.slope(seen.x))),
        seen.colour, [_COLOURS[k] if k >= 0 else "" for k in seen.name], seen.opacity,
        [SHAPES[k] if ok else "" for k, ok in zip(seen.overlap.argmax(1), there, strict=True)],
        seen.overlap[np.arange(len(asked)), asked], seen.ground_error.mean(1), seen.flicker,
    )  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What is measured on n clips before any judgement."""

    x: Floats  # (n, t)
    y: Floats
    radius: Floats
    spread: Floats
    ground_error: Floats  # (n, t)
    flicker: Floats  # (n,)
    overlap: Floats  # (n, shapes)
    colour: Floats  # (n, 3)
    name: NDArray[np.intp]  # (n,) place in the palette, -1 where there is no ink
    opacity: Floats


def _look(frames: NDArray[np.uint8], asked: Sequence[Colour], unit: float) -> _Seen:
    n, t, h, w, _ = frames.shape
    colour, name, opacity = _ink(frames)
    ink = _INKS[np.where(name >= 0, name, [_COLOURS.index(c) for c in asked])].astype(np.float32)
    along = ink / (ink**2).sum(1, keepdims=True)
    onto = np.stack([along, np.full_like(along, 1 / (3 * 255))], 2)  # (n, 3, 2): opacity, and darkness of any colour
    maps = (_GROUND.astype(np.float32) @ onto)[:, None] - frames.reshape(n, -1, 3).astype(np.float32) @ onto
    alpha, dark = np.moveaxis(maps.reshape(n, t, h, w, 2), 4, 0)
    alpha = np.clip(alpha, 0, 1)
    near = _dilate(alpha > FOREGROUND)
    weight = np.where(near, alpha, 0)
    place = np.arange(h, dtype=np.float32) + 0.5
    mass = weight.sum((2, 3), dtype=np.float64)
    safe = np.maximum(mass, 1e-6)
    columns, rows = weight.sum(2, dtype=np.float64), weight.sum(3, dtype=np.float64)
    x, y = columns @ place / safe, rows @ place / safe
    second = (columns @ place**2 + rows @ place**2) / safe
    spread = (second - x**2 - y**2) * 2 * np.pi / safe
    radius = np.sqrt(mass / np.pi)
    outside: NDArray[np.bool_] = np.logical_not(_dilate(_dilate(near)))
    dark = dark * outside
    ground_error = (dark.sum((2, 3)) / np.maximum(outside.sum((2, 3)), 1)).astype(np.float64)
    both = outside[:, 1:] & outside[:, :-1]
    change = np.abs(np.diff(dark, axis=1)) * both
    flicker = change.sum((1, 2, 3)) / np.maximum(both.sum((1, 2, 3)), 1)
    overlap = np.array([_overlap(*clip, unit) for clip in zip(weight, x, y, radius, strict=True)])
    return _Seen(x, y, radius, spread, ground_error, flicker.astype(np.float64), overlap, colour, name, opacity)


def _ink(frames: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Colour of the core `(n, 3)`, its place in the palette and its opacity `(n,)`."""
    n = len(frames)
    colour, name, opacity = np.full((n, 3), np.nan), np.full(n, -1), np.zeros(n)
    pale = np.minimum(np.minimum(frames[..., 0], frames[..., 1]), frames[..., 2]).reshape(n, -1)
    for i, (pixels, least) in enumerate(zip(frames.reshape(n, -1, 3), pale, strict=True)):
        inked = np.flatnonzero(least < 255 * (1 - FOREGROUND))
        if not len(inked):
            continue
        strength = 255.0 - least[inked]
        core = inked[strength >= FULL_INK * np.quantile(strength, 0.9)]
        colour[i] = pixels[core].mean(0)
        ink = _GROUND - colour[i]
        share = _INKS @ ink / (_INKS**2).sum(1)
        distance = np.linalg.norm(ink - np.clip(share, FOREGROUND, 1)[:, None] * _INKS, axis=1)
        name[i] = distance.argmin()
        opacity[i] = share[name[i]]
    return colour, name, opacity


def _overlap(weight: NDArray[np.float32], x: Floats, y: Floats, radius: Floats, unit: float) -> Floats:
    """Soft intersection over union of one clip's opacity with every shape at the read state: `(shapes,)`."""
    t, size, _ = weight.shape
    seen = np.unique(np.linspace(0, t - 1, SHAPE_FRAMES).round().astype(int))
    x, y, radius = x[seen], y[seen], radius[seen]
    if radius.min() < TRACE_RADIUS * unit or radius.max() > GREATEST_RADIUS * unit:
        return np.zeros(len(SHAPES))
    side = min(size, int(2 * _WIDEST * radius.max()) + 5)
    columns, rows = (
        np.clip(np.floor(place - side / 2), 0, size - side).astype(np.intp)[:, None] + np.arange(side)
        for place in (x, y)
    )
    window = weight[seen[:, None, None], rows[:, :, None], columns[:, None, :]]
    dx = (columns + 0.5 - x[:, None])[:, None, :]
    dy = (rows + 0.5 - y[:, None])[:, :, None]
    ideal = [cover(shape, dx, dy, radius[:, None, None]) for shape in SHAPES]
    both = np.array([np.minimum(i, window).sum((1, 2)) for i in ideal])
    total = window.sum((1, 2)) + np.array([i.sum((1, 2)) for i in ideal])
    return np.asarray((both / (total - both)).mean(1))


_WIDEST = max(extent.greatest for extent in EXTENTS.values())


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow by one pixel in all eight directions."""
    tall = mask.copy()
    tall[:, :, 1:] |= mask[:, :, :-1]
    tall[:, :, :-1] |= mask[:, :, 1:]
    grown = tall.copy()
    grown[..., 1:] |= tall[..., :-1]
    grown[..., :-1] |= tall[..., 1:]
    return grown


def _faults(seen: _Seen, unit: float) -> list[str]:
    """What makes each clip invalid, the first of its faults, or an empty string."""
    faults: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("no object in a frame", (seen.radius < TRACE_RADIUS * unit).any(1)),
        ("object too large", (seen.radius > GREATEST_RADIUS * unit).any(1)),
        ("not one compact object", (seen.spread > GREATEST_SPREAD).any(1)),
        ("object too small", (seen.radius < LEAST_RADIUS * unit).any(1)),
        ("ground not clean", (seen.ground_error > GREATEST_GROUND_ERROR).any(1)),
    )
    return [next((name for name, hit in faults if hit[i]), "") for i in range(len(seen.radius))]


def _looks(seen: _Seen, colours: Sequence[Colour], shapes: NDArray[np.intp], reason: Sequence[str]) -> list[str]:
    """What is wrong with the object of each clip that is read at all."""
    asked = np.array([_COLOURS.index(c) for c in colours])
    error = np.linalg.norm(seen.colour - (_GROUND - _INKS[asked]), axis=1)
    looks: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("half opacity", seen.opacity < LEAST_OPACITY),
        ("wrong colour", (seen.name != asked) | (error > GREATEST_COLOUR_ERROR)),
        ("wrong shape", seen.overlap.argmax(1) != shapes),
    )
    valid = [r in ("", "no motion", "fits no known motion") for r in reason]
    return [next((name for name, hit in looks if hit[i]), "") if valid[i] else "" for i in range(len(valid))]


def _motions(seen: _Seen, unit: float) -> tuple[list[str], Floats]:
    """The motion each clip shows and its distance from the law, px."""
    action = laws.best_law(seen.x, seen.y, unit)
    rmse = laws.fit(action, seen.x, seen.y, unit).rmse
    log_ratio, radius_rmse = _growth(seen.radius)
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
    rate, middle = laws.slope(radius)[:, None], radius.mean(1, keepdims=True)
    line = middle + rate * (np.arange(t) - (t - 1) / 2)
    ends = np.maximum(line[:, [0, -1]], 1e-3)
    return np.log(ends[:, 1] / ends[:, 0]), np.sqrt(((radius - line) ** 2).mean(1))
