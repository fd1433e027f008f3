"""What a network predicts, which noise levels it learns at and how its errors count: closed forms."""

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from t2v_models.families.diffusion.loss import KEPT, ExpectedError, distance
from t2v_models.families.diffusion.noise_levels import Curve, NoiseLevels
from t2v_models.families.diffusion.precondition import Preconditioned, Prediction, scales

SIGMAS = torch.tensor([0.01, 0.3, 1.0, 4.0, 90.0], dtype=torch.float64)
each_prediction = pytest.mark.parametrize("prediction", get_args(Prediction))
TARGETS = {
    "x0": lambda x0, n, sigma: x0,
    "eps": lambda x0, n, sigma: n,
    "v": lambda x0, n, sigma: (n - sigma * x0) / (1 + sigma**2).sqrt(),
    "flow": lambda x0, n, sigma: n - x0,
}
"""What each paper says its network should say."""


class Says(nn.Module):
    """A network that says what it was given, and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer, self.asked = answer, ()

    def forward(self, *asked: Any) -> Tensor:
        self.asked = asked
        return self.answer


@each_prediction
def test_a_network_that_says_what_its_paper_asks_for_denoises_exactly(prediction):
    random = torch.Generator().manual_seed(0)
    x0, n = torch.randn(2, 5, 3, 4, generator=random)
    sigma = SIGMAS.float()
    network = Says(TARGETS[prediction](x0, n, sigma[:, None, None]))
    x = x0 + sigma[:, None, None] * n
    found = Preconditioned(network, prediction)(x, sigma, "text")
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-4)
    torch.testing.assert_close(network.asked[0], x / (1 + sigma[:, None, None] ** 2).sqrt())
    torch.testing.assert_close(network.asked[1], sigma.log() / 4)
    assert network.asked[2] == "text"


def test_v_is_the_row_edm_of_table_1_with_the_networks_sign_turned():
    found = scales("v", SIGMAS)
    torch.testing.assert_close(found.skip, 1 / (SIGMAS**2 + 1))
    torch.testing.assert_close(-found.out, SIGMAS / (SIGMAS**2 + 1).sqrt())
    torch.testing.assert_close(found.into, 1 / (SIGMAS**2 + 1).sqrt())


@each_prediction
def test_a_silent_network_leaves_what_the_skip_lets_through(prediction):
    """At no noise all of x, but for x0; at all noise none of it, but for eps."""
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    found = Preconditioned(Says(torch.zeros(2, 6)), prediction)(x, torch.tensor([1e-6, 1e6]))
    torch.testing.assert_close(found[0], torch.zeros(6) if prediction == "x0" else x[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(found[1], x[1] if prediction == "eps" else torch.zeros(6), rtol=0, atol=1e-4)


@pytest.mark.parametrize("curve", get_args(Curve))
@given(low=st.floats(0.005, 0.2), ratio=st.floats(3, 3000), shift=st.floats(0.2, 5))
def test_levels_run_from_high_to_low_whatever_the_curve(curve, low, ratio, shift):
    levels = NoiseLevels(curve=curve, low=low, high=low * ratio, shift=shift)
    falling = levels.falling(9)
    assert falling.shape == (10,) and falling[9] == 0
    assert falling[0] == pytest.approx(low * ratio, rel=1e-5) and falling[8] == pytest.approx(low, rel=1e-5)
    assert (falling.diff() < 0).all()


def test_one_step_begins_at_the_most_noise():
    assert NoiseLevels(high=40).falling(1).tolist() == [40, 0]


@pytest.mark.parametrize(
    ("curve", "of"),
    [
        ("rho", lambda s: s ** (1 / 7)),  # Karras et al. 2022, eq. 5
        ("log", torch.log),
        ("cosine", lambda s: (1 / (1 + s**2)).sqrt().acos()),  # alpha_bar = cos²(place)
        ("flow", lambda s: s / (1 + s)),  # x = (1 - t) x0 + t n
    ],
)
def test_levels_are_evenly_spread_along_what_the_paper_says(curve, of):
    steps = of(NoiseLevels(curve=curve, low=0.05, high=20).at(torch.linspace(0, 1, 12))).diff()
    torch.testing.assert_close(steps, steps.mean().expand(11), rtol=1e-6, atol=0)


def test_a_shift_is_that_of_rectified_flow():
    """t' = s t / (1 + (s - 1) t), Esser et al. 2024, eq. 23, where the ends let it."""
    plain, shifted = (NoiseLevels(curve="flow", low=1e-6, high=1e6, shift=s).at(torch.tensor([0.3])) for s in (1, 3))
    t = plain / (1 + plain)
    torch.testing.assert_close(shifted / (1 + shifted), 3 * t / (1 + 2 * t), rtol=1e-4, atol=0)


