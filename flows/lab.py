"""The whole lab: render, train every model, judge them beside real clips, report."""

import hashlib
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, flow
from pydantic import Field, field_validator

from flows.dataset import dataset, dataset_on_dask
from flows.evaluate import evaluate
from flows.train import train
from t2v_models.config import Config
from t2v_models.families.build import ModelConfig
from t2v_models.judging.scores import EvaluateConfig, Evaluation, obeyed
from t2v_models.leaderboard.gate import GateConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.training.launch import check_ranks
from t2v_models.training.loop import TrainConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.mlflow.store import store_name, where_to_look
from tasks.mlflow.tracking import close_stale, experiment_id
from tasks.publish import log_lab, publish
from tasks.report import stopwatch
from tasks.report.console import print_scores
from tasks.report.progress import conclude, planned
from tasks.servers.orchestration import check_starts
from tasks.servers.pools import run_on_pool
from tasks.servers.runtime import WORK
from tasks.train import experiment_name

RENDER, REAL, REPORT = "render", "judge real clips", "report"
"""Stages of every lab; between them each model is trained and judged."""


class LabConfig(Config):
    """One experiment: data, models that share it and the same budget, and how they are judged."""

    dataset: DatasetConfig = Field(DatasetConfig(), description="what is rendered")
    models: tuple[ModelConfig, ...] = Field(min_length=1, description="what is trained on it, one after the other")
    training: TrainConfig = Field(description="how long each of them is trained")
    evaluation: EvaluateConfig = Field(EvaluateConfig(), description="how each of them is judged")
    gate: GateConfig = Field(GateConfig(), description="what a model must show to become champion")
    workers: int = Field(2, ge=1, description="processes that render")
    dask: str | None = Field(None, description="render on the Dask scheduler at this address, such as tcp://host:8786")
    place: Literal["here", "pools"] = Field(
        "here", description="where stages run: here, one after the other, or as runs of their own on the work pools"
    )

    @field_validator("models")
    @classmethod
    def _one_of_each(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        names = [model.name for model in models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is there twice and the report knows models by name: make two labs of it")
        return models

    @property
    def title(self) -> str:
        """As `gan and frame_gan on 10,000 clips of circles at 32 px`."""
        data, models = self.dataset, " and ".join(model.name for model in self.models)
        return f"{models} on {data.clips:,} clips of {data.world} at {data.spec.size} px"

    @property
    def plan(self) -> dict[str, float]:
        """Seconds that each stage may take, in their order: a guess, by which the time left is told."""
        train = 60 * self.training.minutes if self.training.minutes else 0.1 * (self.training.steps or 0)
        stages = {RENDER: 5 + self.dataset.clips / 2000, REAL: 20.0}
        for model in self.models:
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
            check_ranks(model, config.training)
    close_stale(work)
    experiment_id(work, experiment_name(config.dataset))  # if MLflow is away, that is said before an hour of rendering
    with planned("lab", config.plan) as begin:
        return _lab(config, work, begin)


def _lab(config: LabConfig, work: Path, begin: Callable[[str], None]) -> LabResult:
    """The stages; `begin` is told each one as it begins."""
    started = time.perf_counter()
    data_config = config.dataset
    name = f"{data_config.world}-{data_config.spec.size}px-{data_config.digest[:8]}"
    data, real = work / "data" / name, work / "data" / f"{name}-oracle"
    begin(RENDER)
    if config.dask:
        dataset_on_dask(data_config, data, config.workers, config.dask)
    else:
        _stage(dataset, config.place, config=data_config, out=data, workers=config.workers)
    begin(REAL)
    evaluations = [(_evaluation("oracle", config, real, work, data_config), real)]
    runs: dict[str, Path] = {}
    for model in config.models:
        begin(f"train {model.name}")
        run_dir = work / "runs" / f"{model.name}-{_digest(data_config, model, config.training)}"
        _stage(train, config.place, data=data, model=model, training=config.training, out=run_dir, work=work)
        runs[model.name] = run_dir
        begin(f"judge {model.name}")
        judged = run_dir / "evaluation"
        evaluations.append((_evaluation(str(run_dir), config, judged, work), judged))
    begin(REPORT)
    report = publish(work / "report" / name, evaluations, data, runs, stopwatch.stages(started), work)
    log_lab(report, config.settings, [out for _, out in evaluations], data, runs, stopwatch.stages(started), work)
    seconds = time.perf_counter() - started
    conclude(f"{'; '.join(obeyed(e) for e, _ in evaluations)}; report {report}")
    return LabResult(
        run=next(iter(runs.values())), runs=runs, data=data, report=report, mlflow=store_name(work),
        evaluations=tuple(e for e, _ in evaluations), stages=stopwatch.stages(started), seconds=seconds,
        orchestration=1 - stopwatch.busy(started) / seconds,
    )  # fmt: skip


def _stage(stage: Flow[..., Any], place: str, /, **parameters: Any) -> None:
    """Run a stage to its end, in this process or as a run of its deployment; either way its result is in files."""
    if place == "here":
        stage(**parameters)
    else:
        with stopwatch.working(f"{stage.name} on its pool"):
            run_on_pool(f"{stage.name}/stage", stage.serialize_parameters(parameters))


def _evaluation(run: str, config: LabConfig, out: Path, work: Path, data: DatasetConfig | None = None) -> Evaluation:
    _stage(evaluate, config.place, run=run, config=config.evaluation, out=out, work=work, data=data, gate=config.gate)
    return Evaluation.model_validate_json((out / "scores.json").read_bytes())


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


def _digest(*configs: Config) -> str:
    """8 hex digits that name a run by all that decides it."""
    return hashlib.sha256("\n".join(c.model_dump_json() for c in configs).encode()).hexdigest()[:8]
