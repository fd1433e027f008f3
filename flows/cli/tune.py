"""The command that teaches an image model the motion of one clip: tune."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, Work, folder_to_write, print_json
from flows.cli.settings import model_config
from t2v_models.config import LabError
from tasks.servers.runtime import WORK, to_try

commands = typer.Typer()

STEPS = 240
"""Updates, half a minute of a core for a clip of 32 px."""


@commands.command()
def tune(
    run: Annotated[Path, typer.Argument(help="A run of diffusion with images=1 and network=factorised.")],
    clip: Annotated[Path, typer.Argument(help="An .mp4, .gif, .webp, an .npz with frames, or a folder of frames.")],
    caption: Annotated[str, typer.Argument(help="What it shows, in words that the run knows.")],
    out: Annotated[
        Path, typer.Option(help="Run folder; the same command again resumes from it.", callback=folder_to_write)
    ],
    steps: Annotated[int, typer.Option(min=1, help="Updates to make.")] = STEPS,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and noise.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, see 't2v settings tuned'; may be repeated."),
    ] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Teach a model of images one clip, to show its motion of other things (Tune-A-Video).

    \b
    t2v train data/shapes --model diffusion --set network=factorised \\
        --set images=1 --out runs/images
    t2v tune runs/images clip.gif "blue circle moving left" --out runs/tuned
    t2v generate runs/tuned "red square moving left" --out edited.gif
    """
    from t2v_models.checkpoint import newest
    from t2v_models.families.diffusion.model import Diffusion
    from t2v_models.families.diffusion.tuned import check_image_model
    from t2v_models.generate import load_run
    from t2v_models.shards.one_clip import dataset_of, read_clip
    from t2v_models.training.config import TrainConfig

    if out.resolve() == run.resolve():
        raise LabError(f"--out {out} is the image model itself: name another folder")
    if any(setting.startswith("image=") for setting in set_ or []):
        raise LabError(f"--set image names an image model beside {run}, the first argument: leave it out")
    if (last := newest(out)) and last.run.model.name != "tuned":
        raise LabError(f"--out {out} is a run of {last.run.model.name}: name another folder")
    image = load_run(run)
    if not isinstance(image, Diffusion):
        raise LabError(f"{run} is a run of {image.name}: tune one of diffusion that learnt images, see --help")
    check_image_model(image, run)
    image.text.check(caption)
    frames = read_clip(clip, image.spec)
    config = model_config("tuned", [f"image={run.resolve()}", *(set_ or [])])
    config.with_captions([caption])  # another one among the settings is told before anything is written
    spec = image.spec.model_copy(update={"frames": len(frames)})
    config.build(spec, {"image": image})  # a run that cannot be tuned is told before anything is written
    data = dataset_of(frames, caption, spec.fps, out / "clip")
    from tasks.servers.runtime import prefect_api

    with prefect_api(work):
        from flows.train import train as train_flow

        train_flow(data, config, TrainConfig(steps=steps, seed=seed), out, work)
    print(f"tuned {out}: try {to_try(work, 'generate', str(out), caption, '--out', 'clip.gif')}")
    print_json(as_json, {"run": str(out), "data": str(data)})
