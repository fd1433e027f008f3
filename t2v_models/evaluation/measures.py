"""The reader's `Reading` with what version 2 of the reader adds: the looks of a clip and its way along the asked law.

Letters in shapes: n clips, t frames, h and w pixels. Lengths are px of the clip; `unit` is px per unit of length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.motions import (
    BOUNCE_SPEED,
    DIRECTIONS,
    RADIUS,
    SIZE_RATIO,
    SMALL_RADIUS,
    SPEED,
    ZIGZAG_SPEED,
    Action,
)
from t2v_models.clips.prompts import Meaning
from t2v_models.clips.reader import Reading, _laws, read
from t2v_models.clips.spec import GROUND, PALETTE, UNIT_SIZE, ClipSpec, Colour

Floats = NDArray[np.float64]

CHUNK = 16
"""Clips measured at once, so that the working set stays near the size of the cache."""
RIM = 3.0
"""px around the object that belong to neither object nor ground."""
REACH = 1.6
"""Farthest point of any shape from its centre, in radii of the disc of equal area (a triangle's is 1.56)."""
CORE = 0.5
"""Radii from the centre inside which every shape is full."""
SIZE_MOTIONS = ("shrink", "expand")
LEAST_IOU, LEAST_OPACITY = 0.8, 0.75


@dataclass(frozen=True)
class Measured(Reading):
    """`Reading` of n clips of t frames, and more; names and meanings are those of version 2 of the reader."""

    look: list[str]
    law_x: Floats
    law_y: Floats
    law_rmse: Floats
    speed: Floats
    angle: Floats
    colour: Floats
    colour_name: list[str]
    opacity: Floats
    shape: list[str]
    shape_iou: Floats
    ground_error: Floats
    flicker: Floats


def measure(frames: NDArray[np.uint8], meanings: Sequence[Meaning]) -> Measured:
    """Read clips `(n, t, h, w, 3)` that should show `meanings`."""
    colours = [m.colour for m in meanings]
    found = read(frames, colours)
    unit, n = frames.shape[2] / UNIT_SIZE, len(frames)
    iou, colour, opacity, ground_error, flicker = looks(frames, found.x, found.y, found.radius, colours)
    path_velocity, laws = velocity(found.x, found.y), law_distances(found.x, found.y, unit)
    time = np.arange(frames.shape[1]) - (frames.shape[1] - 1) / 2
    directed = np.array([m.action in DIRECTIONS for m in meanings])[:, None]
    law_x, law_y = (
        np.where(directed, v.mean(1, keepdims=True) + path_velocity[:, [axis]] * time, np.nan)
        for axis, v in enumerate((found.x, found.y))
    )
    names = list(PALETTE)
    ink = np.array([PALETTE[c] for c in names], np.float64)
    nearest = np.linalg.norm(colour[:, None] - ink, axis=2).argmin(1)
    look = ["half opacity" if o < LEAST_OPACITY else "wrong shape" if i < LEAST_IOU else ""
            for o, i in zip(opacity, iou, strict=True)]  # fmt: skip
    return Measured(
        action=found.action, reason=found.reason, x=found.x, y=found.y, radius=found.radius, rmse=found.rmse,
        look=[words if ok else "" for words, ok in zip(look, found.valid, strict=True)], law_x=law_x, law_y=law_y,
        law_rmse=np.array([laws[m.action][i] for i, m in enumerate(meanings)]),
        speed=np.array([speed_of(m.action, found.x[[i]], found.y[[i]])[0] for i, m in enumerate(meanings)]),
        angle=np.degrees(np.arctan2(-path_velocity[:, 1], path_velocity[:, 0])), colour=colour,
        colour_name=[names[i] for i in nearest], opacity=opacity, shape=["circle"] * n, shape_iou=iou,
        ground_error=ground_error, flicker=flicker,
    )  # fmt: skip


def looks(
    frames: NDArray[np.uint8], x: Floats, y: Floats, radius: Floats, colours: Sequence[Colour]
) -> tuple[Floats, ...]:
    """Of clips whose objects lie at `x`, `y` with `radius`, each `(n, t)`, what follows, each `(n,)`.

    Soft intersection over union with the ideal disc; RGB of the object's core `(n, 3)`; opacity of the core; mean
    absolute difference from the ground away from the object, 0 to 1; its mean absolute change from frame to frame.
    """
    parts = []
    for i in range(0, len(frames), CHUNK):
        chunk = slice(i, i + CHUNK)
        parts.append(_looks(frames[chunk], x[chunk], y[chunk], radius[chunk], colours[chunk]))
    return tuple(np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))


