"""Words cut into the pieces of a vocabulary by byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909).

Reads the `tokenizer.json` of Hugging Face's tokenizers, for those whose words begin with ▁, as SentencePiece writes.
"""

import json
from functools import lru_cache
from itertools import pairwise

START = "▁"


class Pieces:
    """Pieces of words, by their numbers.

    Args:
        content: of a `tokenizer.json`.

    Raises:
        ValueError: it is no such file.
    """

    def __init__(self, content: bytes) -> None:
        try:
            model = json.loads(content)["model"]
            self._number: dict[str, int] = model["vocab"]
            self.numbers = self._number.values()
            merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("it is no tokenizer of byte-pair encoding") from error
        if not any(piece.startswith(START) for piece in self._number):
            raise ValueError(f"the words of its tokenizer do not begin with {START}")
        self.blank = self._number.get(START)
        """Of the sign of a word's beginning by itself, which says nothing of the word."""
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        self.of = lru_cache(65536)(self._of)
        """Numbers of the pieces of a word; a letter that is in no piece is told by its bytes, or not at all."""

    def _of(self, word: str) -> tuple[int, ...]:
        parts = list(START + word)
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._rank.get(pair, len(self._rank)))
            if best not in self._rank:
                break
            parts = _joined(parts, best)
        return tuple(number for part in parts for number in self._numbers(part))

    def _numbers(self, part: str) -> list[int]:
        if part in self._number:
            return [self._number[part]]
        names = (f"<0x{byte:02X}>" for byte in part.encode())
        return [self._number[name] for name in names if name in self._number]


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts with every such pair as one, from the left."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
