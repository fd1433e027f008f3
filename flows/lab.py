"""The whole lab: render, train every model, judge them beside real clips, report."""

import hashlib
import time
from pathlib import Path

from prefect import flow
from pydantic import Field

from flows.dataset import dataset
from flows.evaluate import evaluate
from flows.train import train
from t2v_models.build import ModelConfig
from t2v_models.clips.dataset import DatasetConfig
from t2v_models.config import Config
from t2v_models.evaluation.gate import GateConfig
from t2v_models.evaluation.scores import EvaluateConfig, Evaluation
from t2v_models.training import TrainConfig
from tasks import stopwatch
from tasks.console import print_scores
from tasks.mlflow_store import tracking_uri
from tasks.publish import log_lab, publish
from tasks.runtime import WORK


class LabConfig(Config):
    """One experiment: data, models that share it and the same budget, and how they are judged."""

    dataset: DatasetConfig = Field(DatasetConfig(), description="what is rendered")
    models: tuple[ModelConfig, ...] = Field(min_length=1, description="what is trained on it, one after the other")
    training: TrainConfig = Field(description="how long each of them is trained")
    evaluation: EvaluateConfig = Field(EvaluateConfig(), description="how each of them is judged")
    gate: GateConfig = Field(GateConfig(), description="what a model must show to become champion")
    workers: int = Field(2, ge=1, description="processes that render")


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


@flow(flow_run_name="lab on {config.dataset.world} at {config.dataset.spec.size} px")
def lab(config: LabConfig, work: Path = WORK) -> LabResult:
    """Render the data, train each model, judge them and write the report; what is done already is not done again.

    Args:
        config: one experiment.
        work: folder for data, runs, reports and the state of Prefect and MLflow.
    """
    started = time.perf_counter()
    data_config = config.dataset
    name = f"{data_config.world}-{data_config.spec.size}px-{data_config.digest[:8]}"
    data = dataset(data_config, work / "data" / name, config.workers)
    real = work / "data" / f"{name}-oracle"
    evaluations = [(evaluate("oracle", config.evaluation, real, work, data_config), real)]
    runs: dict[str, Path] = {}
    for model in config.models:
        run_dir = work / "runs" / f"{model.name}-{_digest(data_config, model, config.training)}"
        runs[model.name] = train(data, model, config.training, run_dir, work)
        judged = run_dir / "evaluation"
        evaluations.append((evaluate(str(run_dir), config.evaluation, judged, work, gate=config.gate), judged))
    report = publish(work / "report" / name, evaluations, data, runs, stopwatch.stages(started), work)
    settings = config.model_dump(exclude={"models"}) | {"models": ", ".join(runs)}
    log_lab(report, settings, [out for _, out in evaluations], data, runs, stopwatch.stages(started), work)
    seconds = time.perf_counter() - started
    return LabResult(
        run=next(iter(runs.values())), runs=runs, data=data, report=report, mlflow=tracking_uri(work),
        evaluations=tuple(e for e, _ in evaluations), stages=stopwatch.stages(started), seconds=seconds,
        orchestration=1 - stopwatch.busy(started) / seconds,
    )  # fmt: skip


def summary(result: LabResult) -> None:
    """Tell a person what came out and where to look."""
    print_scores(result.evaluations)
    parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.stages.items())
    print(f"time    {result.seconds:.0f} s: {parts}; orchestration {result.orchestration:.1%}")
    print(f"report  {result.report}")
    print(f"run     {result.run}   try: t2v generate {result.run} 'circle moving left' --out clip.mp4")
    print(f"mlflow  {result.mlflow}   see both UIs: t2v up")


def _digest(*configs: Config) -> str:
    """8 hex digits that name a run by all that decides it."""
    return hashlib.sha256("\n".join(c.model_dump_json() for c in configs).encode()).hexdigest()[:8]
