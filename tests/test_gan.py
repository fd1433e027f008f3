import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import softplus

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.ema import half_life_share
from t2v_models.families.gan import model, painter
from t2v_models.families.gan.model import Gan, GanConfig
from t2v_models.families.gan.networks import slow_waves
from t2v_models.sampler import Request, sample_frames
from t2v_models.text import words
from t2v_models.worlds.prompts import parse

colours = st.tuples(*[st.integers(0, 255)] * 3)
VOCABULARY = ("circle", "down", "left", "moving", "right", "up")


def model_of(spec: ClipSpec, **options: object) -> Gan:
    torch.manual_seed(0)
    return Gan(GanConfig(**options).with_captions(VOCABULARY), spec)


def test_equal_scores_cost_log_2():
    scores = torch.tensor([3.0, -1.0])
    assert model.generator_loss(scores, scores).item() == pytest.approx(math.log(2))
    assert model.discriminator_loss(scores, scores).item() == pytest.approx(math.log(2))


def test_only_the_difference_of_a_pair_counts():
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    assert model.discriminator_loss(real, fake).item() == pytest.approx(softplus(torch.tensor(-3.0)).item())
    assert model.generator_loss(real, fake).item() == pytest.approx(softplus(torch.tensor(3.0)).item())
    assert torch.equal(model.generator_loss(real + 7, fake + 7), model.generator_loss(real, fake))


def test_the_penalty_of_a_linear_score_is_its_squared_norm():
    slope = torch.tensor([3.0, 4.0])
    clips = torch.randn(2, 5, 2, requires_grad=True)
    penalty = model.gradient_penalty(clips @ slope, clips, gamma=0.1)
    assert penalty.item() == pytest.approx(0.1 / 2 * (25 + 25))


