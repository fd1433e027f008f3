"""Evaluated runs on one page: differences with intervals, prompts that got better or worse, clips side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from t2v_models import checkpoint
from t2v_models.config import LabError
from t2v_models.evaluation.compare import Difference, by_change, differences
from t2v_models.evaluation.scores import Evaluation, interval, shown
from t2v_models.evaluation.verdicts import Verdict
from tasks.page import Clip, Gallery, held, row, split_name, write_page
from tasks.publish import read_verdicts, shown_clips
from tasks.stopwatch import working
from tasks.tracking import track
from tasks.train import experiment_name, read_record

CLIPS_SHOWN = 2
"""Clips of each run and prompt."""


@dataclass(frozen=True)
class Side:
    """One evaluated run."""

    name: str
    folder: Path
    evaluation: Evaluation
    verdicts: dict[str, list[Verdict]]
    """By split."""
    clips: dict[str, list[Clip]]
    fps: float


def compared(folders: Sequence[Path]) -> list[Side]:
    """Read the evaluations of run folders (or evaluation folders), the first being the base.

    Raises:
        LabError: fewer than two, one without an evaluation, or no split that all were judged on.
    """
    if len(folders) < 2:
        raise LabError(f"compare needs two runs or more, found {len(folders)}: name another one")
    sides = [_side(folder) for folder in folders]
    if not _splits(sides):
        raise LabError("these runs share no split: evaluate them on the same splits with 't2v evaluate RUN --split s0'")
    return sides


def _side(folder: Path) -> Side:
    place = folder if (folder / "scores.json").is_file() else folder / "evaluation"
    if not (place / "scores.json").is_file():
        raise LabError(f"{folder} has no evaluation: run 't2v evaluate {folder}' first")
    found = Evaluation.model_validate_json((place / "scores.json").read_bytes())
    newest = checkpoint.newest(folder)
    return Side(
        folder.name, folder, found, {s: read_verdicts(place / s) for s in found.scores},
        {s: shown_clips(place / s) for s in found.scores}, newest.run.spec.fps if newest else 10,
    )  # fmt: skip


def _splits(sides: Sequence[Side]) -> list[str]:
    return [s for s in sides[0].verdicts if all(s in side.verdicts for side in sides)]


def print_differences(sides: Sequence[Side]) -> None:
    """A table on standard output: each run against the base, figures whose interval leaves out zero marked."""
    base = sides[0]
    for other in sides[1:]:
        for split in _splits(sides):
            title = f"{split}: {other.name} minus {base.name}"
            table = Table(box=SIMPLE, title=title, title_justify="left")
            for head in ("figure", base.name[:24], other.name[:24], "difference", "95 % interval", "clips", ""):
                table.add_column(head, justify="left" if head in ("figure", "") else "right")
            for d in differences(base.verdicts[split], other.verdicts[split]):
                table.add_row(
                    d.metric, shown(d.metric, d.first), shown(d.metric, d.second), shown(d.metric, d.gap.value),
                    interval(d.metric, d.gap), f"{d.gap.n:,}", _word(d),
                )  # fmt: skip
            Console(highlight=False, width=100).print(table)


@task(task_run_name="compare {folder.name}", cache_policy=NO_CACHE)
def write_comparison(folder: Path, sides: Sequence[Side]) -> Path:
    """Write `folder/compare.html`."""
    with working("compare"):
        gallery = Gallery(sides[0].fps)
        names = " · ".join(side.name for side in sides)
        lead = (
            f"Each run against the first, {escape(sides[0].name)}. Intervals: Newcombe for shares, for means over "
            "pairs of equal prompt and seed with prompts resampled."
        )
        body = [f'<header><h1>{escape(names)}</h1><p class="lead">{lead}</p></header>']
        for split in _splits(sides):
            for other in sides[1:]:
                body.append(f"<section><h2>{split_name(split)}: {escape(other.name)}</h2>")
                body.append(_differences(sides[0], other, split) + _prompts(sides[0], other, split) + "</section>")
            body.append(_clips(sides, split, gallery))
        return write_page(folder / "compare.html", names, body)


def _differences(base: Side, other: Side, split: str) -> str:
    rows = "".join(
        f'<tr><td>{escape(d.metric)}</td><td class="number">{shown(d.metric, d.first)}</td>'
        f'<td class="number">{shown(d.metric, d.second)}</td><td class="number">{shown(d.metric, d.gap.value)}</td>'
        f'<td class="number soft">{interval(d.metric, d.gap)}</td><td class="number soft">{d.gap.n:,}</td>'
        f"<td>{_word(d)}</td></tr>"
        for d in differences(base.verdicts[split], other.verdicts[split])
    )
    head = _head("figure", base.name, other.name, "difference", "95 % interval", "n", "")
    return f'<h3>Differences</h3><div class="scroll"><table>{head}{rows}</table></div>'


def _prompts(base: Side, other: Side, split: str) -> str:
    rows = "".join(
        f'<tr><td class="prompt">{escape(prompt)} {held(split)}</td><td class="number">{shown(d.metric, d.first)}</td>'
        f'<td class="number">{shown(d.metric, d.second)}</td><td class="number">{shown(d.metric, d.gap.value)}</td>'
        f'<td class="number soft">{interval(d.metric, d.gap)}</td><td>{_word(d)}</td></tr>'
        for prompt, d in by_change(base.verdicts[split], other.verdicts[split])
    )
    head = _head("prompt", base.name, other.name, "difference", "95 % interval", "")
    return f'<h3>Prompts, greatest gain first</h3><div class="scroll"><table class="tall">{head}{rows}</table></div>'


def _head(first: str, *others: str) -> str:
    return f"<tr><th>{escape(first)}</th>{''.join(f'<th class=number>{escape(o)}</th>' for o in others)}</tr>"


def _clips(sides: Sequence[Side], split: str, gallery: Gallery) -> str:
    """For each prompt the first clips of every run, in one row."""
    blocks = []
    for prompt in dict.fromkeys(v.verdict.prompt for v in sides[0].clips[split]):
        figures = [
            gallery.figure(clip, side.name, caption=side.name)
            for side in sides
            for clip in [c for c in side.clips[split] if c.verdict.prompt == prompt][:CLIPS_SHOWN]
        ]
        blocks.append(f"<div><h4>{escape(prompt)} {held(split)}</h4>{row(figures)}</div>")
    return f'<section><h2>Clips, {split_name(split)}</h2><div class="prompts">{"".join(blocks)}</div></section>'


def _word(difference: Difference) -> str:
    return {None: "", True: "better", False: "worse"}[difference.better]


@task(task_run_name="log the comparison {folder.name}", cache_policy=NO_CACHE)
def log_comparison(work: Path, folder: Path, sides: Sequence[Side]) -> None:
    """The page among the MLflow artifacts of every run that has one."""
    for side in sides:
        record, newest = read_record(side.folder), checkpoint.newest(side.folder)
        if "run_id" in record and newest:
            name = experiment_name(newest.run.dataset)
            with track(work, name, side.name, params={}, tags={}, run_id=record["run_id"]) as tracker:
                tracker.artifact(folder, f"compare/{folder.name}")
