"""Captions and clips of `pairs` and `stories` that are wrong in one thing, and what a reader must say of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import PALETTE, SHAPES, Colour
from t2v_models.worlds.listed import WORLDS
from t2v_models.worlds.motions import ACTIONS, Motion
from t2v_models.worlds.pair_prompts import Pair
from t2v_models.worlds.story_prompts import Story
from t2v_models.worlds.world import Frames, Scene, drawn

Spoilt = tuple[Frames, list[str]]
"""Clips, and the fault of each."""
Change = Callable[[Story, int], tuple[Story, str] | None]
"""Of a story, the one to show and what it is then told for; None where that would be none."""


def with_colours_exchanged(pair: Pair) -> Pair:
    """The same bag of words: the colours at the other object."""
    back, front = pair.back, pair.front
    return Pair(replace(back, colour=front.colour), replace(front, colour=back.colour), pair.relation)


def with_motions_exchanged(pair: Pair) -> Pair:
    """The same, of motions; where both move alike, or stand in a relation, of colours."""
    if pair.relation or pair.back.action == pair.front.action:
        return with_colours_exchanged(pair)
    back, front = pair.back, pair.front
    return Pair(replace(back, action=front.action), replace(front, action=back.action))


def _alone(motions: Sequence[Motion], spec: ClipSpec) -> Frames:
    """Clips of one object each."""
    return drawn(WORLDS["shapes"], [Scene(objects=(m,)) for m in motions], spec)


def _spare(scenes: Sequence[Scene]) -> list[Colour]:
    """Of each clip a colour that none of its objects has."""
    return [
        [c for c in PALETTE if c not in {m.colour for m in scene.objects}][i % 4]  # type: ignore[attr-defined]
        for i, scene in enumerate(scenes)
    ]


def with_one_missing(frames: Frames, scenes: Sequence[Scene], spec: ClipSpec) -> Spoilt:
    """The front object gone in one frame."""
    gone, at = frames.copy(), np.arange(len(frames))
    gone[at, at % spec.frames] = _alone([scene.objects[0] for scene in scenes], spec)[at, at % spec.frames]  # type: ignore[misc]
    return gone, [f"{scene.objects[1].colour} {scene.objects[1].shape} missing in a frame" for scene in scenes]  # type: ignore[attr-defined]


def with_a_third(frames: Frames, scenes: Sequence[Scene], spec: ClipSpec) -> Spoilt:
    """A third object from the fifth frame on, of the form and motion of another clip's."""
    spare = _spare(scenes)
    fronts: list[Motion] = [scene.objects[1] for scene in scenes]  # type: ignore[misc]
    others = [m.model_copy(update={"colour": c}) for m, c in zip(fronts[1:] + fronts[:1], spare, strict=True)]
    third, added = _alone(others, spec), frames.copy()
    added[:, 4:] = np.where(third < 255, third, frames)[:, 4:]
    return added, [f"a third object, {c}" for c in spare]


def with_another(frames: Frames, scenes: Sequence[Scene], spec: ClipSpec) -> Spoilt:
    """Another colour or shape in front; colours only where it bounces, for shapes reach walls unlike."""
    found, told = [], []
    for i, (scene, colour) in enumerate(zip(scenes, _spare(scenes), strict=True)):
        back, front = scene.objects
        assert isinstance(front, Motion)
        new = i % 2 == 1 or front.action.startswith("bounce")
        change = {"colour": colour} if new else {"shape": SHAPES[SHAPES.index(front.shape) - 1]}
        found.append(Scene(objects=(back, front.model_copy(update=change))))
        told.append(f"{front.colour} {front.shape}: wrong {'colour' if new else 'shape'}")
    return drawn(WORLDS["pairs"], found, spec), told


def with_a_part_exchanged(story: Story, k: int) -> tuple[Story, str] | None:
    """Another motion in one part."""
    at = k % len(story.actions)
    other = ACTIONS[k % len(ACTIONS)]
    if other in story.actions:
        return None
    actions = (*story.actions[:at], other, *story.actions[at + 1 :])
    told = f"part {at + 1} moves like {other!r}, asked for {story.actions[at]!r}"
    return replace(story, actions=actions), told


def with_a_part_missing(story: Story, k: int) -> tuple[Story, str] | None:
    """One part less."""
    at = k % len(story.actions)
    rest = story.actions[:at] + story.actions[at + 1 :]
    return replace(story, actions=rest), f"part {at + 1} ({story.actions[at]!r}) is missing"


def with_a_part_added(story: Story, k: int) -> tuple[Story, str] | None:
    """One part more."""
    at = k % (len(story.actions) + 1)
    other = ACTIONS[k % len(ACTIONS)]
    if other in story.actions:
        return None
    actions = (*story.actions[:at], other, *story.actions[at:])
    return replace(story, actions=actions), f"part {at + 1} ({other!r}) is added"


CHANGES: dict[str, Change] = {
    "exchanged": with_a_part_exchanged, "missing": with_a_part_missing, "added": with_a_part_added,
}  # fmt: skip
