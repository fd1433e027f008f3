"""Known frames: against a Gaussian world in closed form, and in a model that is or is not trained to see them."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from t2v_models.batch import Batch, to_video
from t2v_models.config import LabError
from t2v_models.families.diffusion.known_frames import (
    conjugate_gradients,
    projected,
    random_mask,
    reconstruction_guidance,
)
from t2v_models.families.diffusion.model import Diffusion
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.samplers import heun
from t2v_models.sampler import Request, Strides, settled
from tests.lights import CAPTIONS, SPEC, batch, fresh

FRAMES = 5
KNOWN = torch.tensor([True, False, False, True, False])
"""Frames of one number each, so that a clip is (b, 5)."""
COVARIANCE = torch.exp(-(torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)).double().abs() / 3)
"""A walk: near frames are alike."""
FIRST, FOURTH = 1.3, -0.4
SEEN = torch.tensor([FIRST, 0, 0, FOURTH, 0]).double()


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """The mean of x0 given x, exactly, where x0 is N(0, COVARIANCE)."""
    inner = COVARIANCE + sigma[0].double() ** 2 * torch.eye(FRAMES).double()
    return x @ torch.linalg.solve(inner, COVARIANCE)


def conditional(known: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all frames given some, of N(0, COVARIANCE)."""
    gain = torch.linalg.solve(COVARIANCE[known][:, known], COVARIANCE[known]).T
    return gain @ values, COVARIANCE - gain @ COVARIANCE[known]


def look(x: Tensor) -> Tensor:
    return x * KNOWN


def noise(count: int) -> Tensor:
    return torch.randn(count, FRAMES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_mean_given_noisy_and_known_frames_is_that_of_the_closed_form():
    x, sigma = 2 * noise(8), torch.full((8,), 0.7)
    mean, covariance = conditional(KNOWN, SEEN[KNOWN])
    by_formula = mean + (x - mean) @ torch.linalg.solve(covariance + 0.7**2 * torch.eye(FRAMES).double(), covariance)
    found = reconstruction_guidance(denoise, look, SEEN.expand(8, -1), steps=2)(x, sigma)  # two numbers are known
    torch.testing.assert_close(found, by_formula, rtol=1e-6, atol=1e-6)


def test_one_step_moves_along_the_gradient_of_the_papers_equation():
    x, sigma = 2 * noise(8), torch.full((8,), 0.7)
    x.requires_grad_()
    error = (SEEN - denoise(x, sigma))[:, KNOWN].square().sum()
    (gradient,) = torch.autograd.grad(error, x)
    moved = reconstruction_guidance(denoise, look, SEEN.expand(8, -1), steps=1)(x.detach(), sigma) - denoise(x, sigma)
    weights = moved / (-gradient / 2)  # w of eq. 7, one for each clip
    torch.testing.assert_close(weights, weights[:, :1].expand(-1, FRAMES), rtol=1e-6, atol=0)
    assert (weights > 0).all()


def test_clips_have_the_mean_and_covariance_of_clips_with_these_frames():
    count = 4000
    mean, covariance = conditional(KNOWN, SEEN[KNOWN])
    guided = reconstruction_guidance(denoise, look, SEEN.expand(count, -1), steps=2)
    sigmas = NoiseLevels(low=0.01, high=100).falling(40)
    x = heun(
        projected(guided, lambda clean: torch.where(KNOWN, SEEN, clean)), 100 * noise(count), sigmas, lambda: noise(1)
    )
    assert torch.equal(x[:, KNOWN], SEEN[KNOWN].expand(count, -1))
    assert (x.mean(0) - mean).abs().max() < 4 / math.sqrt(count)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.05)
    plain = heun(denoise, 100 * noise(count), sigmas, lambda: noise(1))
    assert (plain.mean(0) - mean).abs().max() > 1  # without guidance it is another matter


