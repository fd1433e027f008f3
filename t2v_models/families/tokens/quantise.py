"""Numbers to tokens and back, without a codebook to learn: finite scalar quantisation.

Each of d numbers is bounded and rounded to one of a few levels; a token is the place of such a code among all there are
(Mentzer et al. 2023, arXiv:2309.15505, section 3.1 and its appendix A.1).
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from t2v_models.families.layers import full_precision

EDGE = 1e-3
"""How far beyond the outermost levels numbers may reach, so that these can be met."""


class Fsq(nn.Module):
    """Codes `(…, d)` of numbers in [-1, 1] on a grid of so many levels each, and the tokens that stand for them."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.vocabulary = prod(levels)
        count = torch.tensor(levels)
        self.register_buffer("levels", count, persistent=False)
        self.register_buffer("places", torch.cumprod(torch.tensor([1, *levels[:-1]]), 0), persistent=False)
        self.levels: Tensor
        self.places: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        """The nearest codes; gradients pass as if nothing had been rounded."""
        bounded = self._bounded(numbers)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / self._half

    def tokens(self, codes: Tensor) -> Tensor:
        """int64 `(…)` in [0, vocabulary)."""
        level = (codes * self._half).round().long() + self._half
        return (level * self.places).sum(-1)

    def codes(self, tokens: Tensor) -> Tensor:
        """The codes that tokens stand for, `(…, d)`."""
        level = tokens[..., None] // self.places % self.levels
        return (level - self._half).to(torch.get_default_dtype()) / self._half

    @property
    def _half(self) -> Tensor:
        return self.levels // 2

    @full_precision
    def _bounded(self, numbers: Tensor) -> Tensor:
        """So that rounding gives each of the levels: an even number of them has one more below 0 than above."""
        reach = (self.levels - 1) * (1 + EDGE) / 2
        shift = 0.5 * (self.levels % 2 == 0)
        return (numbers + (shift / reach).atanh()).tanh() * reach - shift
