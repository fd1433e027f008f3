"""Numbers to tokens and back: three ways to have finitely many codes.

Each keeps codes `(…, d)` of which a token is the number, and lets gradients pass as if nothing had been rounded. Two of
them cost something beside the round trip, so that codes are met and used; each token pays for itself, and what must be
known of the whole batch comes from the counts of updates before, so that it does not depend on how a batch is shared.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import log2, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.layers import full_precision

EDGE = 1e-3
"""How much farther from their middle than the outermost levels numbers of FSQ may reach, as a share, so that finite
numbers lie on these."""
COMMITMENT = 0.25
"""How much it counts that numbers come near their codes (van den Oord et al. 2017, arXiv:1711.00937, eq. 3)."""


class Quantiser(nn.Module, ABC):
    """Codes `(…, width)` and the tokens that stand for them."""

    width: int
    """d, numbers of a code."""
    vocabulary: int
    """How many codes there are."""
    fixed = True
    """Whether codes stay as they are when the tokenizer learns."""

    @abstractmethod
    def forward(self, numbers: Tensor) -> Tensor:
        """The nearest codes."""

    @abstractmethod
    def tokens(self, codes: Tensor) -> Tensor:
        """int64 `(…)` in [0, vocabulary), of codes as `forward` gives them."""

    @abstractmethod
    def codes(self, tokens: Tensor) -> Tensor:
        """The codes that tokens stand for, `(…, d)`."""

    def cost(self, numbers: Tensor, counts: Tensor) -> Tensor:
        """What each token pays beside the round trip, `(…)`.

        Args:
            numbers: `(…, d)`.
            counts: how often each code was seen of late, `(vocabulary,)`.
        """
        return torch.zeros_like(numbers[..., 0])


class Fsq(Quantiser):
    """Finite scalar quantisation: each number is bounded and rounded to one of a few levels in [-1, 1]; a token is the
    place of such a code among all (Mentzer et al. 2023, arXiv:2309.15505, section 3.1 and its appendix A.1).

    In that appendix numbers stay a thousandth within the outermost levels, and an even number of levels is shifted by a
    tangent. Here they reach as much beyond, and the shift is the inverse of what follows it, so that 0 stays 0. With 2
    levels all numbers above -3.8 are one code; the paper takes 5 or more.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.width, self.vocabulary = len(levels), prod(levels)
        count = torch.tensor(levels)
        self.register_buffer("levels", count, persistent=False)
        self.register_buffer("worth", torch.cumprod(torch.tensor([1, *levels[:-1]]), 0), persistent=False)
        self.levels: Tensor
        self.worth: Tensor
        """Of each digit of a token, as 1, 10, 100 of a decimal number."""

    def forward(self, numbers: Tensor) -> Tensor:
        bounded = self._bounded(numbers)
        return _passing(bounded, bounded.round()) / self._half

    def tokens(self, codes: Tensor) -> Tensor:
        level = (codes * self._half).round().long() + self._half
        return (level * self.worth).sum(-1)

    def codes(self, tokens: Tensor) -> Tensor:
        level = tokens[..., None] // self.worth % self.levels
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


class Lfq(Quantiser):
    """Lookup-free quantisation: the signs of numbers (Yu et al. 2023, arXiv:2310.05737, section 3.1).

    Each token pays where it is unsure of its signs, and for signs that are frequent already: the two entropies of that
    paper, sign by sign (Zhao et al. 2024, arXiv:2406.07548), the second by its slope at the frequencies of late.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.width, self.vocabulary = int(log2(vocabulary)), vocabulary
        self.register_buffer("worth", 2 ** torch.arange(self.width), persistent=False)
        self.worth: Tensor
        """Of each digit of a token."""

    def forward(self, numbers: Tensor) -> Tensor:
        return _passing(numbers, torch.where(numbers >= 0, 1.0, -1.0))

    def tokens(self, codes: Tensor) -> Tensor:
        return ((codes > 0) * self.worth).sum(-1)

    def codes(self, tokens: Tensor) -> Tensor:
        return (tokens[..., None] // self.worth % 2).to(torch.get_default_dtype()) * 2 - 1

    def cost(self, numbers: Tensor, counts: Tensor) -> Tensor:
        plus = (4 * numbers).sigmoid()  # by the squared distances from 1 and -1
        unsure = F.softplus(4 * numbers) - 4 * numbers * plus  # entropy, nats
        often = (counts + 1) @ (self.codes(torch.arange(self.vocabulary, device=counts.device)) > 0).to(counts)
        frequent = (often / (counts + 1).sum()).clamp(1e-3, 1 - 1e-3).logit()  # slope of minus the entropy
        far = (numbers - self.forward(numbers).detach()).square()
        return (unsure + frequent * plus + COMMITMENT * far).mean(-1)


class Vq(Quantiser):
    """A codebook: the nearest of vectors that are learnt (van den Oord et al. 2017, arXiv:1711.00937, eq. 3).

    All are one learnt linear map of fixed random ones, so that those nobody uses move with the others (Zhu et al. 2024,
    arXiv:2411.02038, eq. 6).
    """

    fixed = False

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.width, self.vocabulary = width, vocabulary
        self.register_buffer("book", torch.randn(vocabulary, width))
        self.book: Tensor
        self.turn = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.turn.weight)

    def forward(self, numbers: Tensor) -> Tensor:
        return _passing(numbers, self.codes(self.tokens(numbers)))

    def tokens(self, codes: Tensor) -> Tensor:
        """Of any numbers: those of the nearest codes."""
        learnt: Tensor = self.turn(self.book)
        return torch.cdist(codes.detach().flatten(0, -2), learnt.detach()).argmin(-1).view(codes.shape[:-1])

    def codes(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.turn(self.book[tokens])
        return found

    def cost(self, numbers: Tensor, counts: Tensor) -> Tensor:
        codes = self.codes(self.tokens(numbers))
        met, near = (codes - numbers.detach()).square(), (numbers - codes.detach()).square()
        return (met + COMMITMENT * near).mean(-1)


def _passing(numbers: Tensor, rounded: Tensor) -> Tensor:
    """What they are rounded to, with the gradients of the numbers."""
    return numbers + (rounded - numbers).detach()
