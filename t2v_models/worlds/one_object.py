"""What the worlds of one compact object share: the grammar, the laws of motion, the renderer and the reader.

Here a reading is compared with what the prompt means; which prompts there are is each world's own.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.worlds.appearance import BACKGROUND, PALETTE
from t2v_models.worlds.bands import BEYOND, MOST_FRAMES, SLACK
from t2v_models.worlds.laws import LEAST_ORBIT_RADIUS, least_speed
from t2v_models.worlds.motions import (
    DIRECTIONS,
    NUMBERS,
    ORBITS,
    RADIUS,
    SIZE_MOTIONS,
    Action,
    Motion,
    draw_motions,
    radius_range,
    speed_range,
    traces,
)
from t2v_models.worlds.prompts import Meaning, check_hold_out, parse
from t2v_models.worlds.reader import Floats, Readings, read
from t2v_models.worlds.render import sprites
from t2v_models.worlds.splits import Split, check_no_leak
from t2v_models.worlds.world import Case, Choice, Frames, Reading, Scene, World

MOST_COLOUR_ERROR = 60.0
"""RGB distance (0 to 442) up to which the colour is the asked one, and that of a frame the clip's: about 10 % in every
channel."""
MOST_RADIUS_ERROR, MOST_SPEED_ERROR = 0.5, 0.25
"""px and px/frame at 64 px by which size and speed may leave the trained range where the prompt names no band. A band
may be missed by half the gap to the next one, so that no clip is right for two words: a tenth of the trained range, at
least 0.3 px and 0.15 px/frame at 64 px."""


class OneObject(World):
    """One object of a shape and a colour that follows the law of one motion on an even background."""

    numbers = NUMBERS
    hold_out = ("up-right",)
    background = BACKGROUND

    def checked_hold_out(self, names: Iterable[str]) -> tuple[Action, ...]:
        return check_hold_out(names)

    def check(self, choice: Choice) -> None:
        if choice.bands and choice.spec.frames > MOST_FRAMES:
            raise LabError(
                f"bands of {choice.spec.frames} frames: what is very fast would leave the frame, so use "
                f"{MOST_FRAMES} frames or fewer, or leave bands out"
            )

    def parse(self, prompt: str) -> Meaning:
        return parse(prompt)

    @abstractmethod
    def trained(self, choice: Choice) -> tuple[Meaning, ...]:
        """What is trained, each once however often it is worded."""

    def split_of(self, choice: Choice, prompt: str) -> Split:
        meaning = parse(prompt)
        if (meaning.size or meaning.speed) and not choice.bands:
            raise LabError(
                f"prompt {prompt!r} says {meaning.size or meaning.speed!r}, and no caption of the dataset names a size "
                "or a speed: give --like with a dataset that was rendered with --bands"
            )
        if meaning.action in choice.hold_out:
            return "s3"
        if meaning.size in BEYOND or meaning.speed in BEYOND:
            return "s4"
        if meaning not in self.trained(choice):
            return "s2"
        return self.wording_of(choice, prompt)

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        check_no_leak(captions, choice.hold_out)

    def draw(self, meanings: Sequence[Meaning], spec: ClipSpec, numbers: NDArray[np.float64]) -> list[Scene]:
        motions = draw_motions(
            [m.action for m in meanings], spec, numbers,
            [m.shape for m in meanings], [m.colour for m in meanings], [m.size for m in meanings],
            [m.speed for m in meanings],
        )  # fmt: skip
        return [Scene.model_construct(objects=(motion,)) for motion in motions]

    def render(self, scenes: Sequence[Scene], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        motions = _motions(scenes)
        drawn = sprites([(m.shape, m.colour) for m in motions], traces(motions, spec), spec)
        return (sprite.paint(frames) for sprite, frames in zip(drawn, into, strict=False))

    def stored(self, scenes: Sequence[Scene], spec: ClipSpec) -> list[dict[str, Any]]:
        motions = _motions(scenes)
        paths = traces(motions, spec)
        radius, x, y = (np.round(values, 4).tolist() for values in (paths.radius, paths.x, paths.y))
        return [
            {"motion": motion.model_dump(), "trace": {"radius": radius[k], "x": x[k], "y": y[k]}}
            for k, motion in enumerate(motions)
        ]

    def paths(self, scenes: Sequence[Scene], spec: ClipSpec) -> NDArray[np.float64]:
        paths = traces(_motions(scenes), spec)
        return np.concatenate([paths.x, paths.y, paths.radius], 1)

    def case(self, meaning: Meaning) -> Case:
        return meaning.action, meaning.shape, meaning.colour

    def read(self, frames: Frames, meanings: Sequence[Meaning]) -> list[Reading]:
        found = read(frames, [m.colour for m in meanings], [m.shape for m in meanings], [m.action for m in meanings])
        spec = ClipSpec(frames=frames.shape[1], height=frames.shape[2], width=frames.shape[3])
        return readings(found, meanings, spec)


def _motions(scenes: Sequence[Scene]) -> list[Motion]:
    return [scene.objects[0] for scene in scenes]  # type: ignore[misc]


def readings(found: Readings, meanings: Sequence[Meaning], spec: ClipSpec) -> list[Reading]:
    """What clips were read as, beside what they should show."""
    measured = _rows(_measured(found, meanings))
    places = _rows({name: getattr(found, name).tolist() for name in ("colour", "x", "y", "radius")})
    return [
        _reading(found, i, meaning, spec, dict(numbers), dict(place))
        for i, (meaning, numbers, place) in enumerate(zip(meanings, measured, places, strict=True))
    ]


def _rows(columns: Mapping[str, list[Any]]) -> Iterator[Iterable[tuple[str, Any]]]:
    return (zip(columns, row, strict=True) for row in zip(*columns.values(), strict=True))


def _reading(
    found: Readings, i: int, meaning: Meaning, spec: ClipSpec, measured: dict[str, float], place: dict[str, list[float]]
) -> Reading:
    """Of clip i, of which this was measured."""
    shown = found.action[i]
    right, valid = shown == meaning.action, shown != "invalid"
    reason = "" if right else found.reason[i] or f"moves like {shown!r}, asked for {meaning.action!r}"
    asked = _Asked.of(meaning, spec, found, i)
    numbers = measured | _beside(found, i, meaning, spec, asked) if valid else {}
    clean = reason != "object too large"  # which may leave no background to look at
    fault = reason or found.look[i] or _out_of_range(numbers, asked)
    return Reading.model_validate(
        numbers | place | {
            "asked": meaning.action, "shown": shown, "right": right, "valid": valid, "reason": reason,
            "rmse": found.rmse[i], "success": not fault, "fault": fault, "size": spec.short_side,
            "asked_shape": meaning.shape, "asked_colour": meaning.colour,
            "shown_shape": found.shape[i], "shown_colour": found.colour_name[i],
            "permanent": valid or reason == "background not clean",
            "bg_err": found.background_error[i] if clean else math.nan,
            "flicker": found.flicker[i] if clean else math.nan,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """The radii, px, and speeds, px/frame, that a prompt asks for, and by how much a clip may miss them."""

    radii: tuple[float, float]
    speeds: tuple[float, float]
    radius_slack: float
    speed_slack: float

    @staticmethod
    def of(meaning: Meaning, spec: ClipSpec, found: Readings, i: int) -> "_Asked":
        radii = radius_range(meaning.action, meaning.shape, spec, meaning.size)
        if meaning.speed is None:
            speeds = _trained_speeds(meaning.action, spec)
        elif meaning.action in ORBITS:
            orbit = max(_orbit_radius(found, i) / spec.unit, LEAST_ORBIT_RADIUS)
            speeds = speed_range(meaning.action, spec, meaning.speed, (orbit, orbit))
        else:
            speeds = speed_range(meaning.action, spec, meaning.speed)
        return _Asked(
            radii, speeds,
            SLACK * (radii[1] - radii[0]) if meaning.size else MOST_RADIUS_ERROR * spec.unit,
            SLACK * (speeds[1] - speeds[0]) if meaning.speed else MOST_SPEED_ERROR * spec.unit,
        )  # fmt: skip


def _orbit_radius(found: Readings, i: int) -> float:
    """px, of the law read in clip i: between two steps an orbit turns as far as in one frame; 0 where it is frozen."""
    first, second = np.diff(found.law_x[i, :3] + 1j * found.law_y[i, :3])
    return float(found.speed[i] / max(abs(np.angle(second * first.conj())), 1e-9))


def _steps(x: Floats, y: Floats) -> Floats:
    """px from frame to frame: `(n, t - 1)`."""
    return np.asarray(np.hypot(np.diff(x), np.diff(y)))


def _measured(found: Readings, meanings: Sequence[Meaning]) -> dict[str, list[float]]:
    """The numbers of all clips that do not depend on what their motion should be, by their names in `Reading`."""
    steps, law_steps = _steps(found.x, found.y), _steps(found.law_x, found.law_y)
    asked = np.array([PALETTE[m.colour] for m in meanings]).reshape(-1, 3)
    columns = {
        "traj_rmse": found.law_rmse,
        "speed": found.speed,
        "step_err": np.abs(steps - law_steps).mean(1),
        "angle": found.angle,
        "radius_cv": found.radius.std(1) / found.radius.mean(1),
        "shape_iou": found.shape_iou,
        "colour_err": np.linalg.norm(found.colour - asked, axis=1),
        "colour_change": found.colour_change,
        "opacity": found.opacity,
        "path": steps.sum(1),
    }
    return {name: values.tolist() for name, values in columns.items()}


def _beside(found: Readings, i: int, meaning: Meaning, spec: ClipSpec, asked: _Asked) -> dict[str, float]:
    """How far the size, speed and direction of clip i are from those asked for."""
    action, numbers = meaning.action, {"radius_err": _outside(found.radius[i].mean(), asked.radii)}
    if action not in SIZE_MOTIONS:
        numbers["speed_err"] = _outside(found.speed[i], asked.speeds)
    if action in DIRECTIONS and _steps(found.x[i], found.y[i]).mean() >= least_speed(spec.frames, spec.unit):
        dx, dy = DIRECTIONS[action]
        turn = found.angle[i] - math.degrees(math.atan2(-dy, dx))
        numbers["angle_err"] = abs((turn + 180) % 360 - 180)
    return {name: float(value) for name, value in numbers.items()}


def _trained_speeds(action: Action, spec: ClipSpec) -> tuple[float, float]:
    """`speed_range`, but in clips so long that its least speed leaves the frame down to half of what fits."""
    least, most = speed_range(action, spec)
    return min(least, (spec.short_side - 2 * RADIUS[1] * spec.unit) / (spec.frames - 1) / 2), most


def _outside(value: float, allowed: tuple[float, float]) -> float:
    """Distance from the range: 0 inside."""
    return max(allowed[0] - value, value - allowed[1], 0.0)


def _out_of_range(numbers: dict[str, float], asked: _Asked) -> str:
    """The first of colour, size and speed that is wrong, with its figure."""
    limits = {
        "colour_err": ("colour", MOST_COLOUR_ERROR),
        "colour_change": ("colour in a frame", MOST_COLOUR_ERROR),
        "radius_err": ("size", asked.radius_slack),
        "speed_err": ("speed", asked.speed_slack),
    }
    for name, (what, limit) in limits.items():
        if numbers.get(name, 0) > limit:
            return f"wrong {what}: off by {numbers[name]:.2f}, allowed {limit:.2f}"
    return ""
