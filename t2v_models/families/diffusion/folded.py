"""A U-Net of frames side by side: time folded into channels.

For short clips of one length the cheapest network there is: two-dimensional convolutions see all frames at once, at a
quarter to a tenth of the arithmetic of layers that know time. Letters in shapes: b clips, c channels, t frames, h and w
pixels, d the text's width, m the width of the condition.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.config import LabError
from t2v_models.families.diffusion.condition import Condition, Layout, Modulate
from t2v_models.text.encoder import Text

Shape = tuple[int, int, int, int]
"""(c, t, h, w)."""
SMALL = 0.01
"""Of the usual size are the last weights at the start: the network then adds almost nothing, yet all of it learns."""


class Folded(nn.Module):
    """F(x, level, text): clips `(b, c, t, h, w)` to the same shape; near 0 at the start.

    Args:
        shape: (c, t, h, w) of a clip.
        text: d.
        patch: pixels on a side that the first layer takes together.
        widths: channels at each resolution, each half as fine as the one before.
        blocks: residual blocks at each resolution, on the way down and on the way up.
        condition: m.
        given: whether it sees known frames.

    Raises:
        LabError: a size that patch and halvings do not divide.
    """

    def __init__(
        self, shape: Shape, text: int, patch: int, widths: Sequence[int], blocks: int, condition: int,
        given: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        channels, frames, height, width = shape
        coarse = patch * 2 ** (len(widths) - 1)
        check_size(height, width, coarse)
        self.patch = patch
        self.given = (channels + 1) if given else 0
        folded = channels * frames * patch**2
        sizes = [(height // (patch * 2**k), width // (patch * 2**k)) for k in range(len(widths))]
        self.condition = Condition(text, condition)
        self.enter = nn.Conv2d((channels + self.given) * frames * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Stage(w, size, blocks, condition) for w, size in zip(widths, sizes, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(4 * a, b, 1) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(b // 4 + a, a, 1) for a, b in pairwise(widths))
        finer = zip(widths[:-1], sizes[:-1], strict=True)
        self.up = nn.ModuleList(Stage(w, size, blocks, condition) for w, size in finer)
        self.leave = nn.Conv2d(widths[0], folded, 3, padding=1)
        for weight in self.leave.parameters():
            weight.data.mul_(SMALL)

    @property
    def hidden(self) -> list[nn.Parameter]:
        """Kernels between feature maps, which Muon is for."""
        inner = (self.down, self.up, self.shrink, self.grow)
        return [weight for part in inner for weight in part.parameters() if weight.ndim == 4]

    def forward(self, x: Tensor, level: Tensor, text: Text, given: Tensor | None = None) -> Tensor:
        """What the preconditioning wants of clips at noise levels `(b,)`; `given` is `Given.channels`."""
        condition = self.condition(level, text)
        h = F.pixel_unshuffle(beside(x, given, self.given).flatten(1, 2), self.patch)  # (b, c t p², h / p, w / p)
        h = self.down[0](self.enter(h.contiguous(memory_format=torch.channels_last)), condition)
        skips = []
        for shrink, stage in zip(self.shrink, self.down[1:], strict=True):
            skips.append(h)
            h = stage(shrink(F.pixel_unshuffle(h, 2)), condition)
        for grow, stage in reversed(list(zip(self.grow, self.up, strict=True))):
            h = stage(grow(torch.cat([F.pixel_shuffle(h, 2), skips.pop()], 1)), condition)
        h = self.leave(F.silu(normalise(h)))
        return F.pixel_shuffle(h, self.patch).view_as(x)


class Stage(nn.Module):
    """Residual blocks at one resolution, after a picture of the condition was laid under them."""

    def __init__(self, width: int, size: tuple[int, int], blocks: int, condition: int) -> None:
        super().__init__()
        self.layout = Layout(condition, width, size)
        self.blocks = nn.ModuleList(Block(width, condition) for _ in range(blocks))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """`(b, width, h, w)`."""
        h = h + self.layout(condition)
        for block in self.blocks:
            h = block(h, condition)
        return h


class Block(nn.Module):
    """h + a tenth of conv(silu(conv(silu(modulated norm))))."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.modulate = Modulate(condition, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.kaiming_normal_(self.second.weight).data.mul_(0.1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """`(b, width, h, w)`."""
        inner = F.silu(self.first(F.silu(self.modulate(normalise(h), condition))))
        changed: Tensor = h + self.second(inner)
        return changed


def beside(x: Tensor, given: Tensor | None, channels: int) -> Tensor:
    """Clips `(b, c, t, h, w)` with so many channels more: of known frames, or of none."""
    if not channels:
        return x
    none = x.new_zeros(1).expand(len(x), channels, *x.shape[2:])
    return torch.cat([x, none if given is None else given.to(x)], 1)


def normalise(h: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the channels at each place of `(b, width, h, w)`."""
    return F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)


def check_size(height: int, width: int, multiple: int) -> None:
    """See that a network whose coarsest cell is `multiple` pixels can take such frames.

    Raises:
        LabError: it cannot; the nearest sizes that it can.
    """
    if height % multiple or width % multiple:
        near = [max(multiple, multiple * round(side / multiple)) for side in (height, width)]
        raise LabError(
            f"diffusion: frames of {height} x {width} px cannot be cut into cells of {multiple} px: use {near[0]} x "
            f"{near[1]}, a smaller patch or fewer widths"
        )
