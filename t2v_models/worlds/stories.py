"""One object whose motions follow each other: the order of the words is that in time.

Of the successions of two motions a fifth is never trained (`s2`), that of the article's own test among them, "circle
moving up then moving right"; of most of them the reverse is. Two and three parts are trained, `s6` asks for four. A
clip's length decides how many parts it has room for, so one dataset of several lengths has parts of many.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.worlds.appearance import BACKGROUND, PALETTE, SHAPES
from t2v_models.worlds.motions import ACTIONS, Action
from t2v_models.worlds.prompts import check_hold_out
from t2v_models.worlds.reader import read
from t2v_models.worlds.render import sprites
from t2v_models.worlds.splits import Split, evenly
from t2v_models.worlds.story_prompts import (
    BEYOND,
    LEAST_PART,
    MOST_PART,
    PARTS,
    UNSEEN_WORDING,
    WORDINGS,
    Story,
    fault,
    fits,
    in_order,
    parse,
    say,
    starts,
)
from t2v_models.worlds.story_reading import readings
from t2v_models.worlds.story_scenes import STORY_NUMBERS, Told, draw_story, path
from t2v_models.worlds.synonyms import MOTION_SYNONYMS, OBJECT_SYNONYMS, in_other_words
from t2v_models.worlds.world import Case, Choice, Frames, Reading, Scene, World

ASKED = 60
"""Prompts of a split, of those there are."""
EACH = 6
"""Objects of which each succession of two motions is trained; and ways in which each goes on to a third."""
OBJECTS_ASKED = 3
"""Objects that are asked of each succession that is new."""
SYNONYMS = MOTION_SYNONYMS | OBJECT_SYNONYMS
"""What `s7` says in place of trained words, in a caption each."""
OBJECTS = [(shape, colour) for shape in SHAPES for colour in PALETTE]


class Stories(World):
    """See the module."""

    name = "stories"
    about = "one object, two or three motions in sequence"
    numbers = STORY_NUMBERS
    frames = 24
    least_frames = PARTS[0] * LEAST_PART
    hold_out = ("up-right",)
    background = BACKGROUND

    def checked_hold_out(self, names: Iterable[str]) -> tuple[Action, ...]:
        return check_hold_out(names)

    def check(self, choice: Choice) -> None:
        super().check(choice)
        if choice.spec.frames > PARTS[-1] * MOST_PART:
            raise LabError(
                f"stories of {choice.spec.frames} frames: {PARTS[-1]} parts of at most {MOST_PART} frames are trained, "
                f"so use {PARTS[-1] * MOST_PART} frames or fewer"
            )

    def parse(self, prompt: str) -> Story:
        return parse(prompt)

    def captions(self, choice: Choice) -> tuple[str, ...]:
        return _captions(choice.hold_out, choice.spec.frames)

    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        return _asked(split, choice.hold_out, choice.spec.frames)

    def split_of(self, choice: Choice, prompt: str) -> Split:
        story = parse(prompt)
        parts, frames = len(story.actions), choice.spec.frames
        if not fits(frames, parts):
            raise LabError(
                f"prompt {prompt!r} tells of {parts} motions, which take {parts * LEAST_PART} to {parts * MOST_PART} "
                f"frames, and clips of the dataset have {frames}"
            )
        if set(story.actions) & set(choice.hold_out):
            return "s3"
        if not _known(story):
            return "s2"
        if parts == BEYOND:
            return "s6"
        if story not in _trained(choice.hold_out, frames):
            return "s2"
        return self.wording_of(choice, prompt)

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        for caption in captions:
            story = parse(caption)
            if held := set(story.actions) & set(choice.hold_out):
                raise LabError(f"training caption {caption!r} means {held.pop()!r}, which is held out: drop it")
            if not _known(story):
                raise LabError(f"training caption {caption!r} has motions in a succession that is held out: drop it")
            if len(story.actions) == BEYOND:
                raise LabError(f"training caption {caption!r} has {BEYOND} parts, which are held out: drop it")

    def draw(self, meanings: Sequence[Story], spec: ClipSpec, numbers: NDArray[np.float64]) -> list[Scene]:
        return [
            Scene.model_construct(objects=(draw_story(story, spec, row),))
            for story, row in zip(meanings, numbers, strict=True)
        ]

    def render(self, scenes: Sequence[Scene], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        stories = _stories(scenes)
        objects = [(story.motions[0].shape, story.motions[0].colour) for story in stories]
        drawn = sprites(objects, path(stories, spec), spec)
        return (sprite.paint(frames) for sprite, frames in zip(drawn, into, strict=False))

    def stored(self, scenes: Sequence[Scene], spec: ClipSpec) -> list[dict[str, Any]]:
        stories = _stories(scenes)
        paths = path(stories, spec)
        radius, x, y = (np.round(values, 4).tolist() for values in (paths.radius, paths.x, paths.y))
        return [
            story.model_dump() | {"trace": {"radius": radius[k], "x": x[k], "y": y[k]}}
            for k, story in enumerate(stories)
        ]

    def paths(self, scenes: Sequence[Scene], spec: ClipSpec) -> NDArray[np.float64]:
        paths = path(_stories(scenes), spec)
        return np.concatenate([paths.x, paths.y, paths.radius], 1)

    def case(self, meaning: Story) -> Case:
        return in_order(meaning.actions), meaning.shape, meaning.colour

    def read(self, frames: Frames, meanings: Sequence[Story]) -> list[Reading]:
        spec = ClipSpec(frames=frames.shape[1], height=frames.shape[2], width=frames.shape[3])
        found: dict[int, Reading] = {}
        for parts in sorted({len(story.actions) for story in meanings}):
            here = [i for i, story in enumerate(meanings) if len(story.actions) == parts]
            asked = [meanings[i] for i in here]
            read_parts = [
                read(
                    frames[here, first:end], [s.colour for s in asked], [s.shape for s in asked],
                    [s.actions[k] for s in asked],
                )
                for k, (first, end) in enumerate(pairwise(starts(spec.frames, parts)))
            ]  # fmt: skip
            found |= dict(zip(here, readings(read_parts, asked, spec), strict=True))
        return [found[i] for i in range(len(meanings))]


def _stories(scenes: Sequence[Scene]) -> list[Told]:
    return [scene.objects[0] for scene in scenes]  # type: ignore[misc]


def _never(one: Action, other: Action) -> bool:
    """Whether a succession is never trained: one in five, evenly over all motions."""
    return (ACTIONS.index(one) + 2 * ACTIONS.index(other)) % 5 == 1


def _known(story: Story) -> bool:
    return not any(_never(one, other) for one, other in pairwise(story.actions))


def _successions(actions: Sequence[Action], *, never: bool) -> list[tuple[Action, ...]]:
    return [(a, b) for a in actions for b in actions if a != b and _never(a, b) == never]


def _longer(stories: Sequence[tuple[Action, ...]], actions: Sequence[Action], each: int) -> list[tuple[Action, ...]]:
    """Stories of one part more, evenly: `each` of every story, in trained successions."""
    found = []
    for k, story in enumerate(stories):
        ahead = [a for a in actions if not _never(story[-1], a) and not fault((*story, a))]
        found += [(*story, ahead[(k + 5 * e) % len(ahead)]) for e in range(min(each, len(ahead)))]
    return list(dict.fromkeys(found))


def _trainable(hold_out: tuple[str, ...]) -> tuple[Action, ...]:
    return tuple(a for a in ACTIONS if a not in hold_out)


@cache
def _sequences(hold_out: tuple[str, ...], parts: int) -> tuple[tuple[Action, ...], ...]:
    """The motions of trained stories of so many parts; of `BEYOND`, of those that are asked."""
    actions = _trainable(hold_out)
    if parts == PARTS[0]:
        return tuple(_successions(actions, never=False))
    return tuple(_longer(_sequences(hold_out, parts - 1), actions, EACH if parts == PARTS[1] else 1))


def _of_objects(sequences: Sequence[tuple[Action, ...]], each: int) -> list[Story]:
    """Stories of `each` objects of all, evenly."""
    step = len(OBJECTS) // each
    return [
        Story(actions, *OBJECTS[(7 * k + step * e + k // len(OBJECTS)) % len(OBJECTS)])
        for k, actions in enumerate(sequences)
        for e in range(each)
    ]


@cache
def _trained(hold_out: tuple[str, ...], frames: int) -> tuple[Story, ...]:
    found: list[Story] = []
    for parts in PARTS:
        if fits(frames, parts):
            found += _of_objects(_sequences(hold_out, parts), EACH if parts == PARTS[0] else 1)
    return tuple(found)


def _said(stories: Sequence[Story]) -> tuple[str, ...]:
    """In one of the trained wordings each."""
    return tuple(say(story, WORDINGS[(k + k // EACH) % len(WORDINGS)]) for k, story in enumerate(stories))


@cache
def _captions(hold_out: tuple[str, ...], frames: int) -> tuple[str, ...]:
    return _said(_trained(hold_out, frames))


@cache
def _asked(split: Split, hold_out: tuple[str, ...], frames: int) -> tuple[str, ...]:
    """Up to `ASKED` prompts, evenly of all that a split could ask. All words of `s1` are trained, the sentence and the
    order of a direction's words are not."""
    actions = _trainable(hold_out)
    if split == "s0":
        return evenly(_captions(hold_out, frames), ASKED)
    if split == "s1":
        return tuple(say(story, UNSEEN_WORDING) for story in evenly(_trained(hold_out, frames), ASKED))
    if split == "s7":
        return in_other_words(_captions(hold_out, frames), SYNONYMS)
    if split == "s6":
        return evenly(_said(_of_objects(_sequences(hold_out, BEYOND), 1)), ASKED) if fits(frames, BEYOND) else ()
    if split == "s2":
        asked = _successions(actions, never=True)
    elif split == "s3" and hold_out:
        held = check_hold_out(hold_out)
        asked = [both for a in held for b in actions for both in ((a, b), (b, a)) if not _never(*both)]
    else:
        return ()
    if not fits(frames, PARTS[0]):  # clips so long that two parts do not fill them
        asked = _longer(asked, actions, 1)
    return evenly(_said(_of_objects(asked, OBJECTS_ASKED)), ASKED)
