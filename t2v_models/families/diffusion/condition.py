"""How a network is told the noise level and the text."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.text.encoder import Text

WAVES = 32
"""Cosines, and as many sines, of the noise level."""
GRID = 8
"""Most cells on a side of a layout: finer maps get it enlarged."""


class Condition(nn.Module):
    """One vector `(b, m)` of the noise level and the text: half of it each.

    Words are summed, so that an unseen combination of words is near what was trained, and divided by the root of their
    number. A text without tokens is no text: it has a vector of its own, learnt where captions are left out.
    """

    def __init__(self, text: int, width: int) -> None:
        super().__init__()
        self.register_buffer("waves", torch.logspace(-1, 1, WAVES), persistent=False)
        self.waves: Tensor
        self.level = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width // 2))
        self.words = nn.Linear(text, width // 2, bias=False)
        nn.init.normal_(self.words.weight, std=0.3)
        self.nothing = nn.Parameter(torch.zeros(width // 2))

    def forward(self, level: Tensor, text: Text) -> Tensor:
        """Of ln(sigma) / 4, `(b,)`, and texts."""
        angle = 4 * level[:, None] * self.waves
        count = text.mask.sum(1, keepdim=True)
        said = self.words(text.embeddings.sum(1) / count.clamp_min(1).sqrt()) + (count == 0) * self.nothing
        heard: Tensor = self.level(torch.cat([angle.cos(), angle.sin()], 1))
        return torch.cat([heard, said], 1)


class Modulate(nn.Module):
    """Scale and shift of each channel by the condition (FiLM, Perez et al. 2018, arXiv:1709.07871)."""

    def __init__(self, condition: int, width: int) -> None:
        super().__init__()
        self.film = nn.Linear(condition, 2 * width)
        self.film.weight.data.mul_(0.3)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """`(b, width, h, w)`."""
        scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
        changed: Tensor = h * (1 + scale) + shift
        return changed


class Layout(nn.Module):
    """A picture `(b, width, h, w)` that is a linear map of the condition: where in the frame what was said belongs.

    A vector that scales and shifts channels alike everywhere says what, but hardly where: on real clips this brought
    the share of clips nearest to their caption's from .06 to .76.
    """

    def __init__(self, condition: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.cells = min(size[0], GRID), min(size[1], GRID)
        self.grid = nn.Linear(condition, width * math.prod(self.cells))
        nn.init.normal_(self.grid.weight, std=0.02)

    def forward(self, condition: Tensor, size: Sequence[int]) -> Tensor:
        """For conditions `(b, m)`, at any size."""
        grid: Tensor = self.grid(condition).view(len(condition), -1, *self.cells)
        grid = grid.contiguous(memory_format=torch.channels_last)
        size = size[0], size[1]
        return grid if self.cells == size else F.interpolate(grid, size, mode="bilinear")
