"""A run before its first update: what it is, and its model, with weights of runs that it builds on or begins with.

A run that begins with another's weights makes video after images, or other clips after those of a dataset. It takes
the weights that the other makes clips with, averaged where it keeps averages. Averages, optimisers and what is measured
from data begin anew. All weights fit, or none is taken; those of words that the other never read are fresh.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from t2v_models.checkpoint import Parent, RunConfig, load, newest, require
from t2v_models.config import LabError, changes
from t2v_models.families.ema import Average
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.shards.augment import NOTHING, AugmentConfig
from t2v_models.shards.buckets import check_batches, clips_by_shape, shares_of
from t2v_models.shards.manifest import Manifest

BEGIN = "begin"
"""The setting that names the run whose weights another begins with."""


def new_run(
    manifest: Manifest,
    model: FamilyConfig,
    seed: int,
    mix: Mapping[str, float] | None = None,
    augment: AugmentConfig = NOTHING,
    run_dir: Path | None = None,
) -> RunConfig:
    """The run that trains `model` on the dataset of `manifest`, in a folder where it may have begun.

    Raises:
        LabError: a model that it builds on or begins with has no whole checkpoint, or is not fit for it; the model
            cannot learn from clips of all these shapes, or one of those that come fills no batch; clips cannot be
            varied as asked.
    """
    if augment.on and model.tokens_of(manifest.digest):
        raise LabError(
            f"{model.name} learns the tokens of {manifest.folder}, which were made of clips as they are stored: "
            "leave --augment out"
        )
    augment.check(manifest)
    model = model.for_shapes(tuple(dict.fromkeys((manifest.spec, *manifest.shapes))))
    clips = clips_by_shape(manifest)
    check_batches(clips, shares_of(clips, mix or {}), model.batch_size)
    parents = {}
    for name, place in model.parents.items():
        family, option = model.parent_families.get(name, ""), f"--set {name}=RUN"
        parents[name] = require(place, f"the {name} of {model.name}", family, option).as_parent
    model = model.with_captions(manifest.captions)
    if model.begin:
        first = begun_with(model.begin, run_dir)
        model = model.after(first.run.model)
        theirs = {name: first.run.parents[name] for name in first.run.model.parents}
        if odd := next((key for key in theirs | parents if theirs.get(key) != parents.get(key)), None):
            raise _other_parent(model, first.run.model, odd)
        parents[BEGIN] = first
    return RunConfig(
        model=model, dataset=manifest.config, dataset_digest=manifest.digest,
        seed=seed, parents=parents, mix=dict(mix or {}), augment=augment,
    )  # fmt: skip


def begun_with(place: Path, run_dir: Path | None = None) -> Parent:
    """The run that another begins with: as it was when that began in its folder, whatever became of it, or as it is.

    Raises:
        LabError: no whole checkpoint there, nor did any run in `run_dir` begin with one.
    """
    begun = newest(run_dir) if run_dir else None
    if begun and begun.run.model.begin == place:
        return begun.run.parents[BEGIN]
    return require(place).as_parent


def check_same_parents(model: FamilyConfig, first: FamilyConfig) -> None:
    """See that a model begins with one that names the same parents, before those of its own are trained.

    Raises:
        LabError: it does not; which is meant.
    """
    names = first.parents | model.parents
    if odd := next((key for key in names if first.parents.get(key) != model.parents.get(key)), None):
        raise _other_parent(model, first, odd)


def _other_parent(model: FamilyConfig, first: FamilyConfig, key: str) -> LabError:
    """A model cannot begin with one that has learnt with another parent, or with none."""
    if key not in first.parents:
        return LabError(f"{model.begin} has learnt its own {key}: leave --set {key}=RUN out")
    own = first.parents[key]
    return LabError(f"{model.begin} has learnt with another {key}: use that one, --set {key}={own}")


def fresh(run: RunConfig) -> VideoModel:
    """The model of a run; what no other run gives is drawn from torch's current seed.

    Raises:
        LabError: another run has not the checkpoint any more that it had when `run` was made, or does not fit.
    """
    model = run.build()
    for name, parent in run.parents.items():
        place = run.model.begin if name == BEGIN else run.model.parents[name]
        assert place, name
        other, last = load(place, parent)
        if name == BEGIN:
            begin(model, other, last.run)
        else:
            getattr(model, name).load_state_dict(other.state_dict())
    return model


@torch.no_grad()
def begin(model: VideoModel, first: VideoModel, run: RunConfig) -> None:
    """Put the weights that another model makes clips with into a fresh one, whose configuration comes `after` its own.

    Args:
        model: the fresh one.
        first: the other, which is not used any more.
        run: of the other.

    Raises:
        LabError: a weight is not there, or has another shape; which settings differ.
    """
    if isinstance(average := getattr(first, "average", None), Average):
        average.hand_over()
    # as the other, but with the words of the fresh one: what has another shape by that alone is weights of words
    reader = run.model.model_copy(update={"text_encoder": model.config.text_encoder})
    wider = run.model_copy(update={"model": reader}).build()
    taken, wanted, own = (_learnt(one) for one in (first, wider, model))
    _check_shapes(wanted, own, run, model)
    for name, weight in own.items():
        weight.copy_(_with_new_words(taken[name], weight, model.text.positions))
    for part in model.modules():
        if isinstance(part, Average):
            part.update(1.0)


def _learnt(model: VideoModel) -> dict[str, Tensor]:
    """The weights by name, but averages of them, parts that never change, and what is measured."""
    averages = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, Average))
    others = {*model.frozen, *model.measured}
    return {
        name: weight
        for name, weight in model.state_dict().items()
        if not name.startswith(averages) and name.split(".")[0] not in others
    }


def _check_shapes(found: dict[str, Tensor], wanted: dict[str, Tensor], run: RunConfig, model: VideoModel) -> None:
    shape = {name: tuple(weight.shape) for name, weight in found.items()}
    here = {name: tuple(weight.shape) for name, weight in wanted.items()}
    if odd := next((name for name in sorted(shape | here) if shape.get(name) != here.get(name)), None):
        config = model.config
        own = config.model_copy(update={"begin": run.model.begin, "text_encoder": run.model.text_encoder})
        said = ", ".join([*changes(run.model, own), *changes(run.spec, model.spec)])
        raise LabError(
            f"{config.name} cannot begin with {config.begin}, whose {odd} is {shape.get(odd, 'not there')} and here "
            f"{here.get(odd, 'not there')} ({said}): use the settings and the shape of clips that it had"
        )


def _with_new_words(known: Tensor, fresh: Tensor, positions: int) -> Tensor:
    """Known weights; where an axis is of words and longer here, then fresh ones of new words, then those of positions.

    A single vector with a number for each word is a text, which does not say the new ones.
    """
    for axis, (before, now) in enumerate(zip(known.shape, fresh.shape, strict=True)):
        if now > before:
            words = before - positions
            new = fresh.narrow(axis, words, now - before) * (fresh.ndim > 1)
            known = torch.cat([known.narrow(axis, 0, words), new, known.narrow(axis, words, positions)], axis)
    return known
