"""The whole lab: render, train every model, judge them beside real clips, report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Flow, flow
from pydantic_core import to_jsonable_python

from flows.dataset import dataset, dataset_on_dask
from flows.evaluate import evaluate
from flows.lab_config import REAL, RENDER, REPORT, LabConfig, check
from flows.train import train
from t2v_models.config import Config
from t2v_models.judging.scores import Evaluation, obeyed
from t2v_models.shards.manifest import Manifest
from tasks.mlflow.store import scores_page, store_name, where_to_look
from tasks.mlflow.tracking import close_stale, experiment_id
from tasks.publish import log_lab, publish
from tasks.records import experiment_name
from tasks.report import stopwatch
from tasks.report.console import print_scores
from tasks.report.progress import concluded, planned
from tasks.servers.orchestration import check_starts
from tasks.servers.pools import PoolStage, run_on_pools
from tasks.servers.runtime import WORK, to_try


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
    """Render the data, or take people's own, train each model, judge them and write the report; what is done already is
    not done again.

    Args:
        config: one experiment.
        work: folder for data, runs, reports and the state of Prefect and MLflow.
    """
    work = work.absolute()  # workers on the pools have a folder of their own
    check_starts()
    check(config, work)
    close_stale(work)
    experiment_id(work, experiment_name(config.learnt))  # if MLflow is away, that is said before an hour of rendering
    with planned("lab", config.plan) as begin:
        result = _lab(config, work, begin)
    return concluded(result, f"{'; '.join(map(obeyed, result.evaluations))}; report {result.report}")


def _lab(config: LabConfig, work: Path, begin: Callable[[str], None]) -> LabResult:
    """The stages; `begin` is told each one as it begins."""
    started = time.perf_counter()
    name = f"{config.learnt.world}-{config.learnt.spec.sides}px-{config.learnt.digest[:8]}"
    data = config.data.absolute() if config.data else work / "data" / name
    real = work / "data" / f"{name}-oracle"
    runs = config.run_folders(work)
    if config.dask:
        dataset_on_dask(config.dataset, data, config.workers, config.dask, config.oversubscribe)
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
    rendered = () if config.dask or config.data else (RENDER,)
    how = {"config": config.evaluation, "work": work, "gate": config.gate}
    ceiling = {"run": "oracle", "out": real, "data": config.learnt.truth, "own": data if config.data else None}
    stages = [_Stage(REAL, evaluate, how | ceiling, rendered)]
    if rendered:
        by = {"workers": config.workers, "oversubscribe": config.oversubscribe}
        stages.insert(0, _Stage(RENDER, dataset, {"config": config.dataset, "out": data} | by))
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
    data = Manifest.load(result.data)
    example = to_try(work, "generate", str(result.run), data.config.prompts[0], "--out", "clip.mp4")
    print(f"run     {result.run}   try: {example}")
    page = scores_page(work, experiment_name(data.config)) or where_to_look(work)
    print(f"mlflow  {result.mlflow}   to look at it: {page}")
