"""What can be judged: a run, a model in MLflow, a pipeline, a baseline, or an archive of clips from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from t2v_models import checkpoint
from t2v_models.clips.spec import ClipSpec, in_a_row
from t2v_models.config import LabError, in_words, near
from t2v_models.judging.baselines import BASELINES, CEILING, real
from t2v_models.judging.own_clips import CONTROLS, OwnClips
from t2v_models.judging.scores import EvaluateConfig, Refusals
from t2v_models.judging.suite import Sampler as Sample
from t2v_models.sampler import (
    NO_WISHES,
    PIPELINE,
    Request,
    RoundTrip,
    Sampler,
    clips_of,
    is_uri,
    refuse_wishes,
    sample_frames,
)
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.manifest import MANIFEST, Manifest
from t2v_models.text.split import words
from t2v_models.text.wordnet import WordNet
from t2v_models.worlds.dataset import DatasetConfig, world_of
from t2v_models.worlds.splits import BY_DEFAULT, NEEDS, SPLITS, Split
from tasks.fitted import Fitted
from tasks.records import read_record
from tasks.samplers import Archive, Source, source

Asked = tuple[list[str], list[int]]
"""Prompts and seeds, one of each per clip."""


@dataclass(frozen=True)
class Subject:
    """What is to be judged."""

    name: str
    source: str
    """What identifies it: the sha256 of its weights or of its archive, or the name of a baseline."""
    step: int
    data: DataConfig
    """The dataset it answers to: it decides splits, real clips and trained ranges."""
    sample: Sample
    asked: dict[Split, Asked] | None = None
    """What its clips were made for, where they exist already."""
    settings: dict[str, object] = field(default_factory=dict)
    """Of its model, where there is one."""
    own: OwnClips | None = None
    """People's own clips that it answers to, where the truth is not known; their judge learns from them."""
    sampler: Sampler | None = None
    """Which says what it does not take; none where its clips exist already."""
    vocabulary: tuple[str, ...] = ()
    """The words it knows; empty where it takes any."""
    wishes: Request = NO_WISHES
    """What it is asked for beside prompts."""
    wordnet: WordNet | None = None
    """Through which words that it does not know are understood as some that it knows."""

    def understood(self, prompt: str) -> str:
        """What it is asked in place of a prompt.

        Raises:
            LabError: a word of it is near to none that it knows.
        """
        return self.wordnet.understood(prompt, self.vocabulary) if self.wordnet else prompt


def subject(
    run: Path | str, data: DatasetConfig | None = None, own: Path | None = None, wishes: Request = NO_WISHES,
    wordnet: Path | None = None,
) -> Subject:  # fmt: skip
    """Make ready what `run` names, to be judged.

    Args:
        run: a run folder, `diffusers:FOLDER`, a baseline's name, or an `.npz` of clips.
        data: the dataset a baseline draws from, or that a pipeline or an archive is judged by (by default the world
            that an archive's prompts belong to, at its own size).
        own: folder of ingested clips in place of a dataset; of a run, where they lay when it was trained.
        wishes: what is asked for beside prompts, as guidance, or one of the shapes of the dataset.
        wordnet: folder of WordNet's files, through which words that it does not know are understood.

    Raises:
        LabError: as `samplers.source`; a shape that the dataset has not; a wish of what makes no clips of prompts; no
            WordNet there; ingested clips too few to be judged by; an archive that does not hold clips
            of the dataset's size and world.
    """
    found = _subject(run, data, own, wishes)
    if found.sampler is None or isinstance(found.sampler, RoundTrip):
        refuse_wishes(found.name, found.data.spec, wishes)
        return found
    sample = partial(sample_frames, found.sampler, wishes=wishes)
    who = replace(found, wishes=wishes, wordnet=WordNet(wordnet) if wordnet else None)
    return replace(who, sample=lambda prompts, seeds: sample([who.understood(p) for p in prompts], seeds))


