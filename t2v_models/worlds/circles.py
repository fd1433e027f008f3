"""The world of the article: one blue circle, 16 motions, 19 sentences, of which one motion is held out."""

from functools import cache

from t2v_models.config import LabError
from t2v_models.worlds.bands import BEYOND, TRAINED
from t2v_models.worlds.motions import ACTIONS, DIRECTIONS
from t2v_models.worlds.one_object import OneObject
from t2v_models.worlds.prompts import CIRCLE_PROMPTS, CIRCLE_WORDING, Meaning, parse, say
from t2v_models.worlds.splits import Split, first_of_each, with_words
from t2v_models.worlds.synonyms import DISC_SYNONYMS, MOTION_SYNONYMS, in_other_words
from t2v_models.worlds.world import Choice

HoldOut = tuple[str, ...]

SYNONYMS = MOTION_SYNONYMS | DISC_SYNONYMS
"""What `s7` says in place of trained words, in two captions each."""


class Circles(OneObject):
    """See the module."""

    name = "circles"
    about = "one disc, 16 motions"

    def check(self, choice: Choice) -> None:
        if choice.coverage is not None:
            raise LabError(
                f"coverage {choice.coverage} of the circles world, where every object is a blue circle: "
                "use --world shapes or leave coverage out"
            )
        super().check(choice)

    def trained(self, choice: Choice) -> tuple[Meaning, ...]:
        return _trained(choice.hold_out, choice.bands)

    def captions(self, choice: Choice) -> tuple[str, ...]:
        return _captions(choice.hold_out, choice.bands)

    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        return _asked(split, choice.hold_out, choice.bands)

    def split_of(self, choice: Choice, prompt: str) -> Split:
        meaning = parse(prompt)
        if (meaning.shape, meaning.colour) != ("circle", "blue"):
            raise LabError(
                f"prompt {prompt!r} shows a {meaning.colour} {meaning.shape}, and the circles world has blue circles "
                "only: give --like with a dataset of the shapes world"
            )
        return super().split_of(choice, prompt)


def _cells(hold_out: HoldOut) -> tuple[Meaning, ...]:
    return tuple(Meaning(action) for action in ACTIONS if action not in hold_out)


@cache
def _trained(hold_out: HoldOut, bands: bool) -> tuple[Meaning, ...]:
    cells = _cells(hold_out)
    return (*cells, *with_words(cells, TRAINED)) if bands else cells


@cache
def _captions(hold_out: HoldOut, bands: bool) -> tuple[str, ...]:
    plain = (p for p in CIRCLE_PROMPTS if parse(p).action not in hold_out)
    return (*plain, *(say(m, CIRCLE_WORDING) for m in _trained(hold_out, bands) if m.size or m.speed))


@cache
def _asked(split: Split, hold_out: HoldOut, bands: bool) -> tuple[str, ...]:
    """`s1` swaps the two words of a direction ("up-left" becomes "left-up"); `s2` asks nothing, for there are no
    pairs; `s4` says "very" of what is big or fast, which is trained of what is small or slow."""
    diagonals = [d for d in DIRECTIONS if "-" in d]
    if split == "s0":
        return _captions(hold_out, bands)
    if split == "s1":
        return tuple(f"circle moving {'-'.join(reversed(d.split('-')))}" for d in diagonals if d not in hold_out)
    if split == "s3":
        both_wordings = [f"circle moving {d}" for d in diagonals]
        return tuple(p for p in dict.fromkeys((*CIRCLE_PROMPTS, *both_wordings)) if parse(p).action in hold_out)
    if split == "s7":
        return in_other_words([say(cell, CIRCLE_WORDING) for cell in _cells(hold_out)], SYNONYMS, each=2)
    if split == "s4" and bands:
        return tuple(say(m, CIRCLE_WORDING) for m in first_of_each(with_words(_cells(hold_out), BEYOND)))
    return ()
