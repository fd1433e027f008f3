"""Trainings that differ in their seed alone: what of their scores another seed would change."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from t2v_models.checkpoint import Checkpoint
from t2v_models.config import LabError, flatten
from t2v_models.judging.baselines import CEILING
from t2v_models.judging.metrics import deciding, metric_of
from t2v_models.judging.scores import Scores, interval, shown
from tasks.report.console import print_table
from tasks.report.judged_run import JudgedRun, tell_newer

REACHED = ("reach/90_seconds", "reach/95_seconds")
"""Seconds of training to 90 and 95 % of watched clips."""
LENGTH = 0.1
"""Share by which the minutes of trainings may differ that made other numbers of updates."""


def repeats(folders: Sequence[Path]) -> list[JudgedRun]:
    """Read evaluated runs of one configuration.

    Raises:
        LabError: fewer than two; one that was not evaluated, or is no training; runs that differ in more than their
            seed, their length included, or in how they were judged; the same seed twice.
    """
    if len(folders) < 2:
        raise LabError(f"seeds needs two runs or more, found {len(folders)}: name another one")
    found = [JudgedRun.of(folder) for folder in folders]
    tell_newer(found)
    first = _what(found[0])
    for judged in found[1:]:
        other = _what(judged)
        if keys := sorted(key for key in first | other if first.get(key) != other.get(key)):
            key = keys[0]
            raise LabError(
                f"{found[0].run_dir} and {judged.run_dir} differ in more than their seed ({key} is {first.get(key)!r} "
                f"and {other.get(key)!r}): use 't2v compare'"
            )
    lasts = [_last(judged) for judged in found]
    ((seed, times),) = Counter(last.run.seed for last in lasts).most_common(1)
    if times > 1:
        raise LabError(f"seed {seed} is there more than once: name every run once, of seeds that differ")
    minutes = [last.seconds / 60 for last in lasts]
    if len({last.step for last in lasts}) > 1 and max(minutes) > (1 + LENGTH) * min(minutes):
        raise LabError(
            f"these runs trained for {min(minutes):.1f} to {max(minutes):.1f} minutes: take runs of one length"
        )
    return found


def _last(judged: JudgedRun) -> Checkpoint:
    if judged.last is None:
        raise LabError(f"{judged.place} is no evaluation of a training: name run folders")
    return judged.last


def _what(judged: JudgedRun) -> dict[str, object]:
    """All that trainings of several seeds have in common, by its name."""
    run, told = _last(judged).run, judged.evaluation
    return flatten(run.model_dump(mode="json", exclude={"seed"})) | flatten(
        {"evaluation": told.model_dump(mode="json", include={"config", "reader", "suite", "prompts"})}
    )


def times_of(runs: Sequence[JudgedRun]) -> dict[str, list[float | None]]:
    """Seed, updates, minutes, and seconds to reach a level, run by run; None for never."""
    lasts = [_last(judged) for judged in runs]
    return {
        "seed": [last.run.seed for last in lasts],
        "updates": [last.step for last in lasts],
        "minutes": [round(last.seconds / 60, 2) for last in lasts],
        **{name: [judged.reached.get(name) for judged in runs] for name in REACHED},
    }


def print_seeds(runs: Sequence[JudgedRun], scores: Scores, times: Mapping[str, Sequence[float | None]]) -> None:
    """A table for each split: the mean over seeds, its interval, the least and the greatest; then times, run by run."""
    for split, figures in scores.items():
        title = f"{split}, {len(runs)} seeds: {figures[deciding(split)].n:,} clips"
        table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title=title, title_justify="left")
        real, deaf = (runs[0].evaluation.bounds.get(name, {}).get(split, {}) for name in (CEILING, "unconditional"))
        for head in ("figure", "unit", "mean", "95 % interval", "least", "greatest", "real", "deaf"):
            table.add_column(head, justify="left" if head in ("figure", "unit") else "right", no_wrap=True)
        for metric, score in figures.items():
            if not metric.endswith("_real"):
                values = [judged.evaluation.scores[split][metric].value for judged in runs]
                table.add_row(
                    metric, metric_of(metric).unit, shown(metric, score.value), interval(metric, score),
                    shown(metric, min(values)), shown(metric, max(values)),
                    *(shown(metric, bound[metric].value) if metric in bound else "" for bound in (real, deaf)),
                )  # fmt: skip
        print_table(table)
    for name, each in times.items():
        print(f"{name:<18}" + "  ".join("never" if value is None else f"{value:,.6g}" for value in each))
    print("interval: of the mean, for other seeds (Student's t); least, greatest: of these runs")
    print("real: clips of the data; deaf: such, whatever is asked; both beside the first run")
