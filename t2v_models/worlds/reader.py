"""The judge's eye: from pixels to the motion they show, by closed forms only. Inverse of `render`.

Clip to colour: mean of its darkest pixels. Frame to state: opacity of that colour over the background, then its mass,
centroid, spread and shape by moments (`moments`), which soft edges do not mislead. Clip to validity: one compact object
of a sane size in every frame, on a clean background. State to motion: `laws`; when no law fits within `TOLERANCE`, the
motion is `other`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import UNIT_SIZE
from t2v_models.worlds import laws
from t2v_models.worlds.appearance import SHAPES, Colour, Shape
from t2v_models.worlds.cores import BACKGROUND_LEVELS, COLOURS, DARKNESS, cores_of
from t2v_models.worlds.moments import FOREGROUND, measure, name_shapes
from t2v_models.worlds.motions import Action
from t2v_models.worlds.overlaps import overlaps_with

READER_VERSION = "5"

Floats = NDArray[np.float64]
CHUNK = 16
"""Clips read at once: the working set of 64-px clips stays near the size of the cache."""

TOLERANCE = 2.0
"""px at 64 px: greatest root mean square distance from the law to still count as that motion."""
LEAST_LOG_RATIO = 0.4
"""|log(last radius / first radius)| from which a clip shrinks or expands: a factor of about 1.5."""
TRACE_RADIUS, LEAST_RADIUS, GREATEST_RADIUS = 1.2, 2.8, 18.0
"""px at 64 px: nothing is there, an object is too small, an object is too large."""
GREATEST_SPREAD, SOFT_EDGE = 1.75, 5.0
"""Second moment of the object over that of a disc of equal mass, were it opaque: two objects, streaks and smears
exceed it. An edge blurred by one pixel adds 4 / radius², so `SOFT_EDGE` / radius² is allowed on top."""
GREATEST_BACKGROUND_ERROR = 0.035
"""Mean absolute difference from the background outside the object's window, as a share of full scale; white noise of
5 % that is cut off at white gives 0.02."""
LEAST_OPACITY = 0.68
GREATEST_COLOUR_ERROR = 80.0
"""RGB distance; an error of 10 % in every channel is at most 44."""


@dataclass(frozen=True)
class Readings:
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
    colour: Floats  # (n, 3) mean RGB of the core as it would be with sharp edges, nan where there is none
    colour_change: Floats
    """(n,) RGB distance of the frame whose core, as drawn, is farthest from the mean of all frames'."""
    colour_name: list[str]
    """Nearest colour of the palette at any opacity; empty where there is none."""
    opacity: Floats  # (n,) share of that colour over the background
    shape: list[str]
    """Nearest shape, however soft; empty where there is no object."""
    shape_iou: Floats  # (n,) 0-1, soft overlap with the asked shape, or the shown one if none was asked
    background_error: Floats  # (n,) 0-1, mean absolute difference from the background outside the object
    flicker: Floats  # (n,) 0-1, mean absolute change of the background from frame to frame

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([a != "invalid" for a in self.action])


def read(
    frames: NDArray[np.uint8],
    colours: Sequence[Colour],
    shapes: Sequence[Shape] | None = None,
    actions: Sequence[Action] | None = None,
) -> Readings:
    """Read clips of shape `(n, t, h, w, 3)`; clip i should show `colours[i]`, `shapes[i]` and `actions[i]`.

    Without `shapes` any shape is right; without `actions` the law of a clip is the one that wins.
    """
    assert frames.dtype == np.uint8 and frames.ndim == 5 and len(frames) == len(colours), (frames.dtype, frames.shape)
    unit = min(frames.shape[2:4]) / UNIT_SIZE
    asked = np.full(len(frames), -1) if shapes is None else np.array([SHAPES.index(s) for s in shapes], np.intp)
    chunks = [_look(frames[i : i + CHUNK], asked[i : i + CHUNK], unit) for i in range(0, len(frames), CHUNK)]
    return readings_of(Seen.together(chunks), colours, asked, actions, unit)


