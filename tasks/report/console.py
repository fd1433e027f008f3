"""What a person at the terminal sees: stages and progress on standard error, so that standard output is for results."""

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from t2v_models.config import Config
from t2v_models.judging.baselines import CEILING, FLOORS
from t2v_models.judging.metrics import HEADLINES, OWN_HEADLINES, deciding, metric_of
from t2v_models.judging.scores import MOST_WORDS, Evaluation, interval, pleases, shown
from t2v_models.judging.statistics import Score
from t2v_models.text.wordnet import understood_as
from tasks.report.progress import reported, run_logger

console = Console(stderr=True, highlight=False, markup=False)  # paths and names may hold brackets


def say(text: str) -> None:
    """One line to the person, and in the log of the run if there is one."""
    console.print(text, soft_wrap=True)  # what is copied should be whole
    if log := run_logger():
        log.info(text)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar that is moved by calling `(share done in [0, 1], short note)`; one line is left when it is done.

    Inside a Prefect run the same progress, with the time left, is shown in its UI.
    """
    columns = (
        TextColumn("{task.description:<24}", markup=False), BarColumn(30), TaskProgressColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with reported(title) as tell, Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=1.0, note="")

        def show(share: float, note: str) -> None:
            bars.update(bar, completed=min(share, 1.0), note=note)
            tell(share, note)

        yield show
        bars.update(bar, completed=1.0)  # also where there was nothing to tell of


SHORT_FLOORS = ("unconditional", "retrieval")
"""Floors of the short table: real clips of random prompts, and of the nearest seen prompt."""
WIDTH = 100
"""Of a table with sentences, where nothing else is known."""


BESIDE = {
    CEILING: ("real", "ceiling, real clips of the same prompts, or for distances real against real at the same n"),
    "unconditional": ("random", "floor, real clips of random prompts"),
    "retrieval": ("nearest", "real clips of the nearest seen prompt"),
    "independent": ("shuffled", "frames of other clips"),
    "frozen": ("frozen", "one frame throughout"),
}
"""What a model is shown beside: the head of its column, and what it is."""


def print_table(table: Table, width: int | None = None) -> None:
    """A table on standard output. No figure is ever cut: a column too wide for a terminal is broken into lines.

    Args:
        table: whose columns may be broken where needed.
        width: where no terminal says how wide it is; as wide as the table is, if left out.
    """
    to = Console(highlight=False, markup=False)
    if not to.is_terminal:
        to.width = width or max(WIDTH, Measurement.get(to, to.options.update(max_width=10_000), table).maximum)
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"
    to.print(table)


def print_scores(evaluations: Sequence[Evaluation]) -> None:
    """The short table: a row per split and model, the ceiling first and the telling floors last."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    own = any("own" in e.scores for e in evaluations)  # then all are: a lab has one dataset
    headlines = OWN_HEADLINES if own else HEADLINES
    for head in ("split", "model", *(f"{metric.title}, % [95 %]" for metric in headlines), "clips"):
        table.add_column(head, no_wrap=True)
    judged = {e.name for e in evaluations}
    bounds = {name: scores for e in evaluations for name, scores in e.bounds.items() if name not in judged}
    rows = [(e.name, e.scores) for e in evaluations] + [(n, bounds[n]) for n in SHORT_FLOORS if n in bounds]
    for split in dict.fromkeys(split for _, scores in rows for split in scores):
        for name, scores in rows:
            if split in scores:
                found = scores[split]
                first = deciding(split)
                metrics = [first, *(metric.name for metric in headlines[1:])]
                cells = [_short(m, found[m]) if m in found else "" for m in metrics]
                table.add_row(split, f"{name}{_role(name)}", *cells, f"{found[first].n:,}")
        table.add_section()
    print_table(table)
    for evaluation in evaluations:
        for split, refusals in evaluation.refused.items():
            print(f"{evaluation.name} on {split}: {refusals}")


def print_evaluation(evaluation: Evaluation) -> None:
    """The whole table of one model, at most 100 columns: a row per figure, and beside it the ceiling and the floors."""
    columns = [name for name in BESIDE if name in evaluation.bounds]
    for split, scores in evaluation.scores.items():
        table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title=f"{evaluation.name} on {split}", title_justify="left")
        for head in ("figure", "unit", "value", "95 % interval", "clips", *(BESIDE[name][0] for name in columns)):
            table.add_column(head, justify="left" if head in ("figure", "unit") else "right", no_wrap=True)
        for metric, score in scores.items():
            if metric.endswith("_real"):
                continue
            bounds = [evaluation.bounds[c][split].get(metric) for c in columns]
            if f"{metric}_real" in scores and bounds:
                bounds[0] = scores[f"{metric}_real"]
            real = evaluation.bounds.get(CEILING, {}).get(split, {}).get(metric)
            value = shown(metric, score.value) + ("*" if pleases(metric, score, real) else "")
            table.add_row(
                metric, metric_of(metric).unit, value, interval(metric, score),
                f"{score.n:,}", *(shown(metric, b.value).replace(".0 %", " %") if b else "" for b in bounds),
            )  # fmt: skip
        print_table(table)
        if split in evaluation.seconds:
            print(f"{split}: {evaluation.seconds[split]}")
        for told in evaluation.left_out.get(split, ()):
            print(textwrap.fill(f"{split}: {told}", WIDTH))
    for split, refusals in evaluation.refused.items():
        print(f"{split}: {refusals}")
    if lines := understood_as(evaluation.understood):
        rest = [f"and {len(lines) - MOST_WORDS} more, see scores.json"] if len(lines) > MOST_WORDS else []
        print(*lines[:MOST_WORDS], *rest, sep="\n")
    print(textwrap.fill("; ".join(": ".join(BESIDE[name]) for name in columns), WIDTH))
    if "own" in evaluation.scores:
        print("*: above real; it pleases the learnt judge more than real clips do, which is no praise")


LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
"""Of a number, by pydantic's names for them."""


def print_settings(config: type[Config], prefix: str = "") -> None:
    """A row for each field, as `--set` takes it: its default, as JSON, what is allowed, and what it is."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for head in ("setting", "default", "allowed", "what it is"):
        table.add_column(head, no_wrap=head != "what it is")
    for name, field in config.model_fields.items():
        limits = [(sign, getattr(bound, key, None)) for bound in field.metadata for key, sign in LIMITS.items()]
        allowed = ", ".join(f"{sign} {limit:,}" for sign, limit in limits if limit is not None)
        if field.description:
            table.add_row(prefix + name, json.dumps(field.default, default=_as_set_takes), allowed, field.description)
    print_table(table, WIDTH)


def _as_set_takes(part: Config) -> object:
    """A configuration inside another: by its name, or what is other than its own defaults."""
    return getattr(part, "name", None) or part.model_dump(mode="json", exclude_defaults=True)


def _short(metric: str, score: Score) -> str:
    value = shown(metric, score.value).removesuffix(" %")
    return f"{value:>5} [{interval(metric, score).replace(' to ', ', ')}]"


def _role(name: str) -> str:
    return " (ceiling)" if name == CEILING else " (floor)" if name in FLOORS else ""
