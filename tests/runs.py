"""A small model of every family, and its trainings; without prefect and mlflow."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from t2v_models import checkpoint as checkpoints
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit

SMALL = {name: family.tiny() for name, family in FAMILIES.items()}
SMALL["image_model"] = SMALL["diffusion"].model_copy(update={"network": "factorised", "images": 1.0})

SMALL["video_tokenizer"] = SMALL["video_tokenizer"].model_copy(  # as by default: pixels alone
    update={"perceptual": 0.0, "frame_adversary": 0.0, "clip_adversary": 0.0}
)


def built(config: FamilyConfig, spec: ClipSpec, captions: Sequence[str]) -> VideoModel:
    """A fresh model, on fresh small ones of the families that its settings name as parents."""
    parents = {key: built(SMALL[place.name], spec, captions) for key, place in config.parents.items()}
    return config.with_captions(captions).build(spec, parents)


def run_of(data: Path, model: FamilyConfig, seed: int = 0) -> RunConfig:
    """The run of a model; where that names a family as its parent, a small one was trained beside the data."""
    beside = {
        key: parent_of(data, place.name) if place.name in SMALL else place for key, place in model.parents.items()
    }
    return new_run(Manifest.load(data), model.model_copy(update=beside), seed)


def parent_of(data: Path, name: str) -> Path:
    """A run of a small model of a family, of one update."""
    folder = data.with_name(f"{data.name}-{name}")
    config = TrainConfig(steps=1, probe_seconds=0)
    fit(run_of(data, SMALL[name]), ClipStore(Manifest.load(data)), config, folder, quiet)
    return folder


def quiet(step: int, figures: dict[str, float]) -> None:
    """A log that keeps nothing."""


def train(data: Path, run_dir: Path, steps: int, name: str = "gan", **changes: object) -> checkpoints.Checkpoint:
    config = TrainConfig(steps=steps, log_every=1, probe_seconds=0, **changes)  # type: ignore[arg-type]
    return fit(run_of(data, SMALL[name]), ClipStore(Manifest.load(data)), config, run_dir, quiet)


def train_on(store: ClipStore, run_dir: Path, steps: int, name: str = "gan") -> checkpoints.Checkpoint:
    """A run on clips from anywhere."""
    config = TrainConfig(steps=steps, log_every=1, probe_seconds=0)
    model = SMALL[name].model_copy(update={"batch_size": 8})
    return fit(new_run(store.manifest, model, 0), store, config, run_dir, quiet)


def tensors(run_dir: Path) -> dict[str, Tensor]:
    model, last = checkpoints.load(run_dir)
    checkpoints.restore(model, last, run_dir)
    states = {f"{n}.{i}.{k}": torch.as_tensor(v) for n, o in model.optimizers.items()
              for i, fields in o.state_dict()["state"].items() for k, v in fields.items()}  # fmt: skip
    return model.state_dict() | states
