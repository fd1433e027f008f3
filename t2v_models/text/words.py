"""Words to numbers: a vocabulary that is saved with the model, and bags of words.

A prompt is the multiset of its words (`clips.prompts.words` splits at spaces and hyphens), so a caption's vector is a
sum of word vectors: an unseen combination of seen words is still inside the space the model was trained on.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from t2v_models.config import LabError, near
from t2v_models.text.split import words
from t2v_models.worlds.prompts import parse


def vocabulary_of(captions: Iterable[str]) -> tuple[str, ...]:
    """Every word of the captions, sorted: the same in every process."""
    return tuple(sorted({w for caption in captions for w in words(caption)}))


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


def word_table(words: int, length: int, std: float) -> nn.Linear:
    """One trained vector a word, summed over a bag; the smaller `std`, the nearer unseen sums start to seen ones."""
    table = nn.Linear(words, length, bias=False)
    nn.init.normal_(table.weight, std=std)
    return table


@lru_cache(maxsize=65536)
def meaning(caption: str) -> Hashable:
    """Equal for captions that ask for the same: by the grammar where it knows the caption, else by the bag of words."""
    try:
        return parse(caption)
    except LabError:
        return tuple(sorted(words(caption)))


def same_meaning(captions: Sequence[str]) -> Tensor:
    """Which pairs of captions mean the same, `(b, b)` bool."""
    place: dict[Hashable, int] = {}
    index = torch.tensor([place.setdefault(meaning(caption), len(place)) for caption in captions])
    return index[:, None] == index[None]