def test_synonyms_are_no_wrong_captions():
    same = words.same_meaning(
        ["circle moving up-left", "circle moving diagonally up-left", "circle moving left"], parse
    )
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_captions_outside_the_grammar_are_compared_by_their_words():
    same = words.same_meaning(["a dog runs", "runs a dog!", "a dog sleeps"])
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_wrong_captions_cost_nothing_where_there_are_none():
    matches = torch.randn(3, 3, requires_grad=True)
    loss = model.wrong_caption_loss(matches, matches.diagonal(), torch.ones(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and matches.grad.abs().sum() == 0


def test_wrong_captions_are_the_mean_over_captions_that_mean_something_else():
    matches = torch.tensor([[1.0, 9.0, 0.0], [9.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    expected = (softplus(torch.tensor([-1.0, 1.0])).sum() + softplus(torch.tensor([0.0, 0.0])).mean()) / 3
    assert model.wrong_caption_loss(matches, matches.diagonal(), same).item() == pytest.approx(expected.item())


def test_match_agrees_with_score():
    model = model_of(ClipSpec(size=16, frames=4))
    phi, bags = torch.randn(5, model.config.features), torch.randint(0, 2, (5, len(VOCABULARY))).float()
    scores = model.discriminator.match(phi, bags)
    torch.testing.assert_close(scores.diagonal(), model.discriminator.score(phi, bags))


def test_the_scatter_within_a_caption_is_seen_and_that_of_other_captions_is_not():
    discriminator = model_of(ClipSpec(size=16, frames=4), group=2).discriminator
    clips = torch.rand(4, 4, 3, 8, 8)
    before = discriminator(clips)
    clips[3] = torch.rand(4, 3, 8, 8)
    after = discriminator(clips)
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])
    torch.testing.assert_close(discriminator(clips.flip(0)), after.flip(0))  # nor does the order matter


def test_a_faint_veil_far_away_does_not_move_the_centre():
    frame = torch.zeros(3, 8, 8)
    frame[:, 2, 5] = 1.0
    veiled = frame + 0.01
    assert painter.moments(frame)[:2].tolist() == pytest.approx([1.5 / 1.05, -1.5 / 1.05])
    torch.testing.assert_close(painter.moments(veiled)[:2], painter.moments(frame)[:2], rtol=0, atol=0.02)


def test_mixed_precision_leaves_place_and_size_exact():
    frames = torch.rand(5, 3, 8, 8)
    exact = painter.moments(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(painter.moments(frames), exact)


def test_mixed_precision_draws_and_differs_places_exactly():
    model = model_of(ClipSpec(size=16, frames=4))
    plan = torch.randn(8, 4, model.config.frame_code)
    clips, read = model.generator.draw(plan), []
    model.discriminator.judge.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model.discriminator(clips)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.generator.draw(plan), clips)
        model.discriminator(clips)
    exact, mixed = (readings.view(8, 9, -1)[..., model.config.look :] for readings in read)  # 9: states and changes
    assert torch.equal(exact, mixed)


@given(st.integers(4, 64))
def test_slow_waves_can_write_every_sequence_and_keep_the_size_of_codes(frames):
    waves = slow_waves(frames)
    assert torch.linalg.matrix_rank(waves) == frames
    assert waves.square().sum(1).mean().item() == pytest.approx(1, abs=1e-5)


def test_of_noise_only_the_angle_counts():
    generator = model_of(ClipSpec(size=16, frames=4)).generator
    bags = torch.ones(1, len(VOCABULARY))
    noise = torch.randn(1, 6, 2)
    torch.testing.assert_close(generator(noise, bags), generator(3 * noise, bags), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(generator(noise, bags), generator(-noise, bags), rtol=1e-3, atol=1e-4)


@given(st.integers(1, 16), st.integers(1, 3), st.integers(0, 9))
def test_shrinking_is_the_mean_of_each_cell(cell, clips, seed):
    frames = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (clips, 4, 8 * cell, 8 * cell, 3), np.uint8))
    opacity = 1 - frames.double().flatten(0, 1).permute(0, 3, 1, 2) / 255
    expected = F.avg_pool2d(opacity, cell).view(clips, 4, 3, 8, 8)
    torch.testing.assert_close(painter.shrink(frames, torch.ones(3)), expected.float(), rtol=0, atol=1e-6)


@given(colours, st.integers(1, 16))
def test_shrinking_reads_ground_of_any_colour_as_exactly_zero(background, cell):
    frames = torch.tensor(background, dtype=torch.uint8).expand(1, 2, 8 * cell, 8 * cell, 3)
    assert not painter.shrink(frames, painter.Painter(4, 1, 8 * cell, background).background).any()


def test_what_is_lighter_than_the_ground_is_found_as_what_is_darker():
    frame = torch.rand(3, 8, 8)
    signs = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    for turned in (-frame, signs * frame):
        torch.testing.assert_close(painter.moments(turned)[[0, 1, 2, 3, 5]], painter.moments(frame)[[0, 1, 2, 3, 5]])


def test_a_size_that_8_does_not_divide_is_refused():
    with pytest.raises(LabError, match=r"sides are multiples of 8 \(found 20 x 20 px\)"):
        model_of(ClipSpec(size=20, frames=4))


def test_learning_rates_warm_up_by_step_and_fall_by_progress():
    model = model_of(ClipSpec(size=16, frames=4), warmup_steps=10)
    rates = {}
    for step, progress in ((0, 0.0), (9, 0.0), (1000, 1.0)):
        model._set_learning_rates(step, progress)
        rates[step] = {name: optimizer.param_groups[0]["lr"] for name, optimizer in model.optimizers.items()}
    config = model.config
    assert rates[0]["generator"] == pytest.approx(config.lr / 10)
    assert rates[9] == pytest.approx({"generator": config.lr, "discriminator": config.lr, "painter": config.painter_lr})
    assert rates[1000] == pytest.approx({"generator": config.lr_end, "discriminator": config.lr_end, "painter": 0.0})


def test_the_average_follows_within_its_half_life():
    model = model_of(ClipSpec(size=16, frames=4), average_steps=10)
    with torch.no_grad():
        for average in model.average.parameters():
            average.zero_()
        for network in (model.generator, model.painter):
            for parameter in network.parameters():
                parameter.fill_(1.0)
    for step in range(10_000, 10_010):
        model.average.update(half_life_share(step, model.config.average_steps))
    for average in model.average.parameters():
        torch.testing.assert_close(average, torch.full_like(average, 0.5))


def test_words_that_always_come_together_share_what_they_mean_to_the_painter():
    torch.manual_seed(0)
    artist = painter.Painter(4, 5, 16, (255, 255, 255))
    bags = torch.tensor([[1.0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    small, points = torch.rand(4, 3, 8, 8), 8 * torch.rand(4, 9, 2) - 4
    optimizer = torch.optim.Adam(artist.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        inside, colour = artist(small, bags, points)
        (torch.sigmoid(inside) * colour).square().mean().backward()
        optimizer.step()
    together = artist.words.weight.T[2:]
    assert together.abs().max() > 0.05
    assert (together - together.mean(0)).abs().max() < 0.04  # so a sentence with some of them is as near as can be


def test_an_update_of_one_network_leaves_the_others_alone():
    model = model_of(ClipSpec(size=16, frames=4))
    before = {name: value.clone() for name, value in model.named_parameters()}
    bags = torch.eye(4, 6)
    fake = model.generator(torch.randn(4, *model.noise_shape), bags)
    model.accumulate_gradients(1, discriminator=model.discriminator.score(model.discriminator(fake), bags).sum())
    model.optimizer_step("discriminator")
    changed = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"discriminator"}
    assert all(parameter.grad is None for parameter in model.generator.parameters())


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.data())
def test_every_run_has_its_frames_in_a_lesson_and_every_part_its_runs(runs, group, per_run, data):
    sample = painter.draw_pixel_sample(runs, group, per_run, 4, 4, 0.01, torch.device("cpu"))
    assert (sample.clip // group).tolist() == [run for run in range(runs) for _ in range(per_run)]
    in_turn = (sample.clip % group).view(runs, per_run)
    assert (in_turn.diff(dim=1) >= 0).all()
    artist, captions = painter.Painter(4, 6, 16, (0, 0, 0)), ("circle",) * (runs * group)
    frames = torch.randint(256, (len(captions), 4, 16, 16, 3), dtype=torch.uint8)
    parts = Batch(frames, captions).parts(data.draw(st.integers(1, runs)), group)
    losses = [
        part.weight
        * sample.loss(
            artist,
            part,
            painter.shrink(part.frames, artist.background),
            torch.eye(1, 6).expand(len(part.captions), -1),
            0.1,
        )
        for part in [Batch(frames, captions), *parts]
    ]
    torch.testing.assert_close(sum(losses[1:]), losses[0], rtol=1e-4, atol=0)


def test_training_goes_on_after_clips_were_made_without_gradients():
    painter.cell_powers.cache_clear()
    with torch.inference_mode():
        painter.moments(torch.rand(3, 8, 8))
    small = torch.rand(3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(painter.moments(small).sum(), small)
    assert gradient.abs().sum() > 0


def test_pixel_centres_agree_with_the_averaging():
    x, y = painter.pixel_centres(16).unbind(-1)
    small = F.avg_pool2d(torch.stack([x, y]).view(2, 16, 16), 2)
    torch.testing.assert_close(small[0, 0], torch.arange(8) - 3.5)
    torch.testing.assert_close(small[1, :, 0], torch.arange(8) - 3.5)


def test_most_sampled_pixels_are_near_the_object_and_some_are_everywhere():
    small = torch.zeros(1, 3, 8, 8)
    small[:, :, 1, 6] = 1.0
    pixels = painter.sample_pixels(small, torch.rand(1, 4000, 2), 64)[0]
    away = (painter.pixel_centres(64)[pixels] - torch.tensor([2.5, -2.5])).abs().amax(1)
    assert pixels.min() >= 0
    assert pixels.max() < 64**2
    assert 0.7 < (away < 2.6).float().mean() < 0.95


def test_the_painter_loss_is_zero_where_all_is_right_and_pulls_where_it_is_surely_wrong():
    colour = torch.tensor([[[0.9, 0.6, 0.0]]])
    right = torch.tensor([[[60.0], [-60.0]]])
    assert painter.painter_loss(right, colour, torch.sigmoid(right) * colour, 1.0) == pytest.approx(0, abs=1e-6)
    sure = torch.full((1, 2, 1), 60.0, requires_grad=True)  # inside, it says; the second point is the hole of a ring
    target = torch.stack([colour[0, 0], torch.zeros(3)])[None]
    for certainty, pull in ((0.0, 0.0), (1.0, 0.5)):
        (gradient,) = torch.autograd.grad(painter.painter_loss(sure, colour, target, certainty), sure)
        torch.testing.assert_close(gradient.flatten(), torch.tensor([0.0, pull]))


@pytest.mark.parametrize(
    ("background", "contrast"),
    [
        ((255, 255, 255), (0.9, 0.5, 0.1)),
        ((0, 0, 0), (-0.9, -0.5, -0.1)),
        ((128, 128, 128), (0.4, -0.3, 0.0)),
        ((255, 0, 128), (0.9, -0.5, 0.1)),
    ],
)
def test_the_painter_learns_where_a_disc_is_how_large_and_of_what_colour(background, contrast):
    torch.manual_seed(0)
    network, bags = painter.Painter(16, 2, 24, background), torch.eye(2)[:1].expand(32, -1)
    grid = network.pixels
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(401):
        centre, radius = 4 * torch.rand(32, 1, 2) - 2, 0.8 + 0.6 * torch.rand(32, 1)
        inside = (4 * (radius - (grid - centre).norm(dim=-1)) + 0.5).clamp(0, 1)
        frames = inside[..., None] * torch.tensor(contrast)
        small = F.avg_pool2d(frames.view(32, 24, 24, 3).permute(0, 3, 1, 2), 3)
        pixels = painter.sample_pixels(small, torch.rand(32, 128, 2), 24)
        target = frames.gather(1, pixels[..., None].expand(-1, -1, 3))
        inside, colour = network(small, bags, grid[pixels])
        error = torch.sigmoid(inside) * colour - target
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    assert error.abs().mean() < 0.25 * target.abs().mean()
    painted = network.paint(small, bags[0])  # whole frames; nothing is lost where it does not look
    inside, colour = network(small, bags, grid)
    whole = (torch.sigmoid(inside) * colour).view_as(painted)
    near = painted.any(-1)
    assert 0.1 < near.float().mean() < 0.9
    torch.testing.assert_close(painted[near], whole[near], rtol=0, atol=1e-5)
    assert whole[~near].abs().max() < 0.01


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
def test_the_same_contrasts_are_learnt_alike_on_every_ground():
    """Once the painters expect the same contrast: on white they expect what is darker."""
    contrast = torch.randint(180, (8, 4, 16, 16, 3))
    captions, found = ("deep", "double", "exact", "long"), []  # words no other test says: what they are is remembered
    for background in ((255, 255, 255), (180, 230, 200)):
        torch.manual_seed(0)
        model = Gan(
            GanConfig(background=background, width=16, group=2).with_captions(captions), ClipSpec(size=16, frames=4)
        )
        frames = (torch.tensor(background) - contrast).to(torch.uint8)
        expected = 2 * 0.7 / 0.3 * (1 - torch.tensor(background) / 255)
        biases = [artist.state[-1].bias.data[4:] for artist in (model.painter, model.average[1])]
        for bias in biases:
            bias += expected
        for step in range(5):
            torch.manual_seed(step)
            model.training_step(Batch(frames, tuple(c for c in captions for _ in range(2))), step, 0.5)
        opacity = (
            2 * torch.tensor(background).view(3, 1, 1, 1) / 255 - 1 - model.make(Request(tuple(captions), (0, 1, 2, 3)))
        ) / 2
        for bias in biases:
            bias -= expected
        found.append((model.state_dict(), opacity))
    (white, on_white), (other, on_other) = found
    for name, value in white.items():
        torch.testing.assert_close(other[name], value, msg=name)
    shown = (on_white > 0) & (on_white < 0.7)  # beyond that a channel ends, on one background or the other
    assert on_white[shown].std() > 0.01
    torch.testing.assert_close(on_other[shown], on_white[shown])


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (128, 40, 200)])
def test_what_is_not_painted_has_the_colour_of_the_ground_to_the_byte(background):
    made = sample_frames(model_of(ClipSpec(size=16, frames=4), background=background), VOCABULARY, range(6))
    blank = (made == background).all(-1)
    assert 0.1 < blank.mean() < 1


def test_a_ground_is_a_colour_by_name_or_numbers():
    assert (
        GanConfig(background="black").background
        == GanConfig(background="#000000").background
        == GanConfig(background=(0, 0, 0)).background
    )
    assert GanConfig.model_validate_json(GanConfig(background="#8028c8").model_dump_json()).background == (128, 40, 200)
    for wrong in ("sky", "#8028c8ff", (0, 0, 256)):
        with pytest.raises(ValidationError, match="background"):
            GanConfig(background=wrong)


def test_clips_on_another_ground_are_told_at_the_first_step(caplog):
    frames = torch.full((4, 4, 16, 16, 3), 128, dtype=torch.uint8)
    frames[:, :, 4:12, :12] = 255
    for background, step, told in (("white", 0, True), ("white", 1, False), ("#888888", 0, False)):
        caplog.clear()
        model_of(ClipSpec(size=16, frames=4), background=background).training_step(
            Batch(frames, VOCABULARY[:4]), step, 0.0
        )
        assert ("--set background=#808080" in caplog.text) == told
