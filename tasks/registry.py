"""Models in MLflow: a run folder logged as a servable model, and a logged model fetched as a run folder."""

import os
import re
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from t2v_models.config import LabError
from tasks.mlflow_store import client, environment, faults, first_line, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

SERVING_PACKAGES = ("t2v-lab", "torch", "numpy", "pandas", "mlflow")


def log_model(uri: str, run_id: str, run_dir: Path, name: str, example_prompt: str) -> str:
    """Log and register the newest checkpoint with its answering code; the number of the version."""
    import mlflow

    with tempfile.TemporaryDirectory() as part, environment(MLFLOW_TRACKING_URI=uri), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")  # the signature is given by hand
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"run": str(_newest_only(run_dir, Path(part) / "run"))},
                signature=_signature(),
                metadata={"example_prompt": example_prompt},
                pip_requirements=[f"{package}=={version(package)}" for package in SERVING_PACKAGES],
            )
    return _register(mlflow.MlflowClient(uri, registry_uri=uri), name, info.model_uri, run_id)


def _register(client: "MlflowClient", name: str, source: str, run_id: str) -> str:
    """A new version of the registered model, made with the client because the other way prints; its number."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return str(client.create_model_version(name, source, run_id).version)


def fetch_model(work: Path, uri: str) -> Path:
    """The run folder inside a logged model, copied to `work/models` on first use.

    Args:
        work: folder of the run.
        uri: `models:/name@alias`, `models:/name/version`, `models:/<model id>` or `runs:/<run id>/<path>`.

    Raises:
        LabError: the store has no such model.
    """
    import mlflow

    store = client(work)
    try:
        source = _source(store, uri)
        folder = Path(work).absolute() / "models" / re.sub(r"\W+", "-", source)
        if not (folder / "MLmodel").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            uri_of_store = tracking_uri(work)
            with tempfile.TemporaryDirectory(dir=folder.parent) as part, environment(MLFLOW_TRACKING_URI=uri_of_store):
                mlflow.set_tracking_uri(uri_of_store)  # `models:/` is looked up there, whatever is passed below
                got = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=f"{part}/model")
                os.replace(got, folder)
    except faults() as error:
        raise LabError(
            f"no model {uri} in {tracking_uri(work)} ({first_line(error)}): check the name and the alias or version"
        ) from error
    return folder / "artifacts" / "run"


def _source(client: "MlflowClient", uri: str) -> str:
    """What an alias or a version stands for: `models:/<model id>`, which never changes."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if uri.startswith("models:/") and at:
        return str(client.get_model_version_by_alias(name, alias).source)
    name, slash, number = name.partition("/")
    if uri.startswith("models:/") and slash:
        return str(client.get_model_version(name, number).source)
    return uri


def _newest_only(run_dir: Path, to: Path) -> Path:
    """A run folder with the newest checkpoint alone."""
    from t2v_models import checkpoint

    newest = checkpoint.newest(run_dir)
    if newest is None:
        raise LabError(f"run folder {run_dir} has no whole checkpoint to log as a model: train it first")
    checkpoint.folder(to).mkdir(parents=True)
    for path in checkpoint.folder(run_dir).glob(f"step-{newest.step:08d}.*"):
        shutil.copy2(path, checkpoint.folder(to))  # MLflow refuses links
    return to


def _signature() -> "ModelSignature":
    """Prompts in, one row a clip out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    clip = {"prompt": "string", "seed": "long", "mime": "string", "data_base64": "string"}
    clip |= {"frames": "long", "size": "long"}
    return ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema([ColSpec(kind, column) for column, kind in clip.items()]),
        params=ParamSchema([ParamSpec("seed", "long", 0), ParamSpec("count", "long", 1)]),
    )
