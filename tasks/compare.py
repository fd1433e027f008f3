"""Evaluated runs side by side: read from their folders, told on the terminal, written as a page, given to MLflow."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from rich.box import SIMPLE
from rich.table import Table

from t2v_models import checkpoint
from t2v_models.clips.spec import sides
from t2v_models.config import LabError, flatten
from t2v_models.judging.baselines import CEILING
from t2v_models.judging.metrics import WATCHED, WATCHED_OWN, deciding
from t2v_models.judging.scores import interval, shown
from t2v_models.leaderboard.compare import differences
from t2v_models.sampler import PIPELINE
from tasks.mlflow.finished_runs import attach, known
from tasks.mlflow.store import run_page
from tasks.publish import read_verdicts, shown_clips
from tasks.records import training_run
from tasks.report.compare_page import Side, shared_splits, word_of, write_comparison_page
from tasks.report.console import print_table
from tasks.report.judged_run import JudgedRun, tell_newer
from tasks.report.page import NAMES
from tasks.report.progress import show_artifact
from tasks.report.stopwatch import working
from tasks.samplers import source


def compared(folders: Sequence[Path], work: Path | None = None) -> list[Side]:
    """Read the evaluations of run folders, or evaluation folders, the first being the base.

    Args:
        folders: of runs or evaluations; pipelines and archives by their names.
        work: work folder, in which there may be evaluations of the runs too.

    Raises:
        LabError: fewer than two, one without an evaluation, other readers, clips of other sizes, or no split that all
            were judged on.
    """
    if len(folders) < 2:
        raise LabError(f"compare needs two runs or more, found {len(folders)}: name another one")
    judged = [JudgedRun.of(folder, work / "evaluations" if work else None, _sha256(folder)) for folder in folders]
    tell_newer(judged)
    names = [_name(folder) for folder in folders]
    twice = {name for name, count in Counter(names).items() if count > 1}
    sides = [
        _side(str(folder) if name in twice else name, folder, found)
        for name, folder, found in zip(names, folders, judged, strict=True)
    ]
    for side in sides[1:]:
        check_pair(sides[0], side)
    if not shared_splits(sides):
        raise LabError("these runs share no split: evaluate them on the same splits with 't2v evaluate RUN --split s0'")
    return sides


def _sha256(folder: Path) -> str | None:
    """Of what can be judged without being trained here."""
    known = str(folder).startswith(PIPELINE) or folder.suffix == ".npz"
    return source(folder).sha256 if known else None


def _name(folder: Path) -> str:
    """The run folder's own name, also of one of its evaluations or of one that came out of MLflow."""
    place = folder.resolve()
    if place.parts[-2:] == ("artifacts", "run"):
        return place.parent.parent.name
    return f"{place.parent.name} {place.name}" if checkpoint.folder(place.parent).is_dir() else place.name


def _side(name: str, folder: Path, judged: JudgedRun) -> Side:
    found, last, place = judged.evaluation, judged.last, judged.place
    settings: dict[str, object] = {"model.name": found.name}
    if last:
        settings = flatten(last.run.model_dump(mode="json", exclude={"model"}) | {"model": last.run.model.settings})
        settings |= {"steps": f"{last.step:,}", "minutes": f"{last.seconds / 60:.1f}"}
    looks = [
        (figures["train/seconds"], figures.get(WATCHED, figures.get(WATCHED_OWN)))
        for figures in judged.history.values()
        if "train/seconds" in figures
    ]
    accuracy = [(seconds, share) for seconds, share in looks if share is not None]
    return Side(
        name, folder if last else place, found, {s: read_verdicts(place / s) for s in found.scores},
        {s: shown_clips(place / s) for s in found.scores}, last.run.spec.fps if last else 10,
        settings | flatten({"evaluation": found.config.model_dump()}), accuracy, judged.reached,
    )  # fmt: skip


