"""What else a clip that was made again can be measured by than its pixels: features that nothing taught, and networks
that learn to tell it from the real one, frame by frame or as a clip.

Letters in shapes: b clips, t frames, h and w pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.layers import SLOPE, at_least_float32
from t2v_models.model import Loss

SEED = 0
"""Of the weights of `Perceptual`, which are the same in every run."""
WIDTHS = (16, 32, 64)


class Perceptual(nn.Module):
    """How unlike two clips look, frame by frame, by features at three resolutions.

    Zhang et al. 2018 (arXiv:1801.03924, eq. 1) take a network that was taught on photographs, which needs a download;
    the weights here are drawn, which keeps most of what is local (He et al. 2016, arXiv:1606.04801).
    """

    def __init__(self) -> None:
        super().__init__()
        drawn, before = torch.Generator().manual_seed(SEED), 3
        for i, width in enumerate(WIDTHS):
            kernel = torch.randn(width, before, 3, 3, generator=drawn) * (2 / (9 * before)) ** 0.5
            self.register_buffer(f"kernel_{i}", kernel.to(torch.get_default_dtype()), persistent=False)
            before = width

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Of clips `(b, 3, t, h, w)` the distance of each pair, `(b,)`."""
        h = torch.cat([made, real]).transpose(1, 2).flatten(0, 1)  # (2 b t, 3, h, w)
        distances = h.new_zeros(len(made))
        for kernel in self.buffers():
            h = F.leaky_relu(F.conv2d(h, kernel.to(h.dtype), padding=1), SLOPE)
            one, other = F.normalize(h, dim=1).chunk(2)
            distances = distances + (one - other).square().sum(1).view(len(made), -1).mean(1)
            h = F.avg_pool2d(h, 2) if min(h.shape[2:]) > 1 else h
        return distances


class Adversary(nn.Module):
    """How real each patch looks (Isola et al. 2017, arXiv:1611.07004, section 3.2.2): of frames, or of frames with
    those before and after."""

    def __init__(self, width: int, clips: bool) -> None:
        super().__init__()
        size, pad = ((3, 3, 3), (1, 1, 1)) if clips else ((1, 3, 3), (0, 1, 1))
        self.layers = nn.Sequential(
            nn.Conv3d(3, width, size, padding=pad), nn.LeakyReLU(SLOPE),
            nn.Conv3d(width, 2 * width, size, (1, 2, 2), padding=pad), nn.LeakyReLU(SLOPE),
            nn.Conv3d(2 * width, 2 * width, size, (1, 2, 2), padding=pad), nn.LeakyReLU(SLOPE),
            nn.Conv3d(2 * width, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, video: Tensor) -> Tensor:
        """Of clips `(b, 3, t, h, w)` logits `(b, patches)`, high where it looks real."""
        logits: Tensor = self.layers(video)
        return at_least_float32(logits.flatten(1))


def adversary_loss(name: str, adversary: Adversary, made: Tensor, real: Tensor) -> Loss:
    """What an adversary pays: nothing for a patch that is on the right side by 1 (the hinge of Lim and Ye 2017,
    arXiv:1705.02894, eq. 8)."""
    seen, drawn = adversary(real), adversary(made.detach())
    paid = F.relu(1 - seen).mean(1) + F.relu(1 + drawn).mean(1)
    right = ((seen > 0).double().mean(1) + (drawn < 0).double().mean(1)) / 2
    return Loss(paid.sum(), len(real), {f"{name}/right": right.sum().to(paid)})
