"""What moves and how: every motion has one exact law with continuous parameters.

Axes: x to the right, y down, in pixels; frame 0 is time 0 and a step is one frame. A pixel with index j
covers [j, j + 1), so its centre is at j + 0.5. Lengths below are for 64-px frames and scale with `spec.unit`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from t2v_models.clips.shapes import EXTENTS
from t2v_models.clips.spec import ClipSpec, Colour, Shape
from t2v_models.config import Config

Action = Literal[
    "right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right",
    "rotate-cw", "rotate-ccw", "bounce-v", "bounce-h", "zigzag-v", "zigzag-h", "shrink", "expand",
]  # fmt: skip

ACTIONS: tuple[Action, ...] = Action.__args__  # type: ignore[attr-defined]

DIAGONAL = math.sqrt(0.5)
DIRECTIONS: dict[Action, tuple[float, float]] = {
    "right": (1, 0), "down-right": (DIAGONAL, DIAGONAL), "down": (0, 1), "down-left": (-DIAGONAL, DIAGONAL),
    "left": (-1, 0), "up-left": (-DIAGONAL, -DIAGONAL), "up": (0, -1), "up-right": (DIAGONAL, -DIAGONAL),
}  # fmt: skip
"""Unit vectors on the screen: y points down."""

RADIUS = (5.0, 8.0)
SMALL_RADIUS = (4.0, 5.5)
SIZE_RATIO = (1.7, 2.4)
SPEED = (1.0, 3.5)
BOUNCE_SPEED = (1.5, 4.0)
ZIGZAG_SPEED = (1.0, 2.5)
SWING = (7.0, 10.0)
ORBIT_RADIUS = (8.0, 14.0)
ORBIT_ANGLE = (math.radians(210), math.radians(330))
ORBIT_STEP = math.radians(60)


class Motion(Config):
    """The ground truth of one clip: the law (`action`) and every number it needs, px and px/frame.

    `start` is the centre at frame 0; for an orbit it is the centre of the orbit. Fields a law does not use are 0.
    """

    action: Action
    shape: Shape = "circle"
    colour: Colour = "blue"
    start: tuple[float, float]
    radius: float = Field(gt=0, description="px at frame 0")
    radius_end: float = Field(gt=0, description="px at the last frame")
    speed: float = Field(0, description="px/frame along the direction of travel; signed for bounce and zigzag")
    swing: float = Field(0, description="px either side of the line (zigzag) or radius of the orbit")
    phase: float = Field(0, description="radians at frame 0 (orbit) or the frame of the first turn (zigzag)")
    rate: float = Field(0, description="radians per frame (orbit; positive is clockwise) or frames between turns")


@dataclass(frozen=True)
class Trace:
    """Where the object is: float64 arrays of shape `(t,)`, px."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]


def triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangle wave of period 2 between -1 and 1, with its maxima at even x and minima at odd x."""
    return np.asarray(1 - 2 * np.abs(np.mod(x + 1, 2) - 1))


def reflect(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Fold a straight path back into [low, high], as a ball does between two walls."""
    span = high - low
    return low + span - np.abs(np.mod(x - low, 2 * span) - span)


def trace(motion: Motion, spec: ClipSpec) -> Trace:
    """The exact path of the object's centre and its radius in every frame."""
    t = np.arange(spec.frames, dtype=np.float64)
    x, y = np.full_like(t, motion.start[0]), np.full_like(t, motion.start[1])
    radius = motion.radius + (motion.radius_end - motion.radius) * t / (spec.frames - 1)
    action = motion.action
    if action in DIRECTIONS:
        dx, dy = DIRECTIONS[action]
        x, y = x + dx * motion.speed * t, y + dy * motion.speed * t
    elif action in ("rotate-cw", "rotate-ccw"):
        angle = motion.phase + motion.rate * t
        x, y = x + motion.swing * np.cos(angle), y + motion.swing * np.sin(angle)
    elif action == "bounce-v":
        extent = EXTENTS[motion.shape]
        y = reflect(y + motion.speed * t, extent.up * motion.radius, spec.size - extent.down * motion.radius)
    elif action == "bounce-h":
        side = EXTENTS[motion.shape].side * motion.radius
        x = reflect(x + motion.speed * t, side, spec.size - side)
    elif action in ("zigzag-v", "zigzag-h"):
        across = motion.swing * triangle((t - motion.phase) / motion.rate)
        along = motion.speed * t
        x, y = (x + across, y + along) if action == "zigzag-v" else (x + along, y + across)
    return Trace(x, y, radius)


def radius_range(action: Action, shape: Shape, spec: ClipSpec) -> tuple[float, float]:
    """Least and greatest radius, px, that an object of the training range has in any frame."""
    least, most = RADIUS
    if action in ("shrink", "expand"):
        least, most = SMALL_RADIUS[0], SMALL_RADIUS[1] * SIZE_RATIO[1]
    return least * _enlarged(shape) * spec.unit, most * _enlarged(shape) * spec.unit


def speed_range(action: Action, spec: ClipSpec) -> tuple[float, float]:
    """Least and greatest speed, px/frame, of the training range; an orbit's speed is along its circle.

    In clips so long that the least speed leaves the frame, slower ones are drawn than this says.
    """
    limits = (0.0, 0.0)
    if action in DIRECTIONS:
        limits = SPEED
    elif action in ("bounce-v", "bounce-h"):
        limits = BOUNCE_SPEED
    elif action in ("zigzag-v", "zigzag-h"):
        limits = ZIGZAG_SPEED
    elif action in ("rotate-cw", "rotate-ccw"):
        steps = spec.frames - 1
        most = min(ORBIT_ANGLE[1], ORBIT_STEP * steps)
        limits = (ORBIT_RADIUS[0] * min(ORBIT_ANGLE[0], most * 2 / 3) / steps, ORBIT_RADIUS[1] * most / steps)
    return limits[0] * spec.unit, limits[1] * spec.unit


