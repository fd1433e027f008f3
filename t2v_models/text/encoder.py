"""What every text encoder gives a family: vectors of a caption's tokens, and one vector of the whole.

An encoder is part of a family's configuration and saved with it. Closed vocabularies refuse unknown words, open ones
take any caption; no family need know which it has. None has anything to learn: what is learnt of words stands in the
first linear layer of each network that is told them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import not_
from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from t2v_models.config import Config, LabError, changes
from t2v_models.text.kept import Kept, kept
from t2v_models.text.split import words


@dataclass(frozen=True)
class Text:
    """Captions as vectors of their tokens, in order."""

    embeddings: Tensor
    """`(b, l, d)`; rows of padding are 0."""
    mask: Tensor
    """`(b, l)` bool: true where there is a token."""


class TextConfig(Config):
    """Which encoder, and what decides it."""

    about: ClassVar[str]
    """One sentence for lists."""
    taken: ClassVar[frozenset[str]] = frozenset()
    """Settings that come from the dataset or from files, when a run begins."""
    hears_order: ClassVar[bool] = False
    """Whether a token's vector depends on the words beside it, so that the sum over tokens tells their order, too."""

    name: str
    positions: int = Field(
        0, ge=0, le=4096, exclude_if=not_, description="tokens whose place in the caption is told; 0 tells no order"
    )

    def fitted(self, captions: Sequence[str]) -> Self:
        """The same, with what it takes from the captions of a dataset or from its files.

        Raises:
            LabError: a file that it needs is not there.
        """
        return self

    def after(self, earlier: "TextConfig") -> Self:
        """The same, for a model that goes on from the weights of one with an earlier encoder: the vectors of its words
        stay where they were.

        Raises:
            LabError: they would not.
        """
        where = {"folder"}  # the digest says what lies there
        if self.model_dump(exclude=where) != earlier.model_dump(exclude=where):
            raise LabError(f"its text encoder was another ({', '.join(changes(earlier, self)[:3])}): use that one")
        return self

    @abstractmethod
    def build(self) -> "TextEncoder":
        """The encoder itself.

        Raises:
            LabError: a file that it needs is not there, or another than it was.
        """


class TextEncoder(nn.Module, ABC):
    """Captions to vectors. `width` is d, the length of each: of a token, and as a unit vector behind it of its place.

    Tokens from the last place on share it. A linear layer on both is a table of vectors of words and one of places
    (Vaswani et al. 2017, arXiv:1706.03762, section 3.5, with trained vectors).
    """

    vocabulary: tuple[str, ...] = ()
    """The words it knows; empty where it takes any."""
    digest: str = ""
    """Of the files of a frozen encoder, which need see no caption twice; empty where there are none."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.width = width + positions
        self.positions = positions
        self._sum = lru_cache(4096)(self._summed)
        self._once = lru_cache(512)(self.tokens)
        self._kept: Kept | None = None
        self.register_buffer("place", torch.empty(0), persistent=False)  # says which device the model is on
        self.place: Tensor

    @abstractmethod
    def tokens(self, prompt: str) -> Tensor:
        """Vectors of the tokens of one prompt that has words, float `(l, d - positions)` on the CPU.

        Raises:
            LabError: a word that a closed vocabulary does not hold.
        """

    def check(self, prompt: str) -> None:
        """See that the prompt can be encoded.

        Raises:
            LabError: it has no words, or one that a closed vocabulary does not hold.
        """
        self._placed(prompt)

    def remember(self, captions: Iterable[str], file: Path) -> None:
        """Keep the vectors of captions in a file, or take them from it: a frozen encoder sees each of them once.

        Raises:
            LabError: the file cannot be written, or a caption that `check` refuses.
        """
        if self.digest:
            different = list(dict.fromkeys(captions))
            self._kept = kept(file, self.digest, different, self.width - self.positions, self.tokens)
            self.rest()

    def rest(self) -> None:
        """Give back the memory of what is not needed while captions are known; it is loaded again for others."""

    def forward(self, prompts: Sequence[str]) -> Text:
        """Vectors of every token, on the device of the model.

        Raises:
            LabError: a prompt that `check` refuses.
        """
        rows = [self._placed(prompt) for prompt in prompts]
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return Text(pad_sequence(rows, batch_first=True).to(self.place.device), mask.to(self.place.device))

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """One vector a prompt, `(b, d)`: the sum over its tokens."""
        return torch.stack([self._sum(prompt) for prompt in prompts]).to(self.place.device)

    def _summed(self, prompt: str) -> Tensor:
        return self._placed(prompt).sum(0)

    def _placed(self, prompt: str) -> Tensor:
        """The tokens with their places, `(l, d)`."""
        if not words(prompt):
            use = (
                f"use some of {', '.join(self.vocabulary[:40])}" if self.vocabulary else "say what the clip should show"
            )
            raise LabError(f"prompt {prompt!r} has no words: {use}")
        found = self._kept[prompt] if self._kept and prompt in self._kept else self._once(prompt)
        tokens = found.to(torch.get_default_dtype())
        if not self.positions:
            return tokens
        place = torch.arange(len(tokens)).clamp(max=self.positions - 1)
        return torch.cat([tokens, F.one_hot(place, self.positions).to(tokens.dtype)], 1)
