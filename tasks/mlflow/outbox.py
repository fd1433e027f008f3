"""What a run still has to tell MLflow: sent in order, kept while the store is away, and left in a file at the end.

Nothing is lost, since the next run in the work folder that is tracked in the same store sends what such a file holds;
and no metric is doubled, since MLflow stores one of the same name, step, time and value once.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_models import files
from tasks.mlflow.store import faults, first_line, refuses

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

BATCH_METRICS = 1000
"""The most MLflow takes in one `log_batch`."""

Item = dict[str, Any]
"""One thing to tell: `{"metrics": [[name, value, time, step], …]}`, an image, a file, a table, tags, the end, a dataset
or a model that was used. Behind the step of a metric may stand the model it is of, and a dataset's name and digest."""


class Outbox:
    """The things one MLflow run has yet to be told, oldest first."""

    def __init__(self, client: "MlflowClient", run_id: str, items: list[Item] | None = None) -> None:
        self._client, self._run_id = client, run_id
        self._items = items or []

    def __len__(self) -> int:
        return sum(len(item.get("metrics", "1")) for item in self._items)

    def put(self, item: Item) -> None:
        """Add something; a batch of metrics is filled up before a new one is begun."""
        self._items.append(item)

    def send(self) -> None:
        """Send everything. What the store refuses, or is gone, is dropped with a warning: it would be so for ever.

        Raises:
            MLflow's errors, see `mlflow_store.faults`: the store is away; what is not sent is kept.
        """
        while self._items:
            try:
                self._tell(self._items[0])
            except faults() as error:
                if not refuses(error) and not isinstance(error, FileNotFoundError):  # a file that is gone stays away
                    raise
                log.warning("MLflow refuses %s: %s", ", ".join(self._items[0]), first_line(error))
            del self._items[0]

    def save(self, folder: Path) -> Path:
        """Leave what is not sent in a file that `deliver` finds."""
        path = folder / f"{self._run_id}.jsonl"
        files.write(path, "".join(json.dumps(item) + "\n" for item in self._items))
        return path

    def _tell(self, item: Item) -> None:
        from mlflow.entities import LoggedModelInput, Metric, RunTag

        match item:
            case {"metrics": rows}:
                for start in range(0, len(rows), BATCH_METRICS):
                    batch = [Metric(*row) for row in rows[start : start + BATCH_METRICS]]
                    self._client.log_batch(self._run_id, metrics=batch)
            case {"image": path, "key": key, "step": step}:
                self._image(Path(path), key, step)
            case {"artifact": path, "folder": folder}:
                store = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
                store(self._run_id, path, folder)
            case {"table": rows, "file": file}:
                self._table(rows, file)
            case {"model": model}:
                self._client.log_inputs(self._run_id, models=[LoggedModelInput(model)])
            case {"tags": tags}:
                self._client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            case {"dataset": dataset, "context": context}:
                self._dataset(dataset, context)
            case {"end": status}:
                self._client.set_terminated(self._run_id, status)
            case _:
                raise AssertionError(item)

    def _image(self, path: Path, key: str, step: int) -> None:
        from PIL import Image

        with Image.open(path) as picture:
            self._client.log_image(self._run_id, picture.convert("RGB"), key=key, step=step, synchronous=True)

    def _table(self, rows: Sequence[Mapping[str, object]], file: str) -> None:
        import pandas as pd

        self._client.log_table(self._run_id, pd.DataFrame(rows), file)

    def _dataset(self, dataset: Mapping[str, str], context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tag = InputTag("mlflow.data.context", context)
        self._client.log_inputs(self._run_id, [DatasetInput(Dataset(**dataset), [tag])])


def deliver(client: "MlflowClient", folder: Path) -> None:
    """Send what earlier runs left in `folder`, and remove it; what is for another store waits for that one.

    A store has an address as a file and one for every port it is served at, so it is known by its runs.

    Raises:
        MLflow's errors, see `mlflow_store.faults`: the store is away; the files stay.
    """
    for path in sorted(folder.glob("*.jsonl")):
        try:
            client.get_run(path.stem)
        except faults() as error:
            if refuses(error):
                continue
            raise
        items = [json.loads(line) for line in path.read_text().splitlines()]
        Outbox(client, path.stem, items).send()
        path.unlink(missing_ok=True)
