"""What can be judged: a run, a model in MLflow, a baseline, or an archive of clips from anywhere."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from t2v_models import checkpoint
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError, in_words, near
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.worlds.dataset import DatasetConfig, world_of
from t2v_models.worlds.splits import SPLITS, Split

Sampler = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]
Asked = tuple[list[str], list[int]]
"""Prompts and seeds, one of each per clip."""


@dataclass(frozen=True)
class Subject:
    """What is to be judged."""

    name: str
    source: str
    """What identifies it: the sha256 of its weights or of its archive, or the name of a baseline."""
    step: int
    data: DatasetConfig
    """The dataset it answers to: it decides splits, real clips and trained ranges."""
    sample: Sampler
    asked: dict[Split, Asked] | None = None
    """What its clips were made for, where they exist already."""
    settings: dict[str, object] = field(default_factory=dict)
    """Of its model, where there is one."""


def subject(run: Path | str, data: DatasetConfig | None = None) -> Subject:
    """Make ready what `run` names.

    Args:
        run: a run folder, a baseline's name, or an `.npz` of clips.
        data: the dataset a baseline draws from, or that an archive is judged by (by default the world its prompts
            belong to, at its own size).

    Raises:
        LabError: there is nothing of that name, the run folder holds no whole checkpoint or is of ingested clips; a
            baseline without a dataset; an archive that does not hold clips of the dataset's size and world.
    """
    if str(run) in BASELINES and not Path(run).exists():
        if data is None:
            raise LabError(f"the baseline {run} needs a dataset to draw from: add --like with a run or a dataset")
        return Subject(str(run), str(run), 0, data, partial(BASELINES[str(run)], data))
    if Path(run).suffix == ".npz":
        return _archive(Path(run), data)
    if not Path(run).exists():
        known = f"it is neither a folder, an .npz nor a baseline ({near(str(run), BASELINES)})"
        raise LabError(f"{run} does not exist: {known}; train a run with 't2v train DATA --out {quote(str(run))}'")
    from t2v_models.sampler import sample_frames

    model, last = checkpoint.load(Path(run))
    rendered = _rendered(last.run.dataset, run)
    settings: dict[str, object] = {"model": last.run.model.settings, "training": {"seed": last.run.seed}}
    sample = partial(sample_frames, model)
    return Subject(last.run.model.name, last.sha256, last.step, rendered, sample, settings=settings)


def title(run: str) -> str:
    """What a person calls it: the name of a folder or of an archive, a model URI or a baseline as it is."""
    return run if ":/" in run or run in BASELINES else Path(run).resolve().name.removesuffix(".npz")


def dataset_like(like: Path) -> DatasetConfig:
    """The dataset of a run folder or of a rendered dataset.

    Raises:
        LabError: the folder is neither, or of ingested clips.
    """
    newest = checkpoint.newest(like)
    return _rendered(newest.run.dataset if newest else Manifest.load(like).config, like)


def _rendered(data: DataConfig, where: Path | str) -> DatasetConfig:
    """The dataset, if its clips were rendered."""
    if data.truth is None:
        raise LabError(
            f"{where} is of ingested clips, whose ground truth is unknown, so nothing can judge samples: "
            "look at them with 't2v generate', or evaluate a run on clips of 't2v render'"
        )
    return data.truth


def _archive(path: Path, data: DatasetConfig | None) -> Subject:
    frames, prompts, seeds = load_npz(path)
    data = data or _dataset_of(path, frames, prompts)
    t, h, w = frames.shape[1:4]
    if (t, h, w) != (data.spec.frames, data.spec.size, data.spec.size):
        want = f"{data.spec.frames} frames of {data.spec.size} x {data.spec.size} px"
        raise LabError(
            f"{path} holds clips of {t} frames of {w} x {h} px, the dataset {want}: give --like with a dataset of that "
            "size, or convert the clips"
        )
    place: dict[tuple[str, int], list[int]] = {}
    asked: dict[Split, Asked] = {}
    for i, key in enumerate(zip(prompts, seeds, strict=True)):
        place.setdefault(key, []).append(i)
        of_split = asked.setdefault(data.split_of(key[0]), ([], []))
        of_split[0].append(key[0])
        of_split[1].append(key[1])

    left = {key: cycle(rows) for key, rows in place.items()}  # equal prompts and seeds: one clip after the other

    def look_up(wanted: Sequence[str], wanted_seeds: Sequence[int]) -> NDArray[np.uint8]:
        return frames[[next(left[key]) for key in zip(wanted, wanted_seeds, strict=True)]]

    return Subject(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), 0, data, look_up, asked)


def _dataset_of(path: Path, frames: NDArray[np.uint8], prompts: Sequence[str]) -> DatasetConfig:
    """The world that knows every prompt, at the clips' own size.

    Raises:
        LabError: the clips are not square, too short, too small or too large, or a prompt means nothing.
    """
    t, h, w = frames.shape[1:4]
    try:
        data = world_of(prompts, ClipSpec(frames=t, size=h))
    except (LabError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else error
        raise LabError(f"{path} cannot be judged: {reason}") from error
    if h != w:
        raise LabError(f"{path} holds frames of {w} x {h} px: the reader judges square ones, so crop or pad them")
    return data


def asked_of(who: Subject, config: EvaluateConfig) -> dict[Split, Asked]:
    """Prompts and seeds of every split to judge.

    Raises:
        LabError: a split that was asked for by name has no prompts for this dataset or archive.
    """
    if who.asked is not None:
        found = {s: a for s, a in who.asked.items() if s in (config.splits or SPLITS)}
    else:
        found = {}
        for split in config.splits or SPLITS:
            asked = [p for p in who.data.asked(split) for _ in range(config.clips_per_prompt)]
            if asked:
                found[split] = asked, [config.seed * 1_000_000 + i for i in range(len(asked))]
    for split in config.splits or ():
        if split not in found:
            why = f"holds out {', '.join(who.data.hold_out) or 'nothing'}: choose another split"
            if split == "s4":
                why = "says nothing of size or speed: render one with --bands, or choose another split"
            raise LabError(f"split {split} ({SPLITS[split]}) is empty, the dataset {why}")
    return found
