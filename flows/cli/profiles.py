"""Profiles: the deployments of the lab flow in prefect.yaml, looked up without importing Prefect."""

from pathlib import Path
from typing import Any

import yaml

from t2v_models.config import LabError, near


def profile(name: str) -> dict[str, Any]:
    """The `config` parameter of the lab's deployment `name`.

    Raises:
        LabError: there is no such deployment.
    """
    flows = Path(__file__).parents[1]
    path = next(p for p in (flows / "prefect.yaml", flows.parent / "prefect.yaml") if p.is_file())
    deployments = yaml.safe_load(path.read_text())["deployments"]
    profiles = {d["name"]: d["parameters"]["config"] for d in deployments if d["entrypoint"] == "flows/lab.py:lab"}
    if name not in profiles:
        raise LabError(f"unknown profile {name!r}: {near(name, profiles)}")
    config: dict[str, Any] = profiles[name]
    return config
