"""Clips as numbers of mean 0 and variance 1, and back; measured from the data, whatever their range, ground and motion.

Most of a clip's variance is its still mean over time, so at a noise level that hides all motion the picture is still
plain, and motion is learnt last. Frequencies of time (a cosine transform) are therefore brought nearer to each other:
one with variance v is divided by v^(balance / 2). With balance 0 all are scaled alike, with 1 all have variance 1.

Clips of another length than was measured have the gains of the frequencies nearest to theirs; a picture is still.
Those of another size have the mean picture at their size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.distributed.collectives import all_reduce_tensor

LEAST = 1e-3
"""Of the greatest variance of a frequency: what varies less is noise of the storage, not to be blown up."""


class Standardise(nn.Module):
    """Video `(b, 3, t, h, w)` in [-1, 1] to `(b, 3, t, h, w)` of variance 1 over all, and back."""

    def __init__(self, frames: int, height: int, width: int, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.register_buffer("mean", torch.zeros(3, 1, height, width))
        self.register_buffer("gains", torch.ones(frames))
        self.register_buffer("is_measured", torch.tensor(False))
        self.register_buffer("cosines", cosines(frames), persistent=False)
        self.mean: Tensor
        self.gains: Tensor
        self.is_measured: Tensor
        self.cosines: Tensor

    @torch.no_grad()
    def measure(self, video: Tensor) -> None:
        """Take mean and variances from clips, over all ranks."""
        count = all_reduce_tensor(torch.tensor([float(len(video))], device=video.device))
        self.mean.copy_(all_reduce_tensor(video.mean(2, keepdim=True).sum(0)) / count)
        waves = torch.einsum("kt,bcthw->kbchw", self._cosines(video), video - self.mean)
        variance = all_reduce_tensor(waves.square().mean((2, 3, 4)).sum(1)) / count
        variance = resampled(variance, len(self.gains)).clamp_min(max(LEAST * float(variance.max()), 1e-8))
        scaled = variance ** (1 - self.balance)
        self.gains.copy_((variance**-self.balance / scaled.mean()).sqrt())
        self.is_measured.fill_(True)

    def forward(self, video: Tensor) -> Tensor:
        """To variance 1."""
        return self._filter(self._gains(video), video - self._mean(video))

    def pictures(self, video: Tensor) -> Tensor:
        """Each frame by itself, as if all clips were still."""
        return self.gains[0] * (video - self._mean(video))

    def back(self, x: Tensor) -> Tensor:
        """To video; what lies outside [-1, 1] stays there."""
        return self._filter(1 / self._gains(x), x) + self._mean(x)

    def _mean(self, x: Tensor) -> Tensor:
        """The mean picture for the size of these clips."""
        size = x.shape[3:]
        if size == self.mean.shape[2:]:
            return self.mean
        return F.interpolate(self.mean.transpose(0, 1), (size[0], size[1]), mode="area").transpose(0, 1)

    def _filter(self, gains: Tensor, x: Tensor) -> Tensor:
        """Each frequency of time by its gain."""
        table = self._cosines(x)
        return torch.einsum("ts,bcshw->bcthw", table.T @ (gains[:, None] * table), x)

    def _gains(self, x: Tensor) -> Tensor:
        """For the length of these clips."""
        return resampled(self.gains, x.shape[2])

    def _cosines(self, x: Tensor) -> Tensor:
        """For the length of these clips."""
        return self.cosines if x.shape[2] == len(self.cosines) else cosines(x.shape[2]).to(x)


def resampled(numbers: Tensor, count: int) -> Tensor:
    """Of numbers for the frequencies of so many frames those for `count` frames: the k-th of n has k / n half waves a
    frame. What lies beyond the highest is like the highest."""
    if count == len(numbers):
        return numbers
    place = (torch.arange(count, device=numbers.device) * (len(numbers) / count)).clamp(max=len(numbers) - 1)
    lower = place.long()
    upper = (lower + 1).clamp(max=len(numbers) - 1)
    return torch.lerp(numbers[lower], numbers[upper], (place - lower).to(numbers))


def cosines(count: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) as a matrix, frequency by time `(t, t)`."""
    time, wave = torch.arange(count) + 0.5, torch.arange(count)
    table = torch.cos(math.pi * wave[:, None] * time / count) * math.sqrt(2 / count)
    table[0] /= math.sqrt(2)
    return table
