"""The words of a prompt, in any script."""

import re
import unicodedata
from functools import lru_cache

_ALONE = re.compile(r"([\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
"""Kana and Han characters: such text has no spaces, so each stands as a word of its own."""


def words(prompt: str) -> list[str]:
    """Words without case, of letters, marks and digits of any script; emoji and punctuation are none.

    Hyphens separate, so `up-right` is two words and can be composed.
    """
    spaced = _ALONE.sub(r" \1 ", unicodedata.normalize("NFKC", prompt).casefold())
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in spaced).split()


@lru_cache(maxsize=65536)
def sorted_words(caption: str) -> tuple[str, ...]:
    """What a caption means to whoever knows no grammar: its words, in any order."""
    return tuple(sorted(words(caption)))
