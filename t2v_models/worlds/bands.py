"""How large and how fast, in words: four steps of a scale, the first three inside the range that is trained.

The scale is that range: 0 is its least value, 1 its greatest. Step k is the fifth from 0.4 k to 0.4 k + 0.2, so steps
and the gaps between them are equally wide, and the last one lies as far beyond the third as the third beyond the
second: `very` is trained at the lower end only, and what it does at the upper end must be inferred.
"""

from typing import Literal

Size = Literal["very small", "small", "big", "very big"]
Speed = Literal["very slowly", "slowly", "fast", "very fast"]

SIZES: tuple[Size, ...] = Size.__args__  # type: ignore[attr-defined]
SPEEDS: tuple[Speed, ...] = Speed.__args__  # type: ignore[attr-defined]

TRAINED: tuple[Size | Speed, ...] = (*SIZES[:-1], *SPEEDS[:-1])
BEYOND: tuple[Size | Speed, ...] = (SIZES[-1], SPEEDS[-1])
"""Never trained: only split `s4` asks for them."""
STEP, WIDTH = 0.4, 0.2
SLACK = (STEP - WIDTH) / 2 / WIDTH
"""Half the gap between two bands, in widths of one."""
_BANDS = {word: (STEP * k, STEP * k + WIDTH) for words in (SIZES, SPEEDS) for k, word in enumerate(words)}

MOST_FRAMES = 10
"""Frames of a clip up to which every object, at the speeds of 64 px, stays in the frame when it is `very fast`."""


def band(word: Size | Speed | None) -> tuple[float, float]:
    """Least and greatest share of the trained range that a word means; no word means any trained value."""
    return _BANDS[word] if word else (0.0, 1.0)


def part_of(least: float, most: float, word: Size | Speed | None) -> tuple[float, float]:
    """The part of a trained range that a word means; without one the range itself, to the bit."""
    low, high = band(word)
    return (least + (most - least) * low, least + (most - least) * high) if word else (least, most)
