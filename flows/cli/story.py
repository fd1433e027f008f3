"""The command that makes long clips: story."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, WordNetFolder, Work, file_to_write, in_known_words, print_json, run_folder
from t2v_models.config import LabError
from tasks.servers.runtime import WORK

commands = typer.Typer()


@commands.command()
def story(
    run: Annotated[str, typer.Argument(help="A run folder, or a model URI, of a model that takes first frames.")],
    prompts: Annotated[list[str], typer.Argument(help="What is shown one after the other; one alone makes it long.")],
    out: Annotated[
        Path, typer.Option(help="story.mp4, .gif, .webp, .npz, or .png for a sheet.", callback=file_to_write)
    ],
    lengths: Annotated[
        str | None, typer.Option(help="New frames of each prompt, as 20 or 10,30; by default a clip's.")
    ] = None,
    prime: Annotated[int, typer.Option(min=1, help="Frames that each part goes on from.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Stories, with seeds --seed, --seed + 1, ...")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the first story.")] = 0,
    guidance: Annotated[float | None, typer.Option(help="How strongly the prompts count, where it can be set.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations of the network a part, likewise.")] = None,
    apart: Annotated[bool, typer.Option(help="A clip of each prompt by itself.")] = False,
    judge: Annotated[bool, typer.Option(help="Read each prompt's frames back, where the truth is known.")] = False,
    wordnet: WordNetFolder = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Make clips of any length from a row of prompts, each part going on from the frames before it."""
    import numpy as np

    from t2v_models.clips.media import check_suffix, save_clips
    from t2v_models.judging.seams import tell
    from t2v_models.sampler import Request, repeat
    from t2v_models.story import story
    from tasks.samplers import source

    check_suffix(out)
    found = source(run_folder(run, work))
    truth = found.data.truth if found.data else None
    if judge and truth is None:
        raise LabError(f"{run} answers to no dataset whose truth is known: leave --judge out and look at the clips")
    _, seeds = repeat(prompts[:1], count, seed)
    wishes = Request((), (), guidance=guidance, steps=steps)
    meant = in_known_words(prompts, found.vocabulary, wordnet)
    shown = _lengths(lengths, len(prompts), found.sampler.spec.frames)
    understood = [meant[prompt] for prompt in prompts]
    parts = list(story(found.sampler, understood, shown, seeds, prime, wishes))
    fps = found.sampler.spec.fps
    if apart:
        paths = [
            path
            for number, (prompt, part, other) in enumerate(zip(prompts, parts, understood, strict=True), 1)
            for path in save_clips(
                out.with_stem(f"{out.stem}-part{number}"), part, [prompt] * count, seeds, fps, [other] * count
            )
        ]
    else:
        whole = np.concatenate(parts, 1)
        said, other = (", then\n".join(one) for one in (prompts, understood))
        paths = save_clips(out, whole, [said] * count, seeds, fps, [other] * count)
    print("\n".join(str(path) for path in paths))
    told = list(tell(truth.rules, prompts, parts)) if judge and truth else []
    for number, one in enumerate(told, 1):
        seam = one.jumps
        jumps = (f"; jumps into it {seam}, n {seam.n}" if seam.n else "; no story shows a path into it") if seam else ""
        print(f"{number}. {one.prompt}: right {one.right}, n {one.right.n}{jumps}")
    judged = [
        {
            "prompt": one.prompt,
            "right": one.right.model_dump(),
            "jumps": one.jumps.model_dump() if one.jumps and one.jumps.n else None,
        }
        for one in told
    ]
    print_json(
        as_json, {"out": [str(path) for path in paths], "seeds": seeds, "judged": judged, "understood": understood}
    )


def _lengths(asked: str | None, prompts: int, own: int) -> list[int]:
    """New frames of each prompt.

    Raises:
        LabError: no whole numbers.
    """
    if asked is None:
        return [own] * prompts
    try:
        numbers = [int(number) for number in asked.split(",")]
    except ValueError as error:
        raise LabError(f"--lengths {asked!r} are no whole numbers: write 20, or 10,30 for two prompts") from error
    return numbers * prompts if len(numbers) == 1 else numbers
