"""What every text encoder gives a family: vectors of a caption's tokens, and one vector of the whole.

An encoder is part of a family's configuration and saved with it. Closed vocabularies refuse unknown words, open ones
take any caption; no family need know which it has.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from t2v_models.config import Config, LabError
from t2v_models.text.split import words


@dataclass(frozen=True)
class Text:
    """Captions as vectors of their tokens, in order."""

    embeddings: Tensor
    """`(b, l, d)`; rows of padding are 0."""
    mask: Tensor
    """`(b, l)` bool: true where there is a token."""


class TextEncoder(nn.Module, ABC):
    """Captions to vectors. `width` is d, the length of each."""

    width: int
    vocabulary: tuple[str, ...] = ()
    """The words it knows; empty where it takes any."""

    def check(self, prompt: str) -> None:
        """See that the prompt can be encoded.

        Raises:
            LabError: it has no words, or one that a closed vocabulary does not hold.
        """
        if not words(prompt):
            raise LabError(f"prompt {prompt!r} has no words: say what the clip should show")

    @abstractmethod
    def forward(self, prompts: Sequence[str]) -> Text:
        """Vectors of every token, on the device of the model.

        Raises:
            LabError: a word that a closed vocabulary does not hold.
        """

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """One vector a prompt, `(b, d)`: the sum over its tokens."""
        total: Tensor = self(prompts).embeddings.sum(1)
        return total


class TextConfig(Config):
    """Which encoder, and what decides it."""

    def fitted(self, captions: Sequence[str]) -> Self:
        """The same, with what it takes from the captions of a dataset."""
        return self

    @abstractmethod
    def build(self) -> TextEncoder:
        """The encoder itself."""
