"""Averages of weights over training, which sample better than the last ones."""

import copy
from collections.abc import Sequence

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


def half_life_share(step: int, longest: float) -> float:
    """The share of an average with a half-life of 5 % of the steps so far, at most `longest` steps."""
    return float(1 - 0.5 ** (1 / min(longest, 0.05 * (step + 1))))


def power_share(step: int, power: float) -> float:
    """1 - (1 - 1/t)^(power + 1), t steps done: an average that looks back over a fixed share of the run, the shorter
    the higher the power (Karras et al. 2024, arXiv:2312.02696, eq. 1)."""
    return float(1 - (1 - 1 / (step + 1)) ** (power + 1))
