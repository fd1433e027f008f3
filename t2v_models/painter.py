"""Between full frames and the 8x8 frames the GAN plays over: averaging down, and painting back.

The painter learns by regression to undo the averaging, frame by frame. It knows neither captions nor motion.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 8
"""Side in pixels of the small frames."""
SLOPE = 0.2
"""Of every leaky ReLU for negative inputs."""
DETAIL = 8
"""Channels per pixel from which the painter's last layer mixes a colour."""


def area_weights(size: int) -> Tensor:
    """Rows average `size` pixels into 8 equal stretches, exactly, also where a pixel lies across two: `(8, size)`."""
    edges = torch.arange(SMALL + 1, dtype=torch.float64) * size / SMALL
    pixel = torch.arange(size, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return (shared.clamp_min(0) * SMALL / size).float()


def he_normal(module: nn.Module) -> None:
    """Weights N(0, 2 / ((1 + slope²) fan_in)), biases 0 (He et al. 2015)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Painter(nn.Module):
    """One frame from 8x8 to full size: `(n, 3, 8, 8)` to `(n, 3, s, s)`, opacity.

    Detail on top of bilinear enlargement: residual convolutions at 8x8, a pixel shuffle, one convolution at full size.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.size = size
        scale = math.ceil(size / SMALL)
        self.read = nn.Conv2d(3, width, 3, padding=1)
        self.think = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        self.spread = nn.Conv2d(width, DETAIL * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.draw = nn.Conv2d(DETAIL, 3, 3, padding=1)
        self.apply(he_normal)
        self.draw.weight.data.mul_(0.1)

    def forward(self, small: Tensor) -> Tensor:
        """Draw every frame by itself."""
        h = self.read(small)
        for layer in self.think:
            h = h + layer(F.leaky_relu(h, SLOPE))
        h = self.shuffle(self.spread(F.leaky_relu(h, SLOPE)))
        if h.shape[-1] != self.size:
            h = F.interpolate(h, size=self.size, mode="bilinear")
        drawn: Tensor = self.draw(F.leaky_relu(h, SLOPE))
        return drawn + F.interpolate(small, size=self.size, mode="bilinear")
