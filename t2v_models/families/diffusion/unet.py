"""A U-Net of pictures that is told a vector and a text: the frame of the folded and of the factorised network.

Letters in shapes: n pictures, c channels, h and w pixels, m the width of the condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.diffusion.attention import Attention, ToText, between_tokens
from t2v_models.families.diffusion.condition import Condition, Layout, Modulate
from t2v_models.text.encoder import Text

SMALL = 0.01
"""Of the usual size are the last weights at the start: the network then adds almost nothing, yet all of it learns."""


Sight = Literal["own", "first", "first and previous"]
"""The frame's own; those of the clip's first frame, in all frames; those of the first frame and of the one before."""


Norm = Literal["place", "picture"]
"""Over what numbers are brought to mean 0 and variance 1: the channels of each place, or all of a picture, so that a
place is weak or strong beside the others."""


@dataclass(frozen=True)
class Recipe:
    """What all stages of a network have in common."""

    blocks: int
    condition: int
    """Width of the vector."""
    space_attention: bool = False
    norm: Norm = "place"


@dataclass(frozen=True)
class Told:
    """What pictures are told."""

    vector: Tensor
    """`(n, m)`: the condition of each."""
    text: Text
    """Of each clip."""
    frames: int = 1
    """Pictures that make a clip; they follow each other."""
    alone: Tensor | None = None
    """`(clips,)` bool: those whose frames do not see each other."""
    sight: Sight = "own"
    """Whose places the places of a frame look at."""


class Stage(nn.Module):
    """Residual blocks at one resolution, after a picture of the condition was laid under them, and attention over the
    picture's places if asked for."""

    def __init__(self, width: int, size: tuple[int, int], recipe: Recipe) -> None:
        super().__init__()
        self.layout = Layout(recipe.condition, width, size)
        self.blocks = nn.ModuleList(Block(width, recipe) for _ in range(recipe.blocks))
        self.places = PlaceAttention(width, recipe) if recipe.space_attention else None

    def forward(self, h: Tensor, told: Told) -> Tensor:
        """`(n, width, h, w)`."""
        h = h + self.layout(told.vector, h.shape[2:])
        for block in self.blocks:
            h = block(h, told.vector)
        return h + self.places(h, told) if self.places else h


