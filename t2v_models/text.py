"""Words to numbers: a vocabulary that is saved with the model, and bags of words.

A prompt is the multiset of its words (`clips.prompts.words` splits at spaces and hyphens), so a caption's vector is a
sum of word vectors: an unseen combination of seen words is still inside the space the model was trained on.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from t2v_models.clips.prompts import words
from t2v_models.config import LabError, near


def vocabulary_of(captions: Iterable[str]) -> tuple[str, ...]:
    """Every word of the captions, sorted: the same in every process."""
    return tuple(sorted({w for caption in captions for w in words(caption)}))


def bag_of_words(prompts: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """How often each word of the vocabulary stands in each prompt: float32 `(b, len(vocabulary))`.

    Raises:
        LabError: naming the first unknown word and the known words nearest to it.
    """
    place = {word: i for i, word in enumerate(vocabulary)}
    bags = torch.zeros(len(prompts), len(vocabulary))
    for row, prompt in enumerate(prompts):
        for word in words(prompt):
            if word not in place:
                raise LabError(
                    f"the model was not trained on the word {word!r} of prompt {prompt!r}: {near(word, vocabulary)}"
                )
            bags[row, place[word]] += 1
    return bags
