"""Models in MLflow: a run folder logged as a servable model, a logged model fetched as a run folder, the champion."""

import json
import os
import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from t2v_models.clips.spec import in_a_row
from t2v_models.config import LabError, near
from tasks.mlflow.origin import source
from tasks.mlflow.store import client, environment, faults, first_line, made_by_another, store_name, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from t2v_models.checkpoint import Checkpoint
    from t2v_models.model import FamilyConfig

SERVING_PACKAGES = ("av", "mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch")
"""What a served model needs installed. Our own code goes with its weights, so that it answers where the lab is not
installed, and a later version of the lab does not change what it answers."""
WEIGHTS_TAG = "t2v.weights"
"""Of a version: the sha256 of its weights, by which a judged model is found again."""

ABOUT = """Clips from prompts, by a model that t2v-lab trained. `champion` is the version that the gate has found best,
`challenger` the newest that was not; a version's tags say what was decided and by which figures.

```
t2v serve models:/{name}@challenger
curl 127.0.0.1:5001/invocations -H 'content-type: application/json' \\
    -d '{{"dataframe_records": [{{"prompt": "{prompt}"}}], "params": {{"seed": 7, "count": 1}}}}'
t2v generate models:/{name}@challenger '{prompt}' --out clip.mp4
```
"""
"""Description of a registered model; its commands are turned to the champion once there is one."""


def log_model(uri: str, run_id: str, run_dir: Path, name: str, example_prompt: str) -> str:
    """Log and register the newest checkpoint with its answering code, as `challenger`; the number of the version.

    Raises:
        LabError: the run folder has no whole checkpoint.
    """
    import mlflow
    import pandas as pd

    import t2v_models
    from t2v_models import checkpoint

    newest = checkpoint.newest(run_dir)
    if newest is None:
        raise LabError(f"run folder {run_dir} has no whole checkpoint to log as a model: train it first")
    told = environment(MLFLOW_TRACKING_URI=uri, MLFLOW_RUN_CONTEXT=json.dumps(source("train")))
    with tempfile.TemporaryDirectory() as part, told:
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"run": str(_only(newest, run_dir, Path(part) / "run"))},
                code_paths=[str(Path(t2v_models.__file__).parent)],
                signature=_signature(),
                input_example=(pd.DataFrame({"prompt": [example_prompt]}), {"seed": 7, "count": 1, "format": "mp4"}),
                metadata={"example_prompt": example_prompt},
                pip_requirements=requirements(newest.run.model),
            )
    store = mlflow.MlflowClient(uri, registry_uri=uri)
    _registered(store, name, ABOUT.format(name=name, prompt=example_prompt))
    minutes, clips = newest.seconds / 60, newest.run.spec
    several = in_a_row(dict.fromkeys(one.spec for one in newest.run.dataset.one_shape))
    made = store.create_model_version(
        name, info.model_uri, run_id, tags={WEIGHTS_TAG: newest.sha256}, model_id=info.model_id,
        description=f"{newest.step:,} updates in {minutes:.1f} min on {newest.run.dataset.world}: clips of "
        f"{clips.frames} frames at {clips.sides} px, such as `{example_prompt}`"
        + (f"; asked for by the parameter `shape`: {several}" if "," in several else ""),
    )  # fmt: skip
    store.set_registered_model_alias(name, "challenger", made.version)
    _name_what_exists(store, name)
    return str(made.version)


def _registered(store: "MlflowClient", name: str, about: str) -> None:
    """Make the registered model, or give the one that is there a description if it has none."""
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(name, description=about)  # with the client, because the other way prints
    except MlflowException as error:
        if not made_by_another(error):
            raise
        if not store.get_registered_model(name).description:
            store.update_registered_model(name, about)


def requirements(model: "FamilyConfig") -> list[str]:
    """What a served model of this family needs installed, as it is here."""
    return [f"{package}=={version(package)}" for package in (*SERVING_PACKAGES, *model.packages)]


def version_with(store: "MlflowClient", sha256: str) -> "ModelVersion | None":
    """The newest registered version of these weights, if there is one."""
    found = store.search_model_versions(f"tags.`{WEIGHTS_TAG}` = '{sha256}'")
    return max(found, key=lambda version: int(version.version), default=None)


def model_id(version: "ModelVersion") -> str:
    """The logged model behind a registered version."""
    return str(version.source).rpartition("/")[2]


