"""A logged model behind HTTP: MLflow's scoring server, on the loopback, for programs and pages of its own only.

`mlflow models serve` answers any `Host`, so a page whose name is turned to 127.0.0.1 may use it.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from starlette.types import ASGIApp

from tasks.servers.guard import OwnPagesOnly

MODEL = "__pyfunc_model_path__"
"""Where MLflow's scoring server looks for its model (MLflow 3.17)."""


def application() -> ASGIApp:
    """For uvicorn, in a process where nothing has imported `t2v_models`: the model brings its own."""
    from mlflow.pyfunc.scoring_server.app import app

    return OwnPagesOnly(app)


def serve_model(model: Path, port: int) -> NoReturn:
    """Become the server of a logged model.

    Args:
        model: the folder that holds its `MLmodel`.
        port: where to listen.
    """
    uvicorn = str(Path(sys.executable).with_name("uvicorn"))
    served = f"{__name__}:{application.__name__}"
    os.environ[MODEL] = str(model)
    os.execv(uvicorn, [uvicorn, "--factory", served, "--host", "127.0.0.1", "--port", str(port)])
