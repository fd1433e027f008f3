"""Which noise levels a denoiser learns at and a sampler steps through: one curve for both.

A curve says along which function of sigma levels are evenly spread between `low` and `high`. Even steps along it are a
sampler's schedule; random places along it are a training distribution. A sigma is in units of the data's deviation.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from t2v_models.config import Config

Curve = Literal["rho", "log", "cosine", "linear", "flow", "lognormal"]
BETA_MIN, BETA_RISE = 0.1, 19.9
"""Of the linear schedule: 1000 betas from 1e-4 to 0.02 in continuous time (Song et al. 2021, arXiv:2011.13456)."""


class NoiseLevels(Config):
    """Noise levels from low to high, spread along a curve."""

    curve: Curve = Field("rho", description="along which function of sigma the levels are evenly spread")
    low: float = Field(0.02, gt=0, description="the least noise, in deviations of the data")
    high: float = Field(80.0, gt=0, description="the most noise, in deviations of the data")
    rho: float = Field(7.0, gt=0, description="of the curve rho: the greater, the more levels of little noise")
    shift: float = Field(1.0, gt=0, description="all of the curve towards more noise by this factor: larger frames")
    mean: float = Field(0.5, description="of the curve lognormal: the mean of ln sigma")
    std: float = Field(1.6, gt=0, description="of the curve lognormal: the deviation of ln sigma")

    @model_validator(mode="after")
    def _some_room(self) -> "NoiseLevels":
        if self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low:g} and {self.high:g})")
        return self

    def at(self, place: Tensor) -> Tensor:
        """The noise level at each place in [0, 1] along the curve: 0 is `low`, 1 is `high`. In double precision."""
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        low, high = self._along(ends / self.shift)
        return (self.shift * self._back(torch.lerp(low, high, place.double()))).clamp(*ends.tolist())

    def falling(self, steps: int) -> Tensor:
        """A sampler's schedule: `(steps + 1,)` levels from high to low, and 0."""
        places = torch.linspace(1, 0, steps, dtype=torch.float64) if steps > 1 else torch.ones(1)
        return torch.cat([self.at(places), torch.zeros(1)]).float()

    def draw(self, count: int) -> Tensor:
        """Random levels `(count,)`, one from each of as many equal parts of the curve, in random order: the mean loss
        of a batch then depends less on luck."""
        places = (torch.randperm(count) + torch.rand(count)) / count
        return self.at(places).float()

    def _along(self, sigma: Tensor) -> Tensor:
        """The function that is evenly spread."""
        match self.curve:
            case "rho":  # Karras et al. 2022, eq. 5
                place = sigma ** (1 / self.rho)
            case "log":
                place = sigma.log()
            case "cosine":  # alpha_bar = cos²(place) (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17)
                place = sigma.atan()
            case "linear":  # ln(1 + sigma²) = BETA_RISE t² / 2 + BETA_MIN t (Karras et al. 2022, table 1, VP)
                place = ((BETA_MIN**2 + 2 * BETA_RISE * (sigma**2).log1p()).sqrt() - BETA_MIN) / BETA_RISE
            case "flow":  # x = (1 - t) x0 + t n, with `shift` as in Esser et al. 2024, arXiv:2403.03206, eq. 23
                place = sigma / (1 + sigma)
            case "lognormal":  # Karras et al. 2022, table 1, training
                place = torch.special.ndtr((sigma.log() - self.mean) / self.std)
        return place

    def _back(self, place: Tensor) -> Tensor:
        """From that function to sigma."""
        match self.curve:
            case "rho":
                sigma = place**self.rho
            case "log":
                sigma = place.exp()
            case "cosine":
                sigma = place.tan()
            case "linear":
                sigma = (BETA_RISE * place**2 / 2 + BETA_MIN * place).expm1().sqrt()
            case "flow":
                sigma = place / (1 - place)
            case "lognormal":
                sigma = (self.mean + self.std * torch.special.ndtri(place)).exp()
        return sigma
