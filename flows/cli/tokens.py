"""The command that stores the tokens of a dataset: tokens."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Data, Json, Work, print_json
from tasks.servers.runtime import WORK

commands = typer.Typer()


@commands.command()
def tokens(
    data: Data,
    run: Annotated[Path, typer.Argument(help="Run folder of a video_tokenizer.")],
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Store the tokens of a dataset in the run of their tokenizer, so that what learns them decodes no pixels.

    \b
    t2v tokens data/circles runs/tokenizer
    t2v train data/circles --model phenaki --set tokenizer=runs/tokenizer

    Trainings with that tokenizer take them by themselves, the same clips in the
    same order. Of a tokenizer that was trained further they are made anew.
    """
    from t2v_models import checkpoint
    from t2v_models.families.parents import fitting
    from t2v_models.families.tokens.tokenizer import VideoTokenizer
    from t2v_models.shards.opened import open_data
    from t2v_models.shards.tokens import place, write_tokens
    from tasks.report.console import progress

    store = open_data(data, work / "cache")
    model, last = checkpoint.load(run)
    tokenizer = fitting(model, VideoTokenizer, "video_tokenizer", "tokenizer", store.spec, run)
    folder = place(run, store.manifest.digest)
    with progress("tokens") as show:
        found = write_tokens(
            store, folder, last.sha256, tokenizer.tokenize,
            lambda done, total: show(done / total, f"clip {done:,} of {total:,}"),
        )  # fmt: skip
    count = found.shape[0] * found.shape[1] * found.shape[2]
    print(f"{len(store):,} clips as {count} tokens each in {folder}")
    print_json(as_json, {"tokens": str(folder), "clips": len(store), "shape": list(found.shape)})
