"""The second step of a cascade: small frames to full ones.

It works frame by frame and adds what regression can know: where an edge lies within a coarse pixel. What is made of
nothing, motion first of all, is the base's. Its input is slightly noisy in training, so that it forgives the base its
errors (Ho et al. 2022, arXiv:2106.15282, conditioning augmentation).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = 3


class Upsampler(nn.Module):
    """Frames `(n, 3, h, w)` in [-1, 1] to `(n, 3, factor h, factor w)`; at the start little more than enlarged."""

    def __init__(self, factor: int, width: int) -> None:
        super().__init__()
        self.factor = factor
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(BLOCKS)
        )
        self.leave = nn.Conv2d(width, 3 * factor**2, 3, padding=1)
        self.leave.weight.data.mul_(0.01)

    def forward(self, frames: Tensor) -> Tensor:
        """Each frame by itself."""
        h = self.enter(frames.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = h + block(h)
        enlarged = F.interpolate(frames, scale_factor=self.factor, mode="bilinear")
        return enlarged + F.pixel_shuffle(self.leave(F.silu(h)), self.factor).to(frames.dtype)


def enlarge(upsampler: nn.Module, video: Tensor) -> Tensor:
    """Clips `(b, 3, t, h, w)` at full size, one at a time, which stays in a core's cache."""
    return torch.stack([upsampler(clip.transpose(0, 1)).transpose(0, 1) for clip in video])


def reduction(height: int, width: int, base: int) -> int:
    """The largest divisor of both sides that leaves at least `base` pixels of each."""
    most = max(1, min(height, width) // base)
    return max(factor for factor in range(1, most + 1) if height % factor == width % factor == 0)


def shrink(video: Tensor, factor: int) -> Tensor:
    """Averages over squares of `factor` pixels a side, of `(b, 3, t, h, w)`."""
    return F.avg_pool3d(video, (1, factor, factor)) if factor > 1 else video
