"""Clips to codes on a grid and back.

The encoder sees one patch of one slot at a time, unless it is to look around, so an empty patch has one code wherever
it lies: codes of convolutions that look around carried twice the bits, which a transformer must then predict. The
decoder sees around a place, this slot and those before it. Neither sees later slots. Letters in shapes as in `grid`; b
clips, d numbers of a code.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.layers import full_precision
from t2v_models.families.tokens.grid import Grid, previous
from t2v_models.families.tokens.quantise import Quantiser

SPREAD = 3.0
"""How far apart numbers of a fresh encoder are: enough for several codes, with 0 for what has the median colour."""
LOOKS_BACK = 2
"""How many times the decoder looks at the slot before."""


class Encoder(nn.Module):
    """Video `(b, 3, t, h, w)` to numbers `(b, s, y, x, d)` that the quantiser makes codes of, in full precision:
    a clip has the same tokens whatever the networks around it are run in.

    Args:
        grid: of patches and slots.
        quantiser: says d; its codes are learnt with the encoder, if they are.
        width: channels.
        around: whether each patch sees those next to it as well.
    """

    def __init__(self, grid: Grid, quantiser: Quantiser, width: int, around: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.layers = nn.Sequential(
            nn.Conv2d(3 * grid.slot * grid.patch**2, width, 1), nn.SiLU(),
            nn.Conv2d(width, width, 3 if around else 1, padding=int(around)), nn.SiLU(),
            nn.Conv2d(width, quantiser.width, 1),
        )  # fmt: skip
        for layer in self.layers[::2]:
            nn.init.kaiming_normal_(cast(nn.Conv2d, layer).weight)
            nn.init.zeros_(cast(Tensor, layer.bias))
        cast(Tensor, self.layers[-1].weight).data.mul_(SPREAD)
        self.quantiser = quantiser

    @full_precision
    def forward(self, video: Tensor) -> Tensor:
        """As the class says."""
        pictures = self.grid.pictures(video)
        numbers: Tensor = self.layers(F.pixel_unshuffle(pictures.flatten(0, 1), self.grid.patch))
        return numbers.movedim(1, -1).reshape(*pictures.shape[:2], self.grid.rows, self.grid.columns, -1)


class Decoder(nn.Module):
    """Codes `(b, s, y, x, d)` to video `(b, 3, t, h, w)`: coarse layers look around and back, fine ones around only.

    Args:
        grid: of patches and slots.
        numbers: d.
        width: channels of a patch.
        fine: channels of a place of half a patch, or of a patch whose side is odd.
    """

    def __init__(self, grid: Grid, numbers: int, width: int, fine: int) -> None:
        super().__init__()
        self.grid = grid
        self.twice = 2 if grid.patch % 2 == 0 else 1
        self.enter = nn.Conv2d(numbers, width, 3, padding=1)
        self.back = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(LOOKS_BACK))
        self.coarse = nn.ModuleList(Block(width) for _ in range(LOOKS_BACK))
        self.enlarge = nn.Conv2d(width, fine * self.twice**2, 1)
        self.fine = nn.Sequential(Block(fine), Block(fine))
        self.leave = nn.Conv2d(fine, 3 * grid.slot * (grid.patch // self.twice) ** 2, 3, padding=1)

    def forward(self, codes: Tensor, frames: int) -> Tensor:
        """Of clips of so many frames."""
        b, s = codes.shape[:2]
        h = self.enter(codes.movedim(-1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last))
        for back, block in zip(self.back, self.coarse, strict=True):
            before = previous(h.reshape(b, s, *h.shape[1:])).flatten(0, 1)
            h = block(h + back(F.silu(torch.cat([h, before], 1))))
        h = F.pixel_shuffle(self.enlarge(F.silu(h)), self.twice)
        h = F.pixel_shuffle(self.leave(F.silu(self.fine(h))), self.grid.patch // self.twice)
        return self.grid.video(h.reshape(b, s, *h.shape[1:]), frames)


class Block(nn.Module):
    """A residual block: two convolutions whose result is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, h: Tensor) -> Tensor:
        """`(n, width, y, x)`."""
        return h + cast(Tensor, self.layers(h))


class Autoencoder(nn.Module):
    """Both, which learn as one."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
