"""The `t2v` command. Every command calls the same functions as the flows; heavy imports wait until they are needed."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from flows.cli.average import commands as average_commands
from flows.cli.clean import commands as clean_commands
from flows.cli.data import commands as data_commands
from flows.cli.evaluate import commands as evaluate_commands
from flows.cli.export import commands as export_commands
from flows.cli.generate import commands as generate_commands
from flows.cli.options import DataOrTars, Json, Work, folder_to_write, print_json, run_folder
from flows.cli.play import commands as play_commands
from flows.cli.settings import augment_config, begun_config, lab_config, model_config
from flows.cli.story import commands as story_commands
from flows.cli.tokens import commands as tokens_commands
from flows.cli.tune import commands as tune_commands
from t2v_models.config import LabError, in_words, near
from t2v_models.files import check_writable
from tasks.servers.runtime import WORK, to_try

if TYPE_CHECKING:
    from t2v_models.checkpoint import RunConfig
    from t2v_models.shards.store import ClipStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Train small text-to-video models from scratch and measure how often their clips do what the prompt says.\n\n"
    "Start with 't2v run': it renders data, trains, judges and reports. Then look at the report it names.",
)

MINUTES = 30
"""Of a training whose length nobody says: on real clips what a processor learns in it can be recognised."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

app.add_typer(average_commands)
app.add_typer(clean_commands)
app.add_typer(data_commands)
app.add_typer(evaluate_commands)
app.add_typer(export_commands)
app.add_typer(generate_commands)
app.add_typer(play_commands)
app.add_typer(story_commands)
app.add_typer(tokens_commands)
app.add_typer(tune_commands)


def main() -> NoReturn:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    try:
        code = app(prog_name="t2v", standalone_mode=False)  # else a word too few would be a box of five lines
    except (LabError, ValidationError) as error:
        sentence = in_words(error) if isinstance(error, ValidationError) else str(error)
        print(f"t2v: {sentence}", file=sys.stderr)
        sys.exit(2)
    except TyperException as error:
        if sentence := error.format_message():  # the help page, which 't2v' alone asks for, is printed by then
            said = sentence[0].lower() + sentence[1:].rstrip(".")
            if re.match(r"no such option: -[\d.]", said):
                said += "; a prompt that begins with a minus stands behind all options and --"
            print(f"t2v: {said}; see '{_asked(error)} --help'", file=sys.stderr)
        sys.exit(2)
    if code == INTERRUPTED:
        print("t2v: stopped; the same command again goes on from here", file=sys.stderr)
    sys.exit(code or 0)  # a command that ends returns nothing


