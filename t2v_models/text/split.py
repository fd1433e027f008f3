"""The words of a prompt, in any script, or its numbers, and what it means to whoever knows no grammar."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import isfinite

_ALONE = re.compile(r"([\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
"""Kana and Han characters: such text has no spaces, so each stands as a word of its own."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


_ASCII = {i: chr(i).lower() if chr(i).isalnum() else " " for i in range(128)}
"""What becomes of each character of a prompt that has no others; takes a third of the time."""


def words(prompt: str) -> list[str]:
    """Words without case, of letters, marks and digits of any script; emoji and punctuation are none.

    Hyphens separate, so `up-right` is two words and can be composed.
    """
    if prompt.isascii():
        return prompt.translate(_ASCII).split()
    spaced = _ALONE.sub(r" \1 ", unicodedata.normalize("NFKC", prompt).casefold())
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in spaced).split()


def numbers(prompt: str) -> tuple[float, ...]:
    """Its numbers, in order, if it is nothing but finite numbers with blanks between, as "0.1 -0.3 2e-4"; else none."""
    parts = prompt.split()
    if not all(map(_NUMBER.fullmatch, parts)):
        return ()
    found = tuple(map(float, parts))
    return found if all(map(isfinite, found)) else ()


def are_vectors(captions: Iterable[str]) -> bool:
    """Whether captions are numbers of which their words tell little, neither signs nor points nor order. One whole
    number alone is a word, such as the name of a class."""
    different = dict.fromkeys(captions)
    return all(map(numbers, different)) and not all(caption.isdecimal() for caption in different)


def confused(captions: Iterable[str], heard: int = 0) -> list[str]:
    """Captions, as their words with blanks between, whose words are those of another in another order.

    Args:
        captions: a million different ones take 7 s of a core, 21 s in letters beyond ASCII.
        heard: words of each, from its first on, whose order is heard: captions that differ there are not confused.
    """

    def bag(said: str) -> str:
        first = said.split()
        return " ".join([*first[:heard], *sorted(first[heard:])])

    said = {" ".join(words(caption)) for caption in captions}
    count = Counter(map(bag, said))
    return [one for one in said if count[bag(one)] > 1]


@lru_cache(maxsize=65536)
def meaning(caption: str) -> tuple[float, ...] | tuple[str, ...]:
    """Equal for captions that ask for the same, as far as one can tell without a grammar: of numbers these, in order;
    else the words, in any order."""
    return numbers(caption) or tuple(sorted(words(caption)))
