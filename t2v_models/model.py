"""The one interface between the training loop and every family of models.

Letters in shapes: b clips, t frames, h and w pixels. Networks make `(b, 3, t, h, w)` float32 in [-1, 1];
files, batches and people have `(t, h, w, 3)` uint8. `to_video` and `to_frames` cross between them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from t2v_models.batch import Batch, Metrics
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config
from t2v_models.distributed.collectives import add_gradients
from t2v_models.text.words import bag_of_words


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
    and signals are `training.loop.fit`'s. All state is in parameters, buffers and `optimizers`.
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
