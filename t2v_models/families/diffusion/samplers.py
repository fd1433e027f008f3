"""Ways from noise to a clip: plain functions of a denoiser and a falling row of noise levels.

All are written in the variables of Karras et al. (2022, arXiv:2206.00364): x = x0 + sigma n, and `denoise(x, sigma)` is
the mean of x0 given x. Where no noise is added, x follows dx/dsigma = (x - denoise(x, sigma)) / sigma (their eq. 1
and 3 with sigma(t) = t). Papers that keep the variance of x at 1 write the same steps for x / sqrt(1 + sigma²).

Arguments of every sampler:
    denoise: from x and its noise levels `(b,)` to the clean clip, like x.
    x: `(b, …)`, noise of deviation `sigmas[0]`, with a clip below it or none.
    sigmas: `(n + 1,)`, falling; the last may be 0.
    draw: fresh standard noise like x, for those that add some.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Literal

from torch import Tensor

SamplerName = Literal["ddpm", "ddim", "euler", "heun", "dpm2m", "sde2m"]
Denoise = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class Churn:
    """Noise added before each step, to undo errors of those before (Karras et al. 2022, algorithm 2)."""

    amount: float = 0.0
    """S_churn: over all steps; of one step at most a factor sqrt(2) in the noise level."""
    low: float = 0.0
    """S_tmin: noise levels below are left alone."""
    high: float = inf
    """S_tmax: and those above."""
    noise: float = 1.0
    """S_noise: deviation of what is added."""

    def __call__(self, x: Tensor, sigma: Tensor, steps: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """x at a higher noise level, and that level."""
        if not self.amount or not self.low <= sigma <= self.high:
            return x, sigma
        higher = sigma * (1 + min(self.amount / steps, 2**0.5 - 1))
        return x + (higher**2 - sigma**2).sqrt() * self.noise * draw(), higher


STILL = Churn()


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 0.0) -> Tensor:
    """Denoise, then put a share of noise back, old and new (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16).

    With `eta` 0 all of it is the old noise; with 1 the new has the variance of the true posterior, which is `ddpm`.
    """
    for now, then in pairwise(sigmas):
        clean = _clean(denoise, x, now)
        new = eta * then * (1 - (then / now) ** 2).sqrt()
        x = clean + (then**2 - new**2).sqrt() / now * (x - clean)
        if new > 0:
            x = x + new * draw()
    return x


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """Ancestral sampling: each step draws from the posterior of the level below (Ho et al. 2020, arXiv:2006.11239,
    eq. 6 and 7; "fixed small" variance)."""
    return ddim(denoise, x, sigmas, draw, eta=1.0)


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, churn: Churn = STILL) -> Tensor:
    """Along the slope at the start of each step. First order; without churn it is `ddim`."""
    for now, then in pairwise(sigmas):
        x, now = churn(x, now, len(sigmas) - 1, draw)
        x = x + (then - now) * _slope(denoise, x, now)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, churn: Churn = STILL) -> Tensor:
    """Along the mean of the slopes at both ends of each step (Karras et al. 2022, algorithms 1 and 2). Second order;
    two calls a step, one where the step ends at 0."""
    for now, then in pairwise(sigmas):
        x, now = churn(x, now, len(sigmas) - 1, draw)
        slope = _slope(denoise, x, now)
        ahead = x + (then - now) * slope
        x = x + (then - now) * (slope + _slope(denoise, ahead, then)) / 2 if then > 0 else ahead
    return x


def dpm2m(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 0.0) -> Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, algorithm 2). Second order at one call a step.

    The clean clip is carried on along the line through its last two estimates, over the log of the noise level. The
    first step, and one that ends at 0, where the log has no end, are of first order. With `eta` 1 it follows the
    stochastic equation with the same marginals (their SDE-DPM-Solver++ 2M), which is `sde2m`.
    """
    before: tuple[Tensor, Tensor] | None = None  # the estimate of the step before, and that step's length
    for now, then in pairwise(sigmas):
        clean = _clean(denoise, x, now)
        step = (now / then).log()
        ahead = clean
        if before and then > 0:
            ahead = clean + step / before[1] / 2 * (clean - before[0])
        x = ahead + (then / now) ** (1 + eta) * (x - ahead)
        new = then * (1 - (then / now) ** (2 * eta)).sqrt()
        if new > 0:
            x = x + new * draw()
        before = clean, step
    return x


def sde2m(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """DPM-Solver++ 2M that draws new noise at each step, which undoes errors of the steps before, in fewer steps than
    `ddpm`."""
    return dpm2m(denoise, x, sigmas, draw, eta=1.0)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "heun": heun, "dpm2m": dpm2m, "sde2m": sde2m}
CHURNED = {"euler": euler, "heun": heun}


def sample(name: SamplerName, denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, churn: Churn = STILL) -> Tensor:
    """By the sampler of that name; `churn` is for those in `CHURNED`."""
    if churn.amount:
        return CHURNED[name](denoise, x, sigmas, draw, churn)
    return SAMPLERS[name](denoise, x, sigmas, draw)


def steps_of(name: SamplerName, calls: int) -> int:
    """How many steps so many calls of the denoiser are: `heun` makes two a step, but one in the last."""
    return (calls + 1) // 2 if name == "heun" else calls


def _clean(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    return denoise(x, sigma.expand(len(x)))


def _slope(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    """dx/dsigma."""
    return (x - _clean(denoise, x, sigma)) / sigma