def check_pair(base: Side, other: Side) -> None:
    """Raises: LabError: what one judge said cannot be set against what another one said, nor clips of other sizes."""
    judges = [(side.evaluation.reader, side.evaluation.suite) for side in (base, other)]
    if judges[0] != judges[1]:
        (reader, suite), (other_reader, other_suite) = judges
        raise LabError(
            f"{base.name} was judged by reader {reader} and suite {suite}, {other.name} by reader {other_reader} and "
            f"suite {other_suite}: run 't2v evaluate' again for the older one"
        )
    if "own" in base.evaluation.scores and base.evaluation.data != other.evaluation.data:
        raise LabError(
            f"{base.name} and {other.name} were judged beside other clips of people's own, each by what its judge "
            "learnt from them: evaluate both with --like and the same dataset"
        )
    sizes = [next(iter(side.clips.values()))[0].frames.shape[:3] for side in (base, other)]
    if sizes[0] != sizes[1]:
        (t, h, w), (other_t, other_h, other_w) = sizes
        raise LabError(
            f"{base.name} makes clips of {t} frames at {sides(h, w)} px, {other.name} of {other_t} at "
            f"{sides(other_h, other_w)}: compare runs on data of one shape"
        )


def print_differences(sides: Sequence[Side]) -> None:
    """A table on standard output: each run against the base, figures whose interval leaves out zero marked."""
    base = sides[0]
    for other in sides[1:]:
        for split in shared_splits(sides):
            title = f"{split}: {other.name} minus {base.name}"
            table = Table(box=SIMPLE, title=title, title_justify="left")
            real = base.evaluation.bounds.get(CEILING, {}).get(split, {})
            for head in ("figure", base.name, other.name, "difference", "95 % interval", "clips", "real", ""):
                table.add_column(head, justify="left" if head in ("figure", "") else "right")
            for d in differences(base.verdicts[split], other.verdicts[split]):
                table.add_row(
                    d.metric, shown(d.metric, d.first), shown(d.metric, d.second), shown(d.metric, d.gap.value),
                    interval(d.metric, d.gap), " and ".join(f"{n:,}" for n in dict.fromkeys(d.clips)),
                    shown(d.metric, real[d.metric].value) if d.metric in real else "",
                    word_of(d, other, split).replace("even", ""),
                )  # fmt: skip
            print_table(table)
        if base.evaluation.prompts != other.evaluation.prompts:
            print(f"{base.name} and {other.name} were asked other prompts: figures differ for that reason as well")
    for side in sides:
        for split, refusals in side.evaluation.refused.items():
            print(f"{side.name} on {split}: {refusals}")


def markdown_table(sides: Sequence[Side]) -> str:
    """How often every model and every baseline obeys, by split, as a table for a README: per cent, interval, clips."""
    splits = shared_splits(sides)
    roles = {name: "ceiling" if name == CEILING else "floor" for name in sides[0].evaluation.bounds}
    bounds = {f"{name} ({roles[name]})": scores for name, scores in sides[0].evaluation.bounds.items()}
    rows = bounds | {f"**{side.name}**": side.evaluation.scores for side in sides}
    lines = ["| obeyed, % [95 % interval], clips | " + " | ".join(f"{NAMES[s]} ({s})" for s in splits) + " |"]
    lines.append("|---" * (1 + len(splits)) + "|")
    for name, scores in rows.items():
        found = [scores[split][deciding(split)] for split in splits]
        cells = [f"{100 * v.value:.1f} [{100 * v.low:.1f}, {100 * v.high:.1f}], {v.n:,}" for v in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@task(task_run_name="compare {folder.name}", cache_policy=NO_CACHE)
def write_comparison(folder: Path, sides: Sequence[Side]) -> Path:
    """Write `folder/report.html`."""
    with working("compare"):
        page = write_comparison_page(folder, sides)
    return page


@task(task_run_name="log the comparison {folder.name}", cache_policy=NO_CACHE)
def log_comparison(work: Path, folder: Path, sides: Sequence[Side]) -> None:
    """The page among the MLflow artifacts of every run that has one, and a Prefect artifact that points to it."""
    runs = {training_run(side.folder) for side in sides} - {None}
    link = (folder / "report.html").resolve().as_uri()
    for run in known(work, filter(None, runs)):
        attach(work, run, folder, f"compare/{folder.name}")
        if place := run_page(work, run):  # no browser follows a link from a server's page to a file
            link = f"{place}/artifacts/compare/{folder.name}/report.html"
    about = f"{' beside '.join(side.name for side in sides)}: differences with intervals, clips side by side"
    show_artifact(create_link_artifact, link, link_text=folder.name, key="comparison", description=about)
