"""The one interface between the training loop and every family of models.

Letters in shapes: b clips, t frames, h and w pixels. Networks make `(b, 3, t, h, w)` float32 in [-1, 1];
files, batches and people have `(t, h, w, 3)` uint8. `to_video` and `to_frames` cross between them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config, LabError
from t2v_models.ranks import add_gradients
from t2v_models.text import bag_of_words

Metrics = dict[str, Tensor]
"""Named scalars of one update: detached, still on the device."""


@dataclass(frozen=True)
class Batch:
    """What one update learns from: all of a batch, or this process's part of it where several ranks share it.

    An update must not depend on how a batch is shared. So noise is drawn for the whole batch, on every rank alike,
    and each takes its `own` rows; captions of the whole batch are known to all.
    """

    frames: Tensor
    """uint8 `(b, t, h, w, 3)`: a model makes numbers of what it needs, which is seldom all."""
    captions: tuple[str, ...]
    before: tuple[str, ...] = ()
    """Captions of the parts before this one."""
    after: tuple[str, ...] = ()
    """Captions of the parts after this one."""

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
            Batch(
                self.frames[first:end],
                self.captions[first:end],
                before=self.before + self.captions[:first],
                after=self.captions[end:] + self.after,
            )
            for first, end in pairwise(cuts)
        ]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return replace(self, frames=self.frames.to(device, non_blocking=True))


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


class FamilyConfig(Config):
    """What the loop must know of every family's configuration."""

    batch_size: int = Field(ge=1, description="clips per update, over all ranks")
    group: int = Field(1, ge=1, description="clips of one caption that stand together, a run")
    accumulate: int = Field(1, ge=1, description="parts of a rank's batch, one after the other: less memory, more time")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of each rank (by default its share of all cores), and of sampling"
    )


class VideoModel(nn.Module, ABC):
    """A text-to-video model that knows how to learn from a batch and how to make clips.

    Networks, losses, optimisers and averages are the model's own; data, schedule, seeds, logging, checkpoints
    and signals are `training.fit`'s. All state is in parameters, buffers and `optimizers`.
    """

    config: FamilyConfig
    spec: ClipSpec
    vocabulary: tuple[str, ...]

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        """By the names of the networks they teach. Made on first use: torch then imports its compiler, which takes
        seconds that a model which only makes clips does not need."""
        return self.new_optimizers()

    @abstractmethod
    def new_optimizers(self) -> dict[str, Optimizer]:
        """Fresh optimisers of all that is trained."""

    def forget_gradients(self) -> None:
        """Those of the update before; until then they can be looked at."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()

    def learn(self, weight: float, **losses: Tensor) -> None:
        """Add the gradients of each named network by its own loss, so weighted; no other network pays for it."""
        for name, loss in losses.items():
            own = list(getattr(self, name).parameters())
            for parameter, gradient in zip(own, torch.autograd.grad(weight * loss, own), strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def update(self, *names: str) -> None:
        """One step of the named networks, by what all ranks have learnt from the whole batch."""
        add_gradients([p for name in names for p in getattr(self, name).parameters()])
        for name in names:
            self.optimizers[name].step()

    @abstractmethod
    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One whole update of every network.

        Args:
            batch: captions as in the data; clips of one caption stand in runs of `config.group`.
            step: updates done before this one. The loop has seeded torch from (seed, step), alike on all ranks.
            progress: share of the run that is done, in [0, 1), for schedules.

        Returns:
            what this rank adds to each metric of the whole batch: see `weighted`.
        """

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard Gaussian noise that one clip is made of."""

    @abstractmethod
    def make(self, bags: Tensor, noise: Tensor) -> Tensor:
        """One clip per row, float32 `(b, 3, t, h, w)` in [-1, 1], without gradients.

        Args:
            bags: how often each word of the vocabulary is said, `(b, v)`; mixtures of prompts are welcome.
            noise: `(b, *noise_shape)`.
        """

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """One clip per prompt, as `make`, its noise drawn by its own seed, on any device.

        Clip i depends on `prompts[i]` and `seeds[i]` alone, not on its batch mates.

        Raises:
            LabError: a word the model was never trained on.
        """
        return self.make(bag_of_words(prompts, self.vocabulary).to(self.device), self.noise(seeds))

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Standard Gaussian noise `(b, *noise_shape)`, row i a function of `seeds[i]`."""
        drawn = [torch.randn(self.noise_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(self.device)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


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
