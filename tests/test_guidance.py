"""Guidance against a world in closed form, and the bounds that keep it in."""

import torch
from torch import Tensor

from t2v_models.families.diffusion.guidance import Guidance, dynamic_threshold
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.samplers import heun

TEXT, NONE = 2.0, -1.0
"""Where the clips of a text are, and where all clips are on average."""


class World:
    """Clips N(mean, 1) of 8 numbers; counts how often it is asked with how many."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def denoise(self, x: Tensor, sigma: Tensor, means: Tensor) -> Tensor:
        self.rows.append(len(x))
        return means + (x - means) / (1 + sigma[:, None] ** 2)

    def guided(self, guidance: Guidance):
        return guidance(
            lambda x, sigma: self.denoise(x, sigma, torch.full((len(x), 1), TEXT)),
            lambda x, sigma: self.denoise(x, sigma, torch.tensor([TEXT, NONE]).repeat_interleave(len(x) // 2)[:, None]),
        )


def noise(count: int = 500) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(0))


def unused() -> Tensor:
    raise AssertionError


def sampled(guidance: Guidance) -> Tensor:
    sigmas = NoiseLevels(low=0.01, high=500).falling(60)
    return heun(World().guided(guidance), 500 * noise(), sigmas, unused)


def test_the_mean_moves_as_the_scale_says():
    """Two Gaussians of one deviation: the guided flow is that of N(NONE + scale (TEXT - NONE), 1)."""
    for scale, mean in ((0.0, -1.0), (1.0, 2.0), (1.5, 3.5), (3.0, 8.0)):
        clips = sampled(Guidance(scale))
        assert abs(clips.mean() - mean) < 0.1
        assert abs(clips.std() - 1) < 0.05


def test_one_pass_for_both_and_none_where_it_is_not_guided():
    world = World()
    guided = world.guided(Guidance(3.0, low=0.5, high=5))
    for sigma in (0.5, 0.6, 5.0, 5.1):
        guided(noise(4), torch.full((4,), sigma))
    assert world.rows == [4, 8, 8, 4]
    world.rows.clear()
    world.guided(Guidance(1.0))(noise(4), torch.ones(4))
    assert world.rows == [4]


def test_outside_the_interval_it_is_the_clip_with_text():
    x, sigma = noise(4), torch.full((4,), 7.0)
    world = World()
    plain = world.guided(Guidance())(x, sigma)
    assert torch.equal(world.guided(Guidance(3.0, high=5))(x, sigma), plain)
    assert not torch.equal(world.guided(Guidance(3.0, high=8))(x, sigma), plain)


def test_rescaling_gives_back_the_contrast_of_the_clip_with_text():
    def with_text(x: Tensor, sigma: Tensor) -> Tensor:
        return x

    def with_both(x: Tensor, sigma: Tensor) -> Tensor:
        half = len(x) // 2
        return torch.cat([x[:half], 0.2 * x[half:]])

    x, sigma = noise(4), torch.ones(4)
    contrast = [Guidance(3.0, rescale=share)(with_text, with_both)(x, sigma).std(1) / x.std(1) for share in (0, 0.5, 1)]
    for found, expected in zip(contrast, (2.6, 1.8, 1.0), strict=True):  # 0.2 + 3 (1 - 0.2) = 2.6
        torch.testing.assert_close(found, torch.full((4,), expected))


def test_rescaling_an_even_clip_is_finite():
    even = Guidance(3.0, rescale=0.7)(lambda x, sigma: x, lambda x, sigma: torch.zeros_like(x))
    assert torch.equal(even(noise(2), torch.ones(2)), torch.zeros(2, 8))


def test_dynamic_threshold():
    """Inside [-1, 1] nothing happens; outside, all is divided by the size that the share stays below."""
    inside = torch.linspace(-0.9, 0.9, 101)
    outside = 4 * torch.linspace(-1, 1, 101)
    found = dynamic_threshold(torch.stack([inside, outside]), 0.5)
    assert torch.equal(found[0], inside)
    torch.testing.assert_close(found[1], (outside / 2).clamp(-1, 1))
