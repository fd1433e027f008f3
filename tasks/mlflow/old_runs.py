"""Runs in MLflow that ended long ago, and the models they logged: what may go, what stays, and its removal for good.

Runs are kept or removed with their family, the tree of parents and children a lab makes: nobody wants half of one.
"""

import io
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from t2v_models.config import LabError
from tasks.mlflow.registry import WEIGHTS_TAG
from tasks.mlflow.store import client, environment, faults, first_line, store_name, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

PAGE = 1000
"""Runs in one answer of the store."""


@dataclass(frozen=True)
class Runs:
    """The runs of a store, by what becomes of them."""

    old: "list[Run]"
    versions: "list[ModelVersion]"
    """Registered models of the old runs."""
    kept: frozenset[str]
    """Ids of the others."""
    datasets: frozenset[str]
    """Digests of what those have read."""
    weights: frozenset[str]
    """sha256 of the models that an alias keeps: champions, those people have named, a challenger of nobody."""
    deleted: "list[Run]"
    """What people have deleted in MLflow, which keeps it until it is cleaned."""


def runs_before(work: Path, before: datetime) -> Runs:
    """Sort the runs of the store of `work`: a family is old if every run of it ended before then and no alias keeps it.

    Raises:
        LabError: the store does not answer; a model that an alias names is of a run that was deleted.
    """
    store = client(work)
    try:
        return _sorted(store, before.timestamp() * 1000)
    except faults() as error:
        raise LabError(f"{store_name(work)} does not say what it holds: {first_line(error)}; try again") from error


def _sorted(store: "MlflowClient", before: float) -> Runs:
    versions = list(_pages(store.search_model_versions))
    models = _pages(store.search_registered_models)
    aliases = [(model.name, str(number), alias) for model in models for alias, number in model.aliases.items()]
    crowned = {name for name, _, alias in aliases if alias == "champion"}
    # beside a champion the challenger is but the newest that was not better
    named = {(name, number): alias for name, number, alias in aliases if alias != "challenger" or name not in crowned}
    champions = [v for v in versions if (v.name, str(v.version)) in named]
    active, deleted = _runs(store, deleted=False), _runs(store, deleted=True)
    gone = {run.info.run_id for run in deleted}
    for version in champions:
        if version.run_id in gone:
            raise LabError(
                f"{version.name} version {version.version} has the alias {named[version.name, str(version.version)]} "
                f"and its run was deleted in MLflow: bring it back with 'mlflow runs restore --run-id {version.run_id}'"
                ", or take the alias away"
            )
    families = defaultdict(list)
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in active}
    for run in active:
        families[_root(run.info.run_id, parents)].append(run)
    stays = {v.run_id for v in champions} | {r.info.run_id for r in active if not 0 < (r.info.end_time or 0) < before}
    old = [run for family in families.values() if not stays & {r.info.run_id for r in family} for run in family]
    ids = {run.info.run_id for run in old}
    kept = [run for run in active if run.info.run_id not in ids]
    return Runs(
        old=old, versions=[v for v in versions if v.run_id in ids], kept=frozenset(r.info.run_id for r in kept),
        datasets=frozenset(u.dataset.digest for r in kept if r.inputs for u in r.inputs.dataset_inputs),
        weights=frozenset(v.tags.get(WEIGHTS_TAG, "") for v in champions), deleted=deleted,
    )  # fmt: skip


def remove_runs(work: Path, runs: Runs, database: str | None) -> None:
    """Remove the old runs with their models and files, and what was deleted already, for good.

    Args:
        work: the work folder.
        runs: from `runs_before`.
        database: address of the database behind the store; without it the rest is MLflow's own `mlflow gc`, by hand.

    Raises:
        LabError: the store fails, or keeps files behind a server that is not there.
    """
    import mlflow
    from mlflow.cli import gc

    store, uri = client(work), tracking_uri(work)
    behind = [r for r in (*runs.old, *runs.deleted) if r.info.artifact_uri.startswith("mlflow-artifacts:")]
    if behind and not uri.startswith("http"):
        raise LabError(f"{len(behind)} runs keep their files behind an MLflow server: start 't2v up', then clean again")
    try:
        for version in runs.versions:
            store.delete_model_version(version.name, version.version)
        left = {version.name for version in _pages(store.search_model_versions)}
        for name in {version.name for version in runs.versions} - left:
            store.delete_registered_model(name)
        for run in runs.old:
            for model in run.outputs.model_outputs if run.outputs else ():
                store.delete_logged_model(model.model_id)
            store.delete_run(run.info.run_id)
        if database is None:
            return
        with environment(MLFLOW_TRACKING_URI=uri), redirect_stdout(io.StringIO()):  # it names every run
            mlflow.set_tracking_uri(uri)
            time.sleep(0.01)  # it takes what was deleted some milliseconds ago
            gc.main(["--backend-store-uri", database], standalone_mode=False)
    except faults() as error:
        what = first_line(error)
        raise LabError(f"{store_name(work)} does not let go: {what}; the same command again goes on") from error


def _root(run: str, parents: dict[str, str | None]) -> str:
    """The oldest known parent of a run."""
    seen = {run}
    while (parent := parents.get(run)) in parents and parent not in seen:
        assert parent
        seen.add(parent)
        run = parent
    return run


def _runs(store: "MlflowClient", deleted: bool) -> "list[Run]":
    """All runs, or all that were deleted, also those of deleted experiments."""
    from mlflow.entities import ViewType

    experiments = [e.experiment_id for e in _pages(store.search_experiments, view_type=ViewType.ALL)]
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    asked = {"experiment_ids": experiments, "run_view_type": view, "max_results": PAGE}
    return list(_pages(store.search_runs, **asked)) if experiments else []


def _pages(search, **asked) -> Iterator:  # type: ignore[no-untyped-def, type-arg]
    """All that a search of MLflow's finds, page by page."""
    token = None
    while True:
        page = search(**asked, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