def _subject(run: Path | str, data: DatasetConfig | None, own: Path | None, wishes: Request) -> Subject:
    """The same, without wishes but that for a shape."""
    if own and str(run) in CONTROLS and not Path(run).exists():
        clips = _own_clips(own, wishes)
        return Subject(str(run), str(run), 0, clips.config, partial(CONTROLS[str(run)], clips), own=clips)
    if own and str(run) in BASELINES and not Path(run).exists():
        raise LabError(f"own clips have no baseline {run}: {near(str(run), CONTROLS)}")
    who = source(run, data)
    if isinstance(who.sampler, Archive):
        return _archive_of_own(who.sampler, own, wishes) if own else _archive(who.sampler, data)
    if str(run).startswith(PIPELINE):
        return _pipeline(who, own, wishes)
    assert who.data is not None
    one = of_shape(who.data, wishes)
    found = _as_it_is(who, one)
    if truth := one.truth:
        return replace(found, sample=clips_of(who.sampler, partial(real, truth)))
    return _beside_own(found, who.sampler, Path(run), own, wishes)


def of_shape(data: DataConfig, wishes: Request) -> DataConfig:
    """The dataset of the shape that is asked for, one of those it is made of, or of that of most of its clips.

    Raises:
        LabError: it has no such clips.
    """
    if wishes.size is None or (wishes.frames, *wishes.size) == data.spec.shape[:3]:
        return data.truth or data
    for one in data.one_shape:
        if one.spec.shape[:3] == (wishes.frames, *wishes.size):
            return one
    names = in_a_row(one.spec for one in data.one_shape)
    asked = f"{wishes.size[1]}x{wishes.size[0]}x{wishes.frames}"
    raise LabError(f"the dataset has no clips of the shape {asked}, so nothing judges them: ask for one of {names}")


def shapes_of(place: Path) -> list[str | None]:
    """The shapes of the clips of a run or of a dataset that can be judged: nothing for that of most, names of others.

    Pictures of people's own are left out: their judge asks about motion.
    """
    data = _data_of(place)
    others = [one.spec for one in data.one_shape if one.spec != data.spec and (data.truth or one.spec.frames > 1)]
    return [None, *(spec.name for spec in others)]


def _as_it_is(who: Source, data: DataConfig) -> Subject:
    return Subject(
        who.sampler.name, who.sha256, who.step, data, partial(sample_frames, who.sampler), settings=who.settings,
        sampler=who.sampler, vocabulary=who.vocabulary,
    )  # fmt: skip


def _pipeline(who: Source, own: Path | None, wishes: Request) -> Subject:
    """A pipeline of others, beside a dataset of ours."""
    if own:
        clips = _own_clips(own, wishes)
        fitted = replace(who, sampler=Fitted(who.sampler, clips.spec))
        return replace(_as_it_is(fitted, clips.config), own=clips)
    if who.data is None:
        raise LabError(f"{who.sampler.name} knows no dataset to be judged by: add --like with a run or a dataset")
    return _as_it_is(who, who.data)


def _beside_own(who: Subject, sampler: Sampler, run: Path, own: Path | None, wishes: Request) -> Subject:
    """A run on people's own clips, with their judge."""
    if who.data.tars:
        raise LabError(
            f"{run} learnt from tars where they lie, which keep no clips for validation, so nothing judges it: "
            "'t2v ingest' the tars and train on that dataset"
        )
    folder = own or (Path(place) if (place := read_record(run).get("data")) else None)
    if folder is None or not folder.is_dir():
        raise LabError(
            f"{run} is of ingested clips, whose ground truth is unknown, and where they lie is unknown as well: give "
            "--like with the folder of the dataset"
        )
    if of_shape(Manifest.load(folder).config, wishes).digest != who.data.digest:
        raise LabError(
            f"{run} was not trained on the clips in {folder}: give --like with the dataset it was trained on"
        )
    clips = _own_clips(folder, wishes)
    return replace(who, sample=clips_of(sampler, partial(CONTROLS[CEILING], clips)), own=clips)


def _archive_of_own(archive: Archive, own: Path, wishes: Request) -> Subject:
    """Clips from anywhere that answer captions of an ingested dataset."""
    clips = _own_clips(own, wishes)
    if archive.shape != clips.spec.shape[:3]:
        raise LabError(f"{archive.path} holds clips of another form than {own}: convert them to that")
    asked: dict[Split, Asked] = {"own": (list(archive.prompts), list(map(int, archive.seeds)))}
    sample = partial(sample_frames, archive)
    return Subject(archive.name, archive.sha256, 0, clips.config, sample, asked, own=clips)


def _own_clips(folder: Path, wishes: Request) -> OwnClips:
    return OwnClips.of(folder, of_shape(Manifest.load(folder).config, wishes).spec)


def own_clips_in(like: Path) -> bool:
    """Whether a folder holds an ingested dataset."""
    return (like / MANIFEST).is_file() and Manifest.load(like).config.truth is None


