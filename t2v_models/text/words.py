"""The encoder `words`: a closed vocabulary, taken from the captions of the dataset.

A token is a word (`split.words` splits at spaces and hyphens) and its vector is the unit vector of the word's place in
the vocabulary, so a family's first linear layer is its table of trained word vectors. The pooled vector is the bag of
words: an unseen combination of seen words is still inside the space the model was trained on.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from t2v_models.config import LabError, near
from t2v_models.text.encoder import TextConfig, TextEncoder
from t2v_models.text.split import are_vectors, words
from t2v_models.text.split import meaning as by_words

log = logging.getLogger(__name__)


class WordsConfig(TextConfig):
    """A closed vocabulary."""

    about = "the words of the dataset's captions and no others, each with a vector that is trained"
    taken: ClassVar[frozenset[str]] = frozenset({"vocabulary"})

    name: Literal["words"] = "words"
    vocabulary: tuple[str, ...] = Field((), description="every word of the captions; taken from the dataset")

    def fitted(self, captions: Sequence[str]) -> Self:
        """With the words of the captions, unless it has some."""
        if not self.vocabulary and are_vectors(captions):
            log.warning(
                "captions are numbers, as %r, and words tell neither their signs nor their order: as vectors they are "
                "read with --set text_encoder=numbers", captions[0],
            )  # fmt: skip
        return self if self.vocabulary else self.model_copy(update={"vocabulary": vocabulary_of(captions)})

    def after(self, earlier: TextConfig) -> Self:
        """With its words first, then those that are new."""
        known = earlier.vocabulary if isinstance(earlier, WordsConfig) else ()
        new = [word for word in self.vocabulary if word not in known]
        same = TextConfig.after(self.model_copy(update={"vocabulary": known}), earlier)
        return same.model_copy(update={"vocabulary": (*known, *new)})

    def build(self) -> "Words":
        """The encoder, of as many words as it was fitted to."""
        return Words(self.vocabulary, self.positions)


class Words(TextEncoder):
    """Unit vectors of words, in order; pooled, how often each is said."""

    def __init__(self, vocabulary: Sequence[str], positions: int = 0):
        super().__init__(len(vocabulary), positions)
        self.vocabulary = tuple(vocabulary)
        self._place = {word: place for place, word in enumerate(self.vocabulary)}

    def tokens(self, prompt: str) -> Tensor:
        """One-hot rows `(l, v)`.

        Raises:
            LabError: a word that the model was not trained on, with the nearest known ones.
        """
        said = words(prompt)
        for word in said:
            if word not in self._place:
                hint = near(word, self.vocabulary)
                raise LabError(f"the model was not trained on the word {word!r} of prompt {prompt!r}: {hint}")
        return F.one_hot(torch.tensor([self._place[word] for word in said]), len(self.vocabulary))


def vocabulary_of(captions: Iterable[str]) -> tuple[str, ...]:
    """Every word of the captions, sorted: the same in every process."""
    return tuple(sorted({w for caption in dict.fromkeys(captions) for w in words(caption)}))


def same_meaning(captions: Sequence[str], meaning: Callable[[str], Hashable] = by_words) -> Tensor:
    """Which pairs of captions mean the same, `(b, b)` bool."""
    place: dict[Hashable, int] = {}
    index = torch.tensor([place.setdefault(meaning(caption), len(place)) for caption in captions])
    return index[:, None] == index[None]
