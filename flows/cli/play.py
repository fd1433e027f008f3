"""The commands that let models answer: play, to people, and serve, to programs."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import WordNetFolder, Work
from t2v_models.config import LabError
from t2v_models.sampler import is_uri
from tasks.servers.runtime import WORK

commands = typer.Typer()


@commands.command()
def play(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run folder, a model URI, an .npz, a baseline, or diffusers:FOLDER, a pipeline, which needs the "
            "extra 'pretrained'; by default the newest run in --work."
        ),
    ] = None,
    other: Annotated[str | None, typer.Argument(help="Another one, to be set beside it.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0 for any.")] = 7860,
    like: Annotated[
        Path | None, typer.Option(help="Run or dataset that a baseline draws from and a pipeline answers to.")
    ] = None,
    wordnet: WordNetFolder = None,
    work: Work = WORK,
) -> None:
    """Open a page where models answer prompts, with the reader's verdict drawn on every clip; Ctrl-C stops it."""
    from flows.cli.playground import serve
    from tasks.play import runs_in
    from tasks.subjects import dataset_like

    chosen = [name for name in (run, other) if name] or runs_in(work)
    data = dataset_like(like) if like else None
    serve(list(dict.fromkeys(chosen)), other, work, port, data, wordnet)


@commands.command()
def serve(
    model: Annotated[str, typer.Argument(help="A model URI, as models:/t2v-gan@champion.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server on this machine; 0 for any.")] = 5001,
    work: Work = WORK,
) -> None:
    """Answer prompts with clips as 'mlflow models serve' does, but no web page of others; Ctrl-C stops it."""
    if not is_uri(model):
        raise LabError(f"{model!r} is no model URI: name a registered model, as models:/t2v-gan@champion")
    from tasks.mlflow.registry import fetch_model
    from tasks.mlflow.serving import serve_model
    from tasks.report.console import say
    from tasks.servers.supervisor import free_port

    folder, port = fetch_model(work, model).parents[1], free_port(port, "the model's server")
    say(f"serving {model} at http://127.0.0.1:{port}/invocations; Ctrl-C stops it")
    serve_model(folder, port)
