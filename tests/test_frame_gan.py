import math

import pytest
import torch

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families import frame_gan
from t2v_models.families.frame_gan import FrameGan, FrameGanConfig
from t2v_models.sampler import Request
from t2v_models.text.words import Words, vocabulary_of
from t2v_models.worlds.prompts import ARTICLE_PROMPTS

VOCABULARY = vocabulary_of(ARTICLE_PROMPTS)


def weights(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_are_as_large_as_the_article_s():
    config = FrameGanConfig()
    assert round(weights(frame_gan.generator(config, 64)) / 1e6, 2) == 2.48
    assert round(weights(frame_gan.discriminator(config, 64)) / 1e6, 2) == 0.68


def test_a_probability_near_1_still_has_a_slope_in_mixed_precision():
    logit = torch.tensor([8.0], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        probability = frame_gan.Probability()(logit)
    (slope,) = torch.autograd.grad(probability, logit)
    assert probability.item() == pytest.approx(1 / (1 + math.exp(-8)), abs=1e-6)
    assert slope.item() == pytest.approx(math.exp(-8), rel=0.01)


def test_a_size_that_8_does_not_divide_is_refused():
    with pytest.raises(LabError, match="20"):
        FrameGan(FrameGanConfig(), ClipSpec(size=20))


def test_word_vectors_are_saved_and_never_trained():
    torch.manual_seed(0)
    model = FrameGan(FrameGanConfig(width=16).with_captions(ARTICLE_PROMPTS), ClipSpec(size=16, frames=4))
    before = model.words.clone()
    for step in range(3):
        model.training_step(Batch(torch.zeros(3, 4, 16, 16, 3, dtype=torch.uint8), ARTICLE_PROMPTS[:3]), step, 0.0)
    assert torch.equal(model.state_dict()["words"], before)


def test_frames_of_a_clip_are_unrelated_and_share_only_the_prompt():
    torch.manual_seed(0)
    model = FrameGan(FrameGanConfig(width=16).with_captions(ARTICLE_PROMPTS), ClipSpec(size=16, frames=4))
    clip = model.make(Request((ARTICLE_PROMPTS[0],), (3,)))[0]
    noise = torch.randn(4, 100, generator=torch.Generator().manual_seed(3))
    text = model._text(Words(VOCABULARY).pooled(ARTICLE_PROMPTS[:1])).expand(4, -1)
    order = [2, 0, 3, 1]
    shuffled = model.generator(torch.cat([noise, text], 1)[order])
    torch.testing.assert_close(shuffled.transpose(0, 1), clip[:, order])
