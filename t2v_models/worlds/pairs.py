"""Two objects, each with a colour, a shape and a motion: what is asked of whom is said by the order of words alone.

The two never have one colour: where they overlap nobody could tell then which is which, nor which of them is in front.
A pair that differs in colour and shape has a partner, that of the exchanged colours ("red circle and blue square",
"blue circle and red square"). Of most partners both are trained, of some neither (`s2`), and of some one (`s5` asks for
the other).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.worlds.appearance import BACKGROUND, PALETTE, SHAPES, Colour, Shape
from t2v_models.worlds.layers import look
from t2v_models.worlds.motions import ACTIONS, Action, Motion, traces
from t2v_models.worlds.one_object import readings
from t2v_models.worlds.pair_prompts import (
    RELATED,
    UNSEEN_RELATED,
    UNSEEN_WORDING,
    WORDINGS,
    Pair,
    Relation,
    goes,
    parse,
    say,
)
from t2v_models.worlds.pair_scenes import PAIR_NUMBERS, draw_pairs
from t2v_models.worlds.prompts import Meaning, check_hold_out
from t2v_models.worlds.reader import readings_of
from t2v_models.worlds.render import sprites
from t2v_models.worlds.splits import Split, evenly
from t2v_models.worlds.synonyms import MOTION_SYNONYMS, OBJECT_SYNONYMS, in_other_words
from t2v_models.worlds.world import TOGETHER, Case, Choice, Frames, Reading, Scene, World

MOST_FRAMES = 16
"""Of a clip: two that stay above one another would be slower than one object is in longer ones."""
ASKED = 60
"""Prompts of a split, of those there are."""
EACH = 4
"""Meanings of two motions that are trained of each pair of objects; one more is of both in relation."""
LEAST_BESIDE = 0.5
"""Share of both radii together by which the centres of related objects are at least apart."""

SYNONYMS = MOTION_SYNONYMS | OBJECT_SYNONYMS
"""What `s7` says in place of trained words, in a caption each."""

Thing = tuple[Colour, Shape]
Things = tuple[Thing, Thing]


class Pairs(World):
    """See the module."""

    name = "pairs"
    about = "two objects, which may hide one another or stand in a relation"
    numbers = PAIR_NUMBERS
    hold_out = ("up-right",)
    background = BACKGROUND

    def checked_hold_out(self, names: Iterable[str]) -> tuple[Action, ...]:
        return check_hold_out(names)

    def check(self, choice: Choice) -> None:
        super().check(choice)
        if choice.spec.frames > MOST_FRAMES:
            raise LabError(
                f"pairs of {choice.spec.frames} frames: two objects that stay above one another have no room to move "
                f"so long, so use {MOST_FRAMES} frames or fewer"
            )

    def parse(self, prompt: str) -> Pair:
        return parse(prompt)

    def captions(self, choice: Choice) -> tuple[str, ...]:
        return _captions(choice.hold_out)

    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        return _asked(split, choice.hold_out)

    def split_of(self, choice: Choice, prompt: str) -> Split:
        pair = parse(prompt)
        if {m.action for m in pair.objects} & set(choice.hold_out):
            return "s3"
        if _things(pair) in _exchanged():
            return "s5"
        if pair not in _trained(choice.hold_out):
            return "s2"
        return self.wording_of(choice, prompt)

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        shown = set(_shown())
        for caption in captions:
            pair = parse(caption)
            if held := {m.action for m in pair.objects} & set(choice.hold_out):
                raise LabError(f"training caption {caption!r} means {held.pop()!r}, which is held out: drop it")
            if _things(pair) not in shown:
                raise LabError(f"training caption {caption!r} shows two objects that are held out together: drop it")

    def draw(self, meanings: Sequence[Pair], spec: ClipSpec, numbers: NDArray[np.float64]) -> list[Scene]:
        return [Scene.model_construct(objects=both) for both in draw_pairs(meanings, spec, numbers)]

    def render(self, scenes: Sequence[Scene], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        motions = _motions(scenes)
        drawn = sprites([(m.shape, m.colour) for m in motions], traces(motions, spec), spec)
        return (
            front.paint_over(back.paint(frames))
            for back, front, frames in zip(drawn[::2], drawn[1::2], into, strict=False)
        )

    def stored(self, scenes: Sequence[Scene], spec: ClipSpec) -> list[dict[str, Any]]:
        motions = _motions(scenes)
        paths = traces(motions, spec)
        radius, x, y = (np.round(values, 4).tolist() for values in (paths.radius, paths.x, paths.y))
        told = [
            {"motion": motion.model_dump(), "trace": {"radius": radius[k], "x": x[k], "y": y[k]}}
            for k, motion in enumerate(motions)
        ]
        return [{"objects": told[i : i + 2]} for i in range(0, len(told), 2)]

    def case(self, meaning: Pair) -> Case:
        action, shape, colour = (
            _told(meaning, [getattr(m, what) for m in meaning.objects]) for what in ("action", "shape", "colour")
        )
        return action, shape, colour

    def read(self, frames: Frames, meanings: Sequence[Pair]) -> list[Reading]:
        spec = ClipSpec(frames=frames.shape[1], height=frames.shape[2], width=frames.shape[3])
        both = [m for pair in meanings for m in pair.objects]
        shapes = np.array([SHAPES.index(m.shape) for m in both], np.intp)
        colours = [m.colour for m in both]
        layers = look(frames, list(zip(colours[::2], colours[1::2], strict=True)), shapes.reshape(-1, 2))
        found = readings_of(layers.seen, colours, shapes, [m.action for m in both], spec.unit)
        each = readings(found, both, spec)
        return [
            _together(pair, (each[2 * i], each[2 * i + 1]), layers.third[i], layers.hides[i])
            for i, pair in enumerate(meanings)
        ]


def _motions(scenes: Sequence[Scene]) -> list[Motion]:
    return [motion for scene in scenes for motion in scene.objects]  # type: ignore[misc]


def _told(pair: Pair, of_each: Sequence[str]) -> str:
    """What is said of both, in the order of the colours asked for: who is in front has no part in what is a case."""
    (_, first), (_, second) = sorted(zip((m.colour for m in pair.objects), of_each, strict=True))
    return f"{first}{TOGETHER}{second}"


_MISSING, _LARGE = "no object in a frame", "object too large"
_MEASURED = (
    "rmse", "traj_rmse", "speed_err", "step_err", "angle_err", "radius_err", "radius_cv", "shape_iou", "colour_err",
    "colour_change", "opacity", "path",
)  # fmt: skip
"""Of both objects their mean."""


def _together(pair: Pair, each: tuple[Reading, Reading], third: str, hides: int) -> Reading:
    """The readings of two layers as one."""
    names = [f"{m.colour} {m.shape}" for m in pair.objects]
    missing = [r.reason == _MISSING for r in each]
    counted = not third and not any(missing)
    faults = [f"a third object, {third}"] if third else []
    faults += [f"{name} missing in a frame" for name, gone in zip(names, missing, strict=True) if gone]
    faults += [f"{name}: {r.reason}" for name, r in zip(names, each, strict=True) if not r.valid]
    invalid = next(iter(faults), "")
    valid = not invalid
    wrong = next((f"{name} {r.reason}" for name, r in zip(names, each, strict=True) if not r.right), "")
    related = _stays(pair.relation, *each) if valid and pair.relation else math.nan
    occlusion = float(hides == 1) if valid and hides and not pair.relation else math.nan
    reason = invalid or wrong
    fault = (
        reason
        or next((f"{name}: {r.fault}" for name, r in zip(names, each, strict=True) if r.fault), "")
        or (f"{names[1]} is not in front of {names[0]}" if occlusion == 0 else "")
        or (f"{names[0]} is not {pair.relation} {names[1]}" if related == 0 else "")
    )
    measured = {key: sum(getattr(r, key) for r in each) / len(each) for key in _MEASURED} if valid else {}
    clean = all(r.reason != _LARGE for r in each)
    return Reading.model_validate(
        measured | {
            "asked": _told(pair, [r.asked for r in each]), "asked_shape": _told(pair, [r.asked_shape for r in each]),
            "asked_colour": _told(pair, [r.asked_colour for r in each]),
            "shown": _told(pair, [r.shown for r in each]) if valid else "invalid",
            "shown_shape": _told(pair, [r.shown_shape for r in each]),
            "shown_colour": _told(pair, [r.shown_colour for r in each]),
            "right": not reason, "valid": valid, "reason": reason, "success": not fault, "fault": fault,
            "size": each[0].size, "back": float(each[0].success), "front": float(each[1].success),
            "binding": _binding(pair, each) if valid else math.nan, "occlusion": occlusion,
            "counted": float(counted), "related": related, "objects": each,
            "bg_err": each[0].bg_err if clean else math.nan, "flicker": each[0].flicker if clean else math.nan,
        }
    )  # fmt: skip


def _binding(pair: Pair, each: Sequence[Reading]) -> float:
    """1 where colours, shapes and motions are at their objects, 0 where the clip has them all, but at other ones."""
    asked = [(m.colour, m.shape, m.action) for m in pair.objects]
    shown = [(r.shown_colour, r.shown_shape, r.shown) for r in each]
    alike = all(sorted(a) == sorted(s) for a, s in zip(zip(*asked, strict=True), zip(*shown, strict=True), strict=True))
    differ = asked[0][1] != asked[1][1] or asked[0][2] != asked[1][2]
    return float(sorted(asked) == sorted(shown)) if alike and differ else math.nan


def _stays(relation: Relation, back: Reading, front: Reading) -> float:
    first, second = (np.array(r.y if relation == "above" else r.x) for r in (back, front))
    least = LEAST_BESIDE * (np.array(back.radius) + front.radius)
    return float((second - first >= least).all())


def _things(pair: Pair) -> Things:
    first, second = sorted((m.colour, m.shape) for m in pair.objects)
    return first, second


@cache
def _designs() -> dict[str, tuple[Things, ...]]:
    """All pairs of objects of two colours: `shown` together, `never`, or `exchanged`, of which the partner is shown."""
    found: dict[str, list[Things]] = {"shown": [], "never": [], "exchanged": []}
    for i, (one, other) in enumerate(combinations(PALETTE, 2)):
        for j, (shape, second) in enumerate(combinations(SHAPES, 2)):
            partners = [((one, shape), (other, second)), ((one, second), (other, shape))]
            kinds = ("shown", "shown")
            if (i + j) % 5 == 0:
                kinds = ("never", "never")
            elif (i + j) % 5 == 1:
                kinds = ("shown", "exchanged") if (i + j // 5) % 2 else ("exchanged", "shown")
            for kind, both in zip(kinds, partners, strict=True):
                found[kind].append(tuple(sorted(both)))  # type: ignore[arg-type]
        found["shown"] += [tuple(sorted(((one, shape), (other, shape)))) for shape in SHAPES]  # type: ignore[misc]
    return {kind: tuple(both) for kind, both in found.items()}


def _shown() -> tuple[Things, ...]:
    return _designs()["shown"]


def _exchanged() -> tuple[Things, ...]:
    return _designs()["exchanged"]


def _meanings(things: Sequence[Things], actions: Sequence[Action], others: Sequence[Action]) -> list[Pair]:
    """Of each pair of objects `EACH` pairs of motions, one of `actions` and one of `others`, evenly; and a relation."""
    found: list[Pair] = []
    for q, both in enumerate(things):
        for e in range(EACH):
            place = q * EACH + e
            one = actions[place % len(actions)]
            rest = [a for a in others if a != one] or [one]
            found.append(_pair(both, (one, rest[place // len(actions) % len(rest)]), e % 2 == 0))
        relation: Relation = "above" if q % 2 else "left of"
        able = [a for a in actions if goes(a, relation)]
        if able:
            found.append(_pair(both, (able[q // 2 % len(able)],) * 2, q // 4 % 2 == 0, relation))
    return found


def _pair(things: Things, actions: tuple[Action, Action], turned: bool, relation: Relation | None = None) -> Pair:
    first, second = (Meaning(a, shape, colour) for a, (colour, shape) in zip(actions, things, strict=True))
    return Pair(second, first, relation) if turned else Pair(first, second, relation)


def _trainable(hold_out: tuple[str, ...]) -> tuple[Action, ...]:
    return tuple(a for a in ACTIONS if a not in hold_out)


@cache
def _trained(hold_out: tuple[str, ...]) -> tuple[Pair, ...]:
    actions = _trainable(hold_out)
    return tuple(_meanings(_shown(), actions, actions))


def _said(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """In one of the trained wordings each."""
    return tuple(
        say(pair, RELATED[k // 2 % len(RELATED)] if pair.relation else WORDINGS[(k + k // EACH) % len(WORDINGS)])
        for k, pair in enumerate(pairs)
    )


@cache
def _captions(hold_out: tuple[str, ...]) -> tuple[str, ...]:
    return _said(_trained(hold_out))


@cache
def _asked(split: Split, hold_out: tuple[str, ...]) -> tuple[str, ...]:
    """Up to `ASKED` prompts, evenly of all that a split could ask. All words of `s1` are trained, the sentence and the
    order of a direction's words are not."""
    actions = _trainable(hold_out)
    if split == "s0":
        return evenly(_captions(hold_out), ASKED)
    if split == "s1":
        return tuple(
            say(p, UNSEEN_RELATED if p.relation else UNSEEN_WORDING) for p in evenly(_trained(hold_out), ASKED)
        )
    if split == "s2":
        return evenly(_said(_meanings(_designs()["never"], actions, actions)), ASKED)
    if split == "s3" and hold_out:
        return evenly(_said(_meanings(_shown(), check_hold_out(hold_out), actions)), ASKED)
    if split == "s7":
        return in_other_words(_captions(hold_out), SYNONYMS)
    if split == "s5":
        return evenly(_said(_meanings(_exchanged(), actions, actions)), ASKED)
    return ()
