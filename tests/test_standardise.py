"""Clips as numbers of mean 0 and variance 1, whatever is in them."""

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor

from t2v_models.families.diffusion.standardise import LEAST, Standardise, cosines


def videos(contrast: float = 0.2, background: float = 0.5, count: int = 40) -> Tensor:
    """Pictures that drift slowly, with a little flicker."""
    random = torch.Generator().manual_seed(0)
    picture, drift = (torch.randn(count, 3, 1, 6, 8, generator=random) for _ in range(2))
    time = torch.linspace(-1, 1, 7).view(1, 1, 7, 1, 1)
    flicker = torch.randn(count, 3, 7, 6, 8, generator=random)
    return background + contrast * (picture + 0.5 * time * drift + 0.1 * flicker)


def measured(video: Tensor, balance: float = 0.5) -> Standardise:
    standardise = Standardise(*video.shape[2:], balance)
    standardise.measure(video)
    return standardise


@pytest.mark.parametrize("balance", [0, 0.5, 1])
@pytest.mark.parametrize(("contrast", "background"), [(0.2, 0.5), (1e-2, -0.9), (0.5, 0)])
def test_any_range_becomes_mean_0_and_variance_1_and_comes_back(contrast, background, balance):
    video = videos(contrast, background)
    standardise = measured(video, balance)
    x = standardise(video)
    assert x.mean((0, 2)).abs().max() < 1e-3
    assert x.square().mean() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(standardise.back(x), video, rtol=0, atol=1e-4)


def test_the_transform_is_the_cosine_transform():
    np.testing.assert_allclose(cosines(7), dct(np.eye(7), norm="ortho", axis=0), atol=1e-6)


@pytest.mark.parametrize("balance", [0, 0.5, 1])
def test_frequencies_of_time_come_as_near_to_each_other_as_asked(balance):
    """Variances v become v^(1 - balance), all but a factor."""
    video = videos()
    centred = video - video.mean((0, 2), keepdim=True)
    before, after = (
        torch.einsum("kt,bcthw->kbchw", cosines(7), x).square().mean((1, 2, 3, 4))
        for x in (centred, measured(video, balance)(video))
    )
    assert before[0] / before[-1] > 10
    expected = before ** (1 - balance)
    torch.testing.assert_close(after, expected / expected.mean(), rtol=1e-3, atol=0)


def test_still_clips_do_not_have_their_rounding_blown_up():
    video = videos()[:, :, :1].expand(-1, -1, 7, -1, -1)
    standardise = measured(video, 1)
    assert standardise(video).square().mean() == pytest.approx(1 / 7, rel=1e-3)  # of 7 frequencies, 6 are silent
    assert standardise.gains.max() / standardise.gains.min() == pytest.approx(LEAST**-0.5, rel=1e-3)


def test_clips_without_any_contrast_are_finite():
    video = torch.full((4, 3, 7, 6, 8), 0.3)
    standardise = measured(video)
    assert torch.isfinite(standardise(video)).all()
    torch.testing.assert_close(standardise.back(standardise(video)), video)


def test_it_says_whether_it_was_measured_and_that_is_saved():
    fresh = Standardise(7, 6, 8, 0.5)
    assert not fresh.is_measured
    torch.testing.assert_close(fresh(videos()), videos())
    fresh.load_state_dict(measured(videos()).state_dict())
    assert fresh.is_measured