def draw_motion(action: Action, spec: ClipSpec, rng: np.random.Generator, shape: Shape, colour: Colour) -> Motion:
    """Draw every free number of one clip. The object is wholly inside the frame at all times."""
    draw = _Draw(action, spec, rng, shape)
    if action in DIRECTIONS:
        numbers = draw.straight()
    elif action in ("rotate-cw", "rotate-ccw"):
        numbers = draw.orbit()
    elif action in ("bounce-v", "bounce-h"):
        numbers = draw.bounce()
    elif action in ("zigzag-v", "zigzag-h"):
        numbers = draw.zigzag()
    else:
        numbers = {"start": draw.place((0, 0), (0, 0))}
    return Motion(
        action=action, shape=shape, colour=colour, radius=draw.radius, radius_end=draw.radius_end, **numbers
    )  # fmt: skip


def _enlarged(shape: Shape) -> float:
    """Factor on drawn radii that makes no shape narrower than the disc of that radius."""
    extent = EXTENTS[shape]
    return max(1.0, 1 / extent.side, 2 / (extent.up + extent.down))


class _Draw:
    """The numbers of one clip: its radius first, then what its law needs."""

    def __init__(self, action: Action, spec: ClipSpec, rng: np.random.Generator, shape: Shape) -> None:
        self.action, self.spec, self.rng = action, spec, rng
        self.unit, self.steps = spec.unit, spec.frames - 1
        scale = self.unit * _enlarged(shape)
        self.radius = self.radius_end = rng.uniform(*RADIUS) * scale
        if action in ("shrink", "expand"):
            small = rng.uniform(*SMALL_RADIUS) * scale
            wide = small * rng.uniform(*SIZE_RATIO)
            self.radius, self.radius_end = (wide, small) if action == "shrink" else (small, wide)
        widest = max(self.radius, self.radius_end)
        extent = EXTENTS[shape]
        self.left = self.right = extent.side * widest
        self.up, self.down = extent.up * widest, extent.down * widest
        self.wide, self.high = spec.size - (self.left + self.right), spec.size - (self.up + self.down)
        self.room = min(self.wide, self.high)

    def straight(self) -> dict[str, Any]:
        dx, dy = DIRECTIONS[self.action]
        travel = self.speed(SPEED, self.room / max(abs(dx), abs(dy))) * self.steps
        start = self.place(_span(dx * travel), _span(dy * travel))
        return {"start": start, "speed": travel / self.steps}

    def orbit(self) -> dict[str, Any]:
        swing = min(self.rng.uniform(*ORBIT_RADIUS) * self.unit, self.room / 2)
        most = min(ORBIT_ANGLE[1], ORBIT_STEP * self.steps)
        angle = self.rng.uniform(min(ORBIT_ANGLE[0], most * 2 / 3), most)
        rate = angle / self.steps * (1 if self.action == "rotate-cw" else -1)
        phase = self.rng.uniform(0, 2 * math.pi)
        return {"start": self.place((-swing, swing), (-swing, swing)), "swing": swing, "rate": rate, "phase": phase}

    def bounce(self) -> dict[str, Any]:
        vertical = self.action == "bounce-v"
        room = self.high if vertical else self.wide
        low, high = (self.up, self.down) if vertical else (self.left, self.right)
        speed = min(self.rng.uniform(*BOUNCE_SPEED) * self.unit, 0.9 * room)
        meets_wall = self.rng.uniform(0.25, 0.75) * self.steps  # so that both legs are seen
        approach = min(speed * meets_wall, room)
        ahead = self.rng.random() < 0.5
        along = self.spec.size - high - approach if ahead else low + approach
        first, last = (self.left, self.right) if vertical else (self.up, self.down)
        across = self.rng.uniform(first, self.spec.size - last)
        start = (across, along) if vertical else (along, across)
        return {"start": start, "speed": speed if ahead else -speed}

    def zigzag(self) -> dict[str, Any]:
        swing = min(self.rng.uniform(*SWING) * self.unit, self.room / 2)
        last = self.spec.frames - 2
        gap = self.rng.uniform(max(1.0, last * 3 / 8), last / 2)
        first = self.rng.uniform(1.0, max(1.0, min(1 + gap, last - gap)))  # a second turn fits before the last frame
        speed = self.speed(ZIGZAG_SPEED, self.room) * self.sign()
        travel, sway = _span(speed * self.steps), (-swing, swing)
        start = self.place(sway, travel) if self.action == "zigzag-v" else self.place(travel, sway)
        return {"start": start, "speed": speed, "swing": swing * self.sign(), "phase": first, "rate": gap}

    def speed(self, limits: tuple[float, float], reach: float) -> float:
        """px/frame within `limits`; in clips so long that they do not fit `reach` px, down to half of what fits."""
        fastest = min(limits[1] * self.unit, reach / self.steps)
        return float(self.rng.uniform(min(limits[0] * self.unit, fastest / 2), fastest))

    def sign(self) -> int:
        return 1 if self.rng.random() < 0.5 else -1

    def place(self, x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
        """A start from which the given (least, greatest) offsets along each axis stay inside the frame."""
        size = self.spec.size
        across = self.rng.uniform(self.left - x[0], size - self.right - x[1])
        return float(across), float(self.rng.uniform(self.up - y[0], size - self.down - y[1]))


def _span(travel: float) -> tuple[float, float]:
    """The least and greatest offset on a straight way of signed length `travel`."""
    return min(0.0, travel), max(0.0, travel)
