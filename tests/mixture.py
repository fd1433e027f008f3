"""A world whose exact denoiser is known: a mixture of Gaussians in the plane."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one deviation, `(k,)` shares and `(k, d)` means, in double precision."""

    shares: Tensor
    means: Tensor
    std: float

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The mean of x0 given x = x0 + sigma n, for x `(b, d)` and sigma `(b,)`: of each Gaussian its own, weighted by
        how probable it is that x came from it."""
        variance = (self.std**2 + sigma.double() ** 2)[:, None]
        apart = x.double()[:, None] - self.means  # (b, k, d)
        probable = (self.shares.log() - apart.square().sum(-1) / variance / 2).softmax(1)
        means = self.means + self.std**2 / variance[:, None] * apart
        return (probable[..., None] * means).sum(1).to(x.dtype)


PLANE = Mixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([[1.0, 0.5], [-1.2, 0.3], [0.2, -1.4]], dtype=torch.float64),
    0.25,
)
