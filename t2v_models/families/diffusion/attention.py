"""Attention: over frames, over everything, and from pictures to the tokens of a text.

Letters in shapes: b clips, n places or tokens, l tokens of a text, d the text's width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.layers import at_least_float32
from t2v_models.text.encoder import Text

HEAD = 32
"""Channels of one head, about."""
WAVES = 16
"""Cosines, and as many sines, of a position."""


class Attention(nn.Module):
    """From tokens `(b, n, width)` to others, or to themselves, `(b, l, other)`; adds little at the start."""

    def __init__(self, width: int, other: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        while width % self.heads:
            self.heads -= 1
        self.query = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(other, 2 * width, bias=False)
        self.leave = nn.Linear(width, width)
        self.leave.weight.data.mul_(0.1)

    def forward(self, h: Tensor, others: Tensor, mask: Tensor | None = None) -> Tensor:
        """The mask is added to the weights' logarithms, or says true where one may look: `(b, 1, n or 1, l)`."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(h), *self.pair(others).chunk(2, -1))
        )
        answer: Tensor = self.leave(_attended(query, key, value, mask).transpose(1, 2).flatten(2))
        return answer


def _attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    slow = query.device.type == "cpu" and query.requires_grad  # the way back in bfloat16, 4 to 18 times
    if slow:
        query, key, value = map(at_least_float32, (query, key, value))
    mask = mask.to(query.dtype) if mask is not None and mask.is_floating_point() else mask
    with torch.autocast(query.device.type, enabled=torch.is_autocast_enabled(query.device.type) and not slow):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class ToText(nn.Module):
    """Every place of `(b, n, width)` looks at every token of its text, and at one that stands for silence."""

    def __init__(self, width: int, text: int) -> None:
        super().__init__()
        self.attention = Attention(width, text)
        nn.init.normal_(self.attention.pair.weight, std=0.3)  # a word is a unit vector
        self.silence = nn.Parameter(0.1 * torch.randn(text))

    def forward(self, h: Tensor, text: Text) -> Tensor:
        """What is to be added to h. The mask of a text may hold shares: such a token counts in part."""
        tokens = torch.cat([self.silence.expand(len(h), 1, -1), text.embeddings.to(h)], 1)
        there = torch.cat([text.mask.new_ones(len(h), 1), text.mask], 1)
        answer: Tensor = self.attention(F.layer_norm(h, h.shape[-1:]), tokens, there.to(h).log()[:, None, None])
        return answer


def between_tokens(network: nn.Module) -> list[nn.Parameter]:
    """Matrices of the attention of a network's own tokens to each other."""
    own = (w for name, w in network.named_parameters() if ".attention." in name and "to_text" not in name)
    return [weight for weight in own if weight.ndim == 2]


def positions(count: int, like: Tensor) -> Tensor:
    """Sines and cosines of 0, 1, …, `(count, 2 WAVES)`, of periods from 2 to 512."""
    rates = torch.pi * torch.logspace(0, -8, WAVES, base=2, device=like.device)
    angle = torch.arange(count, device=like.device)[:, None] * rates
    return torch.cat([angle.cos(), angle.sin()], 1).to(like.dtype)
