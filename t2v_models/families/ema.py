"""Averages of weights over training, which sample better than the last ones."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class Average(nn.ModuleList):
    """Copies of networks whose weights follow those of the originals, an exponential average.

    Saved with the model as its own part; the originals are only looked at.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__(copy.deepcopy(list(networks)))
        self.requires_grad_(False)
        self._originals = tuple(networks)  # a tuple: as modules of this one they would be saved twice

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Go this share of the way, 0 to 1, to the weights of now."""
        now = [p.detach() for network in self._originals for p in network.parameters()]
        torch._foreach_lerp_(list(self.parameters()), now, share)

    @torch.no_grad()
    def hand_over(self) -> None:
        """Put the averaged weights in the place of the originals'."""
        for network, averaged in zip(self._originals, self, strict=True):
            for own, average in zip(network.parameters(), averaged.parameters(), strict=True):
                own.copy_(average)

    @torch.no_grad()
    def become(self, averages: Sequence["Average"], shares: Sequence[float]) -> None:
        """The sum of others, of the same networks, by these shares."""
        for own, *others in zip(self.parameters(), *(one.parameters() for one in averages), strict=True):
            own.copy_(sum(share * other for share, other in zip(shares, others, strict=True)))


def half_life_share(step: int, longest: float) -> float:
    """The share of an average with a half-life of 5 % of the steps so far, at most `longest` steps."""
    return float(1 - 0.5 ** (1 / min(longest, 0.05 * (step + 1))))


def power_share(step: int, power: float) -> float:
    """1 - (1 - 1/t)^(power + 1), t steps done: an average that looks back over a fixed share of the run, the shorter
    the higher the power (Karras et al. 2024, arXiv:2312.02696, eq. 1)."""
    return float(1 - (1 - 1 / (step + 1)) ** (power + 1))


def blend(powers: Sequence[float], power: float) -> list[float]:
    """Shares of averages of `powers`, 1 in all, whose sum comes nearest to the average of another power.

    An average of power g counts the weights of each time t, 0 to 1, as (g + 1) t^g. Two such profiles have the inner
    product (g + 1)(h + 1) / (g + h + 1), so the nearest sum of some to another is a small linear system (Karras et al.
    2024, arXiv:2312.02696, section 3.2; there the averages are of several times, here all are of the end).
    """
    known = np.array(powers, np.float64)
    system = np.ones((len(known) + 1,) * 2)
    system[-1, -1] = 0  # the last row and column: the shares are 1 in all
    system[:-1, :-1] = np.outer(known + 1, known + 1) / (np.add.outer(known, known) + 1)
    wanted = np.append((known + 1) * (power + 1) / (known + power + 1), 1)
    return [float(share) for share in np.linalg.solve(system, wanted)[:-1]]
