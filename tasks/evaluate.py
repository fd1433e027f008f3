"""Evaluation as Prefect tasks: sample the prompts of a split, read the clips, score them, tell MLflow."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from t2v_models import files
from t2v_models.clips.media import contact_sheet, load_npz, save_clips, to_mp4
from t2v_models.judging.baselines import CEILING
from t2v_models.judging.features import features_digest
from t2v_models.judging.figures import best_first
from t2v_models.judging.learnt import Bounds, reference_of
from t2v_models.judging.own_clips import CONTROLS
from t2v_models.judging.proof import apart, controls_of
from t2v_models.judging.real_cache import cached_real
from t2v_models.judging.reference import Reference
from t2v_models.judging.scores import SUITE_VERSION, EvaluateConfig, Evaluation, Seconds, table_rows
from t2v_models.judging.statistics import Score
from t2v_models.judging.suite import judge_parts, together
from t2v_models.judging.truth import Judged, Truth
from t2v_models.judging.verdicts import Verdict, table, verdicts_of
from t2v_models.text.split import words
from t2v_models.training.unseen import losses_of
from t2v_models.worlds.reader import READER_VERSION
from t2v_models.worlds.splits import Split
from tasks.mlflow.finished_runs import add_scores, known
from tasks.mlflow.registry import model_id, version_with
from tasks.mlflow.store import client
from tasks.mlflow.tracking import track
from tasks.records import experiment_name, write_record
from tasks.report.console import progress
from tasks.report.stopwatch import Stopwatch, working
from tasks.subjects import Asked, Subject

Figures = dict[str, Score]

SHOWN_CLIPS = 4
"""Clips of each prompt that are kept for the report."""
PLAYED_SIZE = 256
"""px: the MLflow UI plays clips at their own size, so small ones are enlarged by a whole factor."""
COLUMNS = ("prompt", "seed", "shown", "right", "success", "valid", "fault", "speed", "traj_rmse", "radius_err")
"""Of the table of judged clips; the file beside it has all."""
SHEET_CLIPS = 16
"""Clips on each contact sheet of random, best and worst clips."""


@task(task_run_name="judge {who.name} on {split}", cache_policy=NO_CACHE)
def judge_split(
    who: Subject, split: Split, asked: Asked, out: Path, kept: Path
) -> tuple[Figures, dict[str, Figures], Seconds]:
    """Sample and read one split: its scores, those of the baselines, and the time it took.

    `out` gets a row per clip, some of the clips, and contact sheets; `kept` gets what any model is judged beside.
    """
    with working(f"evaluate {who.name}"):
        learnt = _learnt(who)
        prompts, seeds = asked
        place = {prompt: [i for i, p in enumerate(prompts) if p == prompt] for prompt in dict.fromkeys(prompts)}
        shown = sorted(i for rows in place.values() for i in rows[:SHOWN_CLIPS])
        chance = np.random.default_rng(0).permutation(len(prompts))[:SHEET_CLIPS].tolist()
        sampling, reading, scoring = Stopwatch(), Stopwatch(), Stopwatch()
        with reading, progress(f"judge {who.name} on {split}") as tell:
            timed = replace(who, sample=sampling.around(who.sample))
            judge = learnt[0] if learnt else _truth(who, split)
            judged, frames = _judge(timed, judge, asked, {*shown, *chance}, tell)
            if who.own:
                judged = apart(who.own, who.source, judged)
        with files.atomic(out / "verdicts.parquet") as file:
            pq.write_table(table([_told(who, verdict) for verdict in judged.verdicts]), file)
        some = np.stack([frames[i] for i in shown])
        save_clips(out / "clips.npz", some, [prompts[i] for i in shown], [seeds[i] for i in shown], who.data.spec.fps)
        _sheets(out, frames, judged.verdicts, [rows[0] for rows in place.values()], chance)
        with scoring, progress(f"real clips of {split}") as tell:
            if learnt:
                scores = _beside_own(who, learnt[0], asked, judged)
                bound = controls_of(*learnt, asked[0], tell)
            else:
                scores, bound = _beside_drawn(_truth(who, split), split, asked, judged, kept, tell)
        return scores, bound, Seconds(
            sampling=sampling.wall, reading=reading.wall - sampling.wall, scoring=scoring.wall,
            cpu=reading.cpu - sampling.cpu + scoring.cpu,
        )  # fmt: skip


def _told(who: Subject, verdict: Verdict) -> Verdict:
    """The verdict with what the model was asked, where that was in other words than the prompt."""
    asked = who.understood(verdict.prompt)
    return verdict if asked == verdict.prompt else verdict.model_copy(update={"understood": asked})


def _learnt(who: Subject) -> tuple[Reference, Bounds] | None:
    """The judge of people's own clips, its ceiling and floors: kept, or learnt now.

    Raises:
        LabError: there is none to be believed.
    """
    if who.own is None:
        return None
    with progress(f"the judge of {who.own.training.manifest.folder.name}") as tell:
        return reference_of(who.own, tell)


def _beside_own(who: Subject, reference: Reference, asked: Asked, judged: Judged) -> Figures:
    """The figures of judged clips beside real ones that were kept for validation, and the loss on those."""
    beside = judge_parts(partial(CONTROLS[CEILING], reference.own), *asked, reference)
    figures = reference.figures(judged, together([part for _, part in beside]))
    return figures | losses_of(who.sampler, reference.own)


def _beside_drawn(
    truth: Truth, split: Split, asked: Asked, judged: Judged, kept: Path, tell: Callable[[float, str], None]
) -> tuple[Figures, dict[str, Figures]]:
    """The figures of judged clips beside real ones that are drawn, and those of ceiling and floors."""
    real, bound = cached_real(kept, truth.data, split, asked[0], tell)
    return truth.figures(judged, real), bound


def _judge(
    who: Subject, judge: Reference | Truth, asked: Asked, wanted: set[int], tell: Callable[[float, str], None]
) -> tuple[Judged, dict[int, NDArray[np.uint8]]]:
    """Judge part by part, and keep the frames of the wanted, the best and the worst clips only."""
    parts: list[Judged] = []
    verdicts: list[Verdict] = []
    kept: dict[int, NDArray[np.uint8]] = {}
    for frames, part in judge_parts(who.sample, *asked, judge):
        kept |= {len(verdicts) + i: clip for i, clip in enumerate(frames)}
        parts.append(part)
        verdicts += part.verdicts
        order = best_first(verdicts)
        ends = wanted.union(order[:SHEET_CLIPS], order[-SHEET_CLIPS:])
        kept = {i: clip.copy() for i, clip in kept.items() if i in ends}  # a view would keep the whole part
        tell(len(verdicts) / len(asked[0]), f"{len(verdicts):,} clips read")
    return together(parts), kept


def _truth(who: Subject, split: Split) -> Truth:
    known = who.data.truth
    assert known is not None, "own clips have a judge of their own"
    return Truth(known, split)


def _sheets(
    out: Path, frames: dict[int, NDArray[np.uint8]], verdicts: Sequence[Verdict], firsts: list[int], chance: list[int]
) -> None:
    """`samples.png` shows the first clip of each prompt, the others random, the best and the worst; all say why."""
    order = best_first(verdicts)
    sheets = {"samples": firsts, "random": chance, "best": order[:SHEET_CLIPS],
              "worst": order[: -SHEET_CLIPS - 1 : -1]}  # fmt: skip
    for name, rows in sheets.items():
        captions = [f"{verdicts[i].prompt}\n{verdicts[i].fault}".strip() for i in rows]
        sheet = contact_sheet([frames[i] for i in rows], captions, [verdicts[i].mark for i in rows])
        files.write(out / f"{name}.png", sheet)


def read_evaluation(out: Path, source: str, data: str, config: EvaluateConfig) -> Evaluation | None:
    """The finished evaluation in `out`, if it is of these weights, this dataset, these settings and this judge."""
    path = out / "scores.json"
    if not path.is_file():
        return None
    found = Evaluation.model_validate_json(path.read_bytes())
    same = (found.source, found.data, found.config, found.reader, found.suite, found.features)
    return found if same == (source, data, config, READER_VERSION, SUITE_VERSION, features_digest()) else None


def _row(verdict: Verdict) -> dict[str, object]:
    """What people sort and filter judged clips by."""
    return {column: getattr(verdict, column) for column in COLUMNS}


@task(task_run_name="log the scores of {name}", cache_policy=NO_CACHE)
def log_evaluation(work: Path, name: str, trained: str | None, who: Subject, evaluation: Evaluation, out: Path) -> None:
    """An MLflow run with scores, verdicts, contact sheets and one playing clip per prompt.

    It is shown under the run that trained the model, which gets the scores as well: so its settings, its training and
    its scores stand in one row.
    """
    parent = next(iter(known(work, filter(None, [trained]))), None)
    params = {"model": {"name": who.name}} | who.settings
    params |= {"dataset": who.data.model_dump(), "evaluation": evaluation.config.model_dump()}
    tags = {
        "stage": "evaluate", "model": who.name, "reader_version": evaluation.reader,
        "metric_suite_version": evaluation.suite, "prompt_list_hash": evaluation.prompts,
        "featnet_hash": evaluation.features,
    }  # fmt: skip
    experiment = experiment_name(who.data)
    with (
        working(f"evaluate {who.name}"),
        track(work, experiment, f"evaluate {name}", params=params, tags=tags, parent=parent) as tracker,
    ):
        write_record(out, run_id=tracker.run_id)
        data = f"{who.data.world}-{who.data.spec.sides}px-{who.data.digest[:8]}"
        tracker.dataset(data, who.data.digest, data, "evaluation")
        version = version_with(client(work), evaluation.source)
        wished = evaluation.config.wishes_in_words  # what the model does by itself is what others look for beside it
        of = (model_id(version), data, who.data.digest) if version and not wished else ()
        if version:
            tracker.used(model_id(version))
        tracker.table("evaluation/scores.json", table_rows(evaluation.scores))
        for split, scores in evaluation.scores.items():
            tracker.scores(split, scores, who.step, of)
            verdicts = verdicts_of(pq.read_table(out / split / "verdicts.parquet"))
            tracker.table(f"evaluation/{split}/verdicts.json", [_row(verdict) for verdict in verdicts])
            frames, prompts, _ = load_npz(out / split / "clips.npz")
            for i in sorted(prompts.index(p) for p in set(prompts)):
                clip = to_mp4(frames[i], who.data.spec.fps, scale=max(1, PLAYED_SIZE // who.data.spec.short_side))
                files.write(out / split / "clips" / f"{i:03d}-{'-'.join(words(prompts[i]))}.mp4", clip)
            for sheet in ("samples", "random", "best", "worst"):
                tracker.image(f"{sheet} {split}", who.step, out / split / f"{sheet}.png")
            tracker.artifact(out / split, f"evaluation/{split}")
        if parent and not wished:
            add_scores(work, parent, evaluation.scores, who.step)
