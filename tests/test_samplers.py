"""Samplers against closed forms: orders of convergence, and the distributions they must end in."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.samplers import Churn, ddim, ddpm, dpm2m, euler, heun, sde2m
from tests.mixture import PLANE, Mixture


def unused() -> Tensor:
    raise AssertionError("a sampler that adds no noise drew some")


def levels(steps: int, high: float = 10.0, low: float = 0.1) -> Tensor:
    return NoiseLevels(low=low, high=high).at(torch.linspace(1, 0, steps + 1))


def start(count: int = 64, high: float = 10.0) -> Tensor:
    return high * torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (euler, 1), (heun, 2), (dpm2m, 2)])
def test_errors_fall_with_the_order_of_the_sampler(sampler, order):
    """Of the exact flow of a mixture, between two noise levels, as steps are halved."""
    exact = heun(PLANE.denoise, start(), levels(2000), unused)
    errors = [(sampler(PLANE.denoise, start(), levels(n), unused) - exact).abs().mean() for n in (40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("sampler", [ddim, euler, heun, dpm2m])
def test_of_one_gaussian_the_flow_is_a_straight_change_of_scale(sampler):
    """x - mean shrinks as the deviation does: (x - m) sqrt((s² + low²) / (s² + high²))."""
    one = Mixture(torch.ones(1, dtype=torch.float64), torch.tensor([[0.4, -0.7]], dtype=torch.float64), 0.5)
    exact = one.means + (start() - one.means) * math.sqrt((0.25 + 0.01) / (0.25 + 100))
    found = sampler(one.denoise, start(), levels(1000), unused)
    torch.testing.assert_close(found, exact, rtol=0, atol=3e-3 if sampler in (ddim, euler) else 2e-5)


def test_without_churn_euler_is_ddim():
    torch.testing.assert_close(
        euler(PLANE.denoise, start(), levels(7), unused), ddim(PLANE.denoise, start(), levels(7), unused)
    )


SAMPLERS = {
    "ddim": ddim,
    "ddim, half the noise new": lambda *args: ddim(*args, eta=0.5),
    "ddpm": ddpm,
    "euler, churned": lambda *args: euler(*args, churn=Churn(20, low=0.05, high=5)),
    "heun": heun,
    "heun, churned": lambda *args: heun(*args, churn=Churn(20, low=0.05, high=5)),
    "dpm2m": dpm2m,
    "sde2m": sde2m,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_shares_means_and_deviation_of_the_mixture(name):
    random = torch.Generator().manual_seed(1)

    def draw() -> Tensor:
        return torch.randn(4000, 2, generator=random, dtype=torch.float64)

    x = SAMPLERS[name](PLANE.denoise, 20 * draw(), NoiseLevels(low=0.02, high=20).falling(200), draw)
    nearest = (x[:, None] - PLANE.means).square().sum(-1).argmin(1)
    shares = nearest.bincount(minlength=3) / len(x)
    torch.testing.assert_close(shares.double(), PLANE.shares, rtol=0, atol=4 * math.sqrt(0.25 / len(x)))
    apart = x - PLANE.means[nearest]
    for which in range(3):
        mine = apart[nearest == which]
        assert mine.mean(0).abs().max() < 4 * PLANE.std / math.sqrt(len(mine))
    # New noise and steps of first order lose a few per cent of the deviation, half as much at 400 steps.
    assert apart.std() == pytest.approx(PLANE.std, rel=0.05 if name in ("ddpm", "euler, churned") else 0.02)


def test_ancestral_steps_have_the_variance_that_their_recursion_says():
    """Data N(0, 1): every step is x -> a x + b n, so the variance after it is known exactly."""
    sigmas = NoiseLevels(low=0.5, high=10).falling(6)
    variance = 101.0
    for now, then in pairwise(sigmas):
        posterior = then**2 * (now**2 - then**2) / now**2  # Ho et al. 2020, eq. 7, for x / sqrt(alpha_bar)
        kept = (then**2 - posterior).sqrt() / now
        variance = (1 / (1 + now**2) * (1 - kept) + kept) ** 2 * variance + posterior
    random = torch.Generator().manual_seed(2)
    one = Mixture(torch.ones(1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64), 1.0)

    def draw() -> Tensor:
        return torch.randn(100_000, 2, generator=random, dtype=torch.float64)

    x = ddpm(one.denoise, math.sqrt(101) * draw(), sigmas, draw)
    assert x.var() == pytest.approx(float(variance), rel=0.02)
    assert variance < 0.9  # six steps are too few for 1


def test_churn_keeps_the_noise_level_true_and_stays_within_its_bounds():
    random = torch.Generator().manual_seed(3)

    def draw() -> Tensor:
        return torch.randn(100_000, generator=random, dtype=torch.float64)

    sigma = torch.tensor(2.0, dtype=torch.float64)
    x, higher = Churn(amount=4)(2 * draw(), sigma, 10, draw)
    assert float(higher) == pytest.approx(2.8)
    assert x.std() == pytest.approx(2.8, rel=0.01)
    assert float(Churn(amount=100)(x, sigma, 10, draw)[1]) == pytest.approx(2 * math.sqrt(2))
    for left_alone in (Churn(4, high=1.9), Churn(4, low=2.1), Churn()):
        assert left_alone(x, sigma, 10, unused)[1] is sigma


def test_heun_calls_twice_a_step_and_once_for_the_last():
    calls = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return PLANE.denoise(x, sigma)

    sigmas = NoiseLevels(low=0.1, high=4).falling(3)
    heun(denoise, start(), sigmas, unused)
    assert calls == [float(sigmas[i]) for i in (0, 1, 1, 2, 2)]
    calls.clear()
    dpm2m(denoise, start(), sigmas, unused)
    assert calls == [float(sigma) for sigma in sigmas[:3]]
