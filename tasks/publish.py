"""The lab's report: what the stages left in their folders, on one page."""

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from t2v_models import checkpoint
from t2v_models.clips.media import load_npz
from t2v_models.judging import health
from t2v_models.judging.figures import by_prompt
from t2v_models.judging.metrics import HEADLINES, OWN_WATCHED, deciding
from t2v_models.judging.scores import Evaluation, interval
from t2v_models.judging.verdicts import Verdict, verdicts_of
from t2v_models.shards.manifest import Manifest
from t2v_models.training import run_log
from tasks.mlflow.finished_runs import adopt, attach, known
from tasks.mlflow.store import run_page, scores_page, where_to_look
from tasks.mlflow.tracking import track
from tasks.records import experiment_name, read_record, write_record
from tasks.report.chart import Chart
from tasks.report.lab import ModelReport, Report, write_report
from tasks.report.page import NAMES, Clip
from tasks.report.progress import show_artifact
from tasks.report.stopwatch import working

ABOUT_REAL = "real clips of the same prompts, judged by the same judge: the ceiling"


@task(task_run_name="write the report of {data.name}", cache_policy=NO_CACHE)
def publish(
    folder: Path, evaluations: Sequence[tuple[Evaluation, Path]], data: Path, runs: dict[str, Path],
    timings: dict[str, float], work: Path,
) -> Path:  # fmt: skip
    """Write the page of one lab run and a Prefect artifact with what it found.

    Args:
        folder: of the page.
        evaluations: scores and the folder they lie in, real clips among them.
        data: the dataset all models were trained on.
        runs: run folder of each trained model.
        timings: seconds by stage.
        work: folder of the MLflow store.
    """
    with working("report"):
        manifest = Manifest.load(data)
        clips = {e.name: [c for split in e.scores for c in shown_clips(out / split)] for e, out in evaluations}
        models = [_model(e, out, clips[e.name], runs.get(e.name)) for e, out in evaluations]
        report = Report(
            title=f"{manifest.config.world}, {manifest.spec.sides} px, {manifest.spec.frames} frames",
            facts={
                "dataset": f"{len(manifest.captions):,} clips in {data}",
                "digest": manifest.digest,
                "held out": ", ".join(manifest.config.hold_out) or "nothing",
                "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
                "runs": ", ".join(str(run) for run in runs.values()),
                "MLflow": where_to_look(work),
            },
            models=[model for model in models if model.name in runs],
            fps=manifest.spec.fps,
            comparison={"real" if name == "oracle" else name: shown for name, shown in clips.items()},
            timings=timings,
        )
        page = write_report(folder, report)
    text = f"# {report.title}\n\n{_summary([e for e, _ in evaluations])}\n\nReport: `{page}`"
    about = f"How often clips of {', '.join(runs)} do what their prompt says, in per cent with 95 % intervals"
    show_artifact(create_markdown_artifact, text, key="summary", description=about)
    return page


@task(task_run_name="log the lab on {data.name}", cache_policy=NO_CACHE)
def log_lab(
    page: Path, settings: dict[str, Any], judged: Sequence[Path], data: Path, runs: dict[str, Path],
    timings: dict[str, float], work: Path,
) -> None:  # fmt: skip
    """The lab's own MLflow run: its settings, its time and its report, with the runs of all stages under it.

    The same lab done again adds to the run it has. A Prefect artifact links to the report.
    """
    manifest, record = Manifest.load(data), read_record(page.parent)
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    if record.get("settings") != digest or not known(work, [record["run_id"]]):
        experiment = experiment_name(manifest.config)
        name = f"lab {', '.join(runs)} on {manifest.config.world} at {manifest.spec.sides} px"
        with track(work, experiment, name, params=settings, tags={"stage": "lab"}) as lab:
            lab.log(0, {f"seconds/{stage}": seconds for stage, seconds in timings.items()})
        params, tags = {"dataset": manifest.config.model_dump()}, {"stage": "render"}
        if manifest.config.truth:
            with track(work, experiment, f"render {data.name}", params=params, tags=tags, parent=lab.run_id) as render:
                render.dataset(data.name, manifest.digest, str(data.resolve()), "rendering")
                if "render" in timings:
                    clips = manifest.config.clips
                    render.log(0, {"render/clips": clips, "speed/clips_per_second": clips / timings["render"]})
        record = {"run_id": lab.run_id, "settings": digest}
        write_record(page.parent, **record)
    attach(work, record["run_id"], page.parent, "report")
    stages = [read_record(folder).get("run_id") for folder in (*runs.values(), *judged)]
    adopt(work, record["run_id"], filter(None, stages))
    run = run_page(work, record["run_id"])  # no browser follows a link from a server's page to a file
    link = f"{run}/artifacts/report/{page.name}" if run else page.resolve().as_uri()
    about = "Clips of every model beside real ones, scores, charts and faults on one page"
    show_artifact(create_link_artifact, link, link_text=str(page), key="report", description=about)
    if scores := scores_page(work, experiment_name(manifest.config)):
        about = "Every model trained on clips of this world and size with its scores, the best first"
        text = "models and scores in MLflow"
        show_artifact(create_link_artifact, scores, link_text=text, key="mlflow-scores", description=about)


