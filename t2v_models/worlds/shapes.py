"""Six shapes in six colours, every motion, three wordings: which pairs of object and motion are trained can be chosen.

A cell is one (shape, colour, motion); the pair that coverage counts is ((shape, colour), motion).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np

from t2v_models.config import LabError
from t2v_models.worlds import splits
from t2v_models.worlds.appearance import PALETTE, SHAPES, Colour
from t2v_models.worlds.bands import BEYOND, TRAINED
from t2v_models.worlds.motions import ACTIONS, Action
from t2v_models.worlds.one_object import OneObject
from t2v_models.worlds.prompts import UNSEEN_WORDING, WORDINGS, Meaning, check_hold_out, parse, say
from t2v_models.worlds.splits import Coverage, Split, first_of_each, with_words
from t2v_models.worlds.synonyms import MOTION_SYNONYMS, OBJECT_SYNONYMS, in_other_words
from t2v_models.worlds.world import Choice

HoldOut = tuple[str, ...]

SYNONYMS = MOTION_SYNONYMS | OBJECT_SYNONYMS
"""What `s7` says in place of trained words, in a caption each."""


class Shapes(OneObject):
    """See the module."""

    name = "shapes"
    about = "6 shapes, 6 colours"

    def trained(self, choice: Choice) -> tuple[Meaning, ...]:
        return _trained(choice.hold_out, choice.coverage, choice.bands)

    def captions(self, choice: Choice) -> tuple[str, ...]:
        return _captions(choice.hold_out, choice.coverage, choice.bands)

    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        return _asked(split, choice.hold_out, choice.coverage, choice.bands)

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        check_no_leak(captions, choice.hold_out, choice.coverage)


@cache
def design(actions: tuple[Action, ...]) -> tuple[Meaning, ...]:
    """Every cell once, in an order of which any beginning is a covering design.

    The next cell is always the one whose pairs (shape, motion), (colour, motion) and (shape, colour) have stood least
    often so far, and among those the one whose three values have: first every value occurs, then every pair of values,
    and all stay as balanced as they can.
    """
    colours: tuple[Colour, ...] = tuple(PALETTE)
    stood = np.zeros((len(SHAPES), len(colours), len(actions)))
    pairs, values, shape = np.zeros_like(stood), np.zeros_like(stood), stood.shape
    cells = []
    for _ in range(stood.size):
        s, c, a = np.unravel_index((pairs + 0.1 * values + stood).argmin(), shape)
        cells.append(Meaning(actions[a], SHAPES[s], colours[c]))
        stood[s, c, a] = np.inf
        pairs[s, :, a] += 1
        pairs[:, c, a] += 1
        pairs[s, c, :] += 1
        values[s] += shape[0]  # a value of a longer list stands more rarely, so each weighs more
        values[:, c] += shape[1]
        values[:, :, a] += shape[2]
    return tuple(cells)


@cache
def trained_cells(hold_out: HoldOut, coverage: Coverage | None) -> tuple[Meaning, ...]:
    """The cells of the `shapes` world that are trained; without `coverage` all but those of held-out motions."""
    actions = tuple(a for a in ACTIONS if a not in hold_out)
    cells = design(actions)
    if coverage is None:
        return cells
    if coverage == "one-factor":
        base = Meaning(actions[0])
        return tuple(
            c for c in cells if (c.action == base.action) + (c.shape == base.shape) + (c.colour == base.colour) >= 2
        )
    return cells[: round(len(cells) * coverage / 100)]


@cache
def _trained(hold_out: HoldOut, coverage: Coverage | None, bands: bool) -> tuple[Meaning, ...]:
    cells = trained_cells(hold_out, coverage)
    return (*cells, *_with_words(cells, coverage, beyond=False)) if bands else cells


@cache
def _captions(hold_out: HoldOut, coverage: Coverage | None, bands: bool) -> tuple[str, ...]:
    """Every trained meaning under each of `WORDINGS`."""
    return tuple(say(meaning, wording) for wording in WORDINGS for meaning in _trained(hold_out, coverage, bands))


def _with_words(cells: tuple[Meaning, ...], coverage: Coverage | None, *, beyond: bool) -> tuple[Meaning, ...]:
    """Of `one-factor` only its base, which then differs in the word."""
    return with_words(cells[:1] if coverage == "one-factor" else cells, BEYOND if beyond else TRAINED)


@cache
def _asked(split: Split, hold_out: HoldOut, coverage: Coverage | None, bands: bool) -> tuple[str, ...]:
    """Each split asks some objects of each motion, and `s0` every word of size and speed as well. All words of `s1` are
    trained, the sentence and the order of a direction's words are not. `s4` says "very" of what is big or fast, which
    is trained of what is small or slow."""
    trained = trained_cells(hold_out, coverage)
    if split == "s4":
        beyond = _with_words(trained, coverage, beyond=True) if bands else ()
        return tuple(say(meaning, WORDINGS[0]) for meaning in first_of_each(beyond))
    if split == "s2":
        whole, known = trained_cells(hold_out, None), set(trained)
        return tuple(say(cell, WORDINGS[0]) for cell in first_of_each([c for c in whole if c not in known]))
    if split == "s3":
        motions = check_hold_out(hold_out)
        return tuple(say(cell, WORDINGS[0]) for cell in first_of_each(design(motions))) if motions else ()
    if split == "s7":
        return in_other_words([say(cell, WORDINGS[0]) for cell in trained], SYNONYMS)
    if split not in ("s0", "s1"):
        return ()
    asked = first_of_each(trained)
    if split == "s0" and bands:
        asked += first_of_each(_with_words(trained, coverage, beyond=False), len(TRAINED))
    return tuple(say(cell, UNSEEN_WORDING if split == "s1" else WORDINGS[0]) for cell in asked)


def check_no_leak(captions: Iterable[str], hold_out: HoldOut, coverage: Coverage | None = None) -> None:
    """Refuse training captions that mean something held out: a motion, with `coverage` a pair, or what is beyond.

    Raises:
        LabError: naming the caption and what it means.
    """
    captions = list(captions)
    splits.check_no_leak(captions, hold_out)
    cells = set(trained_cells(hold_out, coverage)) if coverage else set()
    for caption in captions if coverage else ():
        meaning = parse(caption)
        if replace(meaning, size=None, speed=None) not in cells:
            raise LabError(
                f"training caption {caption!r} means a {meaning.colour} {meaning.shape} with {meaning.action!r}, a "
                f"pair that coverage {coverage} holds out: drop it or cover more"
            )
