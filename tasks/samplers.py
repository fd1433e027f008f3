"""What can make clips, by the name a person gives it: a run, a pipeline, a baseline, or an archive of clips."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from pathlib import Path
from shlex import quote

import numpy as np

from t2v_models import checkpoint
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError, near
from t2v_models.judging.baselines import BASELINES
from t2v_models.sampler import PIPELINE, Frames, Request, Sampler, refuse_wishes, repeat, sample_frames
from t2v_models.shards.ingested import DataConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.fitted import Fitted


@dataclass(frozen=True)
class Source:
    """A sampler and what is known of it."""

    sampler: Sampler
    sha256: str
    """What identifies it: of its weights or of its archive, or the name of a baseline."""
    data: DataConfig | None
    """The dataset it answers to; an archive or a pipeline may have none."""
    about: str
    step: int = 0
    vocabulary: tuple[str, ...] = ()
    """The words it knows; empty where it takes any."""
    settings: dict[str, object] = field(default_factory=dict)
    """Of its model, where there is one."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """What it was trained on, or some of that; of an archive what it holds."""
        if isinstance(self.sampler, Archive):
            return tuple(dict.fromkeys(self.sampler.prompts))
        return self.data.prompts if self.data else ()


@dataclass(frozen=True)
class Made:
    """Clips that a sampler makes when they are asked for, with their prompts as captions."""

    sampler: Sampler
    captions: list[str]
    seeds: list[int]

    @classmethod
    def of(cls, found: Source, count: int, seed: int) -> "Made":
        """`count` clips of every prompt that it was trained on; of an archive what it holds.

        Raises:
            LabError: nobody knows its prompts, or a seed or count that is none.
        """
        if isinstance(found.sampler, Archive):
            return cls(found.sampler, found.sampler.prompts, found.sampler.seeds)
        if not found.prompts:
            raise LabError(f"{found.sampler.name} knows no prompts: add --like with a run or a dataset that has some")
        return cls(found.sampler, *repeat(found.prompts, count, seed))

    @property
    def spec(self) -> ClipSpec:
        """Of all clips."""
        return self.sampler.spec

    @property
    def shapes(self) -> tuple[ClipSpec]:
        """The one that it makes unasked."""
        return (self.spec,)

    def spec_of(self, row: int) -> ClipSpec:
        """That of all."""
        return self.spec

    def frames(self, rows: Sequence[int]) -> Frames:
        """Clips of these numbers, `(b, t, h, w, 3)`."""
        return sample_frames(self.sampler, [self.captions[row] for row in rows], [self.seeds[row] for row in rows])


def makes_clips(name: str) -> bool:
    """Whether a name is that of a sampler, not of a dataset."""
    return (
        name.startswith((PIPELINE, "models:/"))
        or name in BASELINES
        or name.endswith(".npz")
        or checkpoint.folder(Path(name)).is_dir()
    )


def source(run: Path | str, like: DatasetConfig | None = None) -> Source:
    """Make ready what `run` names.

    Args:
        run: a run folder, `diffusers:FOLDER` with or without options, a baseline's name, or an `.npz` of clips.
        like: the dataset a baseline draws from, or that an archive or a pipeline answers to: its clips get that size.

    Raises:
        LabError: there is nothing of that name, the run folder holds no whole checkpoint; a baseline without a dataset;
            a folder that holds no pipeline.
    """
    if str(run).startswith(PIPELINE):
        return _pipeline(str(run), like)
    if str(run) in BASELINES and not Path(run).exists():
        if like is None:
            raise LabError(f"the baseline {run} needs a dataset to draw from: add --like with a run or a dataset")
        return Source(Baseline(str(run), like), str(run), like, "real clips, or what is made of them without learning")
    if Path(run).suffix == ".npz":
        archive = Archive(Path(run))
        return Source(archive, archive.sha256, like, f"{len(archive.prompts):,} clips of an archive")
    if not Path(run).exists():
        known = f"it is neither a folder, an .npz nor a baseline ({near(str(run), BASELINES)})"
        raise LabError(f"{run} does not exist: {known}; train a run with 't2v train DATA --out {quote(str(run))}'")
    model, last = checkpoint.load(Path(run))
    spec, minutes = model.spec, last.seconds / 60
    return Source(
        model, last.sha256, last.run.dataset,
        f"{model.name}, {spec.frames} frames at {spec.sides} px, {last.step:,} updates in {minutes:.1f} min",
        last.step, model.text.vocabulary, {"model": model.config.settings, "training": {"seed": last.run.seed}},
    )  # fmt: skip


def _pipeline(name: str, like: DatasetConfig | None) -> Source:
    """A pipeline of diffusers, which is imported only now."""
    from t2v_models.families.pretrained.config import PipelineConfig
    from t2v_models.families.pretrained.pipeline import Pipeline

    found = Pipeline(PipelineConfig.of(name))
    sampler = Fitted(found, like.spec) if like else found
    about = f"{found.class_name} of diffusers, pretrained"
    return Source(sampler, found.sha256, like, about, settings={"model": found.settings})


class Baseline:
    """Real clips, or what is made of them without learning."""

    sample_batch = 64

    def __init__(self, name: str, data: DatasetConfig) -> None:
        self.name, self.spec = name, data.spec
        self._data = data

    def check(self, request: Request) -> None:
        """See that the prompts are of the world.

        Raises:
            LabError: one is not, or there is a wish beside prompts and seeds.
        """
        refuse_wishes(self.name, self.spec, request)
        for prompt in dict.fromkeys(request.prompts):
            self._data.meaning(prompt)

    def sample(self, request: Request) -> Frames:
        """uint8 `(b, t, h, w, 3)`."""
        return BASELINES[self.name](self._data, request.prompts, request.seeds)


class Archive:
    """Clips that exist already, by prompt and seed. Those of equal prompt and seed come one after the other."""

    sample_batch = 64

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.path = path
        self._frames, self.prompts, self.seeds = load_npz(path)
        place: dict[tuple[str, int], list[int]] = {}
        for i, key in enumerate(zip(self.prompts, self.seeds, strict=True)):
            place.setdefault(key, []).append(i)
        self._left = {key: cycle(rows) for key, rows in place.items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        t, h, w = self._frames.shape[1:4]
        return t, h, w

    @property
    def spec(self) -> ClipSpec:
        """Of its clips, as far as clips of ours may be so."""
        t, h, w = self.shape
        return ClipSpec(frames=t, height=h, width=w)

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def check(self, request: Request) -> None:
        """See that it holds what is asked for.

        Raises:
            LabError: it does not: which prompts or seeds it has.
        """
        refuse_wishes(self.name, self.spec, request)
        for prompt, seed in zip(request.prompts, request.seeds, strict=True):
            if (prompt, seed) not in self._left:
                seeds = [s for p, s in zip(self.prompts, self.seeds, strict=True) if p == prompt]
                has = (
                    f"of this prompt it has seeds {_listed(seeds)}"
                    if seeds
                    else near(prompt, dict.fromkeys(self.prompts))
                )
                raise LabError(f"{self.path} holds no clip of prompt {prompt!r} with seed {seed}: {has}")

    def sample(self, request: Request) -> Frames:
        """uint8 `(b, t, h, w, 3)`."""
        return np.asarray(self._frames[[next(self._left[k]) for k in zip(request.prompts, request.seeds, strict=True)]])


def _listed(seeds: list[int]) -> str:
    few = ", ".join(map(str, sorted(set(seeds))[:8]))
    return few + (", …" if len(set(seeds)) > 8 else "")
