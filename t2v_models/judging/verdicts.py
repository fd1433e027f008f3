"""The judge's word on every clip: what was asked, what the pixels show, why it is wrong, and every number measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from t2v_models.clips.spec import PALETTE, UNIT_SIZE, ClipSpec
from t2v_models.config import Config
from t2v_models.worlds.bands import SLACK
from t2v_models.worlds.laws import LEAST_ORBIT_RADIUS, least_speed
from t2v_models.worlds.motions import DIRECTIONS, ORBITS, RADIUS, SIZE_MOTIONS, Action, radius_range, speed_range
from t2v_models.worlds.prompts import Meaning, parse
from t2v_models.worlds.reader import Reading, read

MOST_COLOUR_ERROR = 60.0
"""RGB distance (0 to 442) up to which the colour is the asked one, and that of a frame the clip's: about 10 % in every
channel."""
MOST_RADIUS_ERROR, MOST_SPEED_ERROR = 0.5, 0.25
"""px and px/frame at 64 px by which size and speed may leave the trained range where the prompt names no band. A band
may be missed by half the gap to the next one, so that no clip is right for two words: a tenth of the trained range, at
least 0.3 px and 0.15 px/frame at 64 px."""


Mark = Literal["right", "partly", "wrong"]


class Verdict(Config):
    """One judged clip. Numbers are nan where the clip is invalid or its prompt does not ask for them."""

    prompt: str
    split: str
    seed: int
    asked: str
    """Motion the prompt asks for."""
    shown: str
    """Motion read from the pixels; `still`, `other` or `invalid` when there is none."""
    right: bool
    """The motion is the asked one."""
    valid: bool
    reason: str
    """Why the motion is wrong; empty when it is right."""
    rmse: float
    """px between the object's path and the law it was read as."""
    success: bool = False
    """Motion, shape, colour, size and speed are all right."""
    fault: str = ""
    """The first of these that is wrong, with its figure; empty when none is."""
    asked_shape: str = "circle"
    asked_colour: str = "blue"
    shown_shape: str = "circle"
    shown_colour: str = "blue"
    size: int = UNIT_SIZE
    """Height and width of the clip, px."""
    permanent: bool = False
    """Exactly one object in every frame."""
    traj_rmse: float = math.nan
    """px between the path and the best fit of the asked law."""
    speed: float = math.nan
    """px/frame along the asked law."""
    speed_err: float = math.nan
    """px/frame outside the band that is asked for, or the trained range."""
    step_err: float = math.nan
    """px/frame, mean over steps, between the step and that of the fitted law."""
    angle: float = math.nan
    """Degrees, counter-clockwise from the right."""
    angle_err: float = math.nan
    radius_err: float = math.nan
    """px outside the band that is asked for, or the trained range."""
    radius_cv: float = math.nan
    """Standard deviation of the radius over its mean."""
    shape_iou: float = math.nan
    colour_err: float = math.nan
    """RGB distance of the object's mean colour from the asked one, 0 to 442."""
    colour_change: float = math.nan
    """RGB distance of the frame whose colour is farthest from the mean of all frames, 0 to 442."""
    opacity: float = math.nan
    path: float = math.nan
    """px travelled in the whole clip."""
    bg_err: float = math.nan
    flicker: float = math.nan
    """Error of the ground and its change from frame to frame, 0 to 1; measured in invalid clips too."""
    colour: tuple[float, ...] = ()
    """Mean RGB of the object, 0 to 255."""
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    radius: tuple[float, ...] = ()
    """Centre and radius in every frame, px; as read, even where the clip is invalid."""

    @property
    def mark(self) -> Mark:
        """How people see it: right is all that `prompt_success` asks for, partly is the motion but not the rest."""
        if not self.right:
            return "wrong"
        return "right" if self.success else "partly"

    @property
    def unit(self) -> float:
        """px per unit of length."""
        return self.size / UNIT_SIZE

    @property
    def must_move(self) -> bool:
        """The prompt asks the object to change its place."""
        return self.asked not in SIZE_MOTIONS

    @property
    def moves(self) -> bool:
        """At least `least_speed` on average: a frozen clip is perfectly consistent and must not be praised for it."""
        return self.valid and self.path >= least_speed(len(self.x), self.unit) * (len(self.x) - 1)


def judge(frames: NDArray[np.uint8], prompts: Sequence[str], seeds: Sequence[int], split: str) -> list[Verdict]:
    """Read clips `(n, t, h, w, 3)`, compare each with its prompt, and measure it."""
    meanings = [parse(p) for p in prompts]
    reading = read(
        frames, [m.colour for m in meanings], [m.shape for m in meanings], [m.action for m in meanings]
    )  # fmt: skip
    spec = ClipSpec(frames=frames.shape[1], size=frames.shape[2])
    return [
        _verdict(reading, i, meaning, spec, prompt=prompts[i], seed=int(seeds[i]), split=split)
        for i, meaning in enumerate(meanings)
    ]


