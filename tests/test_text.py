"""Text encoders: tokens in order with their places, bags, and what each refuses."""

import pytest
import torch

from t2v_models.config import LabError
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.text.words import Words, WordsConfig

ONE, OTHER = "red circle left of blue square", "blue circle left of red square"
VOCABULARY = ("blue", "circle", "left", "of", "red", "square")


def test_tokens_keep_the_order_of_words_and_the_mask_says_where_there_are_some():
    text = Words(VOCABULARY)(["left of blue square", "red"])
    assert text.embeddings.shape == (2, 4, 6) and text.mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert text.embeddings.argmax(2)[0].tolist() == [2, 3, 0, 5]
    assert text.embeddings.sum(2).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_a_bag_cannot_tell_what_tokens_with_places_can():
    bag, placed = Words(VOCABULARY), Words(VOCABULARY, positions=4)
    assert torch.equal(bag.pooled([ONE]), bag.pooled([OTHER]))
    one, other = placed([ONE, OTHER]).embeddings
    assert one.shape == (6, placed.width) and placed.width == 10
    assert torch.equal(one[:, 6:].argmax(1), torch.tensor([0, 1, 2, 3, 3, 3]))  # the last place is shared
    assert not torch.equal(sorted_rows(one), sorted_rows(other))  # also to whoever sees tokens as a set
    assert torch.equal(sorted_rows(one[:, :6]), sorted_rows(other[:, :6]))
    assert torch.equal(placed.pooled([ONE])[0], one.sum(0))


def sorted_rows(tokens: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(tokens.tolist()))


def test_unknown_words_are_refused_with_the_nearest_known_ones():
    words = Words(VOCABULARY)
    with pytest.raises(LabError, match="not trained on the word 'sqare' of prompt 'red sqare': did you mean 'square'"):
        words(["red", "red sqare"])
    with pytest.raises(LabError, match=r"prompt '!' has no words: use some of blue, circle"):
        words.check("!")


def test_an_encoder_is_set_by_its_name_or_by_its_settings():
    assert DiffusionConfig.model_validate({"text_encoder": "words"}) == DiffusionConfig()
    placed = DiffusionConfig.model_validate({"text_encoder": {"positions": 8}}).with_captions([ONE])
    assert placed.text_encoder == WordsConfig(positions=8, vocabulary=VOCABULARY)
    assert placed.settings["text_encoder"] == {"name": "words", "positions": 8}
    assert DiffusionConfig.model_validate_json(placed.model_dump_json()) == placed