def _asked(error: TyperException) -> str:
    """The command that was misused, as `t2v train`; some errors know no more than that it was one of ours."""
    return getattr(getattr(error, "ctx", None), "command_path", "t2v COMMAND")


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="A deployment of the lab flow in prefect.yaml.")] = "quick",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What to change of the profile, with dots; may be repeated."),
    ] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Render, train, judge and report: the whole lab. Run again, it goes on where it stopped.

    \b
    t2v run                                             the profile quick
    t2v run --set training.minutes=10 --set dataset.clips=20000
    t2v run --profile smoke --set models.gan.width=32   of one model
    t2v run --set training.minutes=null --set training.steps=500
    t2v run --set training.seed=1                       another run of its own
    """
    from flows.cli.profiles import profile as parameters_of
    from flows.lab_config import check
    from tasks.servers.runtime import prefect_api

    config = lab_config(parameters_of(profile), set_ or [])
    check(config, work)  # a mistake is said before the server is started
    with prefect_api(work):
        from flows.lab import lab, summary

        result = lab(config, work)
    summary(result, work)
    print_json(as_json, result.model_dump(mode="json"))


@app.command()
def train(
    data: DataOrTars,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; the same command again resumes from it. By default in runs, named after both.",
            callback=folder_to_write,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A family of models, see 't2v settings'; by default gan, or that of --begin.")
    ] = None,
    begin: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Begin with the settings and the averaged weights of another run."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates to make, in place of --minutes.")] = None,
    minutes: Annotated[float | None, typer.Option(help=f"Minutes to train; {MINUTES} by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: that where the machine is fast in it and the family gains.")
    ] = "auto",
    ranks: Annotated[int, typer.Option(help="Processes that share every batch: one a GPU, or one a CPU core.")] = 1,
    oversubscribe: Annotated[bool, typer.Option("--oversubscribe", help="Allow more ranks than CPU cores.")] = False,
    cache_gib: Annotated[float, typer.Option(help="Of a URL: disk space for its shards, in --work.")] = 10,
    mix: Annotated[
        list[str] | None,
        typer.Option(metavar="SHAPE=SHARE", help="Share of the batches of one shape of clips, as 64x36x1=0.2; repeat."),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Clips varied, as crop=0.8, see 't2v settings augment'; repeat."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the model, see 't2v settings'; may be repeated."),
    ] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Train a model on a dataset, tracked in MLflow. The same command again resumes.

    \b
    t2v train data/circles --model diffusion --minutes 10
    t2v train data/mixed --model diffusion --mix 64x36x1=0.2
    t2v train data/own --begin runs/circles        fine-tuning
    t2v train 'shards/{000..099}.tar' --out runs/theirs    tars of others, where
                                                           they lie
    """
    from t2v_models.checkpoint import newest
    from t2v_models.fresh import fresh, new_run
    from t2v_models.shards.buckets import mix_of
    from t2v_models.shards.opened import open_data
    from t2v_models.training.config import TrainConfig
    from t2v_models.training.launch import check_ranks

    chosen = out or Path("runs") / f"{_called(data)}-{begin.name if begin else model or 'gan'}"
    config = begun_config(begin, chosen, model, set_ or []) if begin else model_config(model or "gan", set_ or [])
    length = {"steps": steps, "minutes": MINUTES if steps is None and minutes is None else minutes, "seed": seed}
    machine = {"device": device, "precision": precision, "cache_gib": cache_gib, "mix": mix_of(mix or [])}
    machine["augment"] = augment_config(augment or [])
    training = TrainConfig.model_validate(length | machine | {"ranks": ranks, "oversubscribe": oversubscribe})
    check_ranks(config, training)
    if out is None:
        check_writable(chosen, "give --out, for the run would go to")
    # before the server is started: a missing dataset, or a model that cannot be built for it, is said at once
    store = open_data(data, work / "cache", cache_gib, chosen)
    started = new_run(store.manifest, config, seed, training.mix, training.augment, chosen)
    if newest(chosen) is None:
        fresh(started)
    from tasks.servers.runtime import prefect_api

    with prefect_api(work):
        from flows.train import train as train_flow

        train_flow(data, config, training, chosen, work)
    print(_what_next(started, store, chosen, work))
    print_json(as_json, {"run": str(chosen), "data": str(data)})


def _what_next(run: "RunConfig", store: "ClipStore", out: Path, work: Path) -> str:
    """Commands for a model that was trained; it is not judged where that was said when training began, nor where it
    would be refused."""
    from t2v_models.families.round_trips import RoundTripModel
    from t2v_models.text.split import are_vectors
    from t2v_models.training.validation import unwatched

    model = run.build()
    if isinstance(model, RoundTripModel):
        lines = [f"trained {out}, for {model.serves.replace('RUN', str(out))}"]
    else:
        example = to_try(work, "generate", str(out), run.dataset.prompts[0], "--out", "clip.mp4")
        lines = [f"trained {out}: try {example}"]
    if not unwatched(run, store) and not (run.dataset.truth is None and are_vectors(store.captions)):
        lines.append(f"how often it does as asked: {to_try(work, 'evaluate', str(out))}")
    return "\n".join(lines)


def _called(data: str) -> str:
    """The last part of the name of a dataset; of tars that of their folder."""
    parts = data.rstrip("/").split("/")
    return parts[-1] if not parts[-1].endswith(".tar") else parts[-2] if len(parts) > 1 else "tars"


