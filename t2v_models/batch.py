"""What one update learns from, and the crossing between bytes and numbers.

Letters in shapes: b clips, t frames, h and w pixels. Networks make `(b, 3, t, h, w)` float32 in [-1, 1];
files, batches and people have `(t, h, w, 3)` uint8. `to_video` and `to_frames` cross between them.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2v_models.config import LabError
from t2v_models.text.split import meaning as by_words

Metrics = dict[str, Tensor]
"""Named scalars of one update: detached, still on the device."""


@dataclass(frozen=True)
class Batch:
    """What one update learns from: all of a batch, or this process's part of it where several ranks share it.

    An update must not depend on how a batch is shared. So noise is drawn for the whole batch, on every rank and for
    every part alike, and each takes its own rows; captions of the whole batch are known to all.
    """

    frames: Tensor
    """uint8 `(b, t, h, w, 3)`: a model makes numbers of what it needs, which is seldom all."""
    captions: tuple[str, ...]
    before: tuple[str, ...] = ()
    """Captions of the parts before this one."""
    after: tuple[str, ...] = ()
    """Captions of the parts after this one."""
    meaning: Callable[[str], Hashable] = by_words
    """Equal for captions that ask for the same thing: the dataset knows."""
    seed: int = 0
    """Of the noise that `randn` and `rand` draw."""
    tokens: Tensor | None = None
    """int64 `(b, s, y, x)`, where these are what is learnt: `frames` then has no frame, `(b, 0, h, w, 3)`."""

    @property
    def all_captions(self) -> tuple[str, ...]:
        """Captions of the whole batch, over all ranks."""
        return self.before + self.captions + self.after

    @property
    def bounds(self) -> tuple[int, int]:
        """Where this part begins and ends in the whole batch, clips."""
        return len(self.before), len(self.before) + len(self.captions)

    @property
    def weight(self) -> float:
        """Share of the whole batch: losses that are means over clips add up to the batch's, weighted so."""
        return len(self.captions) / len(self.all_captions)

    @property
    def all_meanings(self) -> tuple[Hashable, ...]:
        """Meanings of the captions of the whole batch."""
        return tuple(map(self.meaning, self.all_captions))

    def randn(self, *shape: int) -> Tensor:
        """Standard Gaussian noise `(b, *shape)` for the clips of this part.

        Drawn for the whole batch on the CPU and cut: the k-th draw is the same on all ranks and in all parts.
        """
        drawn = torch.randn(len(self.all_captions), *shape, generator=self._generator)
        return self.own(drawn).to(self.frames.device)

    def rand(self, *shape: int) -> Tensor:
        """The same, uniform in [0, 1)."""
        drawn = torch.rand(len(self.all_captions), *shape, generator=self._generator)
        return self.own(drawn).to(self.frames.device)

    @cached_property
    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def own(self, rows: Tensor) -> Tensor:
        """The rows of this part, `(b, …)`, of rows for every clip of the whole batch."""
        return rows[slice(*self.bounds)]

    def parts(self, count: int, group: int) -> list["Batch"]:
        """So many parts made of whole runs of `group`, to learn from one after the other in less memory.

        Raises:
            LabError: there are none.
        """
        cuts = cut(len(self.captions), group, count)
        return [
            replace(
                self,
                frames=self.frames[first:end],
                tokens=None if self.tokens is None else self.tokens[first:end],
                captions=self.captions[first:end],
                before=self.before + self.captions[:first],
                after=self.captions[end:] + self.after,
            )
            for first, end in pairwise(cuts)
        ]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        tokens = None if self.tokens is None else self.tokens.to(device, non_blocking=True)
        return replace(self, frames=self.frames.to(device, non_blocking=True), tokens=tokens)


def cut(size: int, group: int, parts: int) -> list[int]:
    """Where to cut a batch of `size` clips into so many parts of whole runs of `group`, as equal as can be: `parts + 1`
    places, both ends among them.

    Raises:
        LabError: the batch is not made of whole runs, or of fewer than there are parts.
    """
    runs, rest = divmod(size, group)
    if rest:
        raise LabError(f"batch_size {size} is not a multiple of group {group}: change one of them")
    if runs < parts:
        raise LabError(
            f"a batch of {size} clips is {runs} runs of {group}, too few for {parts} parts (ranks times accumulate): "
            "change one of these"
        )
    return [group * (runs * k // parts) for k in range(parts + 1)]


def weighted(parts: Sequence[Batch], metrics: Sequence[Metrics]) -> Metrics:
    """Of metrics that are means over the clips of each part, what these add to the means over the whole batch."""
    return {
        name: torch.stack([found[name] * part.weight for part, found in zip(parts, metrics, strict=True)]).sum(0)
        for name in metrics[0]
    }


def mean(metrics: Sequence[Metrics]) -> Metrics:
    """The mean of each over those updates that have it."""
    names = dict.fromkeys(name for part in metrics for name in part)
    return {name: torch.stack([part[name] for part in metrics if name in part]).mean(0) for name in names}


def to_video(frames: Tensor | NDArray[np.uint8]) -> Tensor:
    """uint8 `(b, t, h, w, 3)` to `(b, 3, t, h, w)` in [-1, 1], float32 or what torch makes by default."""
    return torch.as_tensor(frames).permute(0, 4, 1, 2, 3).to(torch.get_default_dtype()).mul_(2 / 255).sub_(1)


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """float `(b, 3, t, h, w)` in [-1, 1] to uint8 `(b, t, h, w, 3)`; values outside are clipped."""
    bytes_ = video.float().add(1).mul(255 / 2).round().clamp(0, 255).to(torch.uint8)
    return bytes_.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