def test_conjugate_gradients_solve_each_row_by_itself_and_stop_where_there_is_nothing():
    matrix = torch.stack([COVARIANCE, 3 * torch.eye(FRAMES).double(), torch.zeros(FRAMES, FRAMES).double()])
    wanted = noise(3)
    found = conjugate_gradients(lambda s: torch.einsum("bij,bj->bi", matrix, s), wanted, FRAMES)
    torch.testing.assert_close(found[0], torch.linalg.solve(COVARIANCE, wanted[0]))
    torch.testing.assert_close(found[1], wanted[1] / 3)
    assert not found[2].any()


def test_a_third_each_knows_the_first_the_first_few_and_any_frames():
    part = Batch(torch.zeros(3000, 1), ("a",) * 3000, seed=1)
    known = random_mask(part, 8, 0.6)
    only_first = known[:, 0] & (known.sum(1) == 1)
    assert only_first.float().mean() == pytest.approx(0.6 * (1 + 1 / 7 + 1 / 72) / 3, abs=0.025)
    assert known[:, -1].float().mean() == pytest.approx(0.6 / 2 / 3, abs=0.02)  # of any frames, half
    begun = (known.int().diff(dim=1) <= 0).all(1) & known[:, 0]
    assert begun.float().mean() == pytest.approx(0.6 * (2 / 3 + 0.02), abs=0.04)
    assert not random_mask(part, 8, 0.0).any()


def test_which_frames_are_known_does_not_depend_on_how_a_batch_is_shared():
    whole = random_mask(batch(3), 4, 0.5)
    assert torch.equal(torch.cat([random_mask(part, 4, 0.5) for part in batch(3).parts(3, 1)]), whole)


@cache
def taught(given: float) -> Diffusion:
    model = fresh(given=given)
    for step in range(60):
        model.training_step(batch(step), step, step / 60)
    return model


def lighter(video: Tensor) -> Tensor:
    """How much lighter the right half of each frame is than the left, `(b, t)`."""
    return video[..., 8:].mean((1, 3, 4)) - video[..., :8].mean((1, 3, 4))


each_way = pytest.mark.parametrize("share", [0.7, 0.0], ids=["trained so", "by reconstruction guidance"])


@pytest.mark.slow
@each_way
def test_known_frames_come_back_and_the_others_follow_them(share):
    """A prompt that leaves the side open: the first frame decides it."""
    model, first = taught(share), batch(500).frames[:, :1].numpy()
    prompts, seeds = ("light",) * 16, tuple(range(16))
    request = Request(prompts, seeds, known_frames=first, guidance=1.0)
    model.check(request)
    clips = model.sample(request)
    assert np.array_equal(clips[:, :1], first)
    made = lighter(to_video(clips))
    assert (made[:, 1:].sign() == made[:, :1].sign()).all()
    assert (made[:, 1:] - made[:, :1]).abs().mean() < 0.1
    free = lighter(model.make(Request(prompts, seeds, guidance=1.0)))
    assert (free[:, 1:].sign() == made[:, :1].sign()).float().mean() < 0.8


@pytest.mark.slow
@each_way
@pytest.mark.parametrize("places", [(0, -1), (2,), (3, 1)], ids=["both ends", "the middle", "in any order"])
def test_any_frames_may_be_known(share, places):
    """Inpainting in time: the frames between two known ones, and those around one."""
    model, frames = taught(share), batch(501).frames[:2].numpy()
    request = Request(("light", "light"), (4, 5), known_frames=frames[:, list(places)], places=places, guidance=1.0)
    model.check(request)
    made = model.sample(request)
    assert np.array_equal(made[:, list(places)], frames[:, list(places)])
    assert np.abs(made.astype(float) - frames).mean() < 8


