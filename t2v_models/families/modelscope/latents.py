"""Latents with mean 0 and deviation 1, as measured from the first batch, an autoencoder that makes such ones, and how
much an error counts that changes from frame to frame."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from t2v_models.distributed.collectives import all_reduce_tensor
from t2v_models.families.diffusion.standardise import cosines
from t2v_models.families.layers import full_precision

LEAST = 0.01
"""Of the greatest variance of a frequency: what varies less counts no more than this."""


class Standard(nn.Module):
    """Of each of c numbers at a place the mean and the deviation over all places, frames and clips."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.register_buffer("is_measured", torch.tensor(False))
        self.mean: Tensor
        self.std: Tensor
        self.is_measured: Tensor

    def measure(self, latents: Tensor) -> None:
        """From `(b, c, t, h, w)` of the clips of all ranks."""
        numbers = latents.double().transpose(0, 1).flatten(1)
        count, total, squares = all_reduce_tensor(
            torch.stack([torch.ones_like(numbers).sum(1), numbers.sum(1), numbers.square().sum(1)])
        )
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp_min(1e-8).sqrt())
        self.is_measured.fill_(True)

    def forward(self, latents: Tensor) -> Tensor:
        """`(b, c, t, h, w)`."""
        mean, std = (part.to(latents).view(1, -1, 1, 1, 1) for part in (self.mean, self.std))
        return (latents - mean) / std

    def folded(self, autoencoder: nn.Module) -> nn.Module:
        """An `AutoencoderKL` that makes and takes such latents: its convolutions of 1 x 1 beside them see to it."""
        folded = copy.deepcopy(autoencoder)
        with torch.no_grad():
            into: Any = folded.quant_conv
            back: Any = folded.post_quant_conv
            size = torch.cat([self.std, torch.ones_like(self.std)])
            into.weight.div_(size.view(-1, 1, 1, 1))
            into.bias.sub_(torch.cat([self.mean, 2 * self.std.log()])).div_(size)  # mean, and logarithm of variance
            back.bias.add_(back.weight.flatten(1) @ self.mean)
            back.weight.mul_(self.std.view(1, -1, 1, 1))
        return folded


class Changes(nn.Module):
    """Weights of errors by their frequency in time (a cosine transform).

    Most of what varies in latents is still over time, so the mean of squares hardly sees whether an object moves
    smoothly. Here a frequency whose variance is v counts v^-balance. What is best at a noise level stays the same (the
    mean of what there can be), but what changes is learnt sooner.
    """

    def __init__(self, frames: int, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.register_buffer("weights", torch.ones(frames))
        self.register_buffer("cosines", cosines(frames), persistent=False)
        self.weights: Tensor
        self.cosines: Tensor

    @torch.no_grad()
    def measure(self, latents: Tensor) -> None:
        """From standard ones `(b, c, t, h, w)` of the clips of all ranks; squares of these count as much as before."""
        squares = self._waves(latents).square().double()
        count = torch.tensor([float(len(latents))], dtype=torch.float64, device=latents.device)
        variance = all_reduce_tensor(squares.mean((2, 3, 4)).sum(1)) / all_reduce_tensor(count)
        weights = variance.clamp_min(LEAST * float(variance.max())) ** -self.balance
        self.weights.copy_(weights * variance.sum() / (weights * variance).sum())

    def squares(self, errors: Tensor) -> Tensor:
        """Of each clip `(b,)` the weighted mean of squares of errors `(b, c, t, h, w)`."""
        return (self._waves(errors).square().mean((2, 3, 4)) * self.weights[:, None]).mean(0)

    @full_precision
    def _waves(self, x: Tensor) -> Tensor:
        """`(t, b, c, h, w)`, by frequency."""
        return torch.einsum("kt,bcthw->kbchw", self.cosines.to(x), x)
