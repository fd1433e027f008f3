"""The command that chooses another average of a run's weights after its training: average."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, folder_to_write, print_json
from t2v_models.config import LabError

commands = typer.Typer()


@commands.command()
def average(
    run: Annotated[Path, typer.Argument(help="Run folder of a diffusion trained with --set ema_kept=4,10,24,60.")],
    power: Annotated[float, typer.Option(help="Of the average: higher looks back less far; 8 is the usual one.")],
    out: Annotated[Path, typer.Option(help="Folder for the run with that average.", callback=folder_to_write)],
    as_json: Json = False,
) -> None:
    """Make a run whose clips come from another average of the weights, without training again.

    \b
    t2v train data/circles --model diffusion --out runs/d \\
        --set ema_kept=4,10,24,60
    t2v average runs/d --power 20 --out runs/d20
    t2v evaluate runs/d20

    How far it should look back nobody knows before. An average of power 4 looks
    back over some 14 % of the training, 10 over 8 %, 24 over 4 %, 60 over 1.6 %.
    """
    from t2v_models import checkpoint
    from t2v_models.sampler import ChoosesAverage

    model, last = checkpoint.load(run)
    checkpoint.restore(model, last, run)
    if not isinstance(model, ChoosesAverage):
        raise LabError(f"{run} is a run of {model.name}, which keeps one average only: this is for runs of diffusion")
    model.choose_average(power)
    if checkpoint.newest(out):
        raise LabError(f"{out} has a run already: name another folder with --out")
    chosen = last.run.model_copy(update={"model": model.config})
    checkpoint.save(model, chosen, out, last.step, last.seconds, keep=1)
    print(f"{out} makes clips by the average of power {power:g} of the weights of {run}, {last.step:,} updates old")
    print_json(as_json, {"run": str(run), "out": str(out), "power": power})
