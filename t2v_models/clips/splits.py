"""Which prompts are trained and which are asked. Splits are made on meaning, never on strings: a held-out motion, or a
held-out pair of an object and a motion, is held out under every wording.

A cell is one (shape, colour, motion); the pair that coverage counts is ((shape, colour), motion).
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np

from t2v_models.clips.motions import ACTIONS, DIRECTIONS, Action
from t2v_models.clips.prompts import CIRCLE_PROMPTS, UNSEEN_WORDING, WORDINGS, Meaning, parse, say
from t2v_models.clips.spec import PALETTE, SHAPES, Colour, World
from t2v_models.config import LabError

Split = Literal["s0", "s1", "s2", "s3"]
SPLITS: dict[Split, str] = {
    "s0": "seen prompts, unseen draws",
    "s1": "unseen wordings of seen motions",
    "s2": "objects and motions seen, but never together",
    "s3": "motions never trained under any wording",
}
"""There is no split of speeds and sizes beyond the trained ones: no word of either grammar names a speed or a size, so
no prompt could ask for them, and a model that went beyond its range unasked would be wrong."""

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


@cache
def train_prompts(world: World, hold_out: tuple[Action, ...], coverage: Coverage | None = None) -> tuple[str, ...]:
    """The prompts a dataset is rendered for: every trained meaning, in `shapes` under each of `WORDINGS`."""
    if world == "circles":
        return tuple(p for p in CIRCLE_PROMPTS if parse(p).action not in hold_out)
    return tuple(say(cell, wording) for wording in WORDINGS for cell in trained_cells(hold_out, coverage))


@cache
def split_prompts(
    world: World, split: Split, hold_out: tuple[Action, ...], coverage: Coverage | None = None
) -> tuple[str, ...]:
    """The prompts of one split; empty where the split asks nothing (`s3` with nothing held out, `s2` of `circles`).

    In `shapes` each split asks `ASKED_CELLS` objects of each motion. All words of `s1` are trained: `circles` swaps
    the two words of a direction ("up-left" becomes "left-up"), `shapes` has a new sentence as well.
    """
    if world == "circles":
        return _circle_prompts(split, hold_out)
    trained = trained_cells(hold_out, coverage)
    if split == "s2":
        whole, known = trained_cells(hold_out, None), set(trained)
        return tuple(say(cell, WORDINGS[0]) for cell in _first_of_each([c for c in whole if c not in known]))
    if split == "s3":
        return tuple(say(cell, WORDINGS[0]) for cell in _first_of_each(design(hold_out))) if hold_out else ()
    return tuple(say(cell, UNSEEN_WORDING if split == "s1" else WORDINGS[0]) for cell in _first_of_each(trained))


def _circle_prompts(split: Split, hold_out: tuple[Action, ...]) -> tuple[str, ...]:
    if split == "s0":
        return train_prompts("circles", hold_out)
    diagonals = [d for d in DIRECTIONS if "-" in d]
    if split == "s1":
        return tuple(f"circle moving {'-'.join(reversed(d.split('-')))}" for d in diagonals if d not in hold_out)
    if split == "s2":
        return ()
    both_wordings = [f"circle moving {d}" for d in diagonals]
    return tuple(p for p in dict.fromkeys((*CIRCLE_PROMPTS, *both_wordings)) if parse(p).action in hold_out)


def _first_of_each(cells: Sequence[Meaning]) -> list[Meaning]:
    """The first `ASKED_CELLS` cells of every motion, motion by motion."""
    return [c for a in ACTIONS for c in [c for c in cells if c.action == a][:ASKED_CELLS]]


def check_no_leak(captions: Iterable[str], hold_out: Sequence[Action], coverage: Coverage | None = None) -> None:
    """Refuse training captions that mean something held out: a motion, or with `coverage` a pair.

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
        if coverage and meaning not in cells:
            raise LabError(
                f"training caption {caption!r} means a {meaning.colour} {meaning.shape} with {meaning.action!r}, a "
                f"pair that coverage {coverage} holds out: drop it or cover more"
            )
