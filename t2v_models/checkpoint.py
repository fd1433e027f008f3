"""Models at rest: weights and optimiser states as safetensors, everything else as JSON a person can read.

A checkpoint is two files, `step-00000500.safetensors` and `step-00000500.json`; the JSON is written last and carries
the digest of the weights, so a checkpoint whose JSON exists and whose digest agrees is whole. Nothing is unpickled.
"""

import hashlib
import logging
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from operator import not_
from pathlib import Path
from shlex import quote
from typing import Any

import safetensors.torch
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from t2v_models import files
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config, LabError, in_words
from t2v_models.families.build import ModelConfig
from t2v_models.model import KEPT_RUN, VideoModel
from t2v_models.sampler import PIPELINE
from t2v_models.shards.augment import NOTHING, AugmentConfig
from t2v_models.shards.ingested import DataConfig

log = logging.getLogger(__name__)


class Parent(Config):
    """The run that another builds on or begins with, as it was then."""

    run: "RunConfig"
    step: int
    sha256: str
    """Of its weights."""


class RunConfig(Config):
    """What makes a run what it is: two checkpoints of one run agree in all of it. `fresh.new_run` makes one."""

    model: ModelConfig
    dataset: DataConfig
    dataset_digest: str
    """Digest of the shards' content, as in the manifest."""
    seed: int
    parents: dict[str, Parent] = Field({}, exclude_if=not_)
    """By the setting of the model that names them."""
    mix: dict[str, float] = Field({}, exclude_if=not_)
    """Shares of the batches by the names of shapes, where they are not those of the clips."""
    augment: AugmentConfig = Field(NOTHING, exclude_if=NOTHING.__eq__)

    @model_validator(mode="before")
    @classmethod
    def _vocabulary_of_old(cls, values: Any) -> Any:
        """Runs of the first house kept the vocabulary beside the model, and their models had no text encoder."""
        if isinstance(values, dict) and "vocabulary" in values:
            encoder = {"name": "words", "vocabulary": values["vocabulary"]}
            model = values["model"] | {"text_encoder": encoder}
            values = {key: value for key, value in values.items() if key != "vocabulary"} | {"model": model}
        return values

    def build(self) -> VideoModel:
        """A fresh model, and fresh models that it builds on; weights are drawn from torch's current seed."""
        model = self.model.build(self.spec, {name: self.parents[name].run.build() for name in self.model.parents})
        model.shapes = tuple(one.spec for one in self.dataset.one_shape)
        return model

    @property
    def spec(self) -> ClipSpec:
        """Frames, size and rate of the clips the model makes unless it is asked for others."""
        return self.dataset.spec


Parent.model_rebuild()


class Checkpoint(Config):
    """One saved state of a run."""

    run: RunConfig
    step: int
    """Updates done."""
    seconds: float
    """Seconds spent training."""
    sha256: str
    """Of the weights file."""
    versions: dict[str, str]
    frozen: str | None = Field(None, exclude_if=not_)
    """sha256 of the file with the networks that never change, kept once."""

    @property
    def as_parent(self) -> Parent:
        """What a run keeps of it that builds on it."""
        return Parent(run=self.run, step=self.step, sha256=self.sha256)