def title(run: str) -> str:
    """What a person calls it: the name of a folder or of an archive, a model URI or a baseline as it is."""
    return run if is_uri(run) or run in BASELINES else Path(run).resolve().name.removesuffix(".npz")


def dataset_like(like: Path, wishes: Request = NO_WISHES) -> DatasetConfig:
    """The dataset of a run folder or of a rendered dataset, of the shape that is asked for.

    Raises:
        LabError: the folder is neither, or of ingested clips; it has no clips of the shape.
    """
    return _rendered(of_shape(_data_of(like), wishes), like)


def _data_of(place: Path) -> DataConfig:
    """Of a run folder or a dataset."""
    newest = checkpoint.newest(place)
    return newest.run.dataset if newest else Manifest.load(place).config


def _rendered(data: DataConfig, where: Path | str) -> DatasetConfig:
    """The dataset, if its clips were rendered."""
    if data.truth is None:
        raise LabError(
            f"{where} is of ingested clips, whose ground truth is unknown, so nothing can judge samples: "
            "name the folder of the clips themselves"
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
    if who.own:
        if config.splits and config.splits != ("own",):
            raise LabError(f"split {config.splits[0]} is made on meaning, which own clips do not tell: ask for own")
        each = 1 if who.source in CONTROLS else config.clips_per_prompt  # real clips do not become more by repetition
        asked = who.own.asked(each)
        return who.asked or {"own": (asked, [config.seed * 1_000_000 + i for i in range(len(asked))])}
    if "own" in (config.splits or ()):
        raise LabError("split own is of people's own clips, and these were rendered: ask for s0 and on")
    if who.asked is not None:
        found = {s: a for s, a in who.asked.items() if s in (config.splits or SPLITS)}
    else:
        found = {}
        for split in config.splits or BY_DEFAULT:
            asked = [p for p in who.data.asked(split) for _ in range(config.clips_per_prompt)]
            if asked:
                found[split] = asked, [config.seed * 1_000_000 + i for i in range(len(asked))]
    for split in config.splits or ():
        if split not in found:
            held = f"holds out {', '.join(who.data.hold_out) or 'nothing'}"
            why = f"{needed}, or choose" if (needed := NEEDS.get(split)) else f"{held}: choose"
            raise LabError(f"split {split} ({SPLITS[split]}) is empty, the dataset {why} another split")
    return found


def taken(
    who: Subject, asked: Mapping[Split, Asked], named: Sequence[str] = ()
) -> tuple[dict[Split, Asked], dict[Split, Refusals]]:
    """What of the prompts can be asked, and of each split what cannot: that may be all of it, for its words.

    Args:
        who: whom they are for.
        asked: prompts and seeds of each split.
        named: splits that must be judged; of s7, which asks for words never trained, all may be refused.

    Raises:
        LabError: nothing can be asked, also of a split that must be judged, or not for its words: why the first is not.
    """
    found: dict[Split, Asked] = {}
    refused: dict[Split, Refusals] = {}
    for split, (prompts, seeds) in asked.items():
        different = tuple(dict.fromkeys(prompts))
        why = {prompt: reason for prompt in different if (reason := _refusal(who, prompt))}
        unknown = dict.fromkeys(w for prompt in why for w in words(prompt) if w not in who.vocabulary)
        told = tuple(unknown) if who.vocabulary else ()
        if why:
            refused[split] = Refusals(prompts=why, unknown=told, asked=len(different))
        if len(why) < len(different):
            rows = [i for i, prompt in enumerate(prompts) if prompt not in why]
            found[split] = [prompts[i] for i in rows], [seeds[i] for i in rows]
        elif not told or (split != "s7" and (split in named or len(asked) == 1)):
            raise LabError(f"{who.name} takes no prompt of split {split}: {next(iter(why.values()))}")
    if not found and len(asked) > 1:
        raise LabError(f"{who.name} takes no prompt of any split: {next(iter(why.values()))}")
    return found, refused


def _refusal(who: Subject, prompt: str) -> str:
    """Why a sampler does not take a prompt; empty where it does."""
    try:
        if who.sampler and not isinstance(who.sampler, RoundTrip):
            who.sampler.check(replace(who.wishes, prompts=(who.understood(prompt),), seeds=(0,)))
    except LabError as error:
        return str(error)
    return ""
