"""A transformer of patches: every patch of every frame looks at all others and at the words.

Patches are made by two convolutions, not by one cut (Xiao et al. 2021, arXiv:2106.14881); noise level and pooled text
scale and shift each norm (Peebles & Xie 2023, arXiv:2212.09748). Clips of any length and pictures, as in `factorised`.
Letters as in `folded`; p the patch, n = t h w / p² tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.diffusion.attention import WAVES, Attention, ToText, between_tokens, positions
from t2v_models.families.diffusion.condition import Condition
from t2v_models.families.diffusion.folded import Shape
from t2v_models.families.diffusion.unet import SMALL, beside, to_cells
from t2v_models.text.encoder import Text


class Transformer(nn.Module):
    """F(x, level, text): clips `(b, c, t, h, w)` of any length to the same shape; near 0 at the start.

    Args:
        shape: (c, t, h, w) of a clip; t may be another later.
        text: d.
        patch: p.
        width: of a token.
        layers: how many times they look at each other.
        condition: m.
        given: whether it sees known frames.
    """

    any_length = True

    def __init__(
        self, shape: Shape, text: int, patch: int, width: int, layers: int, condition: int, given: bool = False
    ) -> None:
        super().__init__()
        channels = shape[0]
        self.patch, self.given = patch, (channels + 1) if given else 0
        self.condition = Condition(text, condition)
        self.enter = nn.Sequential(
            nn.Conv2d((channels + self.given) * patch**2, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.place = nn.Linear(3 * 2 * WAVES, width)
        self.layers = nn.ModuleList(Layer(width, text, condition) for _ in range(layers))
        self.leave = nn.Linear(width, channels * patch**2)
        for weight in self.leave.parameters():
            weight.data.mul_(SMALL)

    @property
    def hidden(self) -> list[nn.Parameter]:
        """Matrices between tokens, which Muon is for."""
        named = self.layers.named_parameters()
        return between_tokens(self) + [w for name, w in named if name.endswith(("widen.weight", "narrow.weight"))]

    def forward(
        self, x: Tensor, level: Tensor, text: Text, given: Tensor | None = None, alone: Tensor | None = None
    ) -> Tensor:
        """As of `Factorised`."""
        frames = x.shape[2]
        condition = self.condition(level, text)
        pictures = to_cells(beside(x, given, self.given).transpose(1, 2).flatten(0, 1), self.patch)
        h = F.pixel_unshuffle(pictures, self.patch)
        h = self.enter(h.contiguous(memory_format=torch.channels_last))  # (b t, width, h / p, w / p)
        size = h.shape[2:]
        h = h.permute(0, 2, 3, 1).unflatten(0, (-1, frames))  # (b, t, h / p, w / p, width)
        h = (h + self.place(self._places(h, alone))).flatten(1, 3)  # (b, n, width)
        mask = None if alone is None else _own_frame(frames, size[0] * size[1], alone)
        for layer in self.layers:
            h = layer(h, condition, text, mask)
        h = self.leave(F.layer_norm(h, h.shape[-1:])).unflatten(1, (frames, *size))
        return F.pixel_shuffle(h.permute(0, 1, 4, 2, 3), self.patch).transpose(1, 2)[..., : x.shape[3], : x.shape[4]]

    def _places(self, h: Tensor, alone: Tensor | None) -> Tensor:
        """When and where each token is, `(b, t, h / p, w / p, 6 WAVES)`; a frame alone does not know when."""
        when, down, across = (
            positions(count, h).view(*(-1 if axis == own else 1 for axis in range(3)), 2 * WAVES)
            for own, count in enumerate(h.shape[1:4])
        )
        when = when.expand(len(h), *h.shape[1:4], -1)
        if h.shape[1] == 1:
            when = torch.zeros_like(when)
        if alone is not None:
            when = torch.where(alone.view(-1, 1, 1, 1, 1), 0, when)
        return torch.cat([when, down.expand_as(when), across.expand_as(when)], -1)


class Layer(nn.Module):
    """Tokens look at each other, at the text, and then each changes by itself."""

    def __init__(self, width: int, text: int, condition: int) -> None:
        super().__init__()
        self.film = nn.Linear(condition, 4 * width)
        self.film.weight.data.mul_(0.3)
        self.attention = Attention(width, width)
        self.to_text = ToText(width, text)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.narrow.weight.data.mul_(0.1)

    def forward(self, h: Tensor, condition: Tensor, text: Text, mask: Tensor | None) -> Tensor:
        """`(b, n, width)`."""
        scale, shift, scale_after, shift_after = self.film(condition)[:, None].chunk(4, -1)
        seen = F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift
        h = h + self.attention(seen, seen, mask)
        h = h + self.to_text(h, text)
        inner = F.layer_norm(h, h.shape[-1:]) * (1 + scale_after) + shift_after
        changed: Tensor = h + self.narrow(F.gelu(self.widen(inner)))
        return changed


def _own_frame(frames: int, cells: int, alone: Tensor) -> Tensor:
    """Which tokens may look at which, `(b, 1, n, n)`: where frames are alone at those of their own frame only."""
    frame = torch.arange(frames, device=alone.device).repeat_interleave(cells)
    return (frame[:, None] == frame) | ~alone[:, None, None, None]
