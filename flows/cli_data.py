"""The commands that make datasets and look after them: render, ingest, export, verify."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Data, Json, Work, print_json
from t2v_models.config import LabError
from tasks.runtime import WORK

commands = typer.Typer()


@commands.command()
def render(
    out: Annotated[Path, typer.Argument(help="Folder to write shards and manifest to.")],
    world: Annotated[str, typer.Option(help="circles: one disc, 16 motions; shapes: 6 shapes, 6 colours.")] = "circles",
    clips: Annotated[int, typer.Option(help="Number of clips.")] = 10_000,
    size: Annotated[int, typer.Option(help="Height and width in pixels, 16 to 512.")] = 64,
    frames: Annotated[int, typer.Option(help="Frames per clip, 4 to 256.")] = 10,
    fps: Annotated[int, typer.Option(help="Frames per second when played.")] = 10,
    seed: Annotated[int, typer.Option(help="Clip i is drawn from (seed, i).")] = 0,
    hold_out: Annotated[
        str, typer.Option(help="Motions never rendered, under any wording, with commas between; or 'none'.")
    ] = "up-right",
    coverage: Annotated[
        str | None,
        typer.Option(help="Of shapes: 9, 43 or 86 % of the (object, motion) pairs, or one-factor."),
    ] = None,
    codec: Annotated[str, typer.Option(help="lz4: fastest; webp: lossless too, slow, plays in any browser.")] = "lz4",
    workers: Annotated[int, typer.Option(help="Processes that render; the bytes are the same for any number.")] = 2,
    runner: Annotated[
        str, typer.Option(help="local, or dask: a cluster of --workers, or the one at an address.")
    ] = "local",
    dask_address: Annotated[str | None, typer.Option(help="Of a running scheduler, e.g. tcp://host:8786.")] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Render captioned clips into WebDataset shards. Run again, it finishes what is missing."""
    from t2v_models.clips.dataset import DatasetConfig

    held = [] if hold_out == "none" else hold_out.split(",")
    spec = {"size": size, "frames": frames, "fps": fps}
    config = DatasetConfig.model_validate(
        {
            "world": world, "clips": clips, "spec": spec, "seed": seed, "hold_out": held,
            "coverage": int(coverage) if coverage and coverage.isdigit() else coverage, "codec": codec,
        }
    )  # fmt: skip
    from t2v_models.config import near

    if runner not in ("local", "dask"):
        raise LabError(f"unknown runner {runner!r}: {near(runner, ('local', 'dask'))}")
    from tasks.runtime import prefect_api, prepare

    prepare(work)
    with prefect_api(work):
        from flows.dataset import dataset, dataset_on_dask

        if runner == "dask":
            dataset_on_dask(config, out, workers, dask_address)
        else:
            dataset(config, out, workers)
    from t2v_models.shards.manifest import Manifest

    manifest = Manifest.load(out)
    print(f"{len(manifest.captions):,} clips in {len(manifest.shards)} shards, digest {manifest.digest}, in {out}")
    print_json(as_json, {"data": str(out), "clips": len(manifest.captions), "digest": manifest.digest})


@commands.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of clips, or a table (.csv, .jsonl, .parquet) of them.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the dataset to.")],
    captions: Annotated[
        Path | None, typer.Option(help="Table with the columns path and caption; by default CLIP.txt beside each clip.")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width in pixels, 16 to 512.")] = 64,
    frames: Annotated[int, typer.Option(help="Frames per clip, 4 to 256.")] = 10,
    fps: Annotated[int, typer.Option(help="Frames per second; films of other rates are resampled.")] = 10,
    fit: Annotated[str, typer.Option(help="crop, or letterbox to keep all of a frame that is not square.")] = "crop",
    stride: Annotated[
        int | None, typer.Option(help="Frames from one clip's start to the next; --frames if left out.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the files kept for OUT/validation.")] = 0.05,
    codec: Annotated[str, typer.Option(help="lz4: fastest; webp: lossless too, slow, plays in any browser.")] = "lz4",
    workers: Annotated[int, typer.Option(min=1, help="Processes that decode; the bytes are the same for any.")] = 2,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Turn your own captioned clips into a dataset that any model trains on; what cannot be used is listed with why."""
    from t2v_models.shards.ingested import IngestOptions

    spec = {"size": size, "frames": frames, "fps": fps}
    options = IngestOptions.model_validate(
        {"spec": spec, "fit": fit, "stride": stride, "validation": validation, "codec": codec}
    )
    from tasks.runtime import prefect_api, prepare

    prepare(work)
    with prefect_api(work):
        from flows.ingest import ingest as ingest_flow

        result = ingest_flow(source, out, options, captions, workers)
    print(f"{result.sources:,} files: {result.train:,} clips in {out}, {result.validation:,} in {out / 'validation'}")
    print(
        f"{result.rejects:,} rejected" + (f", for the reasons in {out / 'rejects.parquet'}" if result.rejects else "")
    )
    print_json(as_json, {"data": str(out), **vars(result)})


@commands.command()
def export(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder to write the files to.")],
    kind: Annotated[str, typer.Option(help="mp4, gif, webp or npz; the last two keep every pixel.")] = "mp4",
    as_json: Json = False,
) -> None:
    """Write each clip as a media file with its caption in a text file beside it; 't2v ingest' reads them back."""
    from t2v_models.shards.export import export as export_clips
    from t2v_models.shards.manifest import Manifest
    from tasks.console import progress

    with progress("export") as show:
        count = export_clips(
            Manifest.load(data), out, kind, lambda done, total: show(done / total, f"clip {done:,} of {total:,}")
        )
    print(f"{count:,} clips as {kind} in {out}")
    print_json(as_json, {"data": str(data), "out": str(out), "clips": count})


@commands.command()
def verify(data: Data, as_json: Json = False) -> None:
    """Find flipped bytes, missing or extra members, swapped or truncated shards; exit code 1 if there are any."""
    from t2v_models.shards.manifest import read_manifest
    from t2v_models.shards.verify import verify as damages
    from tasks.console import progress

    read_manifest(data)
    with progress("verify") as show:
        found = damages(data, lambda done, total: show(done / total, f"shard {done} of {total}"))
    print("\n".join(found) if found else f"{data} is sound")
    print_json(as_json, {"data": str(data), "damages": found})
    if found:
        raise typer.Exit(1)
