"""Scenes of two objects: each moves by its own law, and may pass in front of or behind the other; or both by one law,
and one stays above, or left of, the other.

So that a clip can be judged, the two are apart in half of its frames at least and neither is ever wholly hidden: the
first of a few draws of the front object for which that holds is taken, else the one that comes nearest to it.
"""

from collections.abc import Sequence

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.motions import NUMBERS, Draw, Floats, Motion, draw_motions, drawn_traces, motions_of
from t2v_models.worlds.outlines import EXTENTS
from t2v_models.worlds.pair_prompts import Pair, Relation
from t2v_models.worlds.prompts import Meaning

DRAWS = 6
"""Of the front object."""
PAIR_NUMBERS = (1 + DRAWS) * NUMBERS
"""Uniform random numbers that a scene is drawn from."""
LEAST_APART, BETWEEN = 0.5, 1.0
"""Share of frames in which so many px are between the two."""
LEAST_SEEN = 0.2
"""An object reaches out from under the other by at least so much less than its whole radius."""
GAP = 1.0
"""px at 64 px between two that are related."""
LEAST_PACE, LEAST_ROOM = 2.0, 18.0
"""px/frame and px at 64 px that are left to related objects to move in where they can be."""

Scene = tuple[Motion, Motion]


def draw_pairs(pairs: Sequence[Pair], spec: ClipSpec, numbers: Floats) -> list[Scene]:
    """The objects of n clips, back and front: each pair a function of its row of `numbers`, `(n, PAIR_NUMBERS)`."""
    drawn: dict[int, Scene] = {}
    alike: dict[tuple[str, Relation], list[int]] = {}
    for i, pair in enumerate(pairs):
        if pair.relation:
            alike.setdefault((pair.back.action, pair.relation), []).append(i)
    for (_, relation), here in alike.items():
        drawn |= zip(here, _related([pairs[i] for i in here], relation, spec, numbers[here]), strict=True)
    free = [i for i, pair in enumerate(pairs) if not pair.relation]
    drawn |= zip(free, _free([pairs[i] for i in free], spec, numbers[free]), strict=True)
    return [drawn[i] for i in range(len(pairs))]


def _objects(meanings: Sequence[Meaning], spec: ClipSpec, numbers: Floats) -> list[Motion]:
    none = [None] * len(meanings)
    return draw_motions(
        [m.action for m in meanings], spec, numbers, [m.shape for m in meanings], [m.colour for m in meanings], none,
        none,
    )  # fmt: skip


def _free(pairs: Sequence[Pair], spec: ClipSpec, numbers: Floats) -> list[Scene]:
    if not pairs:
        return []
    backs, fronts = [p.back for p in pairs], [p.front for p in pairs]
    drawn = numbers.reshape(-1, 1 + DRAWS, NUMBERS).swapaxes(0, 1)  # the back object, then every draw of the front one
    best = np.minimum(_seen(backs, fronts, spec, drawn), 1).argmax(0)  # the first that is enough
    chosen = np.concatenate([drawn[0], drawn[1 + best, np.arange(len(pairs))]])
    both = _objects([*backs, *fronts], spec, chosen)
    return list(zip(both[: len(pairs)], both[len(pairs) :], strict=True))


def _seen(backs: Sequence[Meaning], fronts: Sequence[Meaning], spec: ClipSpec, drawn: Floats) -> Floats:
    """How well both can be seen in each draw, `(DRAWS, n)`: 1 or more where it is enough."""
    asked = [*backs, *list(fronts) * DRAWS]
    paths = drawn_traces([m.action for m in asked], spec, drawn.reshape(-1, NUMBERS), [m.shape for m in asked])
    x, y, radius = (path.reshape(1 + DRAWS, len(backs), -1) for path in (paths.x, paths.y, paths.radius))
    away = np.hypot(x[0] - x[1:], y[0] - y[1:])
    reach = _greatest(backs) * radius[0] + _greatest(fronts) * radius[1:]
    apart = (away > reach + BETWEEN).mean(2) / LEAST_APART
    least = np.maximum(radius[1:], radius[0]) - LEAST_SEEN * np.minimum(radius[1:], radius[0])
    return np.asarray(np.minimum(apart, (away / least).min(2)))


def _greatest(objects: Sequence[Meaning]) -> Floats:
    return np.array([[EXTENTS[m.shape].greatest] for m in objects])


def _related(pairs: Sequence[Pair], relation: Relation, spec: ClipSpec, numbers: Floats) -> list[Scene]:
    """Objects that move as one, however far apart; where they bounce, each touches the wall in the same moment."""
    action, n = pairs[0].back.action, len(pairs)
    both = [[p.back for p in pairs], [p.front for p in pairs]]
    shapes = [[m.shape for m in objects] for objects in both]
    first, second = (
        Draw(action, spec, numbers[:, k * NUMBERS : (k + 1) * NUMBERS], shapes[k], [None] * n, [None] * n)
        for k in (0, 1)
    )
    above, down = relation == "above", np.maximum(first.down, second.down)
    side, up = np.maximum(first.side, second.side), np.maximum(first.up, second.up)
    touching = (first.down + second.up if above else first.side + second.side) + GAP * spec.unit
    most = spec.height - first.up - second.down if above else spec.width - 2 * side
    room = max(LEAST_PACE * (spec.frames - 1), LEAST_ROOM) * spec.unit
    spare = np.maximum(most - touching - room, 0)
    apart = np.minimum(touching + spare * numbers[:, 2 * NUMBERS], most)
    if above:
        first.stay(side, apart / 2 + first.up, apart / 2 + second.down)
    else:
        first.stay(apart / 2 + side, up, down)
    law = first.drawn()
    scenes = []
    for k, (draw, half) in enumerate(((first, -apart / 2), (second, apart / 2))):
        place = {"y": law["y"] + half} if above else {"x": law["x"] + half}
        if action == "bounce-h":
            place["x"] = law["x"] + np.sign(law["speed"]) * (side - _reach(draw, shapes[k], 0))
        elif action == "bounce-v":
            upward = law["speed"] < 0
            own_up, own_down = (_reach(draw, shapes[k], axis) for axis in (1, 2))
            place["y"] = law["y"] + np.where(upward, own_up - up, down - own_down)
        own = law | place | {"radius": draw.radius, "radius_end": draw.radius_end}
        scenes.append(motions_of(action, own, shapes[k], [m.colour for m in both[k]]))
    return list(zip(*scenes, strict=True))


def _reach(draw: Draw, shapes: Sequence[str], axis: int) -> Floats:
    """px that objects extend sideways (0), up (1) or down (2)."""
    names = ("side", "up", "down")
    extent = np.array([getattr(EXTENTS[shape], names[axis]) for shape in shapes])  # type: ignore[index]
    return np.asarray(extent * np.maximum(draw.radius, draw.radius_end))
