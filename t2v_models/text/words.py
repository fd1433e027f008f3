"""The encoder `words`: a closed vocabulary, taken from the captions of the dataset.

A token is a word (`split.words` splits at spaces and hyphens) and its vector is the unit vector of the word's place, so
a family's first linear layer is its table of trained word vectors. The pooled vector is the bag of words: an unseen
combination of seen words is still inside the space the model was trained on.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field
from torch import Tensor

from t2v_models.config import LabError, near
from t2v_models.text.encoder import Text, TextConfig, TextEncoder
from t2v_models.text.split import sorted_words, words


class WordsConfig(TextConfig):
    """A closed vocabulary."""

    name: Literal["words"] = "words"
    vocabulary: tuple[str, ...] = Field((), description="every word of the captions; taken from the dataset")

    def fitted(self, captions: Sequence[str]) -> Self:
        """With the words of the captions, unless it has some."""
        return self if self.vocabulary else self.model_copy(update={"vocabulary": vocabulary_of(captions)})

    def build(self) -> "Words":
        """The encoder, which has nothing to learn."""
        return Words(self.vocabulary)


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


EncoderConfig = Annotated[WordsConfig, BeforeValidator(_by_name, json_schema_input_type=str | WordsConfig)]
"""The settings of an encoder; its name alone stands for its defaults."""


class Words(TextEncoder):
    """Unit vectors of words, in order; pooled, how often each is said."""

    def __init__(self, vocabulary: Sequence[str]):
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.width = len(self.vocabulary)
        self.register_buffer("place", torch.empty(0), persistent=False)  # says which device the model is on
        self.place: Tensor

    def check(self, prompt: str) -> None:
        """See that every word is known.

        Raises:
            LabError: it has no words, or one that the model was not trained on: with the nearest known ones.
        """
        if not words(prompt):
            raise LabError(f"prompt {prompt!r} has no words: use some of {', '.join(self.vocabulary[:40])}")
        _counts(prompt, self.vocabulary)

    def forward(self, prompts: Sequence[str]) -> Text:
        """One-hot rows `(b, l, v)`."""
        for prompt in prompts:
            self.check(prompt)
        rows = [torch.tensor([self.vocabulary.index(word) for word in words(prompt)]) for prompt in prompts]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.width)
        one_hot = F.one_hot(padded, self.width + 1)[..., : self.width].to(torch.get_default_dtype())
        return Text(one_hot.to(self.place.device), (padded < self.width).to(self.place.device))

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """How often each word is said, `(b, v)`."""
        return bag_of_words(prompts, self.vocabulary).to(self.place.device)


def vocabulary_of(captions: Iterable[str]) -> tuple[str, ...]:
    """Every word of the captions, sorted: the same in every process."""
    return tuple(sorted({w for caption in dict.fromkeys(captions) for w in words(caption)}))


def bag_of_words(prompts: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """How often each word of the vocabulary stands in each prompt: float32 `(b, len(vocabulary))`.

    Raises:
        LabError: naming the first unknown word and the known words nearest to it.
    """
    said = tuple(vocabulary)
    return torch.stack([_counts(prompt, said) for prompt in prompts]) if prompts else torch.empty(0, len(said))


@lru_cache(maxsize=4096)
def _counts(prompt: str, vocabulary: tuple[str, ...]) -> Tensor:
    said = Counter(words(prompt))
    for word in said:
        if word not in vocabulary:
            raise LabError(
                f"the model was not trained on the word {word!r} of prompt {prompt!r}: {near(word, vocabulary)}"
            )
    return torch.tensor([float(said[word]) for word in vocabulary])


def same_meaning(captions: Sequence[str], meaning: Callable[[str], Hashable] = sorted_words) -> Tensor:
    """Which pairs of captions mean the same, `(b, b)` bool."""
    place: dict[Hashable, int] = {}
    index = torch.tensor([place.setdefault(meaning(caption), len(place)) for caption in captions])
    return index[:, None] == index[None]
