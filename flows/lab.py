"""The whole lab: render, train every model, judge them beside real clips, report."""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from operator import not_
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, flow
from pydantic import Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from flows.dataset import dataset, dataset_on_dask
from flows.evaluate import evaluate
from flows.train import train
from t2v_models.config import Config, near
from t2v_models.families.build import ModelConfig
from t2v_models.judging.scores import EvaluateConfig, Evaluation, obeyed
from t2v_models.leaderboard.gate import GateConfig
from t2v_models.model import FamilyConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import check_ranks
from t2v_models.worlds.dataset import DatasetConfig
from tasks.mlflow.store import store_name, where_to_look
from tasks.mlflow.tracking import close_stale, experiment_id
from tasks.publish import log_lab, publish
from tasks.report import stopwatch
from tasks.report.console import print_scores
from tasks.report.progress import conclude, planned
from tasks.servers.orchestration import check_starts
from tasks.servers.pools import PoolStage, run_on_pools
from tasks.servers.runtime import WORK
from tasks.train import experiment_name

RENDER, REAL, REPORT = "render", "judge real clips", "report"
"""Stages of every lab; between them each model is trained and judged."""


class LabConfig(Config, allow_inf_nan=False):
    """One experiment: data, models that share it and the same budget, and how they are judged."""

    dataset: DatasetConfig = Field(DatasetConfig(), description="what is rendered")
    models: tuple[ModelConfig, ...] = Field(
        min_length=1, description="what is trained on it; one may build on another by its name"
    )
    training: TrainConfig = Field(description="how long each of them is trained")
    minutes: dict[str, float] = Field(
        {}, exclude_if=not_, description="of models that are trained for another time than that, by their names"
    )
    evaluation: EvaluateConfig = Field(EvaluateConfig(), description="how each of them is judged")
    gate: GateConfig = Field(GateConfig(), description="what a model must show to become champion")
    workers: int = Field(2, ge=1, description="processes that render")
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
            digest = _digest(self.dataset, model, self.training_of(model), parents)
            found[model.name] = work / "runs" / f"{model.name}-{digest}"
        return {model.name: found[model.name] for model in self.models}

    @property
    def title(self) -> str:
        """As `gan and frame_gan on 10,000 clips of circles at 32 px`."""
        data, models = self.dataset, " and ".join(model.name for model in self.models)
        return f"{models} on {data.clips:,} clips of {data.world} at {data.spec.sides} px"

    @property
    def plan(self) -> dict[str, float]:
        """Seconds that each stage may take, in their order: a guess, by which the time left is told."""
        stages = {RENDER: 5 + self.dataset.clips / 2000, REAL: 20.0}
        for model in self.in_order:
            training = self.training_of(model)
            train = 60 * training.minutes if training.minutes else 0.1 * (training.steps or 0)
            stages |= {f"train {model.name}": 10 + train, f"judge {model.name}": 40.0}
        return stages | {REPORT: 10.0}

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that is set, models by name: what MLflow shows, and what tells one lab from another."""
        return self.model_dump() | {"models": {model.name: model.settings for model in self.models}}


class LabResult(Config):
    """Where everything is, and how long it took."""

    run: Path
    """Run folder of the first model."""
    runs: dict[str, Path]
    data: Path
    report: Path
    mlflow: str
    evaluations: tuple[Evaluation, ...]
    stages: dict[str, float]
    """Seconds at work, by stage."""
    seconds: float
    orchestration: float
    """Share of `seconds` in which no stage was at work."""


@flow(flow_run_name="lab: {config.title}")
def lab(config: LabConfig, work: Path = WORK) -> LabResult:
    """Render the data, train each model, judge them and write the report; what is done already is not done again.

    Args:
        config: one experiment.
        work: folder for data, runs, reports and the state of Prefect and MLflow.
    """
    work = work.absolute()  # workers on the pools have a folder of their own
    check_starts()
    if config.place == "here":
        for model in config.models:
            check_ranks(model, config.training_of(model))
    close_stale(work)
    experiment_id(work, experiment_name(config.dataset))  # if MLflow is away, that is said before an hour of rendering
    with planned("lab", config.plan) as begin:
        result = _lab(config, work, begin)
    conclude(f"{'; '.join(map(obeyed, result.evaluations))}; report {result.report}")
    return result


def _lab(config: LabConfig, work: Path, begin: Callable[[str], None]) -> LabResult:
    """The stages; `begin` is told each one as it begins."""
    started = time.perf_counter()
    name = f"{config.dataset.world}-{config.dataset.spec.sides}px-{config.dataset.digest[:8]}"
    data, real = work / "data" / name, work / "data" / f"{name}-oracle"
    runs = config.run_folders(work)
    if config.dask:
        dataset_on_dask(config.dataset, data, config.workers, config.dask)
    stages = _stages(config, data, real, runs, work)

    @contextmanager
    def at_work(stage: str) -> Iterator[None]:
        begin(stage)
        with stopwatch.working(f"{stage} on its pool"):
            yield

    if config.place == "here":  # each takes all cores, so one after the other
        for stage in stages:
            begin(stage.name)
            stage.flow(**stage.parameters)
    else:
        run_on_pools([stage.on_its_pool() for stage in stages], at_work)
    begin(REPORT)
    judged = [real, *(run_dir / "evaluation" for run_dir in runs.values())]
    evaluations = [(Evaluation.model_validate_json((out / "scores.json").read_bytes()), out) for out in judged]
    report = publish(work / "report" / name, evaluations, data, runs, stopwatch.stages(started), work)
    log_lab(report, config.settings, judged, data, runs, stopwatch.stages(started), work)
    seconds = time.perf_counter() - started
    return LabResult(
        run=next(iter(runs.values())), runs=runs, data=data, report=report, mlflow=store_name(work),
        evaluations=tuple(e for e, _ in evaluations), stages=stopwatch.stages(started), seconds=seconds,
        orchestration=1 - stopwatch.busy(started) / seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class _Stage:
    """One of the flows of a lab, and what it needs; its result is in files."""

    name: str
    flow: Flow[..., Any]
    parameters: dict[str, Any]
    after: tuple[str, ...] = ()

    def on_its_pool(self) -> PoolStage:
        """The same as a run of its deployment."""
        # by the names in the form, by which the server checks them; Prefect would take what a setting was once called
        parameters = to_jsonable_python(self.parameters, by_alias=False)
        return PoolStage(self.name, f"{self.flow.name}/stage", parameters, self.after)


def _stages(config: LabConfig, data: Path, real: Path, runs: dict[str, Path], work: Path) -> list[_Stage]:
    """Every stage after those it needs: data, real clips judged, each model trained and judged."""
    rendered = () if config.dask else (RENDER,)
    how = {"config": config.evaluation, "work": work, "gate": config.gate}
    stages = [_Stage(REAL, evaluate, how | {"run": "oracle", "out": real, "data": config.dataset}, rendered)]
    if rendered:
        wanted = {"config": config.dataset, "out": data, "workers": config.workers}
        stages.insert(0, _Stage(RENDER, dataset, wanted))
    for model in config.in_order:
        run_dir, parents = runs[model.name], config.parents_of(model)
        built = model.model_copy(update={key: runs[parent] for key, parent in parents.items()})
        learns = {"data": data, "model": built, "training": config.training_of(model), "out": run_dir, "work": work}
        needs = rendered + tuple(f"train {parent}" for parent in parents.values())
        stages.append(_Stage(f"train {model.name}", train, learns, needs))
        judged = how | {"run": str(run_dir), "out": run_dir / "evaluation", "data": None}
        stages.append(_Stage(f"judge {model.name}", evaluate, judged, (f"train {model.name}",)))
    return stages


def summary(result: LabResult, work: Path) -> None:
    """Tell a person what came out and where to look."""
    print_scores(result.evaluations)
    parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.stages.items())
    print(f"time    {result.seconds:.0f} s: {parts}; orchestration {result.orchestration:.1%}")
    print(f"report  {result.report}")
    prompt = Manifest.load(result.data).config.prompts[0]
    example = shlex.join(["t2v", "generate", str(result.run), prompt, "--out", "clip.mp4"])
    print(f"run     {result.run}   try: {example}")
    print(f"mlflow  {result.mlflow}   to look at it: {where_to_look(work)}")


def _digest(dataset: Config, model: FamilyConfig, training: Config, parents: Sequence[str]) -> str:
    """8 hex digits that name a run by all that decides it; settings by their first names, so that labs of before keep
    their folders."""
    parts = [c.model_dump_json(by_alias=True) for c in (dataset, model, training)]
    return hashlib.sha256("\n".join([*parts, *parents]).encode()).hexdigest()[:8]
