"""Which prompts are trained and which are asked. Splits are made on meaning, never on strings: a held-out motion, or a
held-out pair of an object and a motion, is held out under every wording.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from t2v_models.config import LabError
from t2v_models.worlds.bands import BEYOND, SIZES, Size, Speed
from t2v_models.worlds.motions import ACTIONS, SIZE_MOTIONS
from t2v_models.worlds.prompts import Meaning, parse

Split = Literal["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "own"]
SPLITS: dict[Split, str] = {
    "s0": "seen prompts, unseen draws",
    "s1": "unseen wordings of seen motions",
    "s2": "objects and motions seen, but never together, or never in this succession",
    "s3": "motions never trained under any wording",
    "s4": "larger or faster than trained, in trained words",
    "s5": "two objects that exchanged their colours: trained the other way round only",
    "s6": "one motion more in sequence than trained",
    "s7": "words never trained, which mean what trained ones do",
}

BY_DEFAULT = tuple(split for split in SPLITS if split != "s7")
"""Judged unless others are asked for: a model that knows the words of its captions only refuses all of `s7`."""
HELD_OUT: tuple[Split, ...] = ("s2", "s3", "s4", "s5", "s6")
"""What these ask is never trained."""

NEEDS: dict[Split, str] = {
    "s4": "says nothing of size or speed: render one with --bands",
    "s5": "shows one object: render one with --world pairs",
    "s6": "has no motions in sequence, or no frames for one more: render one with --world stories --frames 24",
}
"""Why a dataset asks nothing in a split that only some have, and which one does."""

OWN: dict[Split, str] = {"own": "captions of people's own clips that are kept for validation"}
"""The one split of an ingested dataset: nobody knows what its captions mean."""

Coverage = Literal[9, 43, 86, "one-factor"]
"""Per cent of the pairs that are trained (the shares of PhyWorld, arXiv 2411.02385: 6, 30 and 60 of 70); or only cells
that differ from a blue circle moving right in one factor."""

ASKED_CELLS = 4
"""Objects that are asked of each motion of the `shapes` world in one split."""


def with_words(cells: Sequence[Meaning], spoken: Sequence[Size | Speed]) -> tuple[Meaning, ...]:
    """The cells again, each with one of the words in turn, and every word at least once for each motion.

    Motions that take no such word are left out.
    """
    found = []
    for action in ACTIONS:
        objects = [c for c in cells if c.action == action]
        if objects and action not in SIZE_MOTIONS:
            for i in range(max(len(objects), len(spoken))):
                cell, word = objects[i % len(objects)], spoken[i % len(spoken)]
                said = {"size": word} if word in SIZES else {"speed": word}
                found.append(replace(cell, **said))
    return tuple(found)


def evenly(found: Sequence[Any], most: int) -> tuple[Any, ...]:
    """Up to `most` of them, evenly of all, in their order."""
    return tuple(found[k] for k in np.unique(np.linspace(0, len(found) - 1, most).round().astype(int))) if found else ()


def first_of_each(cells: Sequence[Meaning], count: int = ASKED_CELLS) -> list[Meaning]:
    """The first `count` cells of every motion, motion by motion."""
    return [c for a in ACTIONS for c in [c for c in cells if c.action == a][:count]]


def check_no_leak(captions: Iterable[str], hold_out: Iterable[str]) -> None:
    """Refuse training captions that mean something held out: a motion, or what is beyond.

    Raises:
        LabError: naming the caption and what it means.
    """
    for caption in captions:
        meaning = parse(caption)
        if meaning.action in hold_out:
            raise LabError(
                f"training caption {caption!r} means {meaning.action!r}, which is held out: drop it or hold out less"
            )
        for word in (meaning.size, meaning.speed):
            if word in BEYOND:
                raise LabError(
                    f"training caption {caption!r} asks for {word!r}, which is held out as beyond all that is trained: "
                    "drop it"
                )