def champion_of(store: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that is champion, if one is."""
    number = store.get_registered_model(name).aliases.get("champion")
    return store.get_model_version(name, number) if number else None


def promote(store: "MlflowClient", version: "ModelVersion") -> None:
    """Make a version the champion; it challenges nobody any more."""
    aliases = store.get_registered_model(version.name).aliases
    store.set_registered_model_alias(version.name, "champion", version.version)
    if str(aliases.get("challenger")) == str(version.version):  # a number in SQL, a word from a server
        store.delete_registered_model_alias(version.name, "challenger")
    _name_what_exists(store, version.name)


def _name_what_exists(store: "MlflowClient", name: str) -> None:
    """Let the commands on a model's page name its champion, or its challenger while it has none."""
    model = store.get_registered_model(name)
    best, about = "champion" if "champion" in model.aliases else "challenger", model.description or ""
    told = re.sub(rf"(?<=models:/{re.escape(name)}@)(champion|challenger)\b", best, about)
    if told != about:
        store.update_registered_model(name, told)


def fetch_model(work: Path, uri: str) -> Path:
    """The run folder inside a logged model, copied to `work/models` on first use.

    Args:
        work: folder of the run.
        uri: `models:/name@alias`, `models:/name/version`, `models:/<model id>` or `runs:/<run id>/<path>`.

    Raises:
        LabError: the store does not answer, has no such model, or the model holds no run of ours.
    """
    import mlflow

    store, place = client(work), tracking_uri(work)
    try:
        source = _source(store, uri)
        folder = Path(work).absolute() / "models" / re.sub(r"\W+", "-", source)
        if not (folder / "MLmodel").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as part, environment(MLFLOW_TRACKING_URI=place):
                mlflow.set_tracking_uri(place)  # `models:/` is looked up there, whatever is passed below
                got = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=f"{part}/model")
                os.replace(got, folder)
    except faults() as error:
        raise LabError(
            f"no model {uri} in {store_name(work)}: {_what_there_is(store, uri, first_line(error))}"
        ) from error
    if not (folder / "artifacts" / "run").is_dir():
        raise LabError(f"model {uri} in {place} was not logged by this lab: it holds no run folder; choose another")
    return folder / "artifacts" / "run"


def _source(store: "MlflowClient", uri: str) -> str:
    """What an alias or a version stands for: `models:/<model id>`, which never changes."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if uri.startswith("models:/") and at:
        return str(store.get_model_version_by_alias(name, alias).source)
    name, slash, number = name.partition("/")
    if uri.startswith("models:/") and slash:
        return str(store.get_model_version(name, number).source)
    return uri


def _what_there_is(store: "MlflowClient", uri: str, fault: str) -> str:
    """What could have been meant: the models, or the aliases and versions of the model that was named."""
    if not uri.startswith("models:/"):
        return f"{fault}; check the run and the path"
    known = {model.name: model for model in store.search_registered_models()}
    name = re.split("[@/]", uri.removeprefix("models:/"))[0]
    if not known:
        return "it holds no model yet; train one with 't2v train', or set MLFLOW_TRACKING_URI to the store that has it"
    if name not in known:
        return f"unknown model {name!r}, {near(name, known)}"
    aliases = ", ".join(f"@{alias} (version {number})" for alias, number in sorted(known[name].aliases.items()))
    newest = max((int(v.version) for v in store.search_model_versions(f"name = '{name}'")), default=0)
    return f"{name} has versions 1 to {newest} and {f'the aliases {aliases}' if aliases else 'no alias'}; name one"


def _only(newest: "Checkpoint", run_dir: Path, to: Path) -> Path:
    """A run folder with one checkpoint."""
    from t2v_models import checkpoint

    for path in checkpoint.files_of(newest, run_dir):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(run_dir / path, to / path)  # MLflow refuses links
    return to


def _signature() -> "ModelSignature":
    """Prompts in, one row a clip out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    asked = {"seed": ("long", 0), "count": ("long", 1), "format": ("string", "mp4"), "shape": ("string", "")}
    clip = {"prompt": "string", "seed": "long", "mime": "string", "data_base64": "string"}
    clip |= {"frames": "long", "height": "long", "width": "long"}
    return ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema([ColSpec(kind, column) for column, kind in clip.items()]),
        params=ParamSchema([ParamSpec(name, *kind) for name, kind in asked.items()]),
    )
