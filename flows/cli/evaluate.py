"""The command that judges what makes clips: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import PIPELINES, Json, WordNetFolder, Work, folder_to_write, print_json, run_folder
from t2v_models.config import LabError
from t2v_models.files import check_writable
from tasks.servers.runtime import WORK

commands = typer.Typer()

ALL = "all"
"""Of `--shape`: each of the data's."""


@commands.command()
def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder, a model URI, an .npz of clips (frames, prompts, seeds), or a baseline: oracle, "
            "unconditional, retrieval, frozen, noise; of rendered clips also independent and blank, of own clips "
            f"copied, unordered, mirrored, reversed and blurred. Or {PIPELINES}"
        ),
    ],
    split: Annotated[list[str] | None, typer.Option(help="As s0, s3, s4; may be repeated; all by default.")] = None,
    tier: Annotated[str, typer.Option(help="Clips per prompt: smoke 8, standard 64, release 256.")] = "standard",
    clips_per_prompt: Annotated[int | None, typer.Option(help="Clips per prompt, in place of a tier.")] = None,
    seed: Annotated[int, typer.Option(help="Of the samples' noise.")] = 0,
    guidance: Annotated[
        float | None, typer.Option(help="How strongly prompts count, in place of the run's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Evaluations of the network a clip, likewise.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of the draw of tokens, likewise; 0 takes the likeliest.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Of the clips, where the data has several: 64x36x10, or all; by default that of most."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Run or dataset that a baseline, a pipeline, or an .npz of clips, is judged by.")
    ] = None,
    wordnet: WordNetFolder = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for scores and clips; by default inside the run, or in --work.", callback=folder_to_write
        ),
    ] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Sample a model, read the motion back from the pixels, and score it with intervals.

    Clips of your own are judged by encoders that learn from them first (two minutes of a core, once a dataset), are
    proven on the clips kept for validation, and are refused where they cannot tell those apart.

    \b
    t2v evaluate runs/a
    t2v evaluate runs/a --split s3 --tier release
    t2v evaluate runs/a --shape 64x36x10                another of its shapes
    t2v evaluate runs/a --shape all                     each, one after another
    t2v evaluate oracle --like data/circles
    """
    from t2v_models.config import near
    from t2v_models.judging.scores import TIERS, EvaluateConfig
    from tasks.servers.runtime import prefect_api

    if tier not in TIERS:
        raise LabError(f"unknown tier {tier!r}: {near(tier, TIERS)}")
    count = TIERS[tier] if clips_per_prompt is None else clips_per_prompt
    asked: dict[str, object] = {"splits": split, "clips_per_prompt": count, "seed": seed, "guidance": guidance}
    asked |= {"steps": steps, "temperature": temperature, "wordnet": wordnet}
    EvaluateConfig.model_validate(asked)
    from tasks.report.console import print_evaluation
    from tasks.subjects import asked_of, dataset_like, own_clips_in, shapes_of, subject, taken

    folder = run_folder(run, work)
    own = like if like and own_clips_in(like) else None
    found = {}
    for one in shapes_of(like or folder) if shape == ALL else [shape]:
        config = EvaluateConfig.model_validate(asked | {"shape": one})
        data = dataset_like(like, config.wishes) if like and not own else None
        who = subject(folder, data, own, config.wishes, wordnet)  # before the server: a missing run is said at once
        taken(who, asked_of(who, config), config.splits or ())
        # scores of other splits, numbers of clips or wishes never replace those of the default ones
        kind = "" if config == EvaluateConfig() else f"-{'-'.join(config.splits or ('all',))}-{count}x-seed{seed}"
        kind += config.wishes_in_words.replace(" ", "-")
        what = who.name if who.source == who.name else f"{who.name}-{who.source[:8]}"  # others have names like it
        inside, beside = folder / f"evaluation{kind}", work / "evaluations" / f"{what}-{who.data.digest[:8]}{kind}"
        place = out or (inside if folder.is_dir() else beside)
        check_writable(place, "give --out, for scores would go to")
        found[place / one if out and one and shape == ALL else place] = config, data
    with prefect_api(work):
        from flows.evaluate import evaluate as evaluate_flow

        results = {
            place: evaluate_flow(run, config, place, work, data, own=own) for place, (config, data) in found.items()
        }
    for place, result in results.items():
        print_evaluation(result)
        print(f"verdicts and contact sheets  {place}")
    told = [
        {"run": run, "out": str(place)}
        | result.model_dump(mode="json", include={"scores", "seconds", "refused", "understood"})
        for place, result in results.items()
    ]
    print_json(as_json, {"run": run, "shapes": told} if shape == ALL else told[0])
