"""What several commands of the command line share."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from t2v_models.config import LabError
from t2v_models.files import check_writable
from t2v_models.sampler import is_uri
from tasks.servers.runtime import prepare


def folder_to_write(option: typer.CallbackParam, folder: Path | None) -> Path | None:
    """Of an option or argument that names a folder: it may be written to, which is said before any work."""
    if folder is not None:
        check_writable(folder, option.opts[0])
    return folder


def file_to_write(option: typer.CallbackParam, file: Path) -> Path:
    """Of an option that names a file: its folder may be written to, and it is no folder itself."""
    if file.is_dir():
        raise LabError(f"{option.opts[0]} {file} is a folder: name a file")
    check_writable(file.parent, f"{option.opts[0]} {file} would lie in")
    return file


def prepared(work: Path) -> Path:
    """Of the option `--work`: what Prefect and MLflow read on import is set before any command may import them."""
    prepare(work)
    return work


Work = Annotated[
    Path,
    typer.Option(help="Folder of Prefect's and MLflow's state; nothing is written elsewhere.", callback=prepared),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
Data = Annotated[str, typer.Argument(help="Folder or URL (s3://, http://, ...) of a dataset made by 't2v render'.")]
DataOrTars = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder or URL (s3://, http://, ...) of a dataset, or WebDataset tars of .npy or .webp clips.",
    ),
]
WordNetFolder = Annotated[
    Path | None,
    typer.Option(
        "--wordnet", metavar="FOLDER",
        help="Of WordNet 3.0, as /usr/share/wordnet: words never trained are understood as those they are a kind of.",
    ),
]  # fmt: skip
Run = Annotated[str, typer.Argument(help="A run folder, or a model URI such as models:/t2v-gan@champion.")]


PIPELINES = (
    "diffusers:FOLDER, a pipeline (needs the extra 'pretrained') with options behind commas: steps, frames, size, "
    "guidance, dtype, device, offload, as diffusers:FOLDER,steps=20,size=64x36."
)
"""In a help text: how a pipeline is named."""


def print_json(wanted: bool, result: dict[str, Any]) -> None:
    """The result as one line of JSON, if it is wanted."""
    if wanted:
        print(json.dumps(result))


def in_known_words(prompts: Iterable[str], vocabulary: tuple[str, ...], wordnet: Path | None) -> dict[str, str]:
    """Each prompt as a model is asked it; what is understood in other words is printed.

    Raises:
        LabError: no WordNet there, or a word that is near to none of the vocabulary.
    """
    if wordnet is None:
        return {prompt: prompt for prompt in prompts}
    from t2v_models.text.wordnet import WordNet, understood_as

    database = WordNet(wordnet)
    meant = {prompt: database.understood(prompt, vocabulary) for prompt in prompts}
    for line in understood_as(meant):
        print(line)
    return meant


def run_folder(run: str, work: Path) -> Path:
    """A run folder as given, or the one inside an MLflow model."""
    if not is_uri(run):
        return Path(run)
    from tasks.mlflow.registry import fetch_model

    return fetch_model(work, run)