def _looks(
    frames: NDArray[np.uint8], x: Floats, y: Floats, radius: Floats, colours: Sequence[Colour]
) -> tuple[NDArray[np.float32], ...]:
    n, t, h, w, _ = frames.shape
    pixels = frames.reshape(n, -1, 3).astype(np.float32)
    ground = np.array(GROUND, np.float32)
    ink = np.array([PALETTE[c] for c in colours], np.float32) - ground
    along = ink / (ink**2).sum(1, keepdims=True)
    alpha = np.clip((pixels - ground) @ along[:, :, None], 0, 1).reshape(n, t, h, w)
    grey = (pixels @ np.full(3, 1 / (3 * 255), np.float32)).reshape(n, t, h, w)
    across = (np.arange(w, dtype=np.float32) + 0.5 - x[..., None].astype(np.float32)) ** 2
    down = (np.arange(h, dtype=np.float32) + 0.5 - y[..., None].astype(np.float32)) ** 2
    distance = np.sqrt(across[:, :, None, :] + down[:, :, :, None])
    r = radius.astype(np.float32)[..., None, None]
    cover = np.clip(r + 0.5 - distance, 0, 1)
    near = distance <= r + RIM
    both, either = np.minimum(alpha, cover) * near, np.maximum(alpha, cover) * near
    iou = (both.sum((2, 3)) / np.maximum(either.sum((2, 3)), 1e-6)).mean(1)
    core = (distance <= np.maximum(CORE * r, 1)).astype(np.float32).reshape(n * t, 1, h * w)
    mass = np.maximum(core.sum(2), 1)
    colour = ((core @ pixels.reshape(n * t, h * w, 3))[:, 0] / mass).reshape(n, t, 3).mean(1)
    opacity = np.clip(((colour - ground) * along).sum(1), 0, 1)
    away = distance > REACH * r + RIM
    error = np.abs(grey - ground.mean() / 255)
    ground_error = (error * away).sum((1, 2, 3)) / np.maximum(away.sum((1, 2, 3)), 1)
    steady = away[:, 1:] & away[:, :-1]
    flicker = (np.abs(np.diff(grey, axis=1)) * steady).sum((1, 2, 3)) / np.maximum(steady.sum((1, 2, 3)), 1)
    return iou, colour, opacity, ground_error, flicker


def velocity(x: Floats, y: Floats) -> Floats:
    """Least-squares velocity of each path, `(n, 2)` px/frame."""
    ramp = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2
    return np.stack([x @ ramp, y @ ramp], 1) / (ramp @ ramp)


def law_distances(x: Floats, y: Floats, unit: float) -> dict[str, Floats]:
    """Root mean square distance of each path from the best fit of each motion's law, `(n,)` px by motion.

    Where a law cannot be met (a line would have to run backwards), its limit at speed zero counts: rest.
    """
    found = {name: rss for name, rss, _ in _laws(x, y, unit)}
    rest = found["still"]
    distances = {
        name: np.sqrt(np.where(np.isfinite(rss), np.minimum(rss, rest), rest) / x.shape[1])
        for name, rss in found.items()
    }
    return distances | dict.fromkeys(SIZE_MOTIONS, distances["still"])


def speed_of(action: str, x: Floats, y: Floats) -> Floats:
    """Speed along the axis of the law, `(n,)` px/frame; nan for motions without one (orbits, size)."""
    if action in DIRECTIONS:
        return np.linalg.norm(velocity(x, y), axis=1)
    axis = y if action.endswith("-v") else x
    if action.startswith("bounce"):
        return np.median(np.abs(np.diff(axis, axis=1)), axis=1)  # turns disturb one or two steps only
    if action.startswith("zigzag"):
        return np.abs(velocity(x, y)[:, 1 if action.endswith("-v") else 0])
    return np.full(len(x), np.nan)


def speed_range(action: Action, spec: ClipSpec) -> tuple[float, float]:
    """The speeds of training, px/frame; in clips too long for the least one, half of what fits is the lower end."""
    low, high = BOUNCE_SPEED if action.startswith("bounce") else ZIGZAG_SPEED if "zigzag" in action else SPEED
    fits = (spec.size - 2 * RADIUS[1] * spec.unit) / (spec.frames - 1)
    return min(low * spec.unit, fits / 2), high * spec.unit


def radius_range(action: Action, spec: ClipSpec) -> tuple[float, float]:
    """The radii of training, px."""
    if action in SIZE_MOTIONS:
        return SMALL_RADIUS[0] * spec.unit, SMALL_RADIUS[1] * SIZE_RATIO[1] * spec.unit
    return RADIUS[0] * spec.unit, RADIUS[1] * spec.unit
