"""What a lab is, and what is seen of it before anything starts. Imports neither Prefect nor MLflow."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from operator import not_
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from t2v_models import checkpoint
from t2v_models.config import Config, LabError, near
from t2v_models.families.build import ModelConfig
from t2v_models.fresh import begin, begun_with, check_same_parents
from t2v_models.judging.baselines import CEILING
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.leaderboard.gate import GateConfig
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.processes import WORKERS, check_workers
from t2v_models.sampler import RoundTrip, refuse_wishes
from t2v_models.shards.buckets import check_batches, shares_of
from t2v_models.shards.ingested import DataConfig, is_none
from t2v_models.shards.manifest import Manifest
from t2v_models.text.wordnet import WordNet
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import check_ranks
from t2v_models.worlds.dataset import DatasetConfig
from tasks.subjects import asked_of, subject

RENDER, REAL, REPORT = "render", "judge real clips", "report"
"""Stages of every lab; between them each model is trained and judged."""


class LabConfig(Config):
    """One experiment: data, models that share it and the same budget, and how they are judged."""

    dataset: DatasetConfig = Field(DatasetConfig(), description="what is rendered")
    data: Path | None = Field(
        None, exclude_if=is_none, description="folder of clips of your own, see 't2v ingest', in place of rendered ones"
    )
    models: tuple[ModelConfig, ...] = Field(
        min_length=1, description="what is trained on it; one may build on another by its name"
    )
    training: TrainConfig = Field(description="how long each of them is trained")
    minutes: dict[str, float] = Field(
        {}, exclude_if=not_, description="of models that are trained for another time than that, by their names"
    )
    evaluation: EvaluateConfig = Field(EvaluateConfig(), description="how each of them is judged")
    gate: GateConfig = Field(GateConfig(), description="what a model must show to become champion")
    workers: int = Field(WORKERS, ge=1, description="processes that render")
    oversubscribe: bool = Field(False, exclude_if=not_, description="allow more of these than CPU cores")
    dask: str | None = Field(None, description="render on the Dask scheduler at this address, such as tcp://host:8786")
    place: Literal["here", "pools"] = Field(
        "here",
        description="where stages run: here, one after the other, or as runs of their own on the pools, side by side",
    )

    @field_validator("models")
    @classmethod
    def _one_of_each(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        names = [model.name for model in models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is there twice and the report knows models by name: make two labs of it")
        return models

    @model_validator(mode="after")
    def _can_be_ordered(self) -> "LabConfig":
        try:
            _ = self.in_order
        except CycleError as error:
            raise ValueError(f"models {' and '.join(map(repr, error.args[1][:-1]))} build on each other") from error
        return self

    @model_validator(mode="after")
    def _minutes_of_its_models(self) -> "LabConfig":
        names = [model.name for model in self.models]
        for name, minutes in self.minutes.items():
            if name not in names:
                raise ValueError(f"minutes of {name!r}, which is none of its models: {near(name, names)}")
            if minutes <= 0:
                raise ValueError(f"{minutes:g} minutes of {name!r}: give more than 0")
        return self

    @cached_property
    def learnt(self) -> DataConfig:
        """The dataset that is learnt: rendered, or of people's own clips.

        Raises:
            LabError: there is none in the folder.
        """
        return Manifest.load(self.data).config if self.data else self.dataset

    def training_of(self, model: FamilyConfig) -> TrainConfig:
        """How long a model is trained."""
        minutes = self.minutes.get(model.name)
        own = {} if minutes is None else {"minutes": minutes, "steps": None}
        return self.training.model_copy(update=own)

    def parents_of(self, model: FamilyConfig) -> dict[str, str]:
        """The models of this lab that a model builds on, by the settings that name them; others are run folders."""
        names = {other.name for other in self.models}
        return {key: str(place) for key, place in model.parents.items() if str(place) in names}

    @property
    def in_order(self) -> list[FamilyConfig]:
        """The models, each after those it builds on."""
        named = {model.name: model for model in self.models}
        order = TopologicalSorter({name: self.parents_of(model).values() for name, model in named.items()})
        return [named[name] for name in order.static_order()]

    def run_folders(self, work: Path) -> dict[str, Path]:
        """Where each model is trained: a folder named by all that decides the run."""
        found: dict[str, Path] = {}
        for model in self.in_order:
            parents = [found[parent].name for parent in self.parents_of(model).values()]
            digest = _digest(self.learnt, model, self.training_of(model), parents)
            found[model.name] = work / "runs" / f"{model.name}-{digest}"
        return {model.name: found[model.name] for model in self.models}

    @property
    def title(self) -> str:
        """As `gan and frame_gan on 10,000 clips of circles at 32 px`."""
        data, models = self.learnt, " and ".join(model.name for model in self.models)
        return f"{models} on {data.clips:,} clips of {data.world} at {data.spec.sides} px"

    @property
    def plan(self) -> dict[str, float]:
        """Seconds that each stage may take, in their order: a guess, by which the time left is told."""
        stages = {REAL: 150.0} if self.data else {RENDER: 5 + self.dataset.clips / 2000, REAL: 20.0}
        for model in self.in_order:
            training = self.training_of(model)
            train = 60 * training.minutes if training.minutes else 0.1 * (training.steps or 0)
            stages |= {f"train {model.name}": 10 + train, f"judge {model.name}": 40.0}
        return stages | {REPORT: 10.0}

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that is set, models by name: what MLflow shows, and what tells one lab from another."""
        data = {"dataset": self.learnt.model_dump()}
        return self.model_dump() | data | {"models": {model.name: model.settings for model in self.models}}