def folder(run_dir: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return run_dir / "checkpoints"


def save(model: VideoModel, run: RunConfig, run_dir: Path, step: int, seconds: float, keep: int) -> Checkpoint:
    """Write a checkpoint; drop all but the `keep` newest, and any ahead of it: the run went on from before those."""
    weights = safetensors.torch.save(_tensors(model))
    checkpoint = Checkpoint(
        run=run, step=step, seconds=seconds, sha256=hashlib.sha256(weights).hexdigest(),
        versions={"t2v-lab": version("t2v-lab"), "torch": torch.__version__}, frozen=_save_frozen(model, run_dir),
    )  # fmt: skip
    path = folder(run_dir) / f"step-{step:08d}.json"
    files.write(path.with_suffix(".safetensors"), weights)
    files.write(path, checkpoint.model_dump_json(indent=2))
    saved = sorted(folder(run_dir).glob("step-*.json"))
    end = saved.index(path) + 1
    for old in saved[: max(0, end - keep)] + saved[end:]:
        files.remove(old)
        files.remove(old.with_suffix(".safetensors"))
    return checkpoint


def files_of(checkpoint: Checkpoint, run_dir: Path) -> list[Path]:
    """All files of a checkpoint, relative to its run folder."""
    found = sorted(folder(run_dir).glob(f"step-{checkpoint.step:08d}.*"))
    found += [_frozen_file(run_dir, checkpoint.frozen)] if checkpoint.frozen else []
    return [path.relative_to(run_dir) for path in found]


def newest(run_dir: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None in a folder without any.

    Raises:
        LabError: as of `_whole`.
    """
    return next(_whole(run_dir), None)


def _whole(run_dir: Path) -> Iterator[Checkpoint]:
    """Whole checkpoints, newest first. A damaged one is passed over with a warning.

    Raises:
        LabError: one has settings that this version does not know.
    """
    for path in sorted(folder(run_dir).glob("step-*.json"), reverse=True):
        weights = path.with_suffix(".safetensors")
        try:
            checkpoint = Checkpoint.model_validate_json(path.read_bytes(), context=KEPT_RUN)
            found = _sha256(weights)
        except (ValidationError, OSError) as error:
            if isinstance(error, ValidationError) and error.errors()[0]["type"] != "json_invalid":
                raise LabError(
                    f"{path} is of another version of t2v-lab ({in_words(error)}): use that version, or another folder"
                ) from error
            log.warning("checkpoint %s cannot be read (%s); trying the one before it", path, type(error).__name__)
            continue
        if found == checkpoint.sha256:
            yield checkpoint
        else:
            log.warning("weights %s are damaged (their sha256 has changed); trying the checkpoint before", weights)


def require(run_dir: Path, role: str = "", family: str = "", option: str = "") -> Checkpoint:
    """The newest whole checkpoint.

    Args:
        run_dir: the folder.
        role: what the run is to be of another, as "the upsampler of diffusion", for the sentence where there is none.
        family: of which it has to be.
        option: that names it.

    Raises:
        LabError: there is none.
    """
    checkpoint = newest(run_dir)
    if checkpoint is None:
        raise LabError(_no_run(run_dir, role and f", {role},", family and f" --model {family}", option))
    return checkpoint


def load(run_dir: Path, then: Parent | None = None) -> tuple[VideoModel, Checkpoint]:
    """The model of a run folder at its newest checkpoint, on the CPU, to make clips; `restore` lets it learn on.

    Args:
        run_dir: the folder.
        then: what another run took of it, which is loaded though there may be a newer checkpoint.

    Raises:
        LabError: no such folder, or no whole checkpoint in it, or not that one any more.
    """
    checkpoint = require(run_dir)
    if then:
        found = next((one for one in _whole(run_dir) if one.sha256 == then.sha256), None)
        if found is None:
            raise LabError(
                f"run folder {run_dir} was at update {then.step:,} when it was chosen and has no such checkpoint any "
                "more, for it is trained on: give the same command again, best when that training has ended"
            )
        checkpoint = found
    model = checkpoint.run.build()
    _load_weights(model, checkpoint, run_dir)
    return model, checkpoint


def _no_run(place: Path, role: str, model: str, option: str) -> str:
    """What is there in place of a run, and what to do."""
    named = option and f" with {option}"
    train = f"train one with 't2v train DATA{model} --out {quote(str(place))}'{option and f', or name one{named}'}"
    if str(place).startswith(PIPELINE):
        needs = "is a pipeline of diffusers and no run trained here, which this needs"
        return f"{place}{role} {needs}: name a run folder{named}"
    if not place.exists():
        return f"run folder {place}{role} does not exist: {train}"
    if not place.is_dir():
        return f"{place}{role} is a file: name a run folder{named}, which 't2v train' makes"
    if any(place.glob("shard-*.tar")):
        learn = f"t2v train {quote(str(place))}{model} --minutes 5 --out RUN"
        return f"{place}{role} is a dataset: train a model with '{learn}' and name that run{named}"
    hint = train if folder(place).is_dir() else f"name one that has{named}"
    return f"run folder {place}{role} has no whole checkpoint: {hint}"


def restore(model: VideoModel, checkpoint: Checkpoint, run_dir: Path) -> None:
    """Put the checkpoint's weights and optimiser states into `model`."""
    tensors = _load_weights(model, checkpoint, run_dir)
    for name, optimizer in model.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"optimizer.{name}."):
                index, field = key.removeprefix(f"optimizer.{name}.").split(".", 1)
                state.setdefault(int(index), {})[field] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _load_weights(model: VideoModel, checkpoint: Checkpoint, run_dir: Path) -> dict[str, Tensor]:
    """Put the checkpoint's weights into `model`; all its tensors by name."""
    tensors = safetensors.torch.load_file(folder(run_dir) / f"step-{checkpoint.step:08d}.safetensors")
    if checkpoint.frozen:
        tensors |= _load_frozen(run_dir, checkpoint.frozen)
    try:
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except RuntimeError as error:  # torch's way of saying that names or shapes differ
        raise LabError(
            f"the weights in {run_dir} are of another version of {checkpoint.run.model.name!r} "
            f"(t2v-lab {checkpoint.versions['t2v-lab']}): use that version, or train anew in another folder"
        ) from error
    return tensors


def _tensors(model: VideoModel) -> dict[str, Tensor]:
    """Everything a resumed run needs, by name, but what never changes."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items() if not _is_frozen(model, name)}
    for name, optimizer in model.optimizers.items():
        for index, fields in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{field}": torch.as_tensor(t) for field, t in fields.items()}
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}


def _is_frozen(model: VideoModel, name: str) -> bool:
    return name.split(".")[0] in model.frozen


def _frozen_file(run_dir: Path, sha256: str) -> Path:
    return run_dir / "frozen" / f"{sha256[:16]}.safetensors"


def _load_frozen(run_dir: Path, sha256: str) -> dict[str, Tensor]:
    path = _frozen_file(run_dir, sha256)
    if not path.is_file():
        raise LabError(f"{path} is missing, with weights that {run_dir} builds on: copy the whole run folder")
    if _sha256(path) != sha256:
        raise LabError(f"frozen weights {path} are damaged (their sha256 has changed): bring back the whole run folder")
    return safetensors.torch.load_file(path)


def _save_frozen(model: VideoModel, run_dir: Path) -> str | None:
    """Write the networks that never change, once for a model; their sha256, or None where there are none."""
    if model.frozen and model.frozen_sha256 is None:
        tensors = {f"model.{name}": t for name, t in model.state_dict().items() if _is_frozen(model, name)}
        content = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        model.frozen_sha256 = hashlib.sha256(content).hexdigest()
        files.write(_frozen_file(run_dir, model.frozen_sha256), content)
    return model.frozen_sha256


def _sha256(path: Path) -> str:
    """Of a file; hashed once while it stays as it is, however often a run asks whether its checkpoint is whole."""
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(16)
def _sha256_of(path: Path, size: int, changed_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
