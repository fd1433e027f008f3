"""Masked tokens: what is hidden is told, what is known stays, and a critic hears of hidden places only."""

from dataclasses import replace
from itertools import pairwise
from math import cos, pi

import numpy as np
import pytest
import torch

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.texts import none_like
from t2v_models.families.tokens.critic import critic_loss
from t2v_models.families.tokens.learner import uniform
from t2v_models.families.tokens.masks import SHARES, Order, counts_left, halton, hidden_tokens
from t2v_models.families.tokens.phenaki import Phenaki, PhenakiConfig, masked_loss, rarity_weights
from t2v_models.families.tokens.unmask import Unmasking, guided, unmasked
from t2v_models.judging.baselines import real
from t2v_models.sampler import Request, Strides
from t2v_models.worlds.dataset import DatasetConfig
from tests.runs import built

WIDE = ClipSpec(frames=7, height=16, width=24)
CAPTIONS = ("a dog", "a dog runs far away")
HOW = Unmasking("cosine", 5, "random", (3.0, 1.0), (1.0, 0.5), 1.0)


def fresh(spec: ClipSpec = WIDE, captions: tuple[str, ...] = CAPTIONS, **settings: object) -> Phenaki:
    torch.manual_seed(0)
    model = built(PhenakiConfig.tiny().model_copy(update=settings), spec, captions)
    assert isinstance(model, Phenaki)
    return model


def batch(seed: int = 0, count: int = 4) -> Batch:
    frames = torch.randint(256, (count, *WIDE.shape), generator=torch.Generator().manual_seed(9)).byte()
    return Batch(frames, tuple(CAPTIONS[i % 2] for i in range(count)), seed=seed)


@pytest.mark.parametrize("schedule", SHARES)
@pytest.mark.parametrize(("hidden", "steps"), [(64, 16), (64, 64), (18, 5), (3, 8), (1, 1)])
def test_every_step_shows_tokens_until_none_is_hidden(schedule, hidden, steps):
    left = counts_left(schedule, hidden, steps)
    shown = [before - after for before, after in pairwise([hidden, *left])]
    assert len(left) == min(steps, hidden) and min(shown) >= 1 and sum(shown) == hidden and left[-1] == 0


def test_schedules_are_those_of_the_paper():
    assert counts_left("cosine", 1000, 4) == [int(1000 * cos(pi / 2 * k / 4)) for k in (1, 2, 3)] + [0]
    assert counts_left("linear", 1000, 4) == [750, 500, 250, 0]
    u = (torch.arange(10_000) + 0.5) / 10_000
    means = [float(share(u).mean()) for share in SHARES.values()]
    assert means == pytest.approx([2 / pi, 1 / 2, 2 / 3, 3 / 4, 1 / 3], abs=1e-3)


