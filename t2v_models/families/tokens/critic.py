"""Which tokens of a clip look as if they had been drawn: a token critic (Lezama et al. 2022, arXiv:2209.04439), and a
critic that is a head on the transformer itself.

It is taught at places that were hidden, with the tokens drawn there, of which those are real that came back
right. In that paper every place counts: what was drawn is false, all else real.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.layers import at_least_float32
from t2v_models.families.tokens.transformer import TokenTransformer
from t2v_models.model import Loss
from t2v_models.text.encoder import Text

CriticKind = Literal["none", "own", "self"]


class TokenCritic(nn.Module):
    """A transformer of its own, or one number more of another one's, which does not learn by it.

    Args:
        own: that makes 1 number of each token; None for one more of another.
        width: of that other one.
    """

    def __init__(self, own: TokenTransformer | None, width: int) -> None:
        super().__init__()
        self.own = own
        self.head = nn.Linear(width, 1) if own is None else None

    @property
    def hidden(self) -> list[nn.Parameter]:
        """Matrices between tokens, which Muon is for."""
        return self.own.hidden if self.own is not None else []

    def forward(self, tokens: Tensor, text: Text, other: TokenTransformer) -> Tensor:
        """How real each of tokens `(b, n)` looks, logits `(b, n)`; `other` is the transformer that drew them."""
        if self.own is not None:
            found: Tensor = self.own(tokens, text)[..., 0]
            return found
        assert self.head is not None
        with torch.no_grad():
            seen = other.trunk(tokens, text)
        found = self.head(seen)[..., 0]
        return found


def critic_loss(logits: Tensor, drawn: Tensor, tokens: Tensor, hidden: Tensor) -> Loss:
    """Cross-entropy of "real" at hidden places, where a token drawn counts as real if it is the one that was there.

    Args:
        logits: `(b, n)`.
        drawn: `(b, n)`, what stands there now; tokens where none is hidden.
        tokens: `(b, n)`, of the clip.
        hidden: bool `(b, n)`.
    """
    real = drawn == tokens
    logits = at_least_float32(logits)
    each = F.binary_cross_entropy_with_logits(logits, real.to(logits), reduction="none")
    right = ((logits > 0) == real) & hidden
    figures = {"critic/right": right.sum().to(each), "critic/real": (real & hidden).sum().to(each)}
    return Loss((each * hidden).sum(), float(hidden.sum()), figures)
