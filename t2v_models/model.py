"""The one interface between the training loop and every family of models.

Networks, losses, optimisers and averages are a model's own; data, schedule, seeds, logging, checkpoints and signals are
`training.loop.fit`'s. A family whose networks each follow one loss is a `LossModel` and writes its losses alone; one
that needs more in an update, as a GAN does, writes its `training_step` with the same two verbs: gradients are
accumulated part by part, and an optimiser steps by the gradients of all ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import not_
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from t2v_models.batch import Batch, Metrics, to_frames
from t2v_models.clips.spec import ClipSpec, in_a_row
from t2v_models.config import Config, LabError
from t2v_models.distributed.collectives import all_reduce_gradients
from t2v_models.machine import threads
from t2v_models.sampler import Request, refuse_wishes, settled
from t2v_models.text.encoder import TextEncoder
from t2v_models.text.encoders import EncoderConfig
from t2v_models.text.words import WordsConfig

KEPT_RUN = "a kept run"
"""Says to pydantic, as its context, that settings are those of a run that was made some time."""


class FamilyConfig(Config):
    """What the loop must know of every family's configuration."""

    about: ClassVar[str] = ""
    """One sentence for reports and lists."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What it needs installed beside what every family needs."""
    gains_by_bfloat16: ClassVar[bool] = False
    """Whether it was measured to learn more in a minute in bfloat16, where the machine is fast in it."""
    parent_families: ClassVar[Mapping[str, str]] = {}
    """Of the models that this one builds on, by the setting that names a run."""
    by_tokens: ClassVar[str] = ""
    """The setting with which it is told tokens of captions one by one and not their sum alone, if there is one."""
    earlier: ClassVar[Mapping[str, object]] = {}
    """How models were made before there was a setting for it: for runs that were kept without."""

    batch_size: int = Field(ge=1, description="clips per update, over all ranks")
    group: int = Field(1, ge=1, description="clips of one caption that stand together, a run")
    accumulate: int = Field(1, ge=1, description="parts of a rank's batch, one after the other: less memory, more time")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of each rank (by default its share of all cores), and of sampling"
    )
    name: str
    begin: Path | None = Field(
        None, exclude_if=not_, description="run folder of the same family, whose averaged weights it begins with"
    )
    text_encoder: EncoderConfig = Field(
        WordsConfig(), exclude_if=WordsConfig().__eq__, description="what makes vectors of captions: see 't2v settings'"
    )

    @classmethod
    def tiny(cls) -> Self:
        """A small model for tests, which learns in milliseconds a step."""
        raise NotImplementedError(cls)

    @property
    def settings(self) -> dict[str, object]:
        """All but what is taken from the dataset."""
        return self.model_dump(exclude={"text_encoder": set(self.text_encoder.taken)})

    @property
    def told(self) -> Literal["tokens", "sum", "order"]:
        """What it is told of a caption: tokens one by one, their sum alone, or words in their order, whatever text
        encoder there is; also where it is told nothing, or always the same."""
        return "order"

    @property
    def parents(self) -> dict[str, Path]:
        """Run folders of the models that this one builds on, by the setting that names them."""
        return {key: place for key in self.parent_families if (place := getattr(self, key))}

    def tokens_of(self, dataset: str) -> Path | None:
        """The folder with tokens of a dataset, by its digest, which are learnt in place of frames; None for frames.

        They were made by one of the models that this one builds on.
        """
        return None

    def plan(self, spec: ClipSpec) -> str:
        """What the family will do with clips of `spec` that its settings leave to the data, and why: for the log."""
        return ""

    def for_shapes(self, shapes: Sequence[ClipSpec]) -> Self:
        """The same, with all chosen that it leaves to the clips: a model of this family learns from clips of all these
        shapes, a batch of one at a time; it is built for the first.

        Raises:
            LabError: it cannot: what it takes.
        """
        if len(shapes) > 1:
            raise LabError(
                f"{self.name} learns from clips of one shape and the dataset has {in_a_row(shapes)}: make a dataset of "
                "one shape, or train a family that takes several, see docs/tour.md"
            )
        return self

    def with_captions(self, captions: Sequence[str]) -> Self:
        """The same, with the text encoder fitted to the captions of a dataset."""
        return self.model_copy(update={"text_encoder": self.text_encoder.fitted(captions)})

    def after(self, first: "FamilyConfig") -> Self:
        """The same, of a model that begins with the weights of another, whose words come before its own.

        Raises:
            LabError: the other is of another family, or its text encoder makes other vectors.
        """
        try:
            if self.name != first.name:
                raise LabError(f"it is a run of {first.name}, name one of {self.name}")
            return self.model_copy(update={"text_encoder": self.text_encoder.after(first.text_encoder)})
        except LabError as error:
            raise LabError(f"{self.name} cannot begin with {self.begin}: {error}") from error

    def build(self, spec: ClipSpec, parents: Mapping[str, "VideoModel"]) -> "VideoModel":
        """A fresh model for clips of `spec`; weights are drawn from torch's current seed.

        Args:
            spec: of the clips it learns from and makes.
            parents: the models that `parents` names, with their weights.
        """
        raise NotImplementedError(type(self))