@app.command()
def settings(
    name: Annotated[str | None, typer.Argument(help="A family, a text encoder, or augment; by default all.")] = None,
    as_json: Json = False,
) -> None:
    """Families of models, text encoders and splits; of one, its settings: defaults, what is allowed, what each is.

    \b
    t2v train DATA --model gan --set width=64            a setting of a family
    t2v train DATA --set text_encoder=static             another text encoder; transformers:FOLDER
    t2v train DATA --set text_encoder.positions=8        a setting of it
    t2v train DATA --augment crop=0.8                    clips are varied
    """
    from t2v_models.families.build import FAMILIES
    from t2v_models.shards.augment import AugmentConfig
    from t2v_models.text.encoders import ENCODERS
    from t2v_models.worlds.splits import SPLITS
    from tasks.report.console import print_settings

    if name is None:
        about = {
            "models": {family: config.about for family, config in FAMILIES.items()},
            "text_encoders": {encoder: config.about for encoder, config in ENCODERS.items()},
            "splits": {str(split): what for split, what in SPLITS.items()},
        }
        for head, lines in zip(("--model", "--set text_encoder=", "--split"), about.values(), strict=True):
            print(head, *(f"  {one:<16} {what}" for one, what in lines.items()), sep="\n")
        print_json(as_json, about)
    elif found := (all_ := FAMILIES | ENCODERS | {"augment": AugmentConfig}).get(name):
        print_settings(found, "text_encoder." if name in ENCODERS else "")
        print_json(as_json, found.model_json_schema())
    else:
        raise LabError(f"unknown model or text encoder {name!r}: {near(name, all_)}")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more that were evaluated: run folders, or diffusers:FOLDER, a pipeline, which needs the "
            "extra 'pretrained'; the first is the base."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; in --work by default.", callback=folder_to_write)
    ] = None,
    markdown: Annotated[
        bool, typer.Option(help="Print one table of all runs and baselines by split, for a README, and write nothing.")
    ] = False,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Set evaluated runs side by side: differences with intervals, prompts that got better or worse, their clips."""
    from tasks.compare import compared, markdown_table, print_differences
    from tasks.servers.runtime import prefect_api

    folders = [run_folder(run, work) for run in runs]
    sides = compared(folders, work)  # before the server is started: a run without an evaluation is said at once
    if markdown:
        print(markdown_table(sides))
        print_json(as_json, {"runs": [str(folder) for folder in folders]})
        return
    name = re.sub(r"[^\w.-]+", "-", "-".join(side.name for side in sides)).strip("-")
    page = (out or work / "compare" / name).absolute()
    with prefect_api(work):
        from flows.compare import compare as compare_flow

        path = compare_flow([str(folder) for folder in folders], page, work)
    print_differences(sides)
    print(f"page  {path}")
    print_json(as_json, {"runs": [str(folder) for folder in folders], "page": str(path)})


@app.command()
def seeds(
    runs: Annotated[list[Path], typer.Argument(help="Two or more evaluated run folders, equal in all but --seed.")],
    as_json: Json = False,
) -> None:
    """What another seed would change: the mean of every score over runs of several seeds, with its interval.

    for s in 0 1 2; do t2v train data/c32 --minutes 5 --seed $s --out runs/c32-$s && t2v evaluate runs/c32-$s; done
    t2v seeds runs/c32-*
    """
    from t2v_models.judging.scores import over_seeds
    from tasks.report.seeds import print_seeds, repeats, times_of

    found = repeats(runs)
    scores, times = over_seeds([judged.evaluation.scores for judged in found]), times_of(found)
    print_seeds(found, scores, times)
    told = {split: {k: v.model_dump() for k, v in figures.items()} for split, figures in scores.items()}
    print_json(as_json, {"runs": [str(folder) for folder in runs], "scores": told} | times)


@app.command()
def up(
    work: Work = WORK,
    prefect_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Prefect UI; 0 for any.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the MLflow UI; 0 for any.")] = 5000,
    postgres: Annotated[
        str | None,
        typer.Option(
            help="Keep both databases in PostgreSQL: postgresql://user:password@host:5432", envvar="T2V_POSTGRES"
        ),
    ] = None,
) -> None:
    """Start the Prefect server and UI, the MLflow UI, the deployments and their workers; Ctrl-C stops all."""
    from flows.cli.up import serve

    serve(work, prefect_port, mlflow_port, postgres)


if __name__ == "__main__":
    main()