def test_drawn_levels_are_stratified_and_have_the_distribution_they_should():
    levels = NoiseLevels(curve="lognormal", low=1e-4, high=1e4, mean=0.5, std=1.5)
    torch.manual_seed(0)
    drawn = levels.draw(1000)
    assert drawn.log().mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.log().std() == pytest.approx(1.5, abs=0.02)
    ordered = drawn.sort().values
    assert not torch.equal(ordered, drawn)
    place = torch.special.ndtr((ordered.log() - 0.5) / 1.5) * 1000
    assert (place.long() - torch.arange(1000)).abs().max() <= 1  # one in each part, up to rounding


def test_levels_upside_down_are_refused():
    with pytest.raises(ValueError, match="low must be below high .found 3 and 2."):
        NoiseLevels(low=3, high=2)


@pytest.mark.parametrize(("kind", "small", "large"), [("l2", 1e-4, 1e4), ("l1", 1e-2, 1e2), ("huber", 5e-5, 99.005)])
def test_distances(kind, small, large):
    found = distance(torch.tensor([0.01, -100.0, 0.0], dtype=torch.float64), kind)
    torch.testing.assert_close(found, torch.tensor([small, large, 0], dtype=torch.float64), rtol=1e-4, atol=0)


def test_weights_of_the_papers():
    """1 / expected² is the weight of a squared error of x0."""
    snr = SIGMAS**-2
    torch.testing.assert_close(ExpectedError("min_snr", 0.01, 90)(SIGMAS) ** -2, snr.clamp_max(5))
    torch.testing.assert_close(ExpectedError("edm", 0.01, 90)(SIGMAS) ** -2, (SIGMAS**2 + 1) / SIGMAS**2)
    torch.testing.assert_close(ExpectedError("edm", 0.01, 90)(SIGMAS), scales("v", SIGMAS).out.abs())


def test_the_even_weight_learns_what_error_to_expect():
    """It starts near the best linear denoiser's; bins without clips stay; one update moves by 1 - KEPT of the way."""
    expected = ExpectedError("even", 0.01, 100)
    start = expected(SIGMAS.float())
    torch.testing.assert_close(start, (SIGMAS / (1 + SIGMAS**2).sqrt()).float(), rtol=0.15, atol=0)
    sigma = torch.tensor([0.3, 0.3, 4.0])
    expected.note(sigma[:2], torch.tensor([2.0, 4.0]))
    expected.note(sigma[2:], torch.tensor([7.0]))
    assert torch.equal(expected(SIGMAS.float()), start)
    expected.remember()
    now = expected(SIGMAS.float())
    moved = (KEPT * start**2 + (1 - KEPT) * torch.tensor([0, 3.0, 0, 7.0, 0])).sqrt()
    torch.testing.assert_close(now[[1, 3]], moved[[1, 3]])
    assert torch.equal(now[[0, 2, 4]], start[[0, 2, 4]])
    for _ in range(500):
        expected.note(sigma, torch.tensor([2.0, 4.0, 7.0]))
        expected.remember()
    assert expected(torch.tensor([0.3])).item() == pytest.approx(math.sqrt(3), rel=1e-3)
