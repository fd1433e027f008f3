"""The words of a dataset as a tokenizer of Hugging Face: what a pipeline reads prompts with where this package is not.

A token is a word, as `text.split.words` has it, between one that begins and one that ends a text, as CLIP's are
(Radford et al. 2021, arXiv:2103.00020, section 2.4). There is no token for unknown words: the tokenizer refuses them.
"""

from collections.abc import Sequence
from typing import Any

from t2v_models import library

START, END = "<|startoftext|>", "<|endoftext|>"
BETWEEN = r"[^\p{L}\p{M}\p{N}]"
"""What separates words: hyphens, too."""


def tokenizer_of(vocabulary: Sequence[str], length: int) -> Any:
    """The tokenizer of texts of so many tokens, both ends among them; shorter ones are filled with ends."""
    backend = library.of("transformers", "PreTrainedTokenizerFast")
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    number = {token: place for place, token in enumerate((START, END, *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(number))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(BETWEEN), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return backend(tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=END, model_max_length=length)
