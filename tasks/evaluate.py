"""Evaluation as Prefect tasks: sample the prompts of a split, read the clips, score them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from t2v_models import checkpoint, files
from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.reader import READER_VERSION
from t2v_models.clips.splits import SPLITS, Split, split_prompts
from t2v_models.config import LabError
from t2v_models.evaluation.baselines import oracle
from t2v_models.evaluation.metrics import summarise
from t2v_models.evaluation.scores import EvaluateConfig, Evaluation
from t2v_models.evaluation.statistics import Score
from t2v_models.evaluation.verdicts import judge, table
from t2v_models.generate import sample_frames
from t2v_models.media import contact_sheet, load_npz, save_clips
from t2v_models.shards.ingested import IngestConfig
from tasks.stopwatch import working
from tasks.tracking import track
from tasks.train import experiment_name, read_record

Sampler = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]

ASKED: tuple[Split, ...] = ("s0", "s1", "s2", "s3")
"""Splits judged by default; `s4` has the prompts of `s0`, which name no speed or size."""

SHOWN_CLIPS = 4
"""Clips of each prompt that are kept for the report."""


@dataclass(frozen=True)
class Subject:
    """What is to be judged."""

    name: str
    source: str
    """What identifies it: the sha256 of its weights, or the name of a baseline."""
    step: int
    data: DatasetConfig
    """The dataset it answers to."""
    sample: Sampler


def subject(run: Path | str, data: DatasetConfig | None = None) -> Subject:
    """Make ready what `run` names.

    `run` is a run folder, or `oracle` for real clips of the dataset `data`.

    Raises:
        LabError: the run folder does not exist or holds no whole checkpoint; the run was trained on ingested clips.
    """
    if run == "oracle":
        assert data is not None
        return Subject("oracle", "oracle", 0, data, partial(oracle, data.spec))
    model, last = checkpoint.load(Path(run))
    trained_on = last.run.dataset
    if isinstance(trained_on, IngestConfig):
        raise LabError(
            f"{run} was trained on ingested clips, whose ground truth is unknown, so nothing can judge its samples: "
            "look at them with `t2v generate`, or evaluate a run on clips of `t2v render`"
        )
    return Subject(last.run.model.name, last.sha256, last.step, trained_on, partial(sample_frames, model))


def asked_splits(config: EvaluateConfig, data: DatasetConfig) -> dict[Split, tuple[str, ...]]:
    """The prompts of every split to judge.

    Raises:
        LabError: a split that was asked for by name has no prompts for this dataset.
    """
    prompts = {
        split: split_prompts(data.world, split, data.hold_out, data.coverage) for split in config.splits or ASKED
    }
    for split in config.splits or ():
        if not prompts[split]:
            held = ", ".join(data.hold_out) or "nothing"
            raise LabError(
                f"split {split} ({SPLITS[split]}) is empty, the dataset holds out {held}: choose another split"
            )
    return {split: asked for split, asked in prompts.items() if asked}


@task(task_run_name="judge {who.name} on {split}", cache_policy=NO_CACHE)
def judge_split(
    who: Subject, split: Split, prompts: Sequence[str], config: EvaluateConfig, out: Path
) -> dict[str, Score]:
    """Sample and read one split; `out` gets a row per clip, some of the clips, and a contact sheet."""
    with working(f"evaluate {who.name}"):
        asked = [p for p in prompts for _ in range(config.clips_per_prompt)]
        seeds = [config.seed * 1_000_000 + i for i in range(len(asked))]
        frames = who.sample(asked, seeds)
        verdicts = judge(frames, asked, seeds, split)
        with files.atomic(out / "verdicts.parquet") as file:
            pq.write_table(table(verdicts), file)
        shown = [i for i in range(len(asked)) if i % config.clips_per_prompt < SHOWN_CLIPS]
        save_clips(
            out / "clips.npz", frames[shown], [asked[i] for i in shown], [seeds[i] for i in shown], who.data.spec.fps
        )
        firsts = range(0, len(asked), config.clips_per_prompt)
        sheet = contact_sheet([frames[i] for i in firsts], prompts, [verdicts[i].right for i in firsts])
        files.write(out / "samples.png", sheet)
        return summarise(verdicts)


def read_evaluation(out: Path, source: str, config: EvaluateConfig) -> Evaluation | None:
    """The finished evaluation in `out`, if it is of these weights, these settings and this reader."""
    path = out / "scores.json"
    if not path.is_file():
        return None
    found = Evaluation.model_validate_json(path.read_bytes())
    return found if (found.source, found.config, found.reader) == (source, config, READER_VERSION) else None


@task(task_run_name="log the scores of {who.name}", cache_policy=NO_CACHE)
def log_evaluation(work: Path, run: str, who: Subject, evaluation: Evaluation, out: Path) -> None:
    """Scores, verdicts, contact sheets and one playing clip per prompt, in the MLflow run of the training."""
    record = read_record(Path(run))
    params, tags = {"evaluation": evaluation.config.model_dump()}, {"model": who.name, "reader": evaluation.reader}
    with (
        working(f"evaluate {who.name}"),
        track(
            work, experiment_name(who.data), who.name, params=params, tags=tags, run_id=record.get("run_id")
        ) as tracker,
    ):
        for split, scores in evaluation.scores.items():
            tracker.scores(split, scores, who.step)
            frames, prompts, seeds = load_npz(out / split / "clips.npz")
            for i in range(0, len(frames), min(SHOWN_CLIPS, evaluation.config.clips_per_prompt)):
                name = prompts[i].replace(" ", "-")
                save_clips(
                    out / split / "clips" / f"{name}.mp4", frames[[i]], [prompts[i]], [seeds[i]], who.data.spec.fps
                )
            tracker.image(f"samples {split}", who.step, out / split / "samples.png")
            tracker.artifact(out / split, f"evaluation/{split}")
