"""The grammar of motions in sequence: "red circle moving up then moving right". The order of the words is that in time.

A story has two to four parts, each of one motion. Parts are as long as one another, to a frame, so prompt and length of
a clip say when each begins. Two parts with one motion would be one part, so neighbours differ; whatever needs a wall or
changes the size is in a story once, so that all of it fits into the frame.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from t2v_models.config import LabError, near
from t2v_models.text.split import words
from t2v_models.worlds.appearance import PALETTE, SHAPES, Colour, Shape
from t2v_models.worlds.motions import SIZE_MOTIONS, Action
from t2v_models.worlds.prompts import ACTION_OF_WORDS, PHRASES, phrase_of
from t2v_models.worlds.synonyms import trained_words
from t2v_models.worlds.world import THEN

PARTS = (2, 3)
"""How many parts are trained."""
BEYOND = PARTS[-1] + 1
"""One more than is ever trained."""
LEAST_PART, MOST_PART = 6, 16
"""Frames of a part."""
ONCE: tuple[Action, ...] = ("bounce-v", "bounce-h", *SIZE_MOTIONS)


@dataclass(frozen=True)
class Story:
    """What a prompt asks for."""

    actions: tuple[Action, ...]
    shape: Shape = "circle"
    colour: Colour = "blue"


WORDINGS = (
    "{colour} {shape} {motions}",
    "a {colour} {shape} {motions}",
    "the {shape} is {colour} and {motions}",
)
UNSEEN_WORDING = "the {colour} {shape} is {motions}"
"""All words are trained, the sentence is not."""

_SUBJECT = rf"(?:(?:a|the) )?(?:({'|'.join(PALETTE)}) )?({'|'.join(SHAPES)}) (?:is )?(?:({'|'.join(PALETTE)}) and )?"
_SENTENCE = re.compile(rf"{_SUBJECT}(.+)")
_KNOWN = sorted({w for text in (*PHRASES, *PALETTE, *SHAPES, "a the is and then") for w in words(text)})


def say(story: Story, wording: str) -> str:
    """The prompt for a meaning in one of the wordings; the unseen one swaps the words of a direction."""
    motions = [phrase_of(action, swapped=wording == UNSEEN_WORDING) for action in story.actions]
    return wording.format(colour=story.colour, shape=story.shape, motions=" then ".join(motions))


def in_order(actions: Sequence[str]) -> str:
    """Motions of a story, for people and verdicts."""
    return THEN.join(actions)


@cache
def parse(prompt: str) -> Story:
    """What `prompt` means. A circle of no named colour is blue, as in the `circles` world; later parts may name the
    object again.

    Raises:
        LabError: naming the unknown word or motion with its neighbours; there is one part or too many; a motion stands
            where it cannot.
    """
    found = trained_words(words(prompt))
    for word in found:
        if word not in _KNOWN:
            raise LabError(f"unknown word {word!r} in prompt {prompt!r}: {near(word, _KNOWN)}")
    said = re.split(r"(?: and)? then ", " ".join(found))
    match = _SENTENCE.fullmatch(said[0])
    if not match or len(said) < PARTS[0]:
        raise LabError(
            f"prompt {prompt!r} does not tell of motions in sequence: say for example 'circle moving up then moving "
            "right'"
        )
    before, shape, after, first = match.groups()
    if (before and after) or not (before or after or shape == "circle"):
        raise LabError(f"prompt {prompt!r} names no one colour for the {shape}: put one of {', '.join(PALETTE)} before")
    colour = before or after or "blue"
    motions = [first, *(_motion(prompt, part, shape, colour) for part in said[1:])]
    actions = tuple(_action(prompt, motion) for motion in motions)
    if wrong := fault(actions):
        raise LabError(f"prompt {prompt!r} {wrong}")
    return Story(actions, shape, colour)  # type: ignore[arg-type]


def fault(actions: Sequence[Action]) -> str:
    """What keeps motions from being a story, as the rest of a sentence; empty where nothing does."""
    if len(actions) > BEYOND:
        return f"tells of {len(actions)} motions in sequence: tell of {PARTS[0]} to {BEYOND}"
    for one, other in pairwise(actions):
        if one == other:
            return f"has {phrase_of(one)!r} twice in succession, which is one motion: say it once"
    for action in ONCE:
        if list(actions).count(action) > 1:
            return f"has {phrase_of(action)!r} twice, for which a frame has no room: say it once"
    return ""


def _motion(prompt: str, part: str, shape: str, colour: str) -> str:
    """The words of a later part without its object, which is that of the first."""
    match = _SENTENCE.fullmatch(part)
    if not match:
        return part
    before, other, after, motion = match.groups()
    named = before or after or colour
    if (other, named) != (shape, colour):
        raise LabError(
            f"prompt {prompt!r} goes on with a {named} {other}, and a story is of one object, here a {colour} {shape}: "
            "name that one, or none"
        )
    return str(motion)


def _action(prompt: str, motion: str) -> Action:
    if found := ACTION_OF_WORDS.get(tuple(motion.split())):
        return found
    raise LabError(f"prompt {prompt!r} names no known motion: {near(motion, PHRASES)}")


def starts(frames: int, parts: int) -> tuple[int, ...]:
    """The first frame of each part, and the number of frames."""
    return tuple(i * frames // parts for i in range(parts + 1))


def fits(frames: int, parts: int) -> bool:
    """Whether a clip has room for so many parts, and no more room than they fill."""
    return LEAST_PART * parts <= frames <= MOST_PART * parts
