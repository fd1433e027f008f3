"""How many tokens are hidden, which ones, and in which order they are shown.

Letters in shapes: b clips, n tokens of a clip, (s, y, x) their grid.
"""

from collections.abc import Callable
from functools import lru_cache
from math import pi, prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Schedule = Literal["cosine", "linear", "square", "cubic", "root"]
SHARES: dict[Schedule, Callable[[Tensor], Tensor]] = {
    "cosine": lambda u: torch.cos(u * pi / 2),
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u.square(),
    "cubic": lambda u: 1 - u**3,
    "root": lambda u: 1 - u.sqrt(),
}
"""Share of the tokens that is hidden, from 1 to 0, when a share u of the steps is done (Chang et al. 2022,
arXiv:2202.04200, section 3.3). Over all steps the means are .64, .5, .67, .75 and .33."""
Order = Literal["random", "confidence", "halton", "critic"]
"""In which drawn tokens are kept: by chance or by the Halton sequence, one order for all steps; by how likely each was
when it was drawn; by how real a critic finds each."""
BASES = 2, 3, 5
"""Of the Halton sequence across, down and in time."""


def hidden_tokens(open_: Tensor, share: Tensor, noise: Tensor) -> Tensor:
    """Which tokens are hidden, bool `(b, n)`: of the open ones a share, at least one, in the order of noise.

    Args:
        open_: bool `(b, n)`: those that may be hidden.
        share: `(b,)`, 0 to 1.
        noise: `(b, n)`, finite.
    """
    place = noise.masked_fill(~open_, torch.inf).argsort(1).argsort(1)
    count = (share * open_.sum(1)).ceil().clamp_min(1)
    return (place < count[:, None]) & open_


def counts_left(schedule: Schedule, hidden: int, steps: int) -> list[int]:
    """How many of so many hidden tokens are still hidden after each step: fewer each time, none after the last.

    There are no more steps than tokens.
    """
    steps = min(steps, hidden)
    shares = SHARES[schedule](torch.arange(1, steps + 1, dtype=torch.float64) / steps)
    left, before = [], hidden
    for done, share in enumerate(shares.tolist(), 1):
        before = max(min(int(share * hidden), before - 1), steps - done)
        left.append(before)
    return left


@lru_cache(16)
def halton(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Each place of a grid `(s, y, x)` once, int64 `(s y x,)`, so that any number of first ones lie far apart.

    The cells that points of the Halton sequence fall into, each when it is first met (Besnier et al. 2025,
    arXiv:2503.17076, section 4), here in three dimensions.
    """
    count = 4 * prod(shape)
    while True:
        points = zip(reversed(shape), BASES, strict=True)
        x, y, s = ((size * _radical_inverse(count, base)).astype(np.int64) for size, base in points)
        found, first = np.unique((s * shape[1] + y) * shape[2] + x, return_index=True)
        if len(found) == prod(shape):
            order: NDArray[np.int64] = found[np.argsort(first)]
            return order
        count *= 2


def _radical_inverse(count: int, base: int) -> NDArray[np.float64]:
    """The digits of 1, 2, … mirrored at the point, float64 `(count,)` in [0, 1)."""
    left, found, weight = np.arange(1, count + 1), np.zeros(count), 1.0
    while left.any():
        weight /= base
        found += weight * (left % base)
        left //= base
    return found