class VideoModel(nn.Module, ABC):
    """A sampler that learns. All state is in parameters, buffers and `optimizers`."""

    config: FamilyConfig
    spec: ClipSpec
    shapes: tuple[ClipSpec, ...] = ()
    """All that it learnt from; it makes any of them, `spec` unless it is asked for another."""
    text: TextEncoder
    able: frozenset[str] = frozenset()
    """Wishes of a request (`sampler.WISHES`) that the model can meet."""
    frozen: tuple[str, ...] = ()
    """Networks that never change: no optimiser has them, and checkpoints keep them once, by digest."""
    measured: tuple[str, ...] = ()
    """Parts that are measured from the data and not learnt: a run that begins with another's weights measures anew."""
    frozen_sha256: str | None = None
    """Of the file that keeps them, once it is written."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def sample_batch(self) -> int:
        return 64

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

    def accumulate_gradients(self, weight: float, **losses: Tensor) -> None:
        """Add the gradients of each named network by its own loss, so weighted; no other network pays for it.

        A parameter that the loss does not depend on has a gradient of 0: all ranks then have the same gradients.
        """
        for name, loss in losses.items():
            own = [p for p in getattr(self, name).parameters() if p.requires_grad]
            found = torch.autograd.grad(weight * loss, own, allow_unused=True)
            for parameter, maybe in zip(own, found, strict=True):
                gradient = torch.zeros_like(parameter) if maybe is None else maybe
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def optimizer_step(self, *names: str) -> None:
        """One step of the named networks, by the gradients of all ranks."""
        all_reduce_gradients([p for name in names for p in getattr(self, name).parameters()])
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
            what this rank adds to each metric of the whole batch: see `batch.weighted`.
        """

    def settled(self, request: Request) -> Request:
        """`sampler.settled` for what it makes.

        Raises:
            LabError: so.
        """
        return settled(request, self.spec, self.shapes)

    def check(self, request: Request) -> None:
        """See that the request can be met.

        Raises:
            LabError: a wish that the family cannot meet, or a prompt that its text encoder refuses.
        """
        refuse_wishes(self.name, self.spec, request, self.able, self.shapes)
        for prompt in dict.fromkeys(request.prompts):
            self.text.check(prompt)

    def sample(self, request: Request) -> NDArray[np.uint8]:
        """uint8 `(b, t, h, w, 3)`, on any device, with the threads that the family asks for."""
        request = self.settled(request)
        with torch.inference_mode(), threads(self.config.threads):
            return to_frames(self.make(request))

    @abstractmethod
    def make(self, request: Request) -> Tensor:
        """One clip for each prompt and seed of a settled request, float32 `(b, 3, t, h, w)` in [-1, 1], without
        gradients."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


@dataclass(frozen=True)
class Loss:
    """What one network pays for one part of a batch: a sum over some things, and how many they are."""

    total: Tensor
    """Scalar: the sum of the losses of all clips, tokens or frames of the part."""
    count: float
    """How many there are; the network learns from the mean over the whole batch, however that is shared."""
    figures: Mapping[str, Tensor] = field(default_factory=dict)
    """Sums over the same things that are only logged, as means."""

    def __add__(self, other: "Loss") -> "Loss":
        """Of both: sums of sums. They log the same figures."""
        figures = {key: total + other.figures[key] for key, total in self.figures.items()}
        return Loss(self.total + other.total, self.count + other.count, figures)


class LossModel(VideoModel):
    """A model whose networks each follow one loss: parts, ranks, accumulation and optimisers are seen to here."""

    @abstractmethod
    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """The loss of each trained network, by its name, on a part of a batch.

        Noise must come from `part.randn` and `part.rand`, so that it does not depend on how a batch is shared.
        """

    def before_step(self, step: int, progress: float) -> None:
        """Before the optimisers step: learning rates by step and progress."""

    def after_step(self, step: int, progress: float) -> None:
        """After they did: averages of weights."""

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step of every network that has a loss."""
        self.forget_gradients()
        sums: dict[str, Tensor] = {}
        counts: dict[str, float] = {}
        of: dict[str, str] = {}  # the network whose count each metric is a mean over
        for part in batch.parts(self.config.accumulate, self.config.group):
            for name, loss in self.losses(part, step, progress).items():
                self.accumulate_gradients(1.0, **{name: loss.total})
                counts[name] = counts.get(name, 0.0) + loss.count
                for key, total in {f"loss/{name}": loss.total, **loss.figures}.items():
                    of[key] = name
                    sums[key] = sums.get(key, torch.zeros_like(total)) + total.detach()
        whole = self._mean_gradients(counts)
        self.before_step(step, progress)
        for name in counts:
            self.optimizers[name].step()
        self.after_step(step, progress)
        return {key: total / whole[of[key]] for key, total in sums.items()}

    def _mean_gradients(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Gradients of means over the whole batch in place of this rank's sums; the counts of the whole batch."""
        parameters = [p for name in counts for p in getattr(self, name).parameters()]
        whole = dict(zip(counts, all_reduce_gradients(parameters, list(counts.values())), strict=True))
        for name in counts:
            for parameter in getattr(self, name).parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(max(whole[name], 1.0))
        return {name: max(count, 1.0) for name, count in whole.items()}
