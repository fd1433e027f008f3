"""What `t2v up` keeps running for a work folder, written down so that every other command finds it."""

from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import ValidationError

from t2v_models import files
from t2v_models.config import Config

SAME_SECONDS = 60
"""The start of a process moves when the clock is set; no other process has had its number so soon."""


class Running(Config):
    """The addresses of the servers, once they answer, and the processes behind them as `pid start`."""

    up: str
    """The `t2v up` that looks after the rest."""
    parts: dict[str, str]
    prefect: str = ""
    mlflow: str = ""


def running(work: Path) -> Running | None:
    """What runs for `work`, or None if its `t2v up` has not come so far, has ended or was killed."""
    found = written(work)
    return found if found and found.prefect and process(found.up) else None


def written(work: Path) -> Running | None:
    """The note as it stands; after a kill it names processes that nobody looks after any more.

    None also where it cannot be read: who is to write there is told of it.
    """
    with suppress(OSError, ValidationError):
        return Running.model_validate_json(_note(work).read_bytes())
    return None


def write(work: Path, found: Running) -> None:
    """Leave the note; it is replaced as a whole."""
    files.write(_note(work), found.model_dump_json(indent=2))


def note(work: Path, **changed: object) -> None:
    """Write down what of this process's note has changed."""
    found = written(work)
    is_mine = found is not None and process(found.up) == psutil.Process()
    mine = found if found and is_mine else Running(up=identity(), parts={})
    write(work, mine.model_copy(update=changed))


def remove(work: Path) -> None:
    """Nothing runs any more."""
    _note(work).unlink(missing_ok=True)


def identity(pid: int | None = None) -> str:
    """`pid start` of a process, or of this one: a later process with the same number has another start."""
    found = psutil.Process(pid)
    return f"{found.pid} {found.create_time():.0f}"


def process(name: str) -> psutil.Process | None:
    """The process of an `identity`, unless it has ended."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(int(name.split()[0]))
        same = abs(found.create_time() - float(name.split()[1])) < SAME_SECONDS
        if same and found.status() != psutil.STATUS_ZOMBIE:
            return found
    return None


def _note(work: Path) -> Path:
    return Path(work) / "up.json"
