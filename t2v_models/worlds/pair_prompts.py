"""The grammar of two objects: "red circle moving left and blue square moving up". Word order binds: the same words say
something else where two of them are exchanged.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from t2v_models.config import LabError, near
from t2v_models.text.split import words
from t2v_models.worlds.appearance import PALETTE, SHAPES
from t2v_models.worlds.motions import Action
from t2v_models.worlds.prompts import ACTION_OF_WORDS, PHRASES, Meaning, phrase_of
from t2v_models.worlds.synonyms import trained_words

Relation = Literal["above", "left of"]


@dataclass(frozen=True)
class Pair:
    """What a prompt asks for. The front one is drawn over the back one; where they are related, neither is hidden and
    `back` is the one that is above, or left of, the other in every frame."""

    back: Meaning
    front: Meaning
    relation: Relation | None = None

    @property
    def objects(self) -> tuple[Meaning, Meaning]:
        return self.back, self.front


WORDINGS = (
    "{back} {back_motion} and {front} {front_motion}",
    "a {back} {back_motion} behind a {front} {front_motion}",
    "the {front} {front_motion} in front of the {back} {back_motion}",
)
"""The later-named object is in front, unless the prompt says otherwise."""
UNSEEN_WORDING = "a {front} {front_motion} in front of a {back} {back_motion}"
"""All words are trained, the sentence is not."""
RELATED = ("{back} {relation} {front} {front_motion}", "the {front} {inverse} the {back} {front_motion}")
"""Both objects have the one motion."""
UNSEEN_RELATED = "a {front} {inverse} a {back} {front_motion}"

_INVERSE: dict[Relation, str] = {"above": "below", "left of": "right of"}
_OBJECT = rf"(?:(?:a|the) )?({'|'.join(PALETTE)}) ({'|'.join(SHAPES)})"
_BESIDE = re.compile(rf"{_OBJECT} (above|left of|below|right of) {_OBJECT} (.+)")
_TWO = re.compile(rf"{_OBJECT} (.+) (and|behind|in front of) {_OBJECT} (.+)")
_KNOWN = sorted({w for text in (*PHRASES, *PALETTE, *SHAPES, "a the and behind in front of above below left right")
                 for w in words(text)})  # fmt: skip


def say(pair: Pair, wording: str) -> str:
    """The prompt for a meaning in one of the wordings; the unseen ones swap the words of a direction."""
    told: dict[str, str] = {"relation": pair.relation or "", "inverse": _INVERSE.get(pair.relation, "")}  # type: ignore[arg-type]
    swapped = wording in (UNSEEN_WORDING, UNSEEN_RELATED)
    for name, thing in (("back", pair.back), ("front", pair.front)):
        told |= {name: f"{thing.colour} {thing.shape}", f"{name}_motion": phrase_of(thing.action, swapped=swapped)}
    return wording.format(**told)


@cache
def parse(prompt: str) -> Pair:
    """What `prompt` means.

    Raises:
        LabError: naming the unknown word or motion with its neighbours; the sentence is none of two objects; both have
            one colour.
    """
    found = trained_words(words(prompt))
    for word in found:
        if word not in _KNOWN:
            raise LabError(f"unknown word {word!r} in prompt {prompt!r}: {near(word, _KNOWN)}")
    sentence = " ".join(found)
    if match := _BESIDE.fullmatch(sentence):
        colour, shape, relation, other_colour, other_shape, motion = match.groups()
        motions = (motion, motion)
    elif match := _TWO.fullmatch(sentence):
        colour, shape, motion, relation, other_colour, other_shape, other_motion = match.groups()
        motions = (motion, other_motion)
    else:
        raise LabError(
            f"prompt {prompt!r} does not tell of two objects: say for example 'red circle moving left and blue square "
            "moving up', or 'red circle above blue square moving right'"
        )
    if colour == other_colour:
        raise LabError(
            f"prompt {prompt!r} tells of two {colour} objects, which nobody could tell apart where they overlap: give "
            "one of them another colour"
        )
    first = Meaning(_action(prompt, motions[0]), shape, colour)  # type: ignore[arg-type]
    second = Meaning(_action(prompt, motions[1]), other_shape, other_colour)  # type: ignore[arg-type]
    if relation in _INVERSE:
        check_related(first.action, relation, prompt)
        return Pair(first, second, relation)
    if relation in _INVERSE.values():
        name = next(name for name, inverse in _INVERSE.items() if inverse == relation)
        check_related(first.action, name, prompt)
        return Pair(second, first, name)
    return Pair(second, first) if relation == "in front of" else Pair(first, second)


def goes(action: Action, relation: Relation) -> bool:
    """Whether objects with one motion can stay so: those that bounce off opposite walls meet."""
    return (action, relation) not in (("bounce-v", "above"), ("bounce-h", "left of"))


def check_related(action: Action, relation: Relation, prompt: str) -> None:
    """Refuse what cannot be drawn.

    Raises:
        LabError: each of the two would bounce off its own wall, so that they meet.
    """
    if not goes(action, relation):
        raise LabError(
            f"prompt {prompt!r} has one object stay {relation} another that bounces towards it: name another motion, "
            "or say 'and'"
        )


def _action(prompt: str, motion: str) -> Action:
    if found := ACTION_OF_WORDS.get(tuple(motion.split())):
        return found
    raise LabError(f"prompt {prompt!r} names no known motion: {near(motion, PHRASES)}")
