"""The grammar: what a prompt means, which prompts there are, and which are held out.

Splits are made on meaning, never on strings: a held-out motion is held out under every wording.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from t2v_models.clips.motions import ACTIONS, DIRECTIONS, Action
from t2v_models.clips.spec import Colour, Shape, World
from t2v_models.config import LabError, near

Split = Literal["s0", "s1", "s3"]
SPLITS: dict[Split, str] = {
    "s0": "seen prompts, unseen draws",
    "s1": "unseen wordings of seen motions",
    "s3": "motions never trained under any wording",
}


def words(prompt: str) -> list[str]:
    """Lower-case words; hyphens separate, so `up-right` is two words and can be composed."""
    return re.findall(r"[a-z0-9]+", prompt.lower())


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


_ACTIONS = {tuple(words(phrase)): action for phrase, action in PHRASES.items()}


@dataclass(frozen=True)
class Meaning:
    """What a prompt asks for. Two prompts with equal meanings are synonyms."""

    action: Action
    shape: Shape = "circle"
    colour: Colour = "blue"


KNOWN_WORDS = sorted({w for phrase in PHRASES for w in words(phrase)} | {"circle"})


@cache
def parse(prompt: str) -> Meaning:
    """What `prompt` means.

    Raises:
        LabError: naming the unknown word with its neighbours, or the phrase that is no motion.
    """
    found = tuple(words(prompt))
    for word in found:
        if word not in KNOWN_WORDS:
            raise LabError(f"unknown word {word!r} in prompt {prompt!r}: {near(word, KNOWN_WORDS)}")
    if found[:1] == ("circle",) and found[1:] in _ACTIONS:
        return Meaning(_ACTIONS[found[1:]])
    phrase = " ".join(found[1:])
    raise LabError(
        f"prompt {prompt!r} names no known motion: 'circle' is followed by a motion; {near(phrase, PHRASES)}"
    )


def check_hold_out(actions: Iterable[str]) -> tuple[Action, ...]:
    """The motions to hold out, checked and sorted.

    Raises:
        LabError: a name that is no motion.
    """
    for action in actions:
        if action not in ACTIONS:
            raise LabError(f"unknown motion {action!r} to hold out: {near(action, ACTIONS)}")
    return tuple(a for a in ACTIONS if a in set(actions))


@cache
def train_prompts(world: World, hold_out: tuple[Action, ...]) -> tuple[str, ...]:
    """The prompts a dataset is rendered for: `s0`."""
    assert world == "circles", world
    return tuple(p for p in CIRCLE_PROMPTS if parse(p).action not in hold_out)


def split_prompts(world: World, split: Split, hold_out: tuple[Action, ...]) -> tuple[str, ...]:
    """The prompts of one split; empty where the split asks nothing (`s3` with nothing held out).

    `s1` swaps the two words of a direction ("up-left" becomes "left-up"): words all seen, wording never seen.
    """
    if split == "s0":
        return train_prompts(world, hold_out)
    if split == "s1":
        diagonals = [d for d in DIRECTIONS if "-" in d and d not in hold_out]
        return tuple(f"circle moving {'-'.join(reversed(d.split('-')))}" for d in diagonals)
    both_wordings = [f"circle moving {d}" for d in DIRECTIONS if "-" in d]
    return tuple(p for p in dict.fromkeys((*CIRCLE_PROMPTS, *both_wordings)) if parse(p).action in hold_out)


def check_no_leak(captions: Iterable[str], hold_out: Sequence[Action]) -> None:
    """Refuse training captions that mean something held out.

    Raises:
        LabError: naming the caption and what it means.
    """
    for caption in captions:
        action = parse(caption).action
        if action in hold_out:
            raise LabError(
                f"training caption {caption!r} means {action!r}, which is held out: drop it or hold out less"
            )
