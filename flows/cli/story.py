"""The command that makes long clips: story."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from flows.cli.options import Json, WordNetFolder, Work, file_to_write, in_known_words, print_json, run_folder
from t2v_models.config import LabError
from tasks.servers.runtime import WORK

if TYPE_CHECKING:
    from t2v_models.judging.seams import Told
    from t2v_models.sampler import Frames
    from t2v_models.worlds.world import World

commands = typer.Typer()
N = TypeVar("N", int, float)


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
    seed: Annotated[str, typer.Option(help="Of the first story; or 0,5,9: of each prompt, to make one anew.")] = "0",
    guidance: Annotated[
        str | None, typer.Option(help="How strongly the prompts count, as 2 or 1,3, where it can be set.")
    ] = None,
    temperature: Annotated[str | None, typer.Option(help="Of the draw of tokens, as .8 or 1,.5, likewise.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations of the network a part, likewise.")] = None,
    apart: Annotated[bool, typer.Option(help="A clip of each prompt by itself.")] = False,
    judge: Annotated[bool, typer.Option(help="Read each prompt's frames back, where the truth is known.")] = False,
    wordnet: WordNetFolder = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Make clips of any length from a row of prompts, each part going on from the frames before it.

    \b
    t2v story runs/d "circle moving up" "circle moving left" --lengths 10,30 --prime 4 --out story.mp4
    t2v story runs/d "circle moving up" "circle moving left" --count 8 --judge --out story.png
    t2v story runs/d "circle moving up" "circle moving left" --seed 0,7 --guidance 1.5,3 --out story.mp4

    An .mp4 is written as it is made, however long, in the memory of one part; judged or --apart, in that of the longest
    prompt. A sheet has a row for each prompt, behind the last frame before it and a blue line.
    """
    from t2v_models.clips.media import check_suffix
    from t2v_models.sampler import Request, repeat
    from t2v_models.story import Scene, in_parts, story
    from tasks.samplers import source

    check_suffix(out)
    found = source(run_folder(run, work))
    truth = found.data.truth if found.data else None
    if judge and truth is None:
        raise LabError(f"{run} answers to no dataset whose truth is known: leave --judge out and look at the clips")
    first = _each("--seed", seed, prompts, int)
    seeds = [repeat(prompts[:1], count, one)[1] for one in first]
    meant = in_known_words(prompts, found.vocabulary, wordnet)
    understood = [meant[prompt] for prompt in prompts]
    scenes = [
        Scene(
            meant[prompt],
            length,
            Request((), (), guidance=strength, steps=steps, temperature=warmth),
            tuple(own) if "," in seed else (),
        )
        for prompt, length, strength, warmth, own in zip(
            prompts,
            _each("--lengths", lengths or str(found.sampler.spec.frames), prompts, int),
            _each("--guidance", guidance, prompts, float) if guidance else [None] * len(prompts),
            _each("--temperature", temperature, prompts, float) if temperature else [None] * len(prompts),
            seeds,
            strict=True,
        )
    ]
    if apart or judge or out.suffix.lower() != ".mp4":
        parts = story(found.sampler, scenes, seeds[0], prime)
    else:
        parts = in_parts(found.sampler, scenes, seeds[0], prime)
    told: list[Told] = []
    if judge and truth:
        parts = _told(truth.rules, prompts, parts, told)
    fps = found.sampler.spec.fps
    paths = _save(out, parts, prompts, understood, seeds, fps, apart)
    print("\n".join(str(path) for path in paths))
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
        as_json, {"out": [str(path) for path in paths], "seeds": seeds[0], "judged": judged, "understood": understood}
    )


def _told(world: "World", prompts: Sequence[str], parts: Iterator["Frames"], told: list["Told"]) -> Iterator["Frames"]:
    """The parts; what is read in each is put into the list."""
    from t2v_models.judging.seams import tell_one

    before = None
    for prompt, frames in zip(prompts, parts, strict=True):
        told.append(tell_one(world, prompt, before, frames))
        before = frames[:, -1:]
        yield frames


def _save(
    out: Path, parts: Iterator["Frames"], prompts: Sequence[str], understood: Sequence[str],
    seeds: Sequence[Sequence[int]],
    fps: float, apart: bool,
) -> list[Path]:  # fmt: skip
    """Files of a story, which is made while they are written; those apart are called `name-part1.mp4` and so on."""
    import numpy as np

    from t2v_models.clips.media import save_clips, save_films, story_sheet
    from t2v_models.files import write

    first = seeds[0]
    count = len(first)
    said, other = (", then\n".join(one) for one in (prompts, understood))
    captions = [p if p == m else f"{p}\nunderstood as {m}" for p, m in zip(prompts, understood, strict=True)]
    if apart:
        return [
            path
            for number, (prompt, part, meant, own) in enumerate(zip(prompts, parts, understood, seeds, strict=True), 1)
            for path in save_clips(
                out.with_stem(f"{out.stem}-part{number}"), part, [prompt] * count, own, fps, [meant] * count
            )
        ]
    match out.suffix.lower():
        case ".mp4":
            return save_films(out, parts, count, fps, f"{said}, understood as {other}" if said != other else "")
        case ".png":
            return [write(out, story_sheet(list(parts), captions, seeds))]
        case _:
            whole = np.concatenate(list(parts), 1)
            return save_clips(out, whole, [said] * count, first, fps, [other] * count)


def _each(option: str, asked: str, prompts: Sequence[str], number: Callable[[str], N]) -> list[N]:
    """A number for each prompt: the one that is given, or as many as there are prompts.

    Raises:
        LabError: no numbers, or another number of them.
    """
    kind, example = ("whole numbers", "20, or 10,30") if number is int else ("numbers", "2, or 1.5,3")
    try:
        numbers = [number(one) for one in asked.split(",")]
    except ValueError as error:
        raise LabError(f"{option} {asked!r} are no {kind}: write {example} for two prompts") from error
    if len(numbers) not in (1, len(prompts)):
        raise LabError(
            f"{len(prompts)} prompts and {len(numbers)} numbers of {option}: give one number, or one for each prompt"
        )
    return numbers * len(prompts) if len(numbers) == 1 else numbers
