"""Scenes of one object and several motions in sequence, wholly inside the frame at all times.

The law of a part begins in the last frame of the part before, so the first step of a part is one of its own law, and
nothing jumps. To either side of an axis all parts together go no farther than there is room, since each gets its share
of it. A bounce needs its wall: it says where the story is on that axis, and is made so long before and behind the wall
that the other parts fit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config
from t2v_models.worlds.motions import (
    BOUNCE_SPEED,
    DIRECTIONS,
    ORBIT_RADIUS,
    ORBITS,
    RADIUS,
    SIZE_MOTIONS,
    SMALL_RADIUS,
    SPEED,
    SWING,
    ZIGZAG_SPEED,
    Action,
    Floats,
    Motion,
    Trace,
    enlarged,
    orbit_angles,
    path_of,
    traces,
)
from t2v_models.worlds.outlines import EXTENTS
from t2v_models.worlds.story_prompts import BEYOND, LEAST_PART, Story, starts

PART_NUMBERS = 6
STORY_NUMBERS = 4 + BEYOND * PART_NUMBERS
"""Uniform random numbers that a scene is drawn from."""
RATIO = (1.8, 2.4)
"""Of sizes before and behind a part that changes them: of its first and last own frame it is a little less."""
MEETS = (0.3, 0.7)
"""Share of a bounce after which it meets the wall, so that both legs are seen in its own frames."""
LEAST_PACE = 0.9
"""Share of the fastest that a motion is drawn at where there is no room for the slowest of other worlds."""


class Part(Config):
    """One motion of a story."""

    first: int
    """Its first own frame."""
    motion: Motion
    """The law: of the first part from frame 0 on, of others from the last frame before `first`."""


class Told(Config):
    """The ground truth of the one object of a story."""

    parts: tuple[Part, ...]

    @property
    def motions(self) -> tuple[Motion, ...]:
        return tuple(part.motion for part in self.parts)


def path(stories: Sequence[Told], spec: ClipSpec) -> Trace:
    """Where the objects of n stories are: `(n, t)`."""
    found = np.empty((3, len(stories), spec.frames))
    places: dict[tuple[int, int], list[tuple[int, Motion]]] = {}
    for i, story in enumerate(stories):
        ends = [*(part.first for part in story.parts[1:]), spec.frames]
        for part, end in zip(story.parts, ends, strict=True):
            places.setdefault((max(part.first - 1, 0), end), []).append((i, part.motion))
    for (first, end), here in sorted(places.items()):
        rows = traces([motion for _, motion in here], _frames(spec, end - first))
        for k, values in enumerate((rows.x, rows.y, rows.radius)):
            found[k, [i for i, _ in here], first:end] = values
    return Trace(*found)


def draw_story(story: Story, spec: ClipSpec, numbers: Floats) -> Told:
    """The object of one clip, a function of `numbers`: uniform in [0, 1), `(STORY_NUMBERS,)`."""
    bounds = starts(spec.frames, len(story.actions))
    draw = _Uniform(iter(numbers.tolist()))
    radii = _radii(story, spec, draw)
    where = draw(0, 1), draw(0, 1)
    room = _Room.of(story, spec, max(radii))
    share = _shares(story.actions, room)
    parts = []
    for i, action in enumerate(story.actions):
        own = _Uniform(iter(numbers[4 + i * PART_NUMBERS :][:PART_NUMBERS].tolist()))
        lead = min(i, 1)
        parts.append(_Way(action, _frames(spec, bounds[i + 1] - bounds[i] + lead), lead, own, share, spec.unit))
    across = _Axis(0, story, spec, room, radii).placed(parts, where[0])
    down = _Axis(1, story, spec, room, radii).placed(parts, where[1])
    told = []
    for i, (way, x, y) in enumerate(zip(parts, across, down, strict=True)):
        motion = Motion(
            action=way.action, shape=story.shape, colour=story.colour, start=(x, y), radius=radii[i],
            radius_end=radii[i + 1], speed=way.speed, swing=way.swing, phase=way.phase, rate=way.rate,
        )  # fmt: skip
        told.append(Part(first=bounds[i], motion=motion))
    return Told(parts=tuple(told))


def _frames(spec: ClipSpec, frames: int) -> ClipSpec:
    return spec.model_copy(update={"frames": frames})


@dataclass(frozen=True)
class _Uniform:
    """The next numbers of a clip, each between two limits."""

    numbers: Iterator[float]

    def __call__(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.numbers)

    def sign(self) -> float:
        return 1.0 if next(self.numbers) < 0.5 else -1.0


def _radii(story: Story, spec: ClipSpec, draw: _Uniform) -> list[float]:
    """px before each part, and at the end."""
    levels = [0]
    for action in story.actions:
        levels.append(levels[-1] + (action == "expand") - (action == "shrink"))
    least = draw(*(SMALL_RADIUS if any(levels) else RADIUS)) * enlarged(story.shape) * spec.unit
    ratio = draw(*RATIO)
    return [least * ratio ** (level - min(levels)) for level in levels]


@dataclass(frozen=True)
class _Room:
    """px that an object, at its largest, keeps from the edges, and what is left to its centre, of both axes."""

    near: tuple[float, float]
    far: tuple[float, float]
    left: tuple[float, float]

    @staticmethod
    def of(story: Story, spec: ClipSpec, radius: float) -> "_Room":
        extent = EXTENTS[story.shape]
        near, far = (extent.side * radius, extent.up * radius), (extent.side * radius, extent.down * radius)
        return _Room(near, far, (spec.width - near[0] - far[0], spec.height - near[1] - far[1]))


def _shares(actions: Sequence[Action], room: _Room) -> tuple[float, float]:
    """px of both axes for a part that goes straight along one: as many such parts as go one way fit."""
    count = [[0.0, 0.0], [0.0, 0.0]]  # of an axis, forwards and backwards
    for action in actions:
        if action in DIRECTIONS:
            for axis, step in enumerate(DIRECTIONS[action]):
                count[axis][step < 0] += abs(step)
        elif action not in SIZE_MOTIONS:
            for axis in (0, 1) if action in ORBITS or action.startswith("zigzag") else (int(action == "bounce-v"),):
                count[axis] = [there + 1 for there in count[axis]]
    across, down = (left / max(1.0, *both) for left, both in zip(room.left, count, strict=True))
    return across, down


class _Way:
    """The numbers of one part's law, and its path from where it begins: `x` and `y`, px. A bounce gets what it lacks
    when all else is known."""

    def __init__(
        self, action: Action, spec: ClipSpec, lead: int, draw: _Uniform, share: tuple[float, float], unit: float
    ) -> None:
        self.action, self.steps, self.lead = action, spec.frames - 1, lead
        self.speed = self.swing = self.phase = self.rate = 0.0
        least = min(share)
        if action in DIRECTIONS:
            own = [side for side, step in zip(share, DIRECTIONS[action], strict=True) if abs(step) > 1e-9]
            self.speed = self._pace(draw, SPEED, min(own), unit)
        elif action in ORBITS:
            self.swing = min(draw(*ORBIT_RADIUS) * unit, least / 2)
            angle = draw(*orbit_angles(_frames(spec, spec.frames - lead)))
            self.rate = angle / (self.steps - lead) * (1 if action == "rotate-cw" else -1)
            self.phase = draw(0, 2 * math.pi)
        elif action in ("zigzag-v", "zigzag-h"):
            self.swing = min(draw(*SWING) * unit, share[action == "zigzag-h"] / 2) * draw.sign()
            self.speed = self._pace(draw, ZIGZAG_SPEED, share[action == "zigzag-v"], unit) * draw.sign()
            last = self.steps - lead - 1
            self.rate = draw(max(1.0, last * 3 / 8), last / 2)
            self.phase = lead + draw(1.0, max(1.0, min(1 + self.rate, last - self.rate)))
        elif action in ("bounce-v", "bounce-h"):
            self.way = draw(*BOUNCE_SPEED) * unit * self.steps
            self.meets, self.sign = draw(*MEETS), draw.sign()
        law = (self.speed, self.swing, self.phase, self.rate)
        still = np.zeros(3) if action.startswith("bounce") else None  # its own axis is known later
        paths = (0.0, 0.0) if still is not None else path_of(action, (0.0, 0.0), law, np.zeros(3), spec)  # type: ignore[arg-type]
        self.path = [np.broadcast_to(line, spec.frames) for line in paths]
        self.origin = [float(line[0]) for line in self.path]
        self.path = [line - line[0] for line in self.path]

    def _pace(self, draw: _Uniform, limits: tuple[float, float], reach: float, unit: float) -> float:
        fastest = min(limits[1] * unit, reach / self.steps)
        return draw(min(limits[0] * unit, LEAST_PACE * fastest), fastest)


class _Axis:
    """Where the parts of a story are on one axis."""

    def __init__(self, axis: int, story: Story, spec: ClipSpec, room: _Room, radii: Sequence[float]) -> None:
        self.axis, self.radii = axis, radii
        self.near, self.far, self.left = room.near[axis], room.far[axis], room.left[axis]
        self.length = (spec.width, spec.height)[axis]
        self.bounce = ("bounce-h", "bounce-v")[axis]
        extent = EXTENTS[story.shape]
        self.extent = (extent.side, extent.side) if axis == 0 else (extent.up, extent.down)

    def placed(self, parts: Sequence[_Way], where: float) -> list[float]:
        """The start of each part's law, px, the story being `where` in its room, 0 to 1."""
        at = next((i for i, part in enumerate(parts) if part.action == self.bounce), None)
        if at is None:
            line = self._line(parts)
            low, high = self.near - line.min(), self.length - self.far - line.max()
            begin = low + (high - low) * where
        else:
            begin = self._bounce(parts, at)
        found = []
        for part in parts:
            found.append(begin - part.origin[self.axis])
            begin += float(part.path[self.axis][-1])
        return found

    def _line(self, parts: Sequence[_Way]) -> Floats:
        """The path of parts in succession from where the first begins."""
        line = np.zeros(1)
        for part in parts:
            line = np.concatenate([line, line[-1] + part.path[self.axis]])
        return line

    def _bounce(self, parts: Sequence[_Way], at: int) -> float:
        """Make the bounce so long before and behind a wall that the parts before and after it fit; where the story
        begins."""
        own, before, after = parts[at], self._line(parts[:at]), self._line(parts[at + 1 :])
        before = before - before[-1]
        needs = {sign: max(0.0, (sign * before).max()) + max(0.0, (sign * after).max()) for sign in (1.0, -1.0)}
        sign = own.sign if abs(needs[1.0] - needs[-1.0]) < 1e-9 else min(needs, key=lambda s: needs[s])
        reach = self.extent[sign > 0] * self.radii[at]
        wider = (self.far if sign > 0 else self.near) - reach  # of the story's largest size
        most = self.left + wider
        ahead, behind = (
            min(max(share * own.way, float((sign * line).max()) + wider), most - float((-sign * line).max()))
            for share, line in ((own.meets, before), (1 - own.meets, after))
        )
        steepest = MEETS[1] / MEETS[0]
        ahead, behind = max(ahead, behind / steepest), max(behind, ahead / steepest)
        own.speed = sign * (ahead + behind) / own.steps
        begin = (self.length - reach - ahead) if sign > 0 else reach + ahead
        time = np.arange(own.steps + 1) * abs(own.speed)
        own.path[self.axis] = sign * (ahead - np.abs(time - ahead))
        return begin - float(self._line(parts[:at])[-1])


assert STORY_NUMBERS % 4 == 0 and LEAST_PART >= 6