def test_which_frames_are_known_decides_what_is_made():
    model, one = fresh(given=0.5), batch(500).frames[:1, :1].numpy()
    model.training_step(batch(0), 0, 0.0)
    first, last, free = (
        model.sample(Request(CAPTIONS[:1], (3,), known_frames=known, places=places))
        for known, places in ((one, (0,)), (one, (-1,)), (None, None))
    )
    assert np.array_equal(first, model.sample(Request(CAPTIONS[:1], (3,), known_frames=one)))
    assert np.array_equal(first[:, 0], one[:, 0]) and np.array_equal(last[:, -1], one[:, 0])
    for clip in (first, last):
        assert not np.array_equal(clip[:, 1:3], free[:, 1:3])
    assert not np.array_equal(first[:, 1:3], last[:, 1:3])


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ((4,), "clips of 4 frames have no frame 4: use 0 to 3, or -1 for the last$"),
        ((0, -5), "clips of 4 frames have no frame -5"),
        ((3, -1), "frame -1 of clips of 4 is given twice, also as 3: give one picture for it$"),
        ((0, 0), "frame 0 of clips of 4 is given twice: give one picture for it$"),
    ],
)
def test_places_that_cannot_be_are_one_sentence(places, sentence):
    known = np.zeros((1, len(places), SPEC.size, SPEC.size, 3), np.uint8)
    with pytest.raises(LabError, match=sentence):
        fresh().check(Request(CAPTIONS[:1], (0,), known_frames=known, places=places))


def test_places_are_settled_in_order_from_the_first_frame_on() -> None:
    known = np.arange(2, dtype=np.uint8).reshape(1, 2, 1, 1, 1).repeat(SPEC.size, 2).repeat(SPEC.size, 3).repeat(3, 4)
    for frames, places, found, order in (
        (None, None, None, [0, 1]), (None, (0, 1), None, [0, 1]), (None, (-4, 1), None, [0, 1]),
        (None, (-3, 0), None, [1, 0]), (None, (-1, 0), (0, 3), [1, 0]), (9, (-9, -8), None, [0, 1]),
        (9, (-1, -4), (5, 8), [1, 0]),
    ):  # fmt: skip
        asked = settled(Request(CAPTIONS[:1], (0,), frames, known_frames=known, places=places), SPEC)
        assert (asked.places, asked.known_frames[0, :, 0, 0, 0].tolist()) == (found, order), places
        assert settled(asked, SPEC).places == found


def test_a_frame_that_is_drawn_between_others_cannot_be_known_unless_clips_begin_so():
    model, known = fresh(every=3), np.zeros((1, 1, SPEC.size, SPEC.size, 3), np.uint8)
    with pytest.raises(LabError, match=r"frame 1 is drawn between two others \(every=3\).*: give frame 0 or 3$"):
        model.check(Request(CAPTIONS[:1], (0,), known_frames=known, places=(1,)))
    model.check(Request(CAPTIONS[:1], (0,), known_frames=known, places=(-1,)))
    model.check(Request(CAPTIONS[:1], (0,), known_frames=known.repeat(2, 1)))
    assert isinstance(model, Strides) and model.stride == 3


def test_a_first_frame_of_another_size_is_one_sentence():
    first = np.zeros((1, 1, 8, 16, 3), np.uint8)
    with pytest.raises(LabError, match="a known frame is 16 x 8 px, clips of diffusion 16 x 16: scale it to that"):
        fresh().check(Request(CAPTIONS[:1], (0,), known_frames=first))


@pytest.mark.parametrize("count", [0, SPEC.frames])
def test_as_many_first_frames_as_leave_nothing_to_make_are_one_sentence(count):
    first = np.zeros((1, count, SPEC.size, SPEC.size, 3), np.uint8)
    with pytest.raises(LabError, match=f"{count} known frames and clips of {SPEC.frames}: give 1 to 3"):
        fresh().check(Request(CAPTIONS[:1], (0,), known_frames=first))


def test_each_clip_has_its_own_first_frame_whoever_is_beside():
    model = fresh(given=0.5)
    model.training_step(batch(0), 0, 0.0)
    first = batch(500).frames[:2, :1].numpy()
    both = model.make(Request(CAPTIONS, (3, 4), known_frames=first))
    alone = model.make(Request(CAPTIONS[1:], (4,), known_frames=first[1:]))
    torch.testing.assert_close(alone, both[1:], rtol=0, atol=1e-4)
    assert both.shape == (2, 3, SPEC.frames, SPEC.size, SPEC.size)
