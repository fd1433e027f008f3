"""What can be judged: a run, a model in MLflow, a baseline, or an archive of clips from anywhere."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from t2v_models import checkpoint
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError, in_words
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.judging.suite import Sampler as Sample
from t2v_models.sampler import sample_frames
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.worlds.dataset import DatasetConfig, world_of
from t2v_models.worlds.splits import SPLITS, Split
from tasks.samplers import Archive, source

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
    sample: Sample
    asked: dict[Split, Asked] | None = None
    """What its clips were made for, where they exist already."""
    settings: dict[str, object] = field(default_factory=dict)
    """Of its model, where there is one."""


def subject(run: Path | str, data: DatasetConfig | None = None) -> Subject:
    """Make ready what `run` names, to be judged.

    Args:
        run: a run folder, a baseline's name, or an `.npz` of clips.
        data: the dataset a baseline draws from, or that an archive is judged by (by default the world its prompts
            belong to, at its own size).

    Raises:
        LabError: as `samplers.source`; a run on ingested clips; an archive that does not hold clips of the dataset's
            size and world.
    """
    who = source(run, data)
    if isinstance(who.sampler, Archive):
        return _archive(who.sampler, data)
    assert who.data is not None
    sample = partial(sample_frames, who.sampler)
    return Subject(who.sampler.name, who.sha256, who.step, _rendered(who.data, run), sample, settings=who.settings)


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


def _archive(archive: Archive, data: DatasetConfig | None) -> Subject:
    data = data or _dataset_of(archive)
    t, h, w = archive.shape
    if (t, h, w) != data.spec.shape[:3]:
        want = f"{data.spec.frames} frames of {data.spec.width} x {data.spec.height} px"
        raise LabError(
            f"{archive.path} holds clips of {t} frames of {w} x {h} px, the dataset {want}: give --like with a dataset "
            "of that size, or convert the clips"
        )
    asked: dict[Split, Asked] = {}
    for prompt, seed in zip(archive.prompts, archive.seeds, strict=True):
        of_split = asked.setdefault(data.split_of(prompt), ([], []))
        of_split[0].append(prompt)
        of_split[1].append(seed)
    return Subject(archive.name, archive.sha256, 0, data, partial(sample_frames, archive), asked)


def _dataset_of(archive: Archive) -> DatasetConfig:
    """The world that knows every prompt, at the clips' own size.

    Raises:
        LabError: the clips are too short, too small or too large, or a prompt means nothing.
    """
    (t, h, w), path = archive.shape, archive.path
    try:
        data = world_of(archive.prompts, ClipSpec(frames=t, height=h, width=w))
    except (LabError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else error
        raise LabError(f"{path} cannot be judged: {reason}") from error
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
