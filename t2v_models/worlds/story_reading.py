"""Of a clip of motions in sequence: whether each part is obeyed, what the parts are, and whether one object goes on.

Each part is read on its own frames as a clip of one motion is. Where its laws do not fit to a tenth of a pixel, it is
also read with seams two frames sooner or later, and as a story of fewer and of more parts: the one whose laws are
nearest tells what is shown, and what is missing, added or exchanged.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import PALETTE
from t2v_models.worlds.laws import FREE_NUMBERS
from t2v_models.worlds.motions import ACTIONS, radius_range
from t2v_models.worlds.one_object import MOST_COLOUR_ERROR, MOST_RADIUS_ERROR
from t2v_models.worlds.reader import Floats, Readings, read_paths
from t2v_models.worlds.story_prompts import BEYOND, Story, fits, in_order, starts
from t2v_models.worlds.world import Reading

MOST_JUMP = 2.0
"""px at 64 px by which a step into a part may be longer than those of the parts on both sides."""
EXACT = 0.1
"""px at 64 px: error of a centroid below which one number of parts fits a clip as well as another."""
NUMBERS = max(FREE_NUMBERS.values())
"""Of a part."""
SLACK, LEAST_READ = 2, 4
"""Frames by which a part may begin sooner or later than it should; and those that are read of one at least."""
SIZE_KEPT = 0.15
"""Share of its radius by which an object may grow or shrink from one part to the next, beyond every step of both."""


def readings(found: Sequence[Readings], stories: Sequence[Story], spec: ClipSpec) -> list[Reading]:
    """What clips, of which `found` has the parts, were read as, beside what they should show."""
    lines = np.stack([np.concatenate([getattr(part, name) for part in found], 1) for name in ("x", "y", "radius")])
    valid = np.all([part.valid for part in found], 0)
    asked = np.array([story.actions for story in stories])
    right = asked == np.array([part.action for part in found]).T
    off = np.sqrt(np.mean([np.nan_to_num(part.rmse) ** 2 for part in found], 0))
    unsure = np.flatnonzero(valid & (~right.all(1) | (off > EXACT * spec.unit)))
    told = dict(zip(unsure.tolist(), _told(lines[:, unsure], asked[unsure], spec), strict=True))
    return [_reading(found, i, story, spec, told.get(i, ()), lines[:, i]) for i, story in enumerate(stories)]


def _reading(
    found: Sequence[Readings], i: int, story: Story, spec: ClipSpec, told: tuple[str, ...], line: Floats
) -> Reading:
    """Of clip i, whose nearest story is `told` where that was looked for, and whose x, y and radius are `line`."""
    invalid = _first(part.reason[i] if part.action[i] == "invalid" else "" for part in found)
    x, y, radius = line
    shown = told or tuple(part.action[i] for part in found)
    reason = invalid
    if shown != story.actions:
        reason = invalid or _difference(story.actions, shown) or _first(part.reason[i] for part in found)
    own = shown if len(shown) == len(found) else tuple(part.action[i] for part in found)
    obeyed = [one == other for one, other in zip(own, story.actions, strict=True)]
    numbers = {} if invalid else _numbers(found, i, story, spec, x, y)
    lost = "" if invalid else _lost(found, i)
    fault = reason or _first(part.look[i] for part in found) or lost or _off(numbers, spec)
    shapes, colours = ([getattr(part, name)[i] for part in found] for name in ("shape", "colour_name"))
    clean = all(part.reason[i] != "object too large" for part in found)
    return Reading.model_validate(
        numbers | {
            "asked": in_order(story.actions), "shown": "invalid" if invalid else in_order(shown),
            "right": not reason, "valid": not invalid, "reason": reason, "success": not fault, "fault": fault,
            "asked_shape": story.shape, "asked_colour": story.colour, "shown_shape": in_order(_changes(shapes)),
            "shown_colour": in_order(_changes(colours)), "size": spec.short_side,
            "permanent": all(part.reason[i] in ("", *_MOTIONLESS, "background not clean") for part in found),
            "parts": float(np.mean(obeyed)), "kept": float(not invalid and not lost),
            "in_order": float(not reason) if not invalid and sorted(shown) == sorted(story.actions) else math.nan,
            "bg_err": float(np.mean([part.background_error[i] for part in found])) if clean else math.nan,
            "flicker": float(np.mean([part.flicker[i] for part in found])) if clean else math.nan,
            "colour": np.mean([part.colour[i] for part in found], 0).tolist(),
            "x": x.tolist(), "y": y.tolist(), "radius": radius.tolist(),
        }
    )  # fmt: skip


_MOTIONLESS = ("no motion", "fits no known motion")


def _first(of_parts: Iterable[str]) -> str:
    """The first of the parts' faults, with its part."""
    return next((f"part {k}: {told}" for k, told in enumerate(of_parts, 1) if told), "")


def _changes(names: Sequence[str]) -> list[str]:
    """Names without those that stay as they are."""
    return [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]


def _divisions(frames: int, asked: int) -> list[tuple[int, ...]]:
    """Where parts may begin, and the end: of `asked` parts with a little slack, of other numbers without."""
    found = []
    for parts in range(1, BEYOND + 2):
        even = starts(frames, parts)
        if parts != asked:
            found += [even] if parts == 1 or fits(frames, parts) else []
            continue
        for moved in product((-SLACK, 0, SLACK), repeat=parts - 1):
            seams = [seam + by for seam, by in zip(even[1:-1], moved, strict=True)]
            found.append((0, *seams, frames))
    return [bounds for bounds in found if all(b - a >= LEAST_READ for a, b in pairwise(bounds)) or len(bounds) == 2]


