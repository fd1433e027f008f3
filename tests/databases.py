"""The databases of an empty work folder, each made once for all tests that need it: Prefect needs 6 CPU seconds for its
tables, MLflow 2.

`python -m tests.databases FOLDER prefect` makes one as the commands do, in a process of its own: both read their
settings on import, and keep connections.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from t2v_models.files import locked

LONGEST_SECONDS = 600.0
"""One process of the tests makes them while others wait."""


def new_work(folder: Path, *whose: str, shared: Path) -> Path:
    """Make `folder` a work folder that `prefect` or `mlflow`, or both, have just used for the first time.

    Args:
        folder: may be there.
        whose: databases.
        shared: a folder that all processes of the tests share.
    """
    fresh = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    for name in whose:
        made, unfinished = shared / f"database-{name}", shared / f"unfinished-{name}"
        with locked(shared / f"{name}.lock", LONGEST_SECONDS, "makes a database"):
            if not made.exists():
                subprocess.run([sys.executable, "-m", __name__, unfinished, name], check=True, env=fresh)
                unfinished.rename(made)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def _make(work: Path, whose: str) -> None:
    from tasks.servers.runtime import prepare

    prepare(work)
    (work / "prefect").mkdir(parents=True, exist_ok=True)
    if whose == "mlflow":
        from tasks.mlflow.store import client

        client(work)
    else:
        from prefect.server.database import provide_database_interface

        asyncio.run(provide_database_interface().create_db())


if __name__ == "__main__":
    _make(Path(sys.argv[1]), sys.argv[2])
