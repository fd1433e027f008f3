"""The command that writes clips, or a model, for other programs: export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import PIPELINES, Json, Work, folder_to_write, print_json, run_folder
from t2v_models.config import LabError, near
from tasks.servers.runtime import WORK

if TYPE_CHECKING:
    from t2v_models.shards.export import Captioned

commands = typer.Typer()

PIPELINE = "diffusers"
"""The kind that is no clips but what makes them."""


@commands.command()
def export(
    data: Annotated[str, typer.Argument(help=f"A dataset, or what makes clips: a run, an .npz, ..., or {PIPELINES}")],
    out: Annotated[Path, typer.Argument(help="Folder to write the files to.", callback=folder_to_write)],
    kind: Annotated[
        str,
        typer.Option(
            help="mp4, gif, webp, npz, png: a folder of frames a clip; finetrainers, diffusion-pipe, musubi-tuner, "
            "SimpleTuner: as these read it; or diffusers."
        ),
    ] = "mp4",
    like: Annotated[Path | None, typer.Option(help="Run or dataset whose prompts a pipeline answers.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Of a model: clips for each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Clip i of each prompt has seed + i.")] = 0,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Write clips as files with captions beside them, which 't2v ingest' reads back, or a model for other programs.

    \b
    t2v export data/circles films                       mp4 and txt, as
                                                        fine-tuners read
    t2v export data/circles frames --kind png           a folder a clip
    t2v export s3://bucket/circles arrays --kind npz    from a URL
    t2v export runs/a films --count 16                  what a model makes of
                                                        its training prompts
    t2v export data/mine tuned --kind musubi-tuner      with the file that its
                                                        loader is given
    t2v export diffusers:models/wan films --like data/circles
    t2v export runs/m pipe --kind diffusers             the model itself

    Kinds webp, npz and png keep every pixel; mp4 and gif do not. A broken
    export is finished by the same command.
    """
    from t2v_models.shards.export import KINDS
    from t2v_models.shards.export import export as export_clips
    from t2v_models.shards.layouts import LAYOUTS, export_for
    from tasks.report.console import progress

    if kind == PIPELINE:
        name = _write_pipeline(data, out, work)
        print(f"{out} is a pipeline of diffusers: its README.md says how to ask it; here it is named {name}")
        print_json(as_json, {"data": data, "out": str(out), "pipeline": name})
        return
    if kind not in (*KINDS, *LAYOUTS):
        raise LabError(f"unknown kind {kind!r}: {near(kind, (*KINDS, *LAYOUTS, PIPELINE))}")
    clips = _clips(data, like, count, seed, work)

    def tell(done: int, total: int) -> None:
        show(done / total, f"clip {done:,} of {total:,}")

    with progress("export") as show:
        done = export_for(kind, clips, out, tell) if kind in LAYOUTS else export_clips(clips, out, kind, tell)
    print(
        f"{done:,} clips as {kind} in {out}" + (f": name {out / LAYOUTS[kind].config} to it" if kind in LAYOUTS else "")
    )
    print_json(as_json, {"data": data, "out": str(out), "clips": done})


def _clips(data: str, like: Path | None, count: int, seed: int, work: Path) -> "Captioned":
    """Of a dataset, which needs no torch, or of what makes clips."""
    from t2v_models.shards.manifest import MANIFEST
    from t2v_models.shards.opened import open_data
    from t2v_models.shards.remote import is_url, local_folder

    if not is_url(data) and not (local_folder(data) / MANIFEST).exists():
        from tasks.samplers import Made, makes_clips, source

        if makes_clips(data):
            told = None
            if like:
                from tasks.subjects import dataset_like

                told = dataset_like(like)
            return Made.of(source(run_folder(data, work), told), count, seed)
    return open_data(data, work / "cache")


def _write_pipeline(run: str, out: Path, work: Path) -> str:
    """A trained model as a folder of diffusers; its name as a sampler, with the options that make the run's own clips.

    Raises:
        LabError: no run, one of a family without classes there, a folder that holds something.
    """
    from t2v_models.generate import load_run
    from t2v_models.sampler import AsPipeline

    model = load_run(run_folder(run, work))
    if not isinstance(model, AsPipeline):
        raise LabError(
            f"{run} is a run of {model.name}, whose networks are none of diffusers: --kind diffusers takes runs of "
            "modelscope; of others leave it out, for their clips"
        )
    return f"diffusers:{out},{model.save_pipeline(out)}"
