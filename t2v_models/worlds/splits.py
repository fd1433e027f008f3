"""Which prompts are trained and which are asked. Splits are made on meaning, never on strings: a held-out motion, or a
held-out pair of an object and a motion, is held out under every wording.

A cell is one (shape, colour, motion); the pair that coverage counts is ((shape, colour), motion).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np

from t2v_models.clips.spec import PALETTE, SHAPES, Colour, World
from t2v_models.config import LabError
from t2v_models.worlds.bands import BEYOND, SIZES, TRAINED, Size, Speed
from t2v_models.worlds.motions import ACTIONS, DIRECTIONS, SIZE_MOTIONS, Action
from t2v_models.worlds.prompts import CIRCLE_PROMPTS, CIRCLE_WORDING, UNSEEN_WORDING, WORDINGS, Meaning, parse, say

Split = Literal["s0", "s1", "s2", "s3", "s4"]
SPLITS: dict[Split, str] = {
    "s0": "seen prompts, unseen draws",
    "s1": "unseen wordings of seen motions",
    "s2": "objects and motions seen, but never together",
    "s3": "motions never trained under any wording",
    "s4": "larger or faster than trained, in trained words",
}

Coverage = Literal[9, 43, 86, "one-factor"]
"""Per cent of the pairs that are trained (the shares of PhyWorld, arXiv 2411.02385: 6, 30 and 60 of 70); or only cells
that differ from a blue circle moving right in one factor."""

ASKED_CELLS = 4
"""Objects that are asked of each motion of the `shapes` world in one split."""


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
def trained_cells(hold_out: tuple[Action, ...], coverage: Coverage | None) -> tuple[Meaning, ...]:
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


def _cells(world: World, hold_out: tuple[Action, ...], coverage: Coverage | None) -> tuple[Meaning, ...]:
    """The trained cells of either world."""
    if world == "circles":
        return tuple(Meaning(action) for action in ACTIONS if action not in hold_out)
    return trained_cells(hold_out, coverage)


def _with_words(
    cells: Sequence[Meaning], coverage: Coverage | None, spoken: Sequence[Size | Speed]
) -> tuple[Meaning, ...]:
    """The cells again, each with one of the words in turn, and every word at least once for each motion.

    Motions that take no such word are left out, and of `one-factor` all but its base, which then differs in the word.
    """
    found = []
    for action in ACTIONS:
        objects = [c for c in (cells[:1] if coverage == "one-factor" else cells) if c.action == action]
        if objects and action not in SIZE_MOTIONS:
            for i in range(max(len(objects), len(spoken))):
                cell, word = objects[i % len(objects)], spoken[i % len(spoken)]
                said = {"size": word} if word in SIZES else {"speed": word}
                found.append(replace(cell, **said))
    return tuple(found)


@cache
def trained_meanings(
    world: World, hold_out: tuple[Action, ...], coverage: Coverage | None, bands: bool
) -> tuple[Meaning, ...]:
    """What is trained, each once however often it is worded: the cells, then with `bands` those with a word."""
    cells = _cells(world, hold_out, coverage)
    return (*cells, *_with_words(cells, coverage, TRAINED)) if bands else cells


@cache
def train_prompts(
    world: World, hold_out: tuple[Action, ...], coverage: Coverage | None = None, bands: bool = False
) -> tuple[str, ...]:
    """The prompts a dataset is rendered for: every trained meaning, in `shapes` under each of `WORDINGS`."""
    meanings = trained_meanings(world, hold_out, coverage, bands)
    if world == "circles":
        plain = (p for p in CIRCLE_PROMPTS if parse(p).action not in hold_out)
        return (*plain, *(say(m, CIRCLE_WORDING) for m in meanings if m.size or m.speed))
    return tuple(say(meaning, wording) for wording in WORDINGS for meaning in meanings)


@cache
def split_prompts(
    world: World, split: Split, hold_out: tuple[Action, ...], coverage: Coverage | None = None, bands: bool = False
) -> tuple[str, ...]:
    """The prompts of one split; empty where the split asks nothing (`s3` with nothing held out, `s2` of `circles`,
    `s4` without `bands`).

    In `shapes` each split asks `ASKED_CELLS` objects of each motion, and `s0` every word of size and speed as well. All
    words of `s1` are trained: `circles` swaps the two words of a direction ("up-left" becomes "left-up"), `shapes` has
    a new sentence as well. `s4` says "very" of what is big or fast, which is trained of what is small or slow.
    """
    if split == "s4":
        beyond = _with_words(_cells(world, hold_out, coverage), coverage, BEYOND) if bands else ()
        wording = CIRCLE_WORDING if world == "circles" else WORDINGS[0]
        return tuple(say(meaning, wording) for meaning in _first_of_each(beyond))
    if world == "circles":
        return train_prompts("circles", hold_out, None, bands) if split == "s0" else _circle_prompts(split, hold_out)
    trained = trained_cells(hold_out, coverage)
    if split == "s2":
        whole, known = trained_cells(hold_out, None), set(trained)
        return tuple(say(cell, WORDINGS[0]) for cell in _first_of_each([c for c in whole if c not in known]))
    if split == "s3":
        return tuple(say(cell, WORDINGS[0]) for cell in _first_of_each(design(hold_out))) if hold_out else ()
    asked = _first_of_each(trained)
    if split == "s0" and bands:
        asked += _first_of_each(_with_words(trained, coverage, TRAINED), len(TRAINED))
    return tuple(say(cell, UNSEEN_WORDING if split == "s1" else WORDINGS[0]) for cell in asked)


def _circle_prompts(split: Split, hold_out: tuple[Action, ...]) -> tuple[str, ...]:
    diagonals = [d for d in DIRECTIONS if "-" in d]
    if split == "s1":
        return tuple(f"circle moving {'-'.join(reversed(d.split('-')))}" for d in diagonals if d not in hold_out)
    if split == "s2":
        return ()
    both_wordings = [f"circle moving {d}" for d in diagonals]
    return tuple(p for p in dict.fromkeys((*CIRCLE_PROMPTS, *both_wordings)) if parse(p).action in hold_out)


def _first_of_each(cells: Sequence[Meaning], count: int = ASKED_CELLS) -> list[Meaning]:
    """The first `count` cells of every motion, motion by motion."""
    return [c for a in ACTIONS for c in [c for c in cells if c.action == a][:count]]


def check_no_leak(captions: Iterable[str], hold_out: Sequence[Action], coverage: Coverage | None = None) -> None:
    """Refuse training captions that mean something held out: a motion, with `coverage` a pair, or what is beyond.

    Raises:
        LabError: naming the caption and what it means.
    """
    cells = set(trained_cells(tuple(hold_out), coverage)) if coverage else set()
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
        if coverage and replace(meaning, size=None, speed=None) not in cells:
            raise LabError(
                f"training caption {caption!r} means a {meaning.colour} {meaning.shape} with {meaning.action!r}, a "
                f"pair that coverage {coverage} holds out: drop it or cover more"
            )
