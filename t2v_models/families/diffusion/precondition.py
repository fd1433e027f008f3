"""What a network predicts, in one form: D(x, sigma) = c_skip x + c_out F(c_in x, c_noise) (Karras et al. 2022,
arXiv:2206.00364, eq. 7 and table 1).

x = x0 + sigma n, where x0 has variance 1 (`standardise` sees to it) and n is standard noise; so the paper's sigma_data
is 1 throughout, and a noise level is a ratio to the signal. F is the network; whichever of the four it predicts, its
input has variance 1 and D is the mean of x0 given x.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Prediction = Literal["x0", "eps", "v", "flow"]
"""The clean clip; the noise; v = (n - sigma x0) / sqrt(1 + sigma²), which is EDM's target with another sign (Salimans &
Ho 2022, arXiv:2202.00512); the velocity n - x0 (Lipman et al. 2023, arXiv:2210.02747)."""


@dataclass(frozen=True)
class Scales:
    """The paper's c_skip, c_out, c_in and c_noise, like sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def scales(prediction: Prediction, sigma: Tensor) -> Scales:
    """For noise levels of any shape; the last, ln(sigma) / 4, is how the network is told the level."""
    into = (1 + sigma**2).rsqrt()
    skip, out = {
        "x0": (0 * sigma, 1 + 0 * sigma),
        "eps": (1 + 0 * sigma, -sigma),
        "v": (into**2, -sigma * into),
        "flow": (1 / (1 + sigma), -sigma / (1 + sigma)),
    }[prediction]
    return Scales(skip, out, into, sigma.log() / 4)


class Preconditioned(nn.Module):
    """A network F(x, c_noise, …) as a denoiser D(x, sigma, …)."""

    def __init__(self, network: nn.Module, prediction: Prediction) -> None:
        super().__init__()
        self.network = network
        self.prediction: Prediction = prediction

    def forward(self, x: Tensor, sigma: Tensor, *conditions: Any) -> Tensor:
        """The clean clip, like x `(b, …)` whatever autocast does, of clips with noise levels `(b,)`."""
        c = scales(self.prediction, sigma)
        found: Tensor = self.network(_rows(c.into, x) * x, c.noise, *conditions)
        return _rows(c.skip, x) * x + _rows(c.out, x) * found.to(x.dtype)


def _rows(numbers: Tensor, like: Tensor) -> Tensor:
    """`(b,)` as `(b, 1, …)`, one number a row."""
    return numbers.view(-1, *[1] * (like.ndim - 1))
