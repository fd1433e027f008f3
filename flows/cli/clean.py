"""The command that makes room: clean."""

import re
import sqlite3
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, Work, print_json
from t2v_models.config import LabError
from t2v_models.files import bytes_in_words, size
from tasks.servers.runtime import WORK

commands = typer.Typer()

SHOWN = 50
"""The largest folders and files, which are named; of the rest the number is told."""
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@commands.command()
def clean(
    older_than: Annotated[str, typer.Option(help="Age of what may go, as 30d, 12h or 4w.")] = "30d",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    postgres: Annotated[
        str | None, typer.Option(help="As for 't2v up', where the databases are in PostgreSQL.", envvar="T2V_POSTGRES")
    ] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Remove what is old from the work folder, MLflow and Prefect; shows what, and asks.

    \b
    t2v clean                                           older than 30 days
    t2v clean --older-than 12h --yes                    from a script

    Champions stay, models with an alias of yours, and the challenger where
    there is no champion, with their runs, their data and the labs they are of;
    so does all that people have ingested. What was deleted in MLflow's UI
    before is then gone for good.
    """
    from tasks.servers.runtime import prefect_api
    from tasks.servers.up_note import running

    before = _before(older_than)
    if not work.is_dir():
        raise LabError(f"--work {work} does not exist: name the folder that is to be cleaned")
    with prefect_api(work):
        from tasks import old_folders
        from tasks.mlflow import old_runs
        from tasks.servers import old_runs as flow_runs

        runs = old_runs.runs_before(work, before)
        folders = old_folders.folders_before(work, before, runs)
        flows = flow_runs.runs_before(before)
        folders.sort(key=lambda entry: -entry.bytes)
        for entry in folders[:SHOWN]:
            print(f"{bytes_in_words(entry.bytes):>8}  {entry.touched:%Y-%m-%d}  {entry.path}")
        if len(folders) > SHOWN:
            print(f"and {len(folders) - SHOWN} smaller ones")
        bytes = sum(entry.bytes for entry in folders)
        found = {
            "folders": len(folders), "bytes": bytes, "mlflow_runs": len(runs.old), "models": len(runs.versions),
            "deleted_mlflow_runs": len(runs.deleted), "prefect_runs": len(flows),
        }  # fmt: skip
        print(
            f"{bytes_in_words(bytes)} in {len(folders)} folders and files; MLflow: {len(runs.old)} runs with "
            f"{len(runs.versions)} models, and {len(runs.deleted)} runs deleted before; Prefect: {len(flows)} runs"
        )
        removes = any(found.values()) and _agreed(yes)
        if removes:
            old_runs.remove_runs(work, runs, _database(work, postgres))
            old_folders.remove(folders)
            flow_runs.remove_runs(flows)
    if (removes or yes) and not running(work):
        _shrink(work)
    print(f"{work} has {bytes_in_words(size(work))}")
    print_json(as_json, found | {"removed": removes})


def _before(age: str) -> datetime:
    """The time that `30d` ago was."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", age)
    if not found:
        raise LabError(f"--older-than {age!r} is no age: write a whole number of m, h, d or w, such as 30d")
    try:
        return datetime.now(UTC) - timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError as error:
        raise LabError(f"--older-than {age!r} is before all years: write less, such as 30d") from error


def _agreed(yes: bool) -> bool:
    if not yes and not sys.stdin.isatty():
        raise LabError("nothing was removed: look at the list, and add --yes where nobody can be asked")
    return yes or typer.confirm("Remove all this?", err=True)


def _database(work: Path, postgres: str | None) -> str | None:
    """The address of MLflow's database; None where only somebody else's server knows it."""
    import os

    from tasks.mlflow.store import tracking_uri
    from tasks.servers.postgres import databases
    from tasks.servers.up_note import running

    if postgres:
        return databases(postgres)["mlflow"]
    ours, uri = running(work), tracking_uri(work)
    if not uri.startswith("http"):
        return uri
    if ours and uri == ours.mlflow:
        if not (work / "mlflow.db").is_file():
            raise LabError("the MLflow of 't2v up' keeps its database elsewhere: give --postgres again, as to 't2v up'")
        return f"sqlite:///{work.absolute()}/mlflow.db"
    print(f"MLflow is {os.environ['MLFLOW_TRACKING_URI']}: run 'mlflow gc' on its host to free the files of these runs")
    return None


def _shrink(work: Path) -> None:
    """Give the room of removed rows back: SQLite keeps it for new ones otherwise."""
    for path in (work / "prefect" / "prefect.db", work / "mlflow.db"):
        if path.is_file():
            # one that is in use is left as it is: new rows take the room
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as database:
                database.execute("VACUUM")
