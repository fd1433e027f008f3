"""Validation of a model in training: now and then a sheet of its clips, and how many of them obey, or are like the real
clips of their captions."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from t2v_models import files
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.media import contact_sheet
from t2v_models.config import LabError
from t2v_models.judging import health
from t2v_models.judging.baselines import real
from t2v_models.judging.beside import Beside
from t2v_models.judging.metrics import summarise
from t2v_models.judging.own_clips import OwnClips
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import judge
from t2v_models.model import VideoModel
from t2v_models.sampler import Frames, Request, RoundTrip, clips_of, repeat, sample_frames
from t2v_models.shards.store import ClipStore
from t2v_models.training.run_log import Watch, history
from t2v_models.training.unseen import beside_real, losses_of
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.splits import evenly

CLIPS = 8
"""Clips of each prompt that are read while training: the smoke tier."""
PROMPTS = 64
"""The most prompts that are watched, evenly of all: more would cost more than they tell."""
UNSEEN = 64
"""Captions kept for validation that a clip is made of; and own clips kept for it whose loss is told, and as many of
those learnt from."""
OTHERS = 2
"""Of these, those that are shown in each further shape of the dataset as well."""


def unwatched(run: RunConfig, store: ClipStore) -> str:
    """Why no figure says of a model in training what its clips are like; empty where one does."""
    try:
        _beside(run, store)
    except LabError as error:
        return str(error)
    return ""


def sheet(run_dir: Path, step: int) -> Path:
    """Where the contact sheet of a step lies."""
    return run_dir / "samples" / f"step-{step:08d}.png"


def watcher(run: RunConfig, store: ClipStore, run_dir: Path) -> Watch:
    """What `fit` calls: samples the model, draws its clips on a sheet, and reads them where their truth is known; clips
    of own captions are set beside the real ones that are kept for validation, and the loss on those is told.

    One that takes clips apart is given real ones: never trained, where they can be drawn, else of those in `store`.
    """
    truth = run.dataset.truth
    beside = None if unwatched(run, store) else _beside(run, store)
    clips = partial(real, truth) if truth else partial(_stored, store)
    prompts = evenly(run.dataset.watched, PROMPTS)
    each = CLIPS if truth else 1  # the others would only be looked at
    asked, seeds = repeat(prompts, each, seed=0)

    def watch(step: int, model: VideoModel) -> dict[str, float]:
        frames = clips_of(model, clips)(asked, seeds)
        verdicts = judge(frames, asked, seeds, "s0", truth.rules) if truth else []
        more, lines, others = _of_other_shapes(model, prompts, truth)
        marks = [*(v.mark for v in verdicts[::each]), *others] or None
        files.write(sheet(run_dir, step), contact_sheet([*frames[::each], *more], [*prompts, *lines], marks))
        figures = _unseen(model, beside) if beside else _values(summarise(verdicts)) if verdicts else {}
        watched = {f"watch/{name}": value for name, value in figures.items()}
        rows = history(run_dir)
        rows.setdefault(step, {}).update(watched)
        return watched | health.of_history(rows) | (health.of_clips(verdicts, truth.rules) if truth else {})

    return watch


def _unseen(model: VideoModel, beside: Beside) -> dict[str, float]:
    return beside_real(model, beside, UNSEEN) | _values(losses_of(model, beside.own, UNSEEN))


def _values(scores: Mapping[str, Score]) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


def _of_other_shapes(
    model: VideoModel, prompts: Sequence[str], truth: DatasetConfig | None
) -> tuple[list[Frames], list[str], list[str]]:
    """A few clips of every other shape that a model makes of prompts, to be looked at: captions that name it, and
    marks."""
    clips: list[Frames] = []
    lines: list[str] = []
    marks: list[str] = []
    some = prompts[:OTHERS]
    for spec in () if isinstance(model, RoundTrip) else model.shapes:
        if spec != model.spec:
            wishes = Request((), (), frames=spec.frames, size=(spec.height, spec.width))
            frames = sample_frames(model, some, [0] * len(some), wishes)
            clips += list(frames)
            lines += [f"{prompt}\n{spec.name}" for prompt in some]
            marks += [v.mark for v in judge(frames, some, [0] * len(some), "s0", truth.rules)] if truth else []
    return clips, lines, marks


def _beside(run: RunConfig, store: ClipStore) -> Beside | None:
    """Own clips that are kept for validation; none of rendered ones, which are read.

    Raises:
        LabError: there are none, or not enough to be judged by.
    """
    return None if run.dataset.truth else Beside(OwnClips.of(store.manifest.folder, run.dataset.spec))


def _stored(store: ClipStore, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """The first clip of each caption; one of another length is cut, or held in its last frame."""
    captions, length = store.manifest.captions, store.spec.frames
    clips = [store.frames([captions.index(prompt)])[0, :length] for prompt in prompts]
    return np.stack([np.pad(one, ((0, length - len(one)), *[(0, 0)] * 3), mode="edge") for one in clips])