def _summary(evaluations: Sequence[Evaluation]) -> str:
    """A table with a row a model and a column a split: obeyed, interval and clips."""
    splits = list(dict.fromkeys(split for e in evaluations for split in e.scores))
    lines = ["| obeyed | " + " | ".join(f"{NAMES[split]} ({split})" for split in splits) + " |"]
    lines.append("|---" * (1 + len(splits)) + "|")
    for evaluation in evaluations:
        cells = []
        for split in splits:
            score = evaluation.scores.get(split, {}).get(deciding(split))
            value = f"{100 * score.value:.1f} [{interval(deciding(split), score)}]" if score else ""
            cells.append(f"{value}, {score.n:,} clips" if score else "")
        lines.append(f"| **{evaluation.name}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown_clips(folder: Path) -> list[Clip]:
    """The kept clips of one judged split with their verdicts, in the order they were drawn."""
    frames, prompts, _ = load_npz(folder / "clips.npz")
    rows = {prompt: iter(group) for prompt, group in by_prompt(read_verdicts(folder)).items()}  # the first are kept
    return [Clip(clip, next(rows[prompt])) for clip, prompt in zip(frames, prompts, strict=True)]


def read_verdicts(folder: Path) -> list[Verdict]:
    """All verdicts of one judged split."""
    return verdicts_of(pq.read_table(folder / "verdicts.parquet"))


def _model(evaluation: Evaluation, out: Path, clips: Sequence[Clip], run_dir: Path | None) -> ModelReport:
    verdicts = [v for split in evaluation.scores for v in read_verdicts(out / split)]
    about, charts, alarms = ABOUT_REAL, [], [*map(str, evaluation.refused.values())]
    if run_dir:
        last = checkpoint.newest(run_dir)
        assert last is not None, run_dir
        about = f"{last.run.model.about}; {last.step:,} updates in {last.seconds / 60:.1f} minutes"
        charts = _charts(run_log.history(run_dir))
        if truth := last.run.dataset.truth:
            alarms += health.sentences(verdicts, run_log.history(run_dir), truth.rules)
    scores = {str(split): values for split, values in evaluation.scores.items()}
    return ModelReport(evaluation.name, about, scores, charts, verdicts, clips, alarms)


def _charts(history: dict[int, dict[str, float]]) -> list[Chart]:
    watched = {metric.title: f"watch/{metric.name}" for metric in (*HEADLINES, *OWN_WATCHED)}
    names = dict.fromkeys(name for figures in history.values() for name in figures if name.startswith("train/loss/"))
    accuracy = {
        label: [(f["train/seconds"], f[name]) for f in history.values() if name in f] for label, name in watched.items()
    }
    losses = {n.removeprefix("train/loss/"): [(float(s), f[n]) for s, f in history.items() if n in f] for n in names}
    return [
        Chart("Share of clips, judged while training", "seconds of training", accuracy, percent=True),
        Chart("Losses", "update", losses),
    ]
