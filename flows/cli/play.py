"""The command that opens a page to play with models: play."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Work
from tasks.servers.runtime import WORK

commands = typer.Typer()


@commands.command()
def play(
    run: Annotated[
        str | None,
        typer.Argument(help="A run folder, a model URI, an .npz or a baseline; by default the newest run in --work."),
    ] = None,
    other: Annotated[str | None, typer.Argument(help="Another one, to be set beside it.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0 for any.")] = 7860,
    like: Annotated[Path | None, typer.Option(help="Run or dataset that a baseline draws from.")] = None,
    work: Work = WORK,
) -> None:
    """Open a page where models answer prompts, with the reader's verdict drawn on every clip; Ctrl-C stops it."""
    from tasks.servers.runtime import prepare

    prepare(work)
    from flows.cli.playground import serve
    from tasks.report.play import runs_in
    from tasks.subjects import dataset_like

    chosen = [name for name in (run, other) if name] or runs_in(work)
    serve(list(dict.fromkeys(chosen)), other, work, port, dataset_like(like) if like else None)