def check(config: LabConfig, work: Path) -> None:
    """See that every stage can do what is asked of it, before the first of them begins.

    Args:
        config: the lab.
        work: its folder: a run in it that has begun with another's weights needs those no more.

    Raises:
        LabError: more processes than cores; own clips that cannot be judged; a model that cannot be built for these
            clips, on what it builds on, or cannot be judged as is asked; clips that cannot be mixed or varied as is
            asked; splits without prompts; a figure to gate by that nobody would judge.
    """
    data, here, truth = config.learnt, config.place == "here", config.learnt.truth
    if here and config.dask is None:
        check_workers(config.workers, config.oversubscribe)
    if config.data and truth:
        raise LabError(f"data: the clips in {config.data} were rendered, give what rendered them as dataset")
    if config.data and config.dask:
        raise LabError("dask renders, and own clips are there already: leave dask or data out")
    asked = asked_of(subject(CEILING, truth, config.data), config.evaluation)
    gate = config.gate.of(asked)
    split = gate.figure.partition("/")[0]
    if split not in asked:
        raise LabError(
            f"the gate decides by {gate.figure}, and {split} is not judged: judge that split too, or set "
            f"gate.figure to one of {', '.join(asked)}"
        )
    shapes = tuple(one.spec for one in data.one_shape)
    clips = {one.spec.name: one.clips for one in data.one_shape}
    shares = shares_of(clips, config.training.mix)
    captions = Manifest.load(config.data).captions if config.data else data.prompts
    config.training.augment.check_captions(captions)
    if config.training.augment.offset and truth:
        raise LabError("training.augment.offset: rendered clips are no parts of longer films, leave it out")
    if config.evaluation.wordnet:
        WordNet(config.evaluation.wordnet)
    prompt, built, runs = next(iter(asked.values()))[0][0], dict[str, VideoModel](), config.run_folders(work)
    for model in config.in_order:
        if here:
            check_ranks(model, config.training_of(model))
        fit = model.for_shapes(shapes)
        check_batches(clips, shares, model.batch_size)
        on = {key: built.get(str(place)) or checkpoint.load(place)[0] for key, place in model.parents.items()}
        fit = fit.with_captions(captions)
        if model.begin:
            first = begun_with(model.begin, runs[model.name])
            check_same_parents(model, first.run.model)
            made = fit.after(first.run.model).build(data.spec, on)
            if checkpoint.newest(runs[model.name]) is None:
                begin(made, checkpoint.load(model.begin, first)[0], first.run)
        else:
            made = fit.build(data.spec, on)
        built[model.name] = made
        wishes = config.evaluation.wishes
        if isinstance(made, RoundTrip):
            refuse_wishes(made.name, data.spec, wishes)
        else:
            made.check(replace(wishes, prompts=(prompt,), seeds=(0,)))


def _digest(dataset: Config, model: FamilyConfig, training: Config, parents: Sequence[str]) -> str:
    """8 hex digits that name a run by all that decides it; settings by their first names, so that labs of before keep
    their folders."""
    parts = [c.model_dump_json(by_alias=True) for c in (dataset, model, training)]
    return hashlib.sha256("\n".join([*parts, *parents]).encode()).hexdigest()[:8]
