"""The databases of an empty work folder, made once for all tests: Prefect needs 6 CPU seconds for its tables, MLflow 2.

`python -m tests.databases FOLDER` makes them as the commands do, in a process of its own: both read their settings on
import, and keep connections.
"""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from t2v_models.files import locked

LONGEST_SECONDS = 600.0
"""One process of the tests makes them while others wait."""


def new_work(folder: Path, shared: Path) -> Path:
    """Make `folder` a work folder that has just been used for the first time.

    Args:
        folder: not there yet.
        shared: a folder that all processes of the tests share.
    """
    with locked(shared / "databases.lock", LONGEST_SECONDS, "makes databases"):
        if not (shared / "databases").exists():
            subprocess.run([sys.executable, "-m", __name__, shared / "unfinished"], check=True)
            (shared / "unfinished").rename(shared / "databases")
    shutil.copytree(shared / "databases", folder, dirs_exist_ok=True)
    return folder


def _make(work: Path) -> None:
    from tasks.servers.runtime import prepare

    prepare(work)
    from prefect.server.database import provide_database_interface

    from tasks.mlflow.store import client

    asyncio.run(provide_database_interface().create_db())
    client(work)


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