class Unet(nn.Module):
    """Pictures `(n, c, h, w)` to others; near 0 at the start.

    Args:
        channels: of pictures that come in and go out.
        size: h and w.
        text: width of the text.
        patch: pixels on a side that the first layer takes together.
        widths: channels at each resolution, each half as fine as the one before.
        recipe: of the stages, one at each resolution on the way down and on the way up.
        looks: whether the coarsest maps look at every token of the text, beside the condition.
        stage: what is done at one resolution.
    """

    def __init__(
        self, channels: tuple[int, int], size: tuple[int, int], text: int, patch: int, widths: Sequence[int],
        recipe: Recipe, looks: bool, stage: Callable[[int, tuple[int, int], Recipe], nn.Module] = Stage,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.cell = patch, patch * 2 ** (len(widths) - 1)
        comes, goes = (count * patch**2 for count in channels)
        cells = [-(-side // self.cell) for side in size]
        sizes = [(cells[0] * 2**k, cells[1] * 2**k) for k in reversed(range(len(widths)))]
        self.norm = recipe.norm
        self.condition = Condition(text, recipe.condition)
        self.enter = nn.Conv2d(comes, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(w, size, recipe) for w, size in zip(widths, sizes, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(4 * a, b, 1) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(b // 4 + a, a, 1) for a, b in pairwise(widths))
        finer = zip(widths[:-1], sizes[:-1], strict=True)
        self.up = nn.ModuleList(stage(w, size, recipe) for w, size in finer)
        self.leave = nn.Conv2d(widths[0], goes, 3, padding=1)
        for weight in self.leave.parameters():
            weight.data.mul_(SMALL)
        self.to_text = ToText(widths[-1], text) if looks else None

    @property
    def hidden(self) -> list[nn.Parameter]:
        """Kernels between feature maps and matrices between tokens, which Muon is for."""
        inner = (self.down, self.up, self.shrink, self.grow)
        kernels = [weight for part in inner for weight in part.parameters() if weight.ndim == 4]
        return kernels + between_tokens(self)

    def pictures(self, x: Tensor, told: Told) -> Tensor:
        """`(n, c, h, w)`."""
        height, width = x.shape[2:]
        h = F.pixel_unshuffle(to_cells(x, self.cell), self.patch)  # (n, c p², h / p, w / p)
        h = self.down[0](self.enter(h.contiguous(memory_format=torch.channels_last)), told)
        skips = []
        for shrink, stage in zip(self.shrink, self.down[1:], strict=True):
            skips.append(h)
            h = stage(shrink(F.pixel_unshuffle(h, 2)), told)
        h = self._looking(h, told) if self.to_text else h
        for grow, stage in reversed(list(zip(self.grow, self.up, strict=True))):
            h = stage(grow(torch.cat([F.pixel_shuffle(h, 2), skips.pop()], 1)), told)
        h = self.leave(F.silu(normalise(h, self.norm)))
        return F.pixel_shuffle(h, self.patch)[..., :height, :width]

    def _looking(self, h: Tensor, told: Told) -> Tensor:
        assert self.to_text
        places = h.permute(0, 2, 3, 1)  # (n, h, w, width)
        clips = places.reshape(-1, told.frames * h.shape[2] * h.shape[3], h.shape[1])
        changed: Tensor = h + self.to_text(clips, told.text).view(places.shape).permute(0, 3, 1, 2)
        return changed


class Block(nn.Module):
    """h + a tenth of conv(silu(conv(silu(modulated norm))))."""

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__()
        self.modulate = Normed(width, recipe)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.kaiming_normal_(self.second.weight).data.mul_(0.1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """`(n, width, h, w)`."""
        inner = F.silu(self.first(F.silu(self.modulate(h, condition))))
        changed: Tensor = h + self.second(inner)
        return changed


class PlaceAttention(nn.Module):
    """Every place of a frame looks at all places of some frame: its own, or others of the clip."""

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__()
        self.modulate = Normed(width, recipe)
        self.attention = Attention(width, width)

    def forward(self, h: Tensor, told: Told) -> Tensor:
        """What is to be added to `(b t, width, h, w)`."""
        inner = self.modulate(h, told.vector).flatten(2).transpose(1, 2)  # (b t, h w, width)
        seen = inner
        if told.sight != "own":
            clips = inner.unflatten(0, (-1, told.frames))
            frame = torch.arange(told.frames, device=h.device)
            which = [0 * frame] if told.sight == "first" else [0 * frame, (frame - 1).clamp_min(0)]
            seen = torch.cat([clips[:, one] for one in which], 2).flatten(0, 1)
        found: Tensor = self.attention(inner, seen).transpose(1, 2).reshape(h.shape)
        return found


class Normed(Modulate):
    """Normalised, then scaled and shifted by the condition."""

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__(recipe.condition, width)
        self.norm = recipe.norm

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """`(n, width, h, w)`."""
        return super().forward(normalise(h, self.norm), condition)


def normalise(h: Tensor, norm: Norm) -> Tensor:
    """Mean 0 and variance 1, of `(n, width, h, w)`."""
    if norm == "picture":
        return F.group_norm(h, 1)
    return F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)


def beside(x: Tensor, given: Tensor | None, channels: int) -> Tensor:
    """Clips `(b, c, t, h, w)` with so many channels more: of known frames, or of none."""
    if not channels:
        return x
    none = x.new_zeros(1).expand(len(x), channels, *x.shape[2:])
    return torch.cat([x, none if given is None else given.to(x)], 1)


def to_cells(pictures: Tensor, cell: int) -> Tensor:
    """Pictures `(n, c, h, w)` whose last row and column are repeated until cells of so many pixels divide them."""
    height, width = pictures.shape[2:]
    missing = -width % cell, -height % cell
    return F.pad(pictures, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else pictures
