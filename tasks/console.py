"""What a person at the terminal sees: stages and progress on standard error, so that standard output is for results."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from t2v_models.evaluation.scores import Evaluation

console = Console(stderr=True, highlight=False)

ARTIFACT_SECONDS = 5.0
"""Between two updates of a progress artifact, each a request to the Prefect server."""


def say(text: str) -> None:
    """One line to the person."""
    console.print(text)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar that is moved by calling `(share done in [0, 1], short note)`; one line is left when it is done.

    Inside a Prefect run the same progress is shown in the UI, as an artifact of the run.
    """
    columns = (
        TextColumn("{task.description:<24}"), BarColumn(30), TaskProgressColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=1.0, note="")
        tell = _artifact(title)

        def show(share: float, note: str) -> None:
            bars.update(bar, completed=min(share, 1.0), note=note)
            tell(share)

        yield show


def _artifact(title: str) -> Callable[[float], None]:
    """Shows progress in the Prefect UI, every few seconds; outside a run it does nothing."""
    from prefect.context import FlowRunContext, TaskRunContext

    if not (FlowRunContext.get() or TaskRunContext.get()):
        return lambda share: None
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    artifact = create_progress_artifact(0.0, key=re.sub(r"[^a-z0-9]+", "-", title.lower()), description=title)
    assert isinstance(artifact, UUID)  # a coroutine only inside an event loop
    told = time.monotonic()

    def tell(share: float) -> None:
        nonlocal told
        if share >= 1 or time.monotonic() - told >= ARTIFACT_SECONDS:
            told = time.monotonic()
            update_progress_artifact(artifact, 100 * min(share, 1.0))

    return tell


def print_scores(evaluations: Sequence[Evaluation]) -> None:
    """A table on standard output: a row per model and split, a column per figure, with 95 % intervals."""
    metrics = list(dict.fromkeys(m for e in evaluations for scores in e.scores.values() for m in scores))
    table = Table("model", "split", "clips", *metrics, box=SIMPLE)
    for evaluation in evaluations:
        for split, scores in evaluation.scores.items():
            figures = [str(scores[m]) if m in scores else "" for m in metrics]
            table.add_row(evaluation.name, split, f"{scores['prompt_acc'].n:,}", *figures)
    Console(highlight=False).print(table)