def _verdict(reading: Reading, i: int, meaning: Meaning, spec: ClipSpec, **which: str | int) -> Verdict:
    shown = reading.action[i]
    right, valid = shown == meaning.action, shown != "invalid"
    reason = "" if right else reading.reason[i] or f"moves like {shown!r}, asked for {meaning.action!r}"
    asked = _Asked.of(meaning, spec, reading, i)
    numbers = _numbers(reading, i, meaning, spec, asked) if valid else {}
    ground = reason != "object too large"  # which may leave no ground to look at
    fault = reason or reading.look[i] or _out_of_range(numbers, asked)
    return Verdict.model_validate(
        which | numbers | {
            "asked": meaning.action, "shown": shown, "right": right, "valid": valid, "reason": reason,
            "rmse": reading.rmse[i], "success": not fault, "fault": fault, "size": spec.size,
            "asked_shape": meaning.shape, "asked_colour": meaning.colour,
            "shown_shape": reading.shape[i], "shown_colour": reading.colour_name[i],
            "permanent": valid or reason == "ground not clean",
            "bg_err": reading.ground_error[i] if ground else math.nan,
            "flicker": reading.flicker[i] if ground else math.nan, "colour": reading.colour[i].tolist(),
            "x": reading.x[i].tolist(), "y": reading.y[i].tolist(), "radius": reading.radius[i].tolist(),
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
    def of(meaning: Meaning, spec: ClipSpec, reading: Reading, i: int) -> "_Asked":
        radii = radius_range(meaning.action, meaning.shape, spec, meaning.size)
        if meaning.speed is None:
            speeds = _trained_speeds(meaning.action, spec)
        elif meaning.action in ORBITS:
            orbit = max(_orbit_radius(reading, i) / spec.unit, LEAST_ORBIT_RADIUS)
            speeds = speed_range(meaning.action, spec, meaning.speed, (orbit, orbit))
        else:
            speeds = speed_range(meaning.action, spec, meaning.speed)
        return _Asked(
            radii, speeds,
            SLACK * (radii[1] - radii[0]) if meaning.size else MOST_RADIUS_ERROR * spec.unit,
            SLACK * (speeds[1] - speeds[0]) if meaning.speed else MOST_SPEED_ERROR * spec.unit,
        )  # fmt: skip


def _orbit_radius(reading: Reading, i: int) -> float:
    """px, of the law read in clip i: between two steps an orbit turns as far as in one frame; 0 where it is frozen."""
    first, second = np.diff(reading.law_x[i, :3] + 1j * reading.law_y[i, :3])
    return float(reading.speed[i] / max(abs(np.angle(second * first.conj())), 1e-9))


def _numbers(reading: Reading, i: int, meaning: Meaning, spec: ClipSpec, asked: _Asked) -> dict[str, float]:
    """The numbers of a valid clip by their names in `Verdict`."""
    steps, law_steps = (
        np.hypot(np.diff(x[i]), np.diff(y[i])) for x, y in ((reading.x, reading.y), (reading.law_x, reading.law_y))
    )
    radius, action = reading.radius[i], meaning.action
    numbers = {
        "traj_rmse": reading.law_rmse[i],
        "speed": reading.speed[i],
        "step_err": np.abs(steps - law_steps).mean(),
        "angle": reading.angle[i],
        "radius_err": _outside(radius.mean(), asked.radii),
        "radius_cv": radius.std() / radius.mean(),
        "shape_iou": reading.shape_iou[i],
        "colour_err": np.linalg.norm(reading.colour[i] - np.array(PALETTE[meaning.colour])),
        "colour_change": reading.colour_change[i],
        "opacity": reading.opacity[i],
        "path": steps.sum(),
    }
    if action not in SIZE_MOTIONS:
        numbers["speed_err"] = _outside(reading.speed[i], asked.speeds)
    if action in DIRECTIONS and steps.mean() >= least_speed(spec.frames, spec.unit):
        dx, dy = DIRECTIONS[action]
        turn = reading.angle[i] - math.degrees(math.atan2(-dy, dx))
        numbers["angle_err"] = abs((turn + 180) % 360 - 180)
    return {name: float(value) for name, value in numbers.items()}


def _trained_speeds(action: Action, spec: ClipSpec) -> tuple[float, float]:
    """`speed_range`, but in clips so long that its least speed leaves the frame down to half of what fits."""
    least, most = speed_range(action, spec)
    return min(least, (spec.size - 2 * RADIUS[1] * spec.unit) / (spec.frames - 1) / 2), most


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


def table(verdicts: Sequence[Verdict]) -> pa.Table:
    """A row per clip, for `verdicts.parquet`."""
    return pa.Table.from_pylist([v.model_dump() for v in verdicts])


def verdicts_of(rows: pa.Table) -> list[Verdict]:
    """Inverse of `table`."""
    return [Verdict.model_validate(row) for row in rows.to_pylist()]