def test_without_captions_it_learns_clips_of_any_prompt():
    model = fresh(dropout=1.0, guidance=1.0)
    model.training_step(batch(), 0, 0.0)
    one, other = (model.make(Request((prompt,), (3,))) for prompt in CAPTIONS)
    assert torch.equal(one, other)
    with pytest.raises(LabError, match="trained without captions"):
        model.check(Request(CAPTIONS[:1], (0,), guidance=3.0))


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 2, 3), (3, 2, 5), (1, 1, 1)])
def test_halton_order_has_each_place_once_and_the_first_far_apart(shape):
    order = halton(shape)
    assert sorted(order) == list(range(shape[0] * shape[1] * shape[2]))
    if shape == (4, 4, 4):
        first = order[:16]
        assert [len(set(axis)) for axis in (first // 16, first // 4 % 4, first % 4)] == [4, 4, 4]


def test_as_many_open_tokens_are_hidden_as_the_share_says():
    open_ = torch.arange(10) >= torch.tensor([[0], [4], [9]])
    hidden = hidden_tokens(open_, torch.tensor([0.5, 0.5, 0.0]), torch.rand(3, 10))
    assert hidden.sum(1).tolist() == [5, 3, 1] and not (hidden & ~open_).any()


def test_what_is_not_hidden_has_no_part_in_the_loss():
    tokens, hidden = torch.randint(40, (3, 8)), torch.rand(3, 8) < 0.5
    logits = torch.randn(3, 8, 40, requires_grad=True)
    loss = masked_loss(logits, tokens, hidden, torch.ones(40))
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert (gradient.abs().sum(-1) > 0).equal(hidden) and loss.count == hidden.sum()
    other = masked_loss(torch.where(hidden[..., None], logits, 9.0), tokens, hidden, torch.ones(40))
    torch.testing.assert_close(other.total, loss.total)
    even = masked_loss(torch.zeros(3, 8, 40), tokens, hidden, 2 * torch.ones(40))
    assert float(even.total) == pytest.approx(2 * float(hidden.sum()) * float(torch.tensor(40.0).log()), rel=1e-5)


def test_rare_codes_count_more_and_the_mean_stays():
    counts = torch.tensor([899.0, 89.0, 9.0, 0.0])
    assert rarity_weights(counts, 0.0).tolist() == [1, 1, 1, 1]
    weights, share = rarity_weights(counts, 0.5), (counts + 1) / 1001
    assert weights[1] / weights[0] == pytest.approx(10**0.5) and (weights * share).sum() == pytest.approx(1)


def test_a_critic_is_told_which_hidden_tokens_came_back_right():
    tokens = torch.tensor([[1, 2, 3, 4]])
    drawn, hidden = torch.tensor([[1, 9, 3, 4]]), torch.tensor([[True, True, False, False]])
    sure = torch.tensor([[20.0, -20.0, -20.0, 20.0]])  # right, wrong, and two places that say nothing
    loss = critic_loss(sure, drawn, tokens, hidden)
    assert float(loss.total) < 1e-6 and loss.count == 2
    assert {key: int(value) for key, value in loss.figures.items()} == {"critic/right": 2, "critic/real": 1}
    assert float(critic_loss(-sure, drawn, tokens, hidden).total) == pytest.approx(40)


@pytest.mark.parametrize("kind", ["own", "self"])
def test_a_critic_learns_and_the_transformer_does_not_by_it(kind):
    with_, without = fresh(critic=kind), fresh(critic="none")
    without.load_state_dict({k: v for k, v in with_.state_dict().items() if k in without.state_dict()})
    before = [weight.clone() for weight in with_.critic.parameters()]
    metrics = with_.training_step(batch(), 0, 0.0)
    without.training_step(batch(), 0, 0.0)
    assert 0 <= metrics["critic/real"] <= 1 and "loss/critic" in metrics
    assert not any(torch.equal(a, b) for a, b in zip(before, with_.critic.parameters(), strict=True))
    for name, weight in without.transformer.named_parameters():
        assert torch.equal(weight, with_.transformer.get_parameter(name)), name


def test_what_is_hidden_is_a_function_of_the_seed_and_primed_clips_keep_their_first_slots():
    model = fresh(primed=1.0, in_turn=False)
    tokens = torch.zeros(64, 18, dtype=torch.long)
    last, hidden = model._hidden(batch(count=64), tokens)
    assert (last == 2).all()
    assert torch.equal(hidden, model._hidden(batch(count=64), tokens)[1])
    assert not torch.equal(hidden, model._hidden(batch(seed=1, count=64), tokens)[1])
    assert not hidden[:, :6].any() and hidden[:, 6:12].any() and (hidden.sum(1) >= 1).all()
    assert fresh(primed=0.0, in_turn=False)._hidden(batch(count=64), tokens)[1][:, :6].any()
    assert model._hidden(batch(count=64), tokens[:, :6])[1].any(), "an image has no slot to go on from"


def test_in_turn_each_clip_hides_tokens_of_one_slot_and_later_ones_have_no_part():
    model = fresh(critic="none")
    tokens = torch.randint(40, (64, 18))
    last, hidden = model._hidden(batch(count=64), tokens)
    assert set(last.tolist()) == {0, 1, 2}
    of_last = torch.arange(18) // 6 == last[:, None]
    assert not (hidden & ~of_last).any() and (hidden.sum(1) >= 1).all()
    assert not model._hidden(batch(count=64), tokens[:, :6])[0].any(), "an image is its first slot"
    part, text = batch(count=64), model.text(tuple(CAPTIONS[i % 2] for i in range(64)))
    loss = model.learn(part, tokens, text, 1.0)["transformer"]
    later = torch.arange(18) // 6 > last[:, None]
    other = model.learn(batch(count=64), torch.where(later, 0, tokens), text, 1.0)["transformer"]
    assert torch.equal(loss.total, other.total) and loss.count == float(hidden.sum())


def test_in_turn_a_clip_begins_as_a_shorter_one_would():
    model = fresh()
    whole, begun = model.transformer, torch.full((2, 18), model.transformer.unknown)
    text, request = model.text(CAPTIONS), Request(CAPTIONS, (1, 2))
    with torch.inference_mode():
        tokens = model.drawn(request, text, none_like(text), begun)
        assert (tokens < whole.unknown).all()
        known = torch.cat([tokens[:, :12], begun[:, 12:]], 1)
        assert torch.equal(model.drawn(request, text, none_like(text), known), tokens), "what is known is as if drawn"
    request = Request(CAPTIONS[:1], (3,), known_frames=np.zeros((1, 3, 16, 24, 3), np.uint8), places=(-3, -2, -1))
    with pytest.raises(LabError, match="phenaki cannot take known frames but first ones"):
        model.check(request)
    fresh(in_turn=False).check(request)


@pytest.mark.parametrize("order", ["random", "confidence", "halton", "critic"])
@pytest.mark.parametrize("known", [[], [*range(6)], [3, 16, 17]], ids=["none", "the first", "any"])
def test_all_tokens_are_filled_in_and_known_ones_stay(order: Order, known):
    model = fresh()
    network, text = model.transformer, model.text(CAPTIONS)
    how = replace(HOW, order=order)
    begun, draws = torch.full((2, 18), network.unknown), uniform([1, 2], 2, 5, 18)
    begun[:, known] = torch.randint(40, (2, len(known)))
    critic = (lambda tokens: model.critic(tokens, text, network)) if order == "critic" else None
    with torch.inference_mode():
        tokens = unmasked(network, text, none_like(text), begun, draws, how, critic)
        assert torch.equal(tokens, unmasked(network, text, none_like(text), begun, draws, how, critic))
    assert tokens.shape == (2, 18) and torch.equal(tokens[:, known], begun[:, known])
    assert tokens.min() >= 0 and tokens.max() < network.unknown


def test_what_weights_of_codes_add_to_logits_is_taken_off():
    model = fresh()
    network, text = model.transformer, model.text(CAPTIONS)
    none, draws, tilt = torch.full((2, 18), network.unknown), uniform([1, 2], 2, 5, 18), torch.randn(network.unknown)
    with torch.inference_mode():
        plain = unmasked(network, text, none_like(text), none, draws, HOW)
        network.head.bias += tilt
        tilted = unmasked(network, text, none_like(text), none, draws, HOW)
        assert torch.equal(unmasked(network, text, none_like(text), none, draws, HOW, tilt=tilt), plain)
    assert not torch.equal(tilted, plain)


def test_weighted_codes_are_drawn_as_often_as_they_are():
    """Of a table of logits, taught by weighted losses, the probabilities are those of the data."""
    data = torch.tensor([0] * 90 + [1] * 9 + [2])[None]
    weights = rarity_weights(torch.bincount(data[0]), 0.5)
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        hidden = torch.ones_like(data, dtype=torch.bool)
        found = masked_loss(logits.expand(1, 100, 3), data, hidden, weights).total
        found.backward()
        return found

    optimizer.step(loss)
    share = (logits.detach() - weights.log()).softmax(0)
    torch.testing.assert_close(share, torch.tensor([0.9, 0.09, 0.01]), rtol=1e-2, atol=1e-4)


def test_guidance_1_is_the_text_and_0_is_none():
    model = fresh()
    network, text = model.transformer, model.text(CAPTIONS)
    tokens = torch.randint(41, (2, 18))
    with torch.inference_mode():
        found = [guided(network, tokens, text, none_like(text), strength) for strength in (0, 1, 2)]
        torch.testing.assert_close(found[0], network(tokens, none_like(text)), rtol=0, atol=1e-5)
        assert torch.equal(found[1], network(tokens, text))
    torch.testing.assert_close(found[2], 2 * found[1] - found[0], rtol=0, atol=1e-5)
    assert (found[1] - found[0]).abs().max() > 1e-3


def test_guidance_and_temperature_go_from_the_first_step_to_the_last():
    same = {"guidance": 4.0, "temperature": 1.0}
    clips = [
        fresh(**settings).sample(Request(CAPTIONS, (1, 2), guidance=wish))
        for settings, wish in (
            (same, None), (same | {"last_guidance": 4.0, "last_temperature": 1.0}, None),
            (same | {"last_guidance": 0.0}, None), (same | {"last_temperature": 0.0}, None),
            (same | {"last_guidance": 0.0}, 4.0),
        )
    ]  # fmt: skip
    assert [(clip == clips[0]).all() for clip in clips] == [True, True, False, False, True]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_clip_goes_on_from_known_frames(count):
    first = (255 * torch.rand(1, count, 16, 24, 3)).byte().numpy()
    clip = fresh().sample(Request(CAPTIONS[:1], (3,), known_frames=first))
    assert clip.shape == (1, 7, 16, 24, 3) and (clip[:, :count] == first).all()
    assert isinstance(fresh(), Strides) and fresh().stride == fresh().tokenizer.config.slot


def test_known_frames_of_any_slots_come_back_and_are_seen():
    model = fresh(in_turn=False)
    frames = (255 * torch.rand(1, 7, 16, 24, 3)).byte().numpy()
    for places in ([4, 5, 6], [0, 6, 5, 4], [1, 2, 3], [-7, 1, 2, 3]):
        request = Request(CAPTIONS[:1], (3,), known_frames=frames[:, places], places=tuple(places))
        model.check(request)
        clip = model.sample(request)
        assert clip.shape == frames.shape and (clip[:, places] == frames[:, places]).all()
        made = [i for i in range(7) if i not in places and i - 7 not in places]
        assert (clip[:, made] != model.sample(replace(request, known_frames=255 - frames[:, places]))[:, made]).any()


def test_first_frames_that_are_counted_from_the_end_are_first_frames():
    model, first = fresh(), (255 * torch.rand(1, 2, 16, 24, 3)).byte().numpy()
    request = Request(CAPTIONS[:1], (3,), known_frames=first)
    counted = replace(request, known_frames=first[:, ::-1], places=(-6, -7))
    model.check(counted)  # they fill no slots, and first frames need not
    assert (model.sample(counted) == model.sample(request)).all()


def test_a_slot_of_which_some_frames_are_unknown_is_refused_with_those():
    known = np.zeros((1, 1, 16, 24, 3), np.uint8)
    with pytest.raises(LabError, match="phenaki knows frames 4 to 6 together and 4, 5 of them would be missing: give"):
        fresh(in_turn=False).check(Request(CAPTIONS[:1], (3,), known_frames=known, places=(-1,)))


def test_images_come_first_where_that_is_wished():
    model = fresh(images_first=0.5, in_turn=False)
    slots = model.transformer.places[0]
    before = slots.detach().clone()
    model.training_step(batch(), 0, 0.0)
    assert not torch.equal(slots[0], before[0]) and torch.equal(slots[1:], before[1:])
    model.training_step(batch(), 1, 0.6)
    assert not torch.equal(slots[1:], before[1:])


def test_words_by_cross_attention_are_heard_and_padding_is_not():
    model = fresh(cross_attention=True)
    network, text = model.transformer, model.text(CAPTIONS)
    tokens = torch.randint(41, (2, 18))
    logits = network(tokens, text)
    alone = network(tokens[:1], model.text(CAPTIONS[:1]))
    torch.testing.assert_close(alone, logits[:1], rtol=0, atol=1e-5)
    assert (network(tokens, none_like(text)) - logits).abs().max() > 1e-3
    before = network.nothing.detach().clone()
    model.training_step(batch(), 0, 0.0)
    assert not torch.equal(network.nothing, before), "no text is learnt where captions are left out"


def test_a_batch_is_learnt_by_heart():
    data = DatasetConfig(spec=ClipSpec(size=16, frames=4))
    prompts = data.prompts[:3]
    sure = {"dropout": 0.0, "guidance": 1.0, "width": 32, "temperature": 0.0, "lr": 1e-2, "critic": "none"}
    model = fresh(data.spec, prompts, **sure)
    frames = torch.from_numpy(real(data, prompts, range(3)))
    for step in range(100):
        model.training_step(Batch(frames, prompts, seed=step), step, step / 100)
    tokens = model.tokenizer.tokens(to_video(frames))
    assert len(tokens.unique()) > 1
    made = model.make(Request(prompts, (0, 1, 2)))
    torch.testing.assert_close(made, model.tokenizer.video(tokens, 4), rtol=0, atol=1e-5)


def test_an_order_by_a_critic_needs_one():
    with pytest.raises(ValueError, match="order is a critic's and there is none: use critic own or self"):
        PhenakiConfig(order="critic")
