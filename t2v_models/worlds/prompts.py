"""The grammar: what a prompt means and how it may be worded. Which prompts are trained and asked is in `splits`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from t2v_models.config import LabError, near
from t2v_models.text.split import words
from t2v_models.worlds.appearance import PALETTE, SHAPES, Colour, Shape
from t2v_models.worlds.bands import SIZES, SPEEDS, Size, Speed
from t2v_models.worlds.motions import ACTIONS, DIRECTIONS, SIZE_MOTIONS, Action
from t2v_models.worlds.synonyms import trained_words

ARTICLE_PROMPTS = (
    "circle moving down", "circle moving left", "circle moving right",
    "circle moving diagonally up-right", "circle moving diagonally down-left",
    "circle moving diagonally up-left", "circle moving diagonally down-right",
    "circle rotating clockwise", "circle rotating counter-clockwise", "circle shrinking", "circle expanding",
    "circle bouncing vertically", "circle bouncing horizontally",
    "circle zigzagging vertically", "circle zigzagging horizontally",
    "circle moving up-left", "circle moving down-right", "circle moving down-left",
)  # fmt: skip
"""The 18 training prompts of "AI text-to-video model from scratch" (F. Khan, 2024)."""

CIRCLE_PROMPTS = (*ARTICLE_PROMPTS, "circle moving up")

PHRASES: dict[str, Action] = {
    "rotating clockwise": "rotate-cw", "rotating counter-clockwise": "rotate-ccw",
    "bouncing vertically": "bounce-v", "bouncing horizontally": "bounce-h",
    "zigzagging vertically": "zigzag-v", "zigzagging horizontally": "zigzag-h",
    "shrinking": "shrink", "expanding": "expand",
}  # fmt: skip
for _direction in DIRECTIONS:
    _words = _direction.split("-")
    for _wording in {_direction, "-".join(reversed(_words))}:
        PHRASES[f"moving {_wording}"] = _direction
        if len(_words) == 2:
            PHRASES[f"moving diagonally {_wording}"] = _direction


ACTION_OF_WORDS = {tuple(words(phrase)): action for phrase, action in PHRASES.items()}


@dataclass(frozen=True)
class Meaning:
    """What a prompt asks for. Two prompts with equal meanings are synonyms."""

    action: Action
    shape: Shape = "circle"
    colour: Colour = "blue"
    size: Size | None = None
    """None where the prompt leaves it open, as with the speed."""
    speed: Speed | None = None


WORDINGS = (
    "{size} {colour} {shape} {motion} {speed}",
    "a {size} {colour} {shape} {motion} {speed}",
    "the {size} {shape} is {colour} and {motion} {speed}",
)
"""Controlled paraphrases of the `shapes` world; the first one says "diagonally" of diagonal motions."""
UNSEEN_WORDING = "the {size} {colour} {shape} is {motion} {speed}"
"""All words are trained, the sentence is not."""
CIRCLE_WORDING = "{size} {shape} {motion} {speed}"
"""Of the `circles` world where it names a size or a speed."""

_SENTENCE = re.compile(
    rf"(?:(?:a|the) )?(?:({'|'.join(SIZES)}) )?(?:({'|'.join(PALETTE)}) )?({'|'.join(SHAPES)}) "
    rf"(?:is )?(?:({'|'.join(PALETTE)}) and )?(.+?)(?: ({'|'.join(SPEEDS)}))?"
)
KNOWN_WORDS = sorted(
    {w for text in (*PHRASES, *PALETTE, *SHAPES, *SIZES, *SPEEDS, "a the is and") for w in words(text)}
)


def phrase_of(action: Action, *, diagonally: bool = False, swapped: bool = False) -> str:
    """How a motion is said; a diagonal one on request with "diagonally" or with its two words swapped."""
    if action in DIRECTIONS:
        both = action.split("-")
        direction = "-".join(reversed(both) if swapped else both)
        return f"moving diagonally {direction}" if diagonally and len(both) == 2 else f"moving {direction}"
    return next(phrase for phrase, meant in PHRASES.items() if meant == action)


def say(meaning: Meaning, wording: str) -> str:
    """The prompt for a meaning in one of the wordings; `UNSEEN_WORDING` swaps the words of a direction."""
    motion = phrase_of(meaning.action, diagonally=wording == WORDINGS[0], swapped=wording == UNSEEN_WORDING)
    sentence = wording.format(
        size=meaning.size or "", colour=meaning.colour, shape=meaning.shape, motion=motion, speed=meaning.speed or ""
    )
    return " ".join(sentence.split())


@cache
def parse(prompt: str) -> Meaning:
    """What `prompt` means. A circle of no named colour is blue, as in the `circles` world.

    Raises:
        LabError: naming the unknown word with its neighbours, the phrase that is no motion, the missing colour, or the
            size or speed of what has none.
    """
    found = trained_words(words(prompt))
    for word in found:
        if word not in KNOWN_WORDS:
            raise LabError(f"unknown word {word!r} in prompt {prompt!r}: {near(word, KNOWN_WORDS)}")
    match = _SENTENCE.fullmatch(" ".join(found))
    size, before, shape, after, motion, speed = match.groups() if match else (*[""] * 4, " ".join(found), "")
    action = ACTION_OF_WORDS.get(tuple(words(motion)))
    if not match or not action or (before and after):
        raise LabError(
            f"prompt {prompt!r} names no known motion: an object such as 'red square' is followed by a motion; "
            f"{near(motion, PHRASES)}"
        )
    if not (before or after) and shape != "circle":
        raise LabError(f"prompt {prompt!r} names no colour for the {shape}: put one of {', '.join(PALETTE)} before it")
    if action in SIZE_MOTIONS and (size or speed):
        raise LabError(
            f"prompt {prompt!r} says {size or speed!r} of an object that is {motion}, which has no one size or speed: "
            "leave the word out"
        )
    return Meaning(action, shape, before or after or "blue", size, speed)  # type: ignore[arg-type]


def check_hold_out(actions: Iterable[str]) -> tuple[Action, ...]:
    """The motions to hold out, checked and sorted.

    Raises:
        LabError: a name that is no motion.
    """
    for action in actions:
        if action not in ACTIONS:
            raise LabError(f"unknown motion {action!r} to hold out: {near(action, ACTIONS)}")
    return tuple(a for a in ACTIONS if a in set(actions))
