"""A small model of every family, and its trainings; without prefect and mlflow."""

from pathlib import Path

import torch
from torch import Tensor

from t2v_models import checkpoint as checkpoints
from t2v_models.checkpoint import RunConfig
from t2v_models.families.build import FAMILIES
from t2v_models.model import FamilyConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.loop import TrainConfig, fit

SMALL = {name: family.tiny() for name, family in FAMILIES.items()}


def run_of(data: Path, model: FamilyConfig, seed: int = 0) -> RunConfig:
    return RunConfig.of(Manifest.load(data), model, seed)


def quiet(step: int, figures: dict[str, float]) -> None:
    """A log that keeps nothing."""


def train(data: Path, run_dir: Path, steps: int, name: str = "gan", **changes: object) -> checkpoints.Checkpoint:
    config = TrainConfig(steps=steps, log_every=1, probe_seconds=0, **changes)  # type: ignore[arg-type]
    return fit(run_of(data, SMALL[name]), ClipStore(Manifest.load(data)), config, run_dir, quiet)


def tensors(run_dir: Path) -> dict[str, Tensor]:
    model, last = checkpoints.load(run_dir)
    checkpoints.restore(model, last, run_dir)
    states = {f"{n}.{i}.{k}": torch.as_tensor(v) for n, o in model.optimizers.items()
              for i, fields in o.state_dict()["state"].items() for k, v in fields.items()}  # fmt: skip
    return model.state_dict() | states
