"""Runs in MLflow. Beside `mlflow_store`, `registry` and the served `pyfunc_model`, no other file knows it.

`MLFLOW_TRACKING_URI` is respected; without it everything is in the work folder: `mlflow.db` and `mlflow-artifacts`.
"""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from t2v_models.config import LabError, flatten
from t2v_models.judging.scores import metric_rows
from t2v_models.judging.statistics import Score
from tasks.mlflow.origin import OWNER_TAG, is_dead, provenance, system_metrics
from tasks.mlflow.outbox import Item, Outbox, deliver
from tasks.mlflow.registry import log_model
from tasks.mlflow.store import (
    client,
    experiment_tags,
    faults,
    first_line,
    made_by_another,
    refuses,
    store_name,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
FLUSH_METRICS = 500
"""Buffered metrics go out this often, or when there are so many."""
END_SECONDS = 15.0
"""How long the end of a run waits for a store that is away."""
TAG_CHARACTERS = 4000


class Tracker:
    """One MLflow run. Everything is handed to a thread, which sends it and keeps it while the store is away."""

    def __init__(self, client: "MlflowClient", work: Path, run_id: str, logged: Mapping[str, int]) -> None:
        self.run_id = run_id
        self._client, self._work = client, work
        self._logged = dict(logged)
        # queues, because a thread takes from them while others add
        self._rows: deque[tuple[int, int, Mapping[str, float]]] = deque()
        self._later: deque[Item] = deque()
        self._buffered = 0
        self._outbox = Outbox(client, run_id)
        self._wake, self._closed = threading.Event(), threading.Event()
        self._sender = threading.Thread(target=self._send_until_closed, name="mlflow", daemon=True)
        self._sender.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of a step for the next flush; what a resumed run has already logged is left out."""
        if self._logged:
            metrics = {key: value for key, value in metrics.items() if step > self._logged.get(key, -1)}
        self._keep(step, metrics)

    def catch_up(self, history: Mapping[int, Mapping[str, float]]) -> None:
        """Log what a killed process had written into its run folder and not yet sent: figures by step."""
        for step, metrics in history.items():
            self.log(step, metrics)
        for step, metrics in history.items():
            self._logged |= {key: max(step, self._logged.get(key, -1)) for key in metrics}

    def scores(self, split: str, scores: Mapping[str, Score], step: int, of: Sequence[str] = ()) -> None:
        """Results of an evaluation, under `eval/<split>/<metric>`; of two evaluations at one step the later counts.

        Args:
            split: what was asked.
            scores: figures by name.
            step: updates of the model.
            of: id of the logged model that they are of, name and digest of the dataset, so that they stand there too.
        """
        now = time.time_ns() // 1_000_000
        rows = [[key, float(value), now, step, *of] for key, value in metric_rows(split, scores).items()]
        self._later.append({"metrics": rows})

    def table(self, file: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table that the UI shows and sorts, as the artifact `file`, which ends in .json."""
        self._later.append({"table": list(rows), "file": file})

    def used(self, model: str) -> None:
        """The logged model that the run is about, by its id."""
        self._later.append({"model": model})

    def image(self, key: str, step: int, path: Path) -> None:
        """A still picture under `key`; MLflow shows the steps of one key behind a slider."""
        self._later.append({"image": str(path.resolve(strict=True)), "key": key, "step": step})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, or a folder with all it holds, among the run's artifacts; it must stay until the run has ended."""
        self._later.append({"artifact": str(path.resolve(strict=True)), "folder": folder})

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags of the run."""
        self._later.append({"tags": _cut(tags)})

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """What the run read: the digest of its shards, where they lie, and what for (`training`, `evaluation`)."""
        kind = "local" if "://" not in source else source.partition("://")[0]
        data = {"name": name, "digest": digest[:36], "source_type": kind, "source": json.dumps({"uri": source})}
        self._later.append({"dataset": data, "context": context})

    def model(self, run_dir: Path, name: str, example_prompt: str) -> str:
        """Log and register the newest checkpoint of a run folder as a servable model; returns `models:/<name>/<n>`.

        It is the `challenger`; who becomes `champion` is decided by the gate, once it is judged.

        Raises:
            LabError: the run folder has no whole checkpoint, or the store is away.
        """
        try:
            number = log_model(tracking_uri(self._work), self.run_id, run_dir, name, example_prompt)
            self._client.update_run(self.run_id, status="RUNNING")  # logging a model ends the run
        except faults() as error:
            if refuses(error):  # a fault of ours, or of the store: the traceback tells more than a sentence
                raise
            raise LabError(
                f"{run_dir} is trained, but MLflow at {store_name(self._work)} is away and has not registered it "
                f"({first_line(error)}): start MLflow, then the same command again registers the model"
            ) from error
        return f"models:/{name}/{number}"

    def _keep(self, step: int, metrics: Mapping[str, float]) -> None:
        self._rows.append((step, time.time_ns() // 1_000_000, metrics))
        self._buffered += len(metrics)
        if self._buffered >= FLUSH_METRICS:
            self._buffered = 0
            self._wake.set()

    def _flush(self) -> None:
        """Hand everything that was told to the outbox, and send it."""
        batch: list[list[Any]] = []
        while self._rows:
            step, milliseconds, metrics = self._rows.popleft()
            batch += [[key, float(value), milliseconds, step] for key, value in metrics.items()]
        if batch:
            self._outbox.put({"metrics": batch})
        while self._later:
            self._outbox.put(self._later.popleft())
        self._outbox.send()

    def _send_until_closed(self) -> None:
        away = False
        while not self._closed.is_set():
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            try:
                self._flush()
                away = False
            except faults() as error:
                if not away:
                    log.warning("MLflow is away, metrics wait in memory: %s", first_line(error))
                away = True

    def _finish(self, status: str) -> None:
        """Stop the sender, send the rest and the run's end; what the store does not take is left in a file."""
        self._closed.set()
        self._wake.set()
        self._sender.join()
        self._later.append({"end": status})
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                return self._flush()
            except faults() as error:
                if time.monotonic() < deadline:
                    time.sleep(1)
                    continue
                path = self._outbox.save(unsent(self._work))
                log.warning("MLflow is away, %d metrics wait in %s for the next run: %s", len(self._outbox), path,
                            first_line(error))  # fmt: skip
                return None


@contextmanager
def track(
    work: Path,
    experiment: str,
    name: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    run_id: str | None = None,
    parent: str | None = None,
) -> Iterator[Tracker]:
    """A new run, or with `run_id` the continuation of one; it ends FINISHED, FAILED or, when it was stopped, KILLED.

    What an earlier run of this work folder could not send, because the store was away, is sent first.

    Args:
        work: folder of the run; it holds the store unless `MLFLOW_TRACKING_URI` is set.
        experiment: made when missing.
        name: name of the run.
        params: a nested dump of the configuration; logged once, as `model.batch_size`.
        tags: added to ours: commit, versions, machine and process.
        run_id: a run of this store that goes on; its logged steps are not logged again.
        parent: id of the run under which this one is shown.

    Raises:
        LabError: the store does not answer, or has no run `run_id`.
    """
    store = client(work)
    ours = provenance(tags.get("stage", "")) | {str(k): str(v) for k, v in tags.items()}
    if parent:
        ours["mlflow.parentRunId"] = parent
    try:
        deliver(store, unsent(work))
        if run_id is None:
            run_id = store.create_run(experiment_id(work, experiment), tags=ours, run_name=name).info.run_id
            _log_params(store, run_id, flatten(params))
            tracker = Tracker(store, work, run_id, {})
        else:
            tracker = Tracker(store, work, run_id, _resume(store, run_id, ours))
    except faults() as error:
        raise LabError(
            f"cannot track the run in {store_name(work)}: {first_line(error)}; name a run of that store, or start a "
            "new one"
        ) from error
    status = "FINISHED"
    try:
        with system_metrics(tracking_uri(work), run_id):
            yield tracker
    except Exception as error:
        status = "FAILED"
        tracker.tags({"t2v.failure": f"{type(error).__name__}: {first_line(error)}"})
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or Prefect ending the run
        status = "KILLED"
        raise
    finally:
        tracker._finish(status)


def close_stale(work: Path) -> int:
    """Mark runs of dead processes of this machine as KILLED, and return how many there were.

    What they had left to send is sent before.

    Raises:
        LabError: the store does not answer.
    """
    store = client(work)
    try:
        deliver(store, unsent(work))
    except faults() as error:
        raise LabError(f"cannot send what is left to {store_name(work)}: {first_line(error)}; try again") from error
    running = "attributes.status = 'RUNNING'"
    experiments = [e.experiment_id for e in store.search_experiments()]
    dead = [
        run.info.run_id
        for run in (store.search_runs(experiments, running) if experiments else [])
        if is_dead(run.data.tags.get(OWNER_TAG, ""))
    ]
    for run_id in dead:
        store.set_terminated(run_id, "KILLED")
    return len(dead)


def unsent(work: Path) -> Path:
    """The folder of what the store has not been told yet."""
    return Path(work) / "mlflow-unsent"


def experiment_id(work: Path, name: str) -> str:
    """Id of the experiment, which is made when missing; it keeps its artifacts in the work folder if the store does.
    One that has no description gets ours.

    Raises:
        LabError: the store does not answer, or the experiment is deleted there.
    """
    store = client(work)
    try:
        if found := store.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
                raise LabError(
                    f"the experiment {name!r} was deleted in MLflow, which keeps its name and its runs: bring it back "
                    f"with 'MLFLOW_TRACKING_URI={quote(store_name(work))} {restore}'"
                )
            for key, value in experiment_tags().items():
                if not found.tags.get(key):  # of an earlier version, or made by hand
                    store.set_experiment_tag(found.experiment_id, key, value)
            return str(found.experiment_id)
        return _made(store, work, name)
    except faults() as error:
        raise LabError(f"{store_name(work)} has no experiment {name!r}: {first_line(error)}; try again") from error


def _made(store: "MlflowClient", work: Path, name: str) -> str:
    """Id of a new experiment, or of the one that a run beside this one has made since it was looked for."""
    here = not os.environ.get("MLFLOW_TRACKING_URI")
    folder = Path(work).absolute() / "mlflow-artifacts" / name
    place = folder.as_uri() if here else None
    try:
        return str(store.create_experiment(name, artifact_location=place, tags=experiment_tags()))
    except faults() as error:
        found = made_by_another(error) and store.get_experiment_by_name(name)
        if not found:
            raise
        return str(found.experiment_id)


def _resume(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> dict[str, int]:
    """Set an ended run going again; the last logged step of each of its metrics."""
    run = client.get_run(run_id)
    client.update_run(run_id, status="RUNNING")
    for key, value in _cut(tags).items():
        client.set_tag(run_id, key, value)
    return {key: max(m.step for m in client.get_metric_history(run_id, key)) for key in run.data.metrics}


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[:TAG_CHARACTERS] for key, value in tags.items()}


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    rows = [Param(key, str(value)[:6000]) for key, value in params.items()]
    for start in range(0, len(rows), 100):
        client.log_batch(run_id, params=rows[start : start + 100])
