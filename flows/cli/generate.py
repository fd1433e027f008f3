"""The command that makes clips: generate."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    PIPELINES,
    Json,
    WordNetFolder,
    Work,
    file_to_write,
    in_known_words,
    print_json,
    run_folder,
)
from t2v_models.clips.spec import height_and_width
from t2v_models.config import LabError
from tasks.servers.runtime import WORK

if TYPE_CHECKING:
    from t2v_models.sampler import Frames

commands = typer.Typer()


@commands.command()
def generate(
    run: Annotated[
        str,
        typer.Argument(help=f"A run folder, a model URI, a baseline, an .npz of clips, or {PIPELINES}"),
    ],
    prompts: Annotated[list[str], typer.Argument(help="What the clips should show, e.g. 'circle moving left'.")],
    out: Annotated[
        Path, typer.Option(help="clips.npz, .mp4, .gif, .webp, or .png for a contact sheet.", callback=file_to_write)
    ],
    count: Annotated[int, typer.Option(min=1, help="Clips for each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Clip i of each prompt has seed + i.")] = 0,
    to: Annotated[str | None, typer.Option(help="Clips on the way from the one prompt to this one.")] = None,
    to_seed: Annotated[int | None, typer.Option(min=0, max=2**62, help="Clips on the way from --seed to this.")] = None,
    from_clip: Annotated[Path | None, typer.Option(help="Clips on the way from this clip of yours to another.")] = None,
    to_clip: Annotated[
        Path | None, typer.Option(help="The other, of the size and length that the model makes.")
    ] = None,
    noise: Annotated[
        float,
        typer.Option(help="In which both are dissolved, in deviations of the data: the more, the less they count."),
    ] = 5.0,
    frames: Annotated[int | None, typer.Option(min=1, help="Length, where the model can make another.")] = None,
    size: Annotated[str | None, typer.Option(help="As 64 or 64x36, width first, where the model can.")] = None,
    first_frame: Annotated[Path | None, typer.Option(help="A picture that clips begin with, where it can.")] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE=PICTURE",
            help="A picture that is known of any frame, from 0 on, or from the end: -1=end.png; may be repeated.",
        ),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the prompt counts, where it can be set.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations of the network a clip, likewise.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the draw of tokens, likewise; 0 takes the likeliest.")
    ] = None,
    avoid: Annotated[str | None, typer.Option(help="What no clip should show, where the model is guided.")] = None,
    motion: Annotated[
        str | None,
        typer.Option(help="px a frame to the right and down, as 2,0 or -1.5,1, of what an image model shows."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Run or dataset that a baseline draws from, or to whose form clips of a pipeline are brought."
        ),
    ] = None,
    wordnet: WordNetFolder = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Make clips from prompts, or on the way from one prompt, seed or clip to another.

    \b
    t2v generate RUN "circle moving left" --frame 0=a.png --frame -1=b.png --out clip.mp4
    t2v generate RUN "circle moving left" --to "circle moving up" --out way.png
    t2v generate RUN "circle moving left" --from-clip a.gif --to-clip b.gif \\
        --count 5 --out way.png
    """
    import numpy as np

    from t2v_models.clips.media import check_suffix, save_clips
    from t2v_models.generate import dissolve, interpolate, interpolation_names
    from t2v_models.sampler import Request, repeat, sample_all
    from tasks.samplers import source

    check_suffix(out)
    between = [clip for clip in (from_clip, to_clip) if clip is not None]
    if len(between) == 1:
        raise LabError("a way between clips has two ends: give both --from-clip and --to-clip")
    if between and to_seed is not None:
        raise LabError("a way between clips has the noise of one seed: leave --to-seed out")
    on_the_way = to is not None or to_seed is not None or bool(between)
    if on_the_way and len(prompts) > 1:
        raise LabError(f"a way to another end goes from one prompt and {len(prompts)} were given: give one")
    pictures, places = _pictures(([] if first_frame is None else [f"0={first_frame}"]) + (frame or []))
    named = {name for name, given in (("first-frame", first_frame), ("frame", frame)) if given}
    wishes = Request(
        (), (), frames, height_and_width(size) if size else None, guidance=guidance, steps=steps,
        temperature=temperature, avoid=avoid, motion=_px_a_frame(motion),
    )  # fmt: skip
    if on_the_way and (others := sorted(wishes.wishes | named)):
        raise LabError(f"a way to another end is made as by default: leave {', '.join(f'--{it}' for it in others)} out")
    data = None
    if like:
        from tasks.subjects import dataset_like

        data = dataset_like(like)
    found = source(run_folder(run, work), data)
    sampler = found.sampler
    meant = in_known_words([*prompts, *(() if to is None else (to,))], found.vocabulary, wordnet)
    if on_the_way:
        ends = (prompts[0], prompts[0] if to is None else to), (seed, seed if to_seed is None else to_seed)
        known = meant[ends[0][0]], meant[ends[0][1]]
        if between:
            from t2v_models.shards.one_clip import read_clip

            first, last = (read_clip(clip, sampler.spec) for clip in between)
            clips = dissolve(sampler, (first, last), noise, known, seed, count)
        else:
            clips = interpolate(sampler, known, ends[1], count)
        asked, seeds = interpolation_names(*ends, count)
        understood, _ = interpolation_names(known, ends[1], count)
    else:
        asked, seeds = repeat(prompts, count, seed)
        understood = [meant[prompt] for prompt in asked]
        given = None if pictures is None else np.repeat(pictures[None], len(asked), 0)
        wanted = replace(wishes, prompts=tuple(understood), seeds=tuple(seeds), known_frames=given, places=places)
        clips = sample_all(sampler, wanted)
    paths = save_clips(out, clips, asked, seeds, sampler.spec.fps, understood)
    print("\n".join(str(path) for path in paths))
    print_json(
        as_json, {"out": [str(path) for path in paths], "prompts": asked, "seeds": seeds, "understood": understood}
    )


def _pictures(asked: Sequence[str]) -> "tuple[Frames, tuple[int, ...]] | tuple[None, None]":
    """Of some `PLACE=PICTURE` the pictures, `(k, h, w, 3)`, and their places; None of none.

    Raises:
        LabError: one that is no such thing, or pictures of several sizes.
    """
    import numpy as np

    from t2v_models.clips.media import read_picture

    known: list[tuple[int, Frames]] = []
    for one in asked:
        place, _, picture = one.partition("=")
        if not re.fullmatch(r"-?\d+", place) or not picture:
            raise LabError(
                f"--frame {one!r} is no place and picture: write 9=end.png, or -1=end.png for the last frame"
            )
        known.append((int(place), read_picture(Path(picture))))
    if not known:
        return None, None
    if len(sizes := {f"{picture.shape[1]} x {picture.shape[0]}" for _, picture in known}) > 1:
        raise LabError(f"the pictures are of {' and '.join(sorted(sizes))} px: scale them to the size of the clips")
    places, pictures = zip(*known, strict=True)
    return np.stack(pictures), places


def _px_a_frame(motion: str | None) -> tuple[float, float] | None:
    """To the right and down.

    Raises:
        LabError: no two numbers.
    """
    if motion is None:
        return None
    try:
        across, down = (float(number) for number in motion.split(","))
    except ValueError as error:
        raise LabError(f"--motion {motion!r} is not two numbers: write px a frame right and down, as -1.5,0") from error
    return across, down
