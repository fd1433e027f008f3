"""The MLflow store of a work folder: where it is, a client of it, and how its faults read.

MLflow is imported on first use, since that takes seconds.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from t2v_models.config import LabError
from t2v_models.files import locked
from t2v_models.judging.metrics import HEADLINES, OBEYED
from t2v_models.worlds.splits import SPLITS

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMA_SECONDS = 600.0
"""How long a process waits for another to make a fresh store: ten seconds of a core, minutes on a busy machine."""


def tracking_uri(work: Path) -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or an SQLite file in the work folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(work).absolute()}/mlflow.db"


def store_name(work: Path) -> str:
    """`tracking_uri` as people are told of it: without the password that the URL of a server may hold."""
    return without_passwords(tracking_uri(work))


def without_passwords(text: str) -> str:
    """A text in which `***` stands for the password of every URL."""
    return re.sub(r"(://[^\s:/@]*):[^\s/]*@", r"\1:***@", text)


def client(work: Path) -> "MlflowClient":
    """A client of the store of `work`. A fresh SQLite file is given its schema here, without a word, by one process
    while others wait.

    Raises:
        LabError: the store does not answer.
    """
    import mlflow

    uri = tracking_uri(work)
    for name in ("alembic", "mlflow", "urllib3"):  # the last would tell of each try, above the one sentence
        logging.getLogger(name).setLevel(logging.ERROR)
    file, is_own = uri.removeprefix("sqlite:///"), not os.environ.get("MLFLOW_TRACKING_URI")
    lock = locked(Path(f"{file}.lock"), SCHEMA_SECONDS, "prepares MLflow's store") if file != uri else nullcontext()
    try:
        # MLflow tries again for minutes; the first question of a run is for a person who waits
        with lock, environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
            if is_own and not Path(file).exists():
                _make(Path(file))
            found = mlflow.MlflowClient(uri, registry_uri=uri)
            found.search_experiments(max_results=1)
    except faults() as error:
        ways = "start it, or unset MLFLOW_TRACKING_URI to track in the work folder"
        if is_own:
            ways = "if it is damaged, put a copy of it back, or move it away to begin anew"
        raise LabError(f"MLflow does not answer at {store_name(work)} ({first_line(error)}); {ways}") from error
    return found


def _make(file: Path) -> None:
    """An SQLite file with MLflow's schema, made beside its place: half of a schema, which MLflow would never finish, is
    not left by a process that is killed meanwhile."""
    import mlflow

    fresh = file.with_name(f"{file.name}.fresh")
    for left in (fresh, fresh.with_name(f"{fresh.name}-journal")):
        left.unlink(missing_ok=True)
    mlflow.MlflowClient(f"sqlite:///{fresh}").search_experiments(max_results=1)
    fresh.rename(file)


def where_to_look(work: Path) -> str:
    """The address of the store's server, or the command that shows the store, without passwords."""
    if server := _server(work):
        return server
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return 'mlflow server --backend-store-uri "$MLFLOW_TRACKING_URI"'
    return f"t2v up --work {quote(str(work))}"


def run_page(work: Path, run_id: str) -> str | None:
    """Where a browser shows a run, if its store is a server; who may see it, the server asks there."""
    server = _server(work)
    if server is None:
        return None
    return f"{server}/#/experiments/{client(work).get_run(run_id).info.experiment_id}/runs/{run_id}"


def scores_page(work: Path, experiment: str) -> str | None:
    """Where a browser shows the models of an experiment that is there with their scores, if the store is a server."""
    server = _server(work)
    found = client(work).get_experiment_by_name(experiment) if server else None
    return f"{server}/#/experiments/{found.experiment_id}/runs?viewStateShareKey=scores" if found else None


def _server(work: Path) -> str | None:
    """The address of the server that the store is, without user and password."""
    address = re.sub("://[^/@]*@", "://", tracking_uri(work))
    return address.rstrip("/") if address.startswith("http") else None


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """These environment variables for the block; MLflow reads most of its settings there, and sets some itself."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def faults() -> tuple[type[BaseException], ...]:
    """What MLflow raises when its store is away or refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def refuses(error: BaseException) -> bool:
    """Whether the store has understood and says no, as for a deleted run; it will not say yes later."""
    from mlflow.exceptions import MlflowException

    no = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "INVALID_STATE")
    return isinstance(error, MlflowException) and error.error_code in no


def made_by_another(error: BaseException) -> bool:
    """Whether what was to be made is there: a run beside this one was quicker."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code == "RESOURCE_ALREADY_EXISTS"


def first_line(error: BaseException) -> str:
    """An error in one line without passwords, for a sentence or a tag: MLflow's errors name the URL that was asked."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return without_passwords(first)[:300]


COLUMNS = (
    "params.`model.name`", f"metrics.`eval/s0/{OBEYED}`", f"metrics.`eval/s0/{OBEYED}_lo`",
    *(f"metrics.`eval/s0/{metric.name}`" for metric in HEADLINES[1:]),
    f"metrics.`eval/s1/{OBEYED}`", f"metrics.`eval/s3/{OBEYED}`",
    "metrics.`reach/80_seconds`", "metrics.`reach/90_seconds`",
    "metrics.`speed/clips_per_second`", "params.`model.batch_size`", "params.`training.minutes`",
)  # fmt: skip
"""Of the saved view `scores`, a row for every trained model: what is compared first."""

_SPLITS = "; ".join(f"{split} {about}" for split, about in SPLITS.items())
ABOUT = f"""Models trained on clips of one world and size, so that their figures may be compared.

A lab is one run with the runs of its stages under it. `eval/<split>/<figure>` are shares or means of judged clips:
{_SPLITS}. Every figure with its interval is in the table `evaluation/scores.json` of the evaluation, every judged clip
in `evaluation/<split>/verdicts.json`. The runs table with the view `scores` has a row a model.
"""
"""Description of an experiment."""


def experiment_tags() -> dict[str, str]:
    """Tags by which the UI shows an experiment as one of training, and saves `COLUMNS` for everybody, best run first.

    The saved view is at `?viewStateShareKey=scores`; it is what the UI's own Share button writes (MLflow 3.17).
    """
    view = {"selectedColumns": COLUMNS, "orderByKey": COLUMNS[1], "orderByAsc": False,
            "searchFilter": "tags.stage = 'train'"}  # fmt: skip
    kind = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": ABOUT}
    return kind | {"mlflow.sharedViewState.scores": json.dumps(view)}