def readings_of(
    seen: "Seen", colours: Sequence[Colour], asked: NDArray[np.intp], actions: Sequence[Action] | None, unit: float
) -> Readings:
    """What was seen, judged: clip i should show `colours[i]`, the shape at `asked[i]` (-1: any) and `actions[i]`."""
    reason = _faults(seen, unit)
    winner = laws.best_law(seen.x, seen.y, unit)
    law = laws.nearest(winner, seen.x, seen.y, unit)
    action, rmse = _motions(seen.radius, winner, law.rmse, unit), law.rmse.copy()
    for i, fault in enumerate(reason):
        if fault:
            action[i], rmse[i] = "invalid", np.nan
        elif action[i] in ("other", "still"):
            reason[i] = "no motion" if action[i] == "still" else "fits no known motion"
    if actions is not None:
        law = laws.nearest_again(law, winner, actions, seen.x, seen.y, unit)
    return Readings(
        action, reason, _looks(seen, colours, asked, reason), seen.x, seen.y, seen.radius, rmse,
        law.x, law.y, law.rmse, law.speed,
        np.degrees(np.arctan2(-laws.slope(seen.y), laws.slope(seen.x))),
        seen.colour, seen.colour_change, [COLOURS[k] if k >= 0 else "" for k in seen.name], seen.opacity,
        [SHAPES[k] if k >= 0 else "" for k in seen.shape], seen.overlap, seen.background_error.mean(1), seen.flicker,
    )  # fmt: skip


def read_paths(x: Floats, y: Floats, radius: Floats, unit: float) -> tuple[list[str], Floats]:
    """The motion of each path `(n, t)`, and its distance from that law, px `(n,)`."""
    winner = laws.best_law(x, y, unit)
    rmse = laws.nearest(winner, x, y, unit).rmse
    return _motions(radius, winner, rmse, unit), rmse


@dataclass(frozen=True)
class Seen:
    """What is measured on n clips before any judgement."""

    x: Floats  # (n, t)
    y: Floats
    radius: Floats
    spread: Floats
    background_error: Floats  # (n, t)
    flicker: Floats  # (n,)
    shape: NDArray[np.intp]  # (n,) place in `SHAPES`, -1 where there is no object
    overlap: Floats  # (n,) with the asked shape
    colour: Floats  # (n, 3)
    colour_change: Floats  # (n,)
    name: NDArray[np.intp]  # (n,) place in the palette, -1 where there is no object
    opacity: Floats

    @staticmethod
    def together(parts: Sequence["Seen"]) -> "Seen":
        """All parts as one."""
        return Seen(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Seen)})


def _look(frames: NDArray[np.uint8], asked: NDArray[np.intp], unit: float) -> Seen:
    darkness = np.ascontiguousarray(255 - frames.transpose(0, 4, 1, 2, 3))  # (n, 3, t, h, w)
    dark, colour_change, name = _core(darkness)
    along = np.where(name[:, None] >= 0, DARKNESS[name] / (DARKNESS[name] ** 2).sum(1, keepdims=True), 0)
    red, green, blue = darkness.swapaxes(0, 1)
    shares = (plane * share for plane, share in zip((red, green, blue), per_clip(along.T), strict=True))
    alpha = np.clip(sum(shares), 0, 1)
    near = dilate(dilate(alpha > FOREGROUND))
    outside = np.logical_not(dilate(near))
    background = outside.sum((2, 3))  # px
    haze = (alpha * outside).sum((1, 2, 3)) / np.maximum(background.sum(1), 1)  # noise that was cut off at white
    weight = (alpha - per_clip(haze)) * near
    found = measure(weight)
    radius = np.sqrt(found.mass / np.pi)
    there = (radius.min(1) >= TRACE_RADIUS * unit) & (radius.max(1) <= GREATEST_RADIUS * unit)
    shape, core = name_shapes(found.look)
    shape = np.where(there, shape, -1)
    opacity = np.where(name >= 0, (dark * along).sum(1) / core, 0)
    spread = found.spread * np.clip(opacity, FOREGROUND, 1)[:, None]
    asked = np.where(there & (asked >= 0), asked, shape)
    overlap = overlaps_with(asked, weight, np.ones_like(found.x, bool), found.x, found.y, radius, found.mass)
    greyness = (red.astype(np.int16) + green + blue) * outside
    background_error = greyness.sum((2, 3)) / np.maximum(background, 1) / (3 * 255)
    both = outside[:, 1:] & outside[:, :-1]
    change = np.abs(greyness[:, 1:] - greyness[:, :-1]) * both
    flicker = change.sum((1, 2, 3)) / np.maximum(both.sum((1, 2, 3)), 1) / (3 * 255)
    colour = np.clip(BACKGROUND_LEVELS - dark / core[:, None], 0, 255)
    return Seen(
        found.x, found.y, radius, spread, background_error, flicker, shape, overlap, colour, colour_change, name,
        opacity,
    )  # fmt: skip


