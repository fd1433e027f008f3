"""MLflow's server on the loopback, for programs and for pages of its own.

`mlflow server` lets the pages of every other server on this machine read and change all, and has no setting against it
(MLflow 3.17). It also is two processes, each of which imports all of MLflow.
"""

from pathlib import Path

from starlette.types import ASGIApp

from tasks.servers.guard import OwnPagesOnly


def settings(database: str, artifacts: Path) -> dict[str, str]:
    """Environment of the process that serves `application`, by the names that `mlflow server` tells its own by.

    Args:
        database: URL of the database; it may hold a password, and so is no argument.
        artifacts: folder of the files; a run finds those of new experiments without a server too.
    """
    return {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts.as_uri(),
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),  # where older experiments keep theirs, behind the server
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nobody would do the jobs, which are for language models
    }


def application() -> ASGIApp:
    """For uvicorn; a new database is given its tables."""
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores()
    return OwnPagesOnly(app)
