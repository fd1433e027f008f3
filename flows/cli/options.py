"""What several commands of the command line share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Work = Annotated[Path, typer.Option(help="Folder of Prefect's and MLflow's state; nothing is written elsewhere.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
Data = Annotated[str, typer.Argument(help="Folder or URL (s3://, http://, ...) of a dataset made by 't2v render'.")]
Run = Annotated[str, typer.Argument(help="A run folder, or a model URI such as models:/t2v-gan@champion.")]


def print_json(wanted: bool, result: dict[str, Any]) -> None:
    """The result as one line of JSON, if it is wanted."""
    if wanted:
        print(json.dumps(result))