def per_clip(numbers: Floats) -> NDArray[np.float32]:
    """Numbers `(..., n)` so that they broadcast against clips `(n, t, h, w)`."""
    return numbers.astype(np.float32)[..., None, None, None]


def _core(darkness: NDArray[np.uint8]) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """`cores_of` clips of darkness `(n, 3, t, h, w)`."""
    n, _, t, height, width = darkness.shape
    place = np.flatnonzero(darkness.max(1) > 255 * FOREGROUND)
    cell = place // (height * width)
    first = place + 2 * t * height * width * (cell // t)  # in all channels
    planes = np.stack([darkness.reshape(-1).take(first + c * t * height * width) for c in range(3)])
    return cores_of(planes, cell, n, t)


def dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow by one pixel in all eight directions: masks `(n, t, h, w)`."""
    tall = mask.copy()
    tall[:, :, 1:] |= mask[:, :, :-1]
    tall[:, :, :-1] |= mask[:, :, 1:]
    grown = tall.copy()
    every, own = grown.reshape(-1), tall.reshape(-1)
    every[1:] |= own[:-1]  # as one long row: twice as fast, but the outer columns touch those of other rows
    every[:-1] |= own[1:]
    grown[..., 0] = tall[..., 0] | tall[..., 1]
    grown[..., -1] = tall[..., -1] | tall[..., -2]
    return grown


def _faults(seen: Seen, unit: float) -> list[str]:
    """What makes each clip invalid, the first of its faults, or an empty string."""
    faults = (
        ("no object in a frame", seen.radius.min(1) < TRACE_RADIUS * unit),
        ("object too large", seen.radius.max(1) > GREATEST_RADIUS * unit),
        (
            "not one compact object",
            (seen.spread - SOFT_EDGE / np.maximum(seen.radius, 1) ** 2).max(1) > GREATEST_SPREAD,
        ),
        ("object too small", seen.radius.min(1) < LEAST_RADIUS * unit),
        ("background not clean", seen.background_error.max(1) > GREATEST_BACKGROUND_ERROR),
    )
    return [next((name for name, hit in faults if hit[i]), "") for i in range(len(seen.radius))]


def _looks(seen: Seen, colours: Sequence[Colour], shapes: NDArray[np.intp], reason: Sequence[str]) -> list[str]:
    """What is wrong with the object of each clip that is read at all."""
    asked = np.array([COLOURS.index(c) for c in colours])
    error = np.linalg.norm(seen.colour - (BACKGROUND_LEVELS - DARKNESS[asked]), axis=1)
    looks: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("half opacity", seen.opacity < LEAST_OPACITY),
        ("wrong colour", (seen.name != asked) | (error > GREATEST_COLOUR_ERROR)),
        ("wrong shape", (shapes >= 0) & (seen.shape != shapes)),
    )
    valid = [r in ("", "no motion", "fits no known motion") for r in reason]
    return [next((name for name, hit in looks if hit[i]), "") if valid[i] else "" for i in range(len(valid))]


def _motions(radius: Floats, winner: Sequence[str], rmse: Floats, unit: float) -> list[str]:
    """The motion each clip shows, given the law that wins and its distance, px: size is looked at as well."""
    action = list(winner)
    log_ratio, radius_rmse = _growth(radius)
    for i in range(len(action)):
        changes_size = abs(log_ratio[i]) >= LEAST_LOG_RATIO
        if max(rmse[i], radius_rmse[i]) > TOLERANCE * unit or (changes_size and action[i] != "still"):
            action[i] = "other"
        elif changes_size:
            action[i] = "expand" if log_ratio[i] > 0 else "shrink"
    return action


def _growth(radius: Floats) -> tuple[Floats, Floats]:
    """Log of the last over the first radius of the best straight line, and the distance from that line, px."""
    t = radius.shape[1]
    rate, middle = laws.slope(radius)[:, None], radius.mean(1, keepdims=True)
    line = middle + rate * (np.arange(t) - (t - 1) / 2)
    ends = np.maximum(line[:, [0, -1]], 1e-3)
    return np.log(ends[:, 1] / ends[:, 0]), np.sqrt(((radius - line) ** 2).mean(1))
