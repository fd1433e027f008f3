"""A transformer over tokens: it never looks ahead, what it remembers changes nothing, and it fits its tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.texts import none_like
from t2v_models.families.tokens.ar import ArTokens, ArTokensConfig, before, in_turn
from t2v_models.families.tokens.learner import chosen, uniform
from t2v_models.families.tokens.tokenizer import VideoTokenizerConfig
from t2v_models.families.tokens.transformer import distances_between
from t2v_models.judging.baselines import real
from t2v_models.sampler import Request
from t2v_models.worlds.dataset import DatasetConfig
from tests.runs import SMALL, parent_of, run_of

WIDE = ClipSpec(frames=7, height=16, width=24)
CAPTIONS = ("a dog", "a dog runs far away")


STAGE = {"levels", "quantiser", "codes"}
"""Settings of the tokenizer."""


def fresh(spec: ClipSpec = WIDE, **settings: object) -> ArTokens:
    torch.manual_seed(0)
    first = VideoTokenizerConfig.tiny().model_copy(update={k: v for k, v in settings.items() if k in STAGE})
    stage = first.with_captions(CAPTIONS).build(spec, {})
    settings = {k: v for k, v in settings.items() if k not in STAGE}
    config = ArTokensConfig.tiny().model_copy(update=settings).with_captions(CAPTIONS)
    return config.build(spec, {"tokenizer": stage})


def test_a_token_is_told_by_those_before_it_and_the_words_alone() -> None:
    network = fresh().transformer
    text = fresh().text(CAPTIONS)
    tokens = torch.randint(40, (2, network.count))
    logits = network(before(network, tokens), text)
    for place in (0, 7, network.count - 1):
        other = tokens.clone()
        other[:, place:] = (other[:, place:] + 1) % 40
        found = network(before(network, other), text)
        torch.testing.assert_close(found[:, : place + 1], logits[:, : place + 1], rtol=0, atol=1e-5)
        assert place == network.count - 1 or (found[:, place + 1 :] - logits[:, place + 1 :]).abs().max() > 1e-3
    alone = network(before(network, tokens[:1]), fresh().text(CAPTIONS[:1]))  # without padding
    torch.testing.assert_close(alone, logits[:1], rtol=0, atol=1e-5)
    assert (network(before(network, tokens), none_like(text)) - logits).abs().max() > 1e-3


@pytest.mark.parametrize("causal", [False, True])
def test_what_lies_equally_far_away_has_one_number(causal: bool) -> None:
    shape = 3, 2, 4
    numbers = distances_between(shape, causal).tolist()
    places = [(s, y, x) for s in range(3) for y in range(2) for x in range(4)]
    held = [None, *places[:-1]] if causal else places
    away = {
        (number, tuple(a - b for a, b in zip(place, other, strict=True)) if other else None)
        for place, row in zip(places, numbers, strict=True)
        for other, number in zip(held, row, strict=True)
    }
    assert len(away) == len({number for number, _ in away}) == len({offset for _, offset in away})


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("known", [0, 6])
@pytest.mark.parametrize("cross", [False, True])
def test_with_a_memory_tokens_are_those_without(guidance: float, known: int, cross: bool) -> None:
    model = fresh(cross_attention=cross)
    network, text = model.transformer, model.text(CAPTIONS)
    for layer in network.layers:
        torch.nn.init.normal_(layer.distance_bias)  # as after training
    begun = torch.randint(40, (2, known))
    how = network, text, none_like(text), uniform([1, 2], network.count), guidance, 1.0, begun
    with torch.inference_mode():
        quick, slow = in_turn(*how), in_turn(*how, memory=False)
    assert quick.shape == (2, 18) and torch.equal(quick, slow)
    assert torch.equal(quick[:, :known], begun)


def test_a_draw_falls_on_each_code_as_often_as_it_is_likely() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, -torch.inf]])
    draws = (torch.arange(1000) + 0.5) / 1000
    for temperature in (1.0, 0.5):
        share = torch.bincount(chosen(logits.expand(1000, -1), draws, temperature), minlength=4) / 1000
        torch.testing.assert_close(share, (logits[0] / temperature).softmax(0), rtol=0, atol=2e-3)
    assert chosen(logits, torch.tensor([0.99]), 0.0).tolist() == [1]


@pytest.mark.parametrize(
    "stage", [{"levels": (5, 5)}, {"levels": (3, 2, 2)}, {"quantiser": "lfq", "codes": 8}, {"quantiser": "vq"}], ids=str
)
def test_there_are_as_many_codes_as_the_tokenizer_has(stage: dict[str, object]) -> None:
    model = fresh(**stage)
    assert model.transformer.head.out_features == model.tokenizer.quantiser.vocabulary
    assert model.transformer.shape == (3, 2, 3)
    assert model.sample(Request(CAPTIONS, (0, 1))).shape == (2, 7, 16, 24, 3)


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_a_clip_goes_on_from_the_last_known_frames_that_fill_slots(count: int) -> None:
    model = fresh()
    first = (255 * torch.rand(1, count, 16, 24, 3)).byte().numpy()
    clip = model.sample(Request(CAPTIONS[:1], (3,), known_frames=first))
    assert clip.shape == (1, 7, 16, 24, 3) and (clip[:, :count] == first).all()
    seen = 1 + (count - 1) // 3 * 3
    same = model.sample(Request(CAPTIONS[:1], (3,), known_frames=first[:, -seen:]))
    assert (clip[:, count:] == same[:, seen : 7 - count + seen]).all()


def test_frames_but_first_ones_cannot_be_known_where_each_token_is_drawn_by_those_before_it() -> None:
    known = np.zeros((1, 2, 16, 24, 3), np.uint8)
    fresh().check(Request(CAPTIONS[:1], (3,), known_frames=known, places=(0, 1)))
    fresh().check(Request(CAPTIONS[:1], (3,), known_frames=known, places=(-6, -7)))  # of a clip of 7 frames
    with pytest.raises(LabError, match="ar_tokens cannot take known frames but first ones: choose a model"):
        fresh().check(Request(CAPTIONS[:1], (3,), known_frames=known, places=(0, -1)))


def test_a_batch_is_learnt_by_heart() -> None:
    data = DatasetConfig(spec=ClipSpec(size=16, frames=4))
    prompts = data.prompts[:3]
    torch.manual_seed(0)
    stage = VideoTokenizerConfig.tiny().with_captions(prompts).build(data.spec, {})
    sure = {"dropout": 0.0, "guidance": 1.0, "width": 32, "temperature": 0.0, "lr": 1e-2}
    config = ArTokensConfig.tiny().model_copy(update=sure).with_captions(prompts)
    model = config.build(data.spec, {"tokenizer": stage})
    frames = torch.from_numpy(real(data, prompts, range(3)))
    for step in range(80):
        model.training_step(Batch(frames, prompts), step, step / 80)
    tokens = stage.tokens(to_video(frames))
    assert len(tokens.unique()) > 1
    torch.testing.assert_close(model.make(Request(prompts, (0, 1, 2))), stage.video(tokens, 4), rtol=0, atol=1e-5)


def test_what_cannot_be_its_tokenizer_is_one_sentence(data: Path) -> None:
    with pytest.raises(LabError, match=r"gan is a run of gan: name one of video_tokenizer with --set tokenizer=RUN$"):
        run_of(data, SMALL["ar_tokens"].model_copy(update={"tokenizer": Path("gan")})).build()
    run = run_of(data, SMALL["ar_tokens"])
    larger = run.dataset.model_copy(update={"spec": ClipSpec(size=32, frames=6)})
    with pytest.raises(LabError, match="is of clips of 16 px, the dataset of 32 px: train video_tokenizer on that"):
        run.model_copy(update={"dataset": larger}).build()
    assert run.parents["tokenizer"].run.model.name == "video_tokenizer" and parent_of(data, "video_tokenizer").exists()
