"""What is told of MLflow runs that have ended: scores of their models, pages about them, and the run they belong to.

Status, times and the commit that a run was made with stay as they are.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from t2v_models.config import LabError
from t2v_models.judging.scores import Scores, metric_rows
from tasks.mlflow.outbox import BATCH_METRICS
from tasks.mlflow.store import client, faults, first_line, store_name


def known(work: Path, runs: Iterable[str]) -> list[str]:
    """Those of the runs that the store has: a run folder may come from another machine, with a run of another store.

    Raises:
        LabError: the store does not answer.
    """
    names = ", ".join(f"'{run}'" for run in runs)
    with _said(work):
        store = client(work)
        experiments = [e.experiment_id for e in store.search_experiments()]
        found = store.search_runs(experiments, f"attributes.run_id IN ({names})") if names else []
    return [run.info.run_id for run in found]


def add_scores(work: Path, run: str, scores: Scores, step: int) -> None:
    """Put `scores[split][metric]` of a model at `step` beside the figures of its training.

    Raises:
        LabError: the store does not answer.
    """
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    rows = [(key, v) for split, figures in scores.items() for key, v in metric_rows(split, figures).items()]
    with _said(work):
        for start in range(0, len(rows), BATCH_METRICS):
            batch = [Metric(key, value, now, step) for key, value in rows[start : start + BATCH_METRICS]]
            client(work).log_batch(run, metrics=batch)


def attach(work: Path, run: str, path: Path, folder: str) -> None:
    """Put a folder with all it holds among the artifacts of a run.

    Raises:
        LabError: the store does not answer.
    """
    with _said(work):
        client(work).log_artifacts(run, str(path), folder)


def adopt(work: Path, parent: str, runs: Iterable[str]) -> None:
    """Show those runs under `parent` that the store has.

    Raises:
        LabError: the store does not answer.
    """
    with _said(work):
        for run in known(work, runs):
            client(work).set_tag(run, "mlflow.parentRunId", parent)


@contextmanager
def _said(work: Path) -> Iterator[None]:
    """Faults of the store in one sentence."""
    try:
        yield
    except faults() as error:
        raise LabError(
            f"cannot add to a run in {store_name(work)}: {first_line(error)}; do the same again once MLflow answers"
        ) from error