def _told(lines: Floats, asked: NDArray[np.str_], spec: ClipSpec) -> list[tuple[str, ...]]:
    """The motions of the story, of any number of parts, whose laws are nearest to x, y and radius of each of n clips,
    `(3, n, t)`; none where no story is near. Parts that begin beside their place count where they are those `asked`,
    `(n, parts)`.

    As with laws (`laws`), each part counts its free numbers: a bounce that fills a clip is also a way up and one down.
    """
    count = lines.shape[1]
    cost = np.full(count, math.inf)
    best: list[tuple[str, ...]] = [()] * count
    for bounds in _divisions(spec.frames, asked.shape[1]):
        even = bounds == starts(spec.frames, len(bounds) - 1)
        names, off = [], np.zeros(count)
        for first, end in pairwise(bounds):
            x, y, radius = lines[..., first:end]
            name, rmse = read_paths(x, y, radius, spec.unit)
            names.append(name)
            off += rmse**2 * (end - first) / spec.frames
        free = NUMBERS * (len(bounds) - 1) * math.log(spec.frames)
        own = spec.frames * np.log(off + (EXACT * spec.unit) ** 2) + free
        for i, story in enumerate(zip(*names, strict=True)):
            known = set(story) <= set(ACTIONS) and all(one != other for one, other in pairwise(story))
            if known and own[i] < cost[i] and (even or story == tuple(asked[i])):
                cost[i], best[i] = own[i], story
    return best


def _difference(asked: tuple[str, ...], shown: tuple[str, ...]) -> str:
    """How a story differs from the one asked for, in words; empty where it has a motion that is none."""
    if not set(shown) <= set(ACTIONS) or shown == asked:
        return ""
    if len(shown) == len(asked):
        if sorted(shown) == sorted(asked):
            return f"in another order: {in_order(shown)}"
        k = next(k for k, both in enumerate(zip(asked, shown, strict=True)) if both[0] != both[1])
        return f"part {k + 1} moves like {shown[k]!r}, asked for {asked[k]!r}"
    longer, shorter, what = (asked, shown, "missing") if len(shown) < len(asked) else (shown, asked, "added")
    for k in range(len(longer)):
        if longer[:k] + longer[k + 1 :] == shorter:
            return f"part {k + 1} ({longer[k]!r}) is {what}"
    return f"{len(shown)} part{'s' * (len(shown) > 1)} in place of {len(asked)}: {in_order(shown)}"


def _lost(found: Sequence[Readings], i: int) -> str:
    """What becomes another at a seam: shape, colour or size; empty where all are kept."""
    for k, (one, other) in enumerate(pairwise(found), 2):
        for name, what in (("shape", "shape"), ("colour_name", "colour")):
            if (was := getattr(one, name)[i]) != (now := getattr(other, name)[i]):
                return f"another {what} in part {k}: {now} after {was}"
        before, behind = one.radius[i], other.radius[i]
        step = max(np.abs(np.diff(before)).max(), np.abs(np.diff(behind)).max())
        if abs(behind[0] - before[-1]) > step + SIZE_KEPT * before[-1]:
            return f"another size in part {k}: radius {behind[0]:.1f} px after {before[-1]:.1f}"
    return ""


def _numbers(found: Sequence[Readings], i: int, story: Story, spec: ClipSpec, x: Floats, y: Floats) -> dict[str, float]:
    """The numbers of a valid clip by their names in `Verdict`."""
    steps = np.hypot(np.diff(x), np.diff(y))
    laws = [np.hypot(np.diff(part.law_x[i]), np.diff(part.law_y[i])) for part in found]
    seams = np.cumsum([part.x.shape[1] for part in found])[:-1] - 1
    jumps = [
        max(0.0, float(steps[seam] - max(one.max(), other.max())))
        for seam, (one, other) in zip(seams, pairwise(laws), strict=True)
    ]
    own = [np.hypot(np.diff(part.x[i]), np.diff(part.y[i])) for part in found]
    least, most = radius_range("expand", story.shape, spec)
    asked = np.array(PALETTE[story.colour])
    numbers = {
        "rmse": math.sqrt(np.mean([part.rmse[i] ** 2 for part in found])),
        "traj_rmse": math.sqrt(np.mean([part.law_rmse[i] ** 2 for part in found])),
        "step_err": np.mean([np.abs(a - b).mean() for a, b in zip(own, laws, strict=True)]),
        "radius_err": max(max(least - part.radius[i].mean(), part.radius[i].mean() - most, 0.0) for part in found),
        "shape_iou": np.mean([part.shape_iou[i] for part in found]),
        "colour_err": max(float(np.linalg.norm(part.colour[i] - asked)) for part in found),
        "colour_change": max(part.colour_change[i] for part in found),
        "opacity": np.mean([part.opacity[i] for part in found]),
        "path": steps.sum(), "jump": max(jumps),
    }  # fmt: skip
    return {name: float(value) for name, value in numbers.items()}


def _off(numbers: dict[str, float], spec: ClipSpec) -> str:
    """The first of place, colour and size that is wrong, with its figure."""
    limits = {
        "jump": ("place after a seam", MOST_JUMP * spec.unit), "colour_err": ("colour", MOST_COLOUR_ERROR),
        "colour_change": ("colour in a frame", MOST_COLOUR_ERROR),
        "radius_err": ("size", MOST_RADIUS_ERROR * spec.unit),
    }  # fmt: skip
    for name, (what, limit) in limits.items():
        if numbers.get(name, 0) > limit:
            return f"wrong {what}: off by {numbers[name]:.2f}, allowed {limit:.2f}"
    return ""
