"""What moves and how: every motion has one exact law with continuous parameters.

Axes: x to the right, y down, in pixels; frame 0 is time 0 and a step is one frame. A pixel with index j
covers [j, j + 1), so its centre is at j + 0.5. Lengths below are for 64-px frames and scale with `spec.unit`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config
from t2v_models.worlds.appearance import Colour, Shape
from t2v_models.worlds.bands import Size, Speed, band, part_of
from t2v_models.worlds.outlines import EXTENTS, extents

Action = Literal[
    "right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right",
    "rotate-cw", "rotate-ccw", "bounce-v", "bounce-h", "zigzag-v", "zigzag-h", "shrink", "expand",
]  # fmt: skip

Floats = NDArray[np.float64]
Limit = float | Floats

NUMBERS = 12
"""Uniform random numbers that a clip is drawn from, whatever its law; nine are used at most."""

ACTIONS: tuple[Action, ...] = Action.__args__  # type: ignore[attr-defined]
ORBITS: tuple[Action, ...] = ("rotate-cw", "rotate-ccw")
SIZE_MOTIONS: tuple[Action, ...] = ("shrink", "expand")
"""They stay in place and have no one size, so no word says how fast or how large they are."""

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
    paths = traces([motion], spec)
    return Trace(paths.x[0], paths.y[0], paths.radius[0])


def traces(motions: Sequence[Motion], spec: ClipSpec) -> Trace:
    """`trace` of n motions at once: arrays of shape `(n, t)`."""
    numbers = np.array([(*m.start, m.radius, m.radius_end, m.speed, m.swing, m.phase, m.rate) for m in motions])
    return _traces([m.action for m in motions], [m.shape for m in motions], numbers, spec)


def drawn_traces(actions: Sequence[Action], spec: ClipSpec, numbers: Floats, shapes: Sequence[Shape]) -> Trace:
    """`traces` of what `draw_motions` draws of any size and speed, at a third of the cost of both."""
    rows = np.zeros((len(actions), len(_NUMBERS)))
    for action, here in _grouped(actions):
        any_: list[None] = [None] * len(here)
        drawn = Draw(action, spec, numbers[here], [shapes[i] for i in here], any_, any_).drawn()
        rows[np.ix_(here, [_NUMBERS.index(name) for name in drawn])] = np.stack([*drawn.values()], 1)
    return _traces(actions, shapes, rows, spec)


_NUMBERS = "x", "y", "radius", "radius_end", "speed", "swing", "phase", "rate"
"""Of a motion, as `_traces` has them."""


def _traces(actions: Sequence[Action], shapes: Sequence[Shape], numbers: Floats, spec: ClipSpec) -> Trace:
    """Of n motions with these `numbers`, `(n, 8)`."""
    t = np.arange(spec.frames, dtype=np.float64)
    paths = np.empty((3, len(actions), spec.frames))
    for action, here in _grouped(actions):
        x, y, radius, radius_end, *law = numbers[here].T[..., None]  # (k, 1) each
        reach = extents([shapes[i] for i in here])[..., None] * radius
        paths[0, here], paths[1, here] = path_of(action, (x, y), law, reach, spec)
        paths[2, here] = radius + (radius_end - radius) * t / (spec.frames - 1)
    return Trace(*paths)


def path_of(
    action: Action, start: tuple[Floats, Floats], law: Sequence[Floats], reach: Floats, spec: ClipSpec
) -> tuple[Floats, Floats]:
    """Where k objects with the numbers of one law go, px; `reach` is how far they extend sideways, up and down."""
    (x, y), (speed, swing, phase, rate) = start, law
    t = np.arange(spec.frames, dtype=np.float64)
    if action in DIRECTIONS:
        dx, dy = DIRECTIONS[action]
        return x + dx * speed * t, y + dy * speed * t
    if action in ORBITS:
        angle = phase + rate * t
        return x + swing * np.cos(angle), y + swing * np.sin(angle)
    side, up, down = reach
    if action == "bounce-v":
        return x, reflect(y + speed * t, up, spec.height - down)
    if action == "bounce-h":
        return reflect(x + speed * t, side, spec.width - side), y
    if action in ("zigzag-v", "zigzag-h"):
        across, along = swing * triangle((t - phase) / rate), speed * t
        return (x + across, y + along) if action == "zigzag-v" else (x + along, y + across)
    return x, y


def radius_range(action: Action, shape: Shape, spec: ClipSpec, size: Size | None = None) -> tuple[float, float]:
    """Least and greatest radius, px, that an object of that size, or of any trained one, has in any frame."""
    least, most = part_of(*RADIUS, size)
    if action in SIZE_MOTIONS:
        least, most = SMALL_RADIUS[0], SMALL_RADIUS[1] * SIZE_RATIO[1]
    return least * enlarged(shape) * spec.unit, most * enlarged(shape) * spec.unit


def speed_range(
    action: Action, spec: ClipSpec, speed: Speed | None = None, orbit: tuple[float, float] = ORBIT_RADIUS
) -> tuple[float, float]:
    """Least and greatest speed, px/frame, that a word means, or of all trained ones.

    An orbit's speed is along its circle, whose radius is within `orbit`, px at 64 px; a word says how far it turns.
    In clips so long that the least speed leaves the frame, slower ones are drawn than this says.
    """
    if action in ORBITS:
        least, most = part_of(*orbit_angles(spec), speed)
        return orbit[0] * spec.unit * least / (spec.frames - 1), orbit[1] * spec.unit * most / (spec.frames - 1)
    limits = (0.0, 0.0)
    if action in DIRECTIONS:
        limits = SPEED
    elif action in ("bounce-v", "bounce-h"):
        limits = BOUNCE_SPEED
    elif action in ("zigzag-v", "zigzag-h"):
        limits = ZIGZAG_SPEED
    least, most = part_of(*limits, speed)
    return least * spec.unit, most * spec.unit


def orbit_angles(spec: ClipSpec) -> tuple[float, float]:
    """Least and greatest angle, radians, through which a trained orbit turns in a whole clip."""
    most = min(ORBIT_ANGLE[1], ORBIT_STEP * (spec.frames - 1))
    return min(ORBIT_ANGLE[0], most * 2 / 3), most


def draw_motion(
    action: Action, spec: ClipSpec, rng: np.random.Generator, shape: Shape, colour: Colour,
    size: Size | None = None, speed: Speed | None = None,
) -> Motion:  # fmt: skip
    """Draw every free number of one clip. The object is wholly inside the frame at all times."""
    return draw_motions([action], spec, rng.random((1, NUMBERS)), [shape], [colour], [size], [speed])[0]


def draw_motions(
    actions: Sequence[Action],
    spec: ClipSpec,
    numbers: Floats,
    shapes: Sequence[Shape],
    colours: Sequence[Colour],
    sizes: Sequence[Size | None],
    speeds: Sequence[Speed | None],
) -> list[Motion]:
    """`draw_motion` of n clips at once, each a function of its row of `numbers`: uniform in [0, 1), `(n, NUMBERS)`."""
    motions: dict[int, Motion] = {}
    for action, here in _grouped(actions):
        asked = [shapes[i] for i in here], [sizes[i] for i in here], [speeds[i] for i in here]
        drawn = Draw(action, spec, numbers[here], *asked).drawn()
        made = motions_of(action, drawn, asked[0], [colours[i] for i in here])
        motions |= zip(here, made, strict=True)
    return [motions[i] for i in range(len(actions))]


def motions_of(
    action: Action, drawn: Mapping[str, Floats], shapes: Sequence[Shape], colours: Sequence[Colour]
) -> list[Motion]:
    """The motions of n clips, given their numbers as `Draw.drawn` has them."""
    columns = {name: values.tolist() for name, values in drawn.items()}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [
        Motion(action=action, shape=shape, colour=colour, start=(row.pop("x"), row.pop("y")), **row)
        for row, shape, colour in zip(rows, shapes, colours, strict=True)
    ]


def _grouped(actions: Sequence[Action]) -> Iterable[tuple[Action, list[int]]]:
    """Every action with the places where it stands."""
    places: dict[Action, list[int]] = {}
    for i, action in enumerate(actions):
        places.setdefault(action, []).append(i)
    return places.items()


class Draw:
    """The numbers of n clips of one motion, `(n,)` each: their radii first, then what their law needs."""

    def __init__(
        self, action: Action, spec: ClipSpec, numbers: Floats,
        shapes: Sequence[Shape], sizes: Sequence[Size | None], speeds: Sequence[Speed | None],
    ) -> None:  # fmt: skip
        self.action, self.spec, self._columns = action, spec, iter(numbers.T)
        self.unit, self.steps = spec.unit, spec.frames - 1
        extent, scale = extents(shapes), np.array([enlarged(shape) for shape in shapes]) * spec.unit
        self.pace = np.array([band(word) for word in speeds]).T
        self.radius = self.radius_end = self.uniform(*RADIUS, np.array([band(word) for word in sizes]).T) * scale
        if action in SIZE_MOTIONS:
            small = self.uniform(*SMALL_RADIUS) * scale
            wide = small * self.uniform(*SIZE_RATIO)
            self.radius, self.radius_end = (wide, small) if action == "shrink" else (small, wide)
        self.stay(*(extent * np.maximum(self.radius, self.radius_end)))

    def stay(self, side: Floats, up: Floats, down: Floats) -> None:
        """Keep so many px free around the place that moves: to either side, above and below."""
        self.side, self.up, self.down = side, up, down
        self.wide, self.high = self.spec.width - 2 * side, self.spec.height - (up + down)
        self.room = np.minimum(self.wide, self.high)

    def drawn(self) -> dict[str, Floats]:
        """Every number of `Motion` that is not 0, and the start as `x` and `y`."""
        radii = {"radius": self.radius, "radius_end": self.radius_end}
        if self.action in DIRECTIONS:
            return radii | self.straight()
        if self.action in ORBITS:
            return radii | self.orbit()
        if self.action in ("bounce-v", "bounce-h"):
            return radii | self.bounce()
        if self.action in ("zigzag-v", "zigzag-h"):
            return radii | self.zigzag()
        return radii | self.place((0, 0), (0, 0))

    def uniform(self, low: Limit, high: Limit, part: Floats | tuple[float, float] = (0.0, 1.0)) -> Floats:
        """The next number of each clip, between two limits, or in a part of what lies between them."""
        first, last = part
        return np.asarray(low + (high - low) * (first + (last - first) * next(self._columns)))

    def sign(self) -> Floats:
        return np.where(next(self._columns) < 0.5, 1.0, -1.0)

    def straight(self) -> dict[str, Floats]:
        dx, dy = DIRECTIONS[self.action]
        travel = self.speed(SPEED, self.room / max(abs(dx), abs(dy))) * self.steps
        return self.place(_span(dx * travel), _span(dy * travel)) | {"speed": travel / self.steps}

    def orbit(self) -> dict[str, Floats]:
        swing = np.minimum(self.uniform(*ORBIT_RADIUS) * self.unit, self.room / 2)
        angle = self.uniform(*orbit_angles(self.spec), self.pace)
        rate = angle / self.steps * (1 if self.action == "rotate-cw" else -1)
        phase = self.uniform(0, 2 * math.pi)
        return self.place((-swing, swing), (-swing, swing)) | {"swing": swing, "rate": rate, "phase": phase}

    def bounce(self) -> dict[str, Floats]:
        vertical = self.action == "bounce-v"
        room = self.high if vertical else self.wide
        low, high = (self.up, self.down) if vertical else (self.side, self.side)
        speed = np.minimum(self.uniform(*BOUNCE_SPEED, self.pace) * self.unit, 0.9 * room)
        meets_wall = self.uniform(0.25, 0.75) * self.steps  # so that both legs are seen
        approach = np.minimum(speed * meets_wall, room)
        sign, height, width = self.sign(), self.spec.height, self.spec.width
        along = np.where(sign > 0, (height if vertical else width) - high - approach, low + approach)
        first, last = (self.side, self.side) if vertical else (self.up, self.down)
        across = self.uniform(first, (width if vertical else height) - last)
        x, y = (across, along) if vertical else (along, across)
        return {"x": x, "y": y, "speed": speed * sign}

    def zigzag(self) -> dict[str, Floats]:
        swing = np.minimum(self.uniform(*SWING) * self.unit, self.room / 2)
        last = self.spec.frames - 2
        gap = self.uniform(max(1.0, last * 3 / 8), last / 2)
        latest = np.maximum(1.0, np.minimum(1 + gap, last - gap))  # a second turn fits before the last frame
        first = self.uniform(1.0, latest)
        speed = self.speed(ZIGZAG_SPEED, self.room) * self.sign()
        travel, sway = _span(speed * self.steps), (-swing, swing)
        place = self.place(sway, travel) if self.action == "zigzag-v" else self.place(travel, sway)
        return place | {"speed": speed, "swing": swing * self.sign(), "phase": first, "rate": gap}

    def speed(self, limits: tuple[float, float], reach: Floats) -> Floats:
        """px/frame within `limits`; in clips so long that they do not fit `reach` px, down to half of what fits."""
        fastest = np.minimum(limits[1] * self.unit, reach / self.steps)
        slowest = np.minimum(limits[0] * self.unit, fastest / 2)
        return np.minimum(self.uniform(slowest, fastest, self.pace), reach / self.steps)

    def place(self, x: tuple[Limit, Limit], y: tuple[Limit, Limit]) -> dict[str, Floats]:
        """A start from which the given (least, greatest) offsets along each axis stay inside the frame."""
        across = self.uniform(self.side - x[0], self.spec.width - self.side - x[1])
        return {"x": across, "y": self.uniform(self.up - y[0], self.spec.height - self.down - y[1])}


def _span(travel: Floats) -> tuple[Floats, Floats]:
    """The least and greatest offset on a straight way of signed length `travel`."""
    return np.minimum(0.0, travel), np.maximum(0.0, travel)


def enlarged(shape: Shape) -> float:
    """Factor on drawn radii that makes no shape narrower than the disc of that radius."""
    extent = EXTENTS[shape]
    return max(1.0, 1 / extent.side, 2 / (extent.up + extent.down))
