"""What moves and how: every motion has one exact law with continuous parameters.

Axes: x to the right, y down, in pixels; frame 0 is time 0 and a step is one frame. A pixel with index j
covers [j, j + 1), so its centre is at j + 0.5. Lengths below are for 64-px frames and scale with `spec.unit`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

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
SWING = (6.0, 10.0)
ORBIT_RADIUS = (8.0, 15.0)
ORBIT_ANGLE = (math.radians(120), math.radians(330))
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
    return 2 * np.abs(np.mod(x + 1, 2) - 1) * -1 + 1


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
        y = reflect(y + motion.speed * t, motion.radius, spec.size - motion.radius)
    elif action == "bounce-h":
        x = reflect(x + motion.speed * t, motion.radius, spec.size - motion.radius)
    elif action in ("zigzag-v", "zigzag-h"):
        across = motion.swing * triangle((t - motion.phase) / motion.rate)
        along = motion.speed * t
        x, y = (x + across, y + along) if action == "zigzag-v" else (x + along, y + across)
    return Trace(x, y, radius)


def draw_motion(action: Action, spec: ClipSpec, rng: np.random.Generator, shape: Shape, colour: Colour) -> Motion:
    """Draw every free number of one clip. The object is wholly inside the frame at all times.

    Speeds are uniform in a range of px/frame; in clips so long that the range does not fit the frame, the
    range is cut to what fits, down to half of the room over the length of the clip.
    """
    u, steps = spec.unit, spec.frames - 1
    radius = radius_end = rng.uniform(*RADIUS) * u
    if action in ("shrink", "expand"):
        small = rng.uniform(*SMALL_RADIUS) * u
        large = small * rng.uniform(*SIZE_RATIO)
        radius, radius_end = (large, small) if action == "shrink" else (small, large)
    widest = max(radius, radius_end)
    room = spec.size - 2 * widest

    def speed_in(limits: tuple[float, float], reach: float) -> float:
        fastest = min(limits[1] * u, reach / steps)
        return float(rng.uniform(min(limits[0] * u, fastest / 2), fastest))

    def place(travel_x: tuple[float, float] = (0, 0), travel_y: tuple[float, float] = (0, 0)) -> tuple[float, float]:
        """A start from which the given (least, greatest) offsets stay inside the frame."""
        return tuple(
            float(rng.uniform(widest - least, spec.size - widest - greatest)) for least, greatest in (travel_x, travel_y)
        )  # type: ignore[return-value]

    def made(**numbers: object) -> Motion:
        return Motion(action=action, shape=shape, colour=colour, radius=radius, radius_end=radius_end, **numbers)  # type: ignore[arg-type]

    if action in DIRECTIONS:
        dx, dy = DIRECTIONS[action]
        speed = speed_in(SPEED, room / max(abs(dx), abs(dy)))
        span = [(min(0.0, d * speed * steps), max(0.0, d * speed * steps)) for d in (dx, dy)]
        return made(start=place(*span), speed=speed)

    if action in ("rotate-cw", "rotate-ccw"):
        swing = min(rng.uniform(*ORBIT_RADIUS) * u, room / 2)
        angle = rng.uniform(ORBIT_ANGLE[0], min(ORBIT_ANGLE[1], ORBIT_STEP * steps))
        rate = angle / steps if action == "rotate-cw" else -angle / steps
        return made(start=place((-swing, swing), (-swing, swing)), swing=swing, rate=rate, phase=rng.uniform(0, 2 * math.pi))

    if action in ("bounce-v", "bounce-h"):
        speed = min(rng.uniform(*BOUNCE_SPEED) * u, 0.9 * room)
        meets_wall = rng.uniform(0.25, 0.75) * steps  # both legs are seen: the first turn is in the middle half
        approach = speed * min(meets_wall, room / speed)
        down = rng.random() < 0.5
        along = spec.size - radius - approach if down else radius + approach
        across = rng.uniform(radius, spec.size - radius)
        start = (across, along) if action == "bounce-v" else (along, across)
        return made(start=start, speed=speed if down else -speed)

    if action in ("zigzag-v", "zigzag-h"):
        swing = min(rng.uniform(*SWING) * u, room / 2)
        longest = (spec.frames - 2) / 2
        gap = rng.uniform(max(1.0, longest / 2), longest)
        first = rng.uniform(1.0, max(1.0, min(1 + gap, spec.frames - 2 - gap)))  # two turns between frames 1 and t - 2
        speed = speed_in(ZIGZAG_SPEED, room) * (1 if rng.random() < 0.5 else -1)
        side = 1 if rng.random() < 0.5 else -1
        travel, sway = (min(0.0, speed * steps), max(0.0, speed * steps)), (-swing, swing)
        start = place(sway, travel) if action == "zigzag-v" else place(travel, sway)
        return made(start=start, speed=speed, swing=side * swing, phase=first, rate=gap)

    return made(start=place())
