"""The commands that make datasets and look after them: render, ingest, verify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import Data, Json, Work, folder_to_write, print_json
from t2v_models.clips.spec import height_and_width
from t2v_models.config import LabError
from t2v_models.processes import WORKERS, check_workers
from t2v_models.worlds.listed import described, world_named
from tasks.servers.runtime import WORK

commands = typer.Typer()

Oversubscribe = Annotated[bool, typer.Option("--oversubscribe", help="Allow more workers than CPU cores.")]

SEVERAL = "as 64,64x36"
AUTO = "auto"
"""Of `ingest --sizes`."""
SHOWN_KINDS = 12
"""Reasons that are printed; all are in the tables."""


@commands.command()
def render(
    out: Annotated[Path, typer.Argument(help="Folder to write shards and manifest to.", callback=folder_to_write)],
    world: Annotated[str, typer.Option(help=described())] = "circles",
    clips: Annotated[int, typer.Option(help="Number of clips.")] = 10_000,
    size: Annotated[str, typer.Option(help="In pixels, 16 to 512: 64, or width first 64x36.")] = "64",
    frames: Annotated[
        int | None, typer.Option(help="Frames per clip, 4 to 256. By default what the world shows: 10, of stories 24.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help=f"Several, {SEVERAL}, in place of --size.")] = None,
    lengths: Annotated[str | None, typer.Option(help="Several, as 10,20, in place of --frames.")] = None,
    fps: Annotated[int, typer.Option(help="Frames per second when played.")] = 10,
    seed: Annotated[int, typer.Option(help="Clip i is drawn from (seed, i).")] = 0,
    hold_out: Annotated[
        str | None,
        typer.Option(
            help="Motions never rendered, under any wording, with commas between; or 'none'. By default what the world "
            "holds out: up-right."
        ),
    ] = None,
    coverage: Annotated[
        str | None,
        typer.Option(help="Of shapes: 9, 43 or 86 % of the (object, motion) pairs, or one-factor."),
    ] = None,
    bands: Annotated[
        bool, typer.Option("--bands", help="Captions may also say how large and how fast; s4 asks for more of both.")
    ] = False,
    background: Annotated[str, typer.Option(help="plain, gradient, stripes, checker, noise, or mixed.")] = "plain",
    drifting: Annotated[bool, typer.Option("--drifting", help="The background drifts by a pixel a frame.")] = False,
    background_named: Annotated[bool, typer.Option("--background-named", help="Captions say it, too.")] = False,
    codec: Annotated[str, typer.Option(help="lz4: fastest; webp: lossless too, slow, plays in any browser.")] = "lz4",
    workers: Annotated[int, typer.Option(help="Processes that render; the bytes are the same for any.")] = WORKERS,
    oversubscribe: Oversubscribe = False,
    runner: Annotated[
        str, typer.Option(help="local, or dask: a cluster of --workers, or the one at an address.")
    ] = "local",
    dask_address: Annotated[str | None, typer.Option(help="Of a running scheduler, e.g. tcp://host:8786.")] = None,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Render captioned clips into WebDataset shards. Run again, it finishes what is missing.

    \b
    t2v render data/circles                             10,000 clips
    t2v render data/small --clips 2000 --size 32        seconds, not minutes
    t2v render data/shapes --world shapes --coverage 43
    t2v render data/bands --bands                       "small circle moving
                                                        left very slowly"
    t2v render data/striped --background stripes --drifting
    t2v render data/all --hold-out none                 nothing kept for s3
    t2v render data/mixed --sizes 64,64x36 --lengths 10,20
                                                        four shapes, as many of
                                                        each
    t2v render data/big --runner dask --workers 8       a cluster of its own
    t2v render data/big --runner dask --dask-address tcp://host:8786

    Clips are a function of the options alone: any number of processes, any
    runner and any day give the same bytes. A killed run loses only what its
    processes had in hand; the same command does the rest.
    """
    from t2v_models.worlds.dataset import DatasetConfig

    names = [] if hold_out in (None, "none") else hold_out.split(",")
    if "none" in names:
        raise LabError(f"--hold-out {hold_out} says none and some: say none alone, or name the motions alone")
    held = {} if hold_out is None else {"hold_out": names}
    length = str(frames or world_named(world).frames)
    shapes = _shapes(size, sizes, length if lengths is None else lengths, fps)
    counts = [clips * (i + 1) // len(shapes) - clips * i // len(shapes) for i in range(len(shapes))]
    several = {"buckets": [{"spec": s, "clips": n} for s, n in zip(shapes, counts, strict=True)]}
    config = DatasetConfig.model_validate(
        (several if len(shapes) > 1 else {"clips": clips, "spec": shapes[0]})
        | {
            "world": world, "seed": seed, "bands": bands, "codec": codec,
            "background": background, "drifting": drifting, "background_named": background_named,
            "coverage": int(coverage) if coverage and coverage.isdecimal() else coverage,
        }
        | held
    )  # fmt: skip
    from t2v_models.config import near

    if runner not in ("local", "dask"):
        raise LabError(f"unknown runner {runner!r}: {near(runner, ('local', 'dask'))}")
    if dask_address is None:
        check_workers(workers, oversubscribe)
    from tasks.servers.runtime import prefect_api

    with prefect_api(work):
        from flows.dataset import dataset, dataset_on_dask

        if runner == "dask":
            dataset_on_dask(config, out, workers, dask_address, oversubscribe)
        else:
            dataset(config, out, workers, oversubscribe)
    from t2v_models.shards.manifest import Manifest

    manifest = Manifest.load(out)
    print(f"{len(manifest.captions):,} clips in {len(manifest.shards)} shards, digest {manifest.digest}, in {out}")
    if unshown := config.unshown_words:
        print(
            f"No clip shows {', '.join(unshown)}: there are {len(config.prompts):,} captions. A model of trained words "
            "cannot be asked for these, so render more clips to train on them."
        )
    print_json(as_json, {"data": str(out), "clips": len(manifest.captions), "digest": manifest.digest})


@commands.command()
def ingest(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of clips or of WebDataset tars, a table (.csv, .jsonl, .parquet), or one of these; or the URL "
            "of tars."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write the dataset to.", callback=folder_to_write)],
    captions: Annotated[
        Path | None, typer.Option(help="Table with the columns path and caption; by default CLIP.txt beside each clip.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=NAME", help="What the table calls path, caption, start, end, duration, group; may be repeated."
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="In pixels, 16 to 512: 64, or width first 64x36.")] = "64",
    frames: Annotated[int, typer.Option(help="Frames per clip, 1 to 256; 1 for images.")] = 10,
    sizes: Annotated[
        str | None,
        typer.Option(help=f"Several, {SEVERAL}: each file gets that nearest to its form. auto: chosen by the files."),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Several, as 20,10,1: as long as the film allows; 1 makes clips of pictures that stand alone."
        ),
    ] = None,
    fps: Annotated[int, typer.Option(help="Frames per second; films of other rates are resampled.")] = 10,
    fit: Annotated[str, typer.Option(help="crop, or letterbox to keep all of a frame of another form.")] = "crop",
    source_fps: Annotated[
        float | None, typer.Option(help="Frames per second of folders of frames; --fps if left out.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Frames from one clip's start to the next; --frames if left out.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the files kept for OUT/validation.")] = 0.05,
    codec: Annotated[str, typer.Option(help="lz4: fastest; webp: lossless too, slow, plays in any browser.")] = "lz4",
    workers: Annotated[int, typer.Option(help="Processes that decode; the bytes are the same for any.")] = WORKERS,
    oversubscribe: Oversubscribe = False,
    add: Annotated[
        bool, typer.Option("--add", help="Add the clips to the dataset in OUT, in new shards and with its options.")
    ] = False,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Turn your own captioned clips into a dataset that any model trains on; what cannot be used is listed with why.

    \b
    t2v ingest films data/mine                          a.mp4, caption in a.txt
    t2v ingest films data/mine --captions films/list.csv
    t2v ingest films/list.jsonl data/mine               paths beside the table
    t2v ingest films data/mine --frames 16 --stride 4   windows that overlap
    t2v ingest films data/mine --size 64x36             16:9
    t2v ingest films data/mine --sizes 64x36,36x64,48 --lengths 20,10,1
                                                        several shapes, and
                                                        pictures
    t2v ingest films data/mine --sizes auto --size 64   by the forms of the
                                                        films, of about 64 x 64
                                                        pixels each
    t2v ingest films data/mine --fit letterbox          black bars, all is kept
    t2v ingest films data/mine --validation 0.2         a fifth of the files
    t2v ingest films/a.mp4 data/one                     a single film
    t2v ingest shards data/mine                         WebDataset tars: KEY.mp4
                                                        with KEY.txt or KEY.json
    t2v ingest 's3://bucket/{000..099}.tar' data/mine   fetched one by one
    t2v ingest films data/mine --add                    those that are new
    t2v ingest list.jsonl data/mine --column path=id --column caption=long

    Read are films (mp4, webm, mov, mkv, avi, mpg, ts, wmv, flv, ogv, 3gp),
    gif, webp, npz (frames: uint8 t, h, w, 3) and folders of numbered images.
    Each line of CLIP.txt, and each row of a table for a clip, is a caption of
    it: training draws one of them. Tables may give start and end, in seconds or
    h:mm:ss. Of equal clips the first is kept; all clips of one file, and all
    files of one group in a table, go either to training or to OUT/validation.
    """
    from t2v_models.shards.ingest import look, options_of
    from t2v_models.shards.ingested import IngestOptions
    from t2v_models.shards.manifest import Manifest
    from t2v_models.shards.remote import local_folder
    from t2v_models.shards.unpack import tars_of

    check_workers(workers, oversubscribe)
    there, choose = options_of(out) if add else None, sizes == AUTO
    if choose and add:
        raise LabError(f"--sizes auto chooses for a new dataset: leave it out, added clips get the sizes of {out}")
    height, width = height_and_width(size if _said(ctx, "size") or not there else there.spec.sides)
    spec = _given(ctx, {"frames": frames, "fps": fps}, there and there.spec) | {"height": height, "width": width}
    shape: dict[str, Any] = {"spec": spec}
    if sizes is not None or lengths is not None:
        length = str(frames) if lengths is None else lengths
        shape = {"shapes": _shapes(size, None if choose else sizes, length, fps)}
    elif there and there.shapes and not any(_said(ctx, option) for option in ("size", "frames", "fps")):
        shape = {}
    others = {"fit": fit, "stride": stride, "source_fps": source_fps, "validation": validation, "codec": codec}
    kept = there.model_dump() if there else {}
    options = IngestOptions.model_validate(kept | shape | _given(ctx, others, there))
    columns = dict(_named(given) for given in column or ())
    if not tars_of(source) and not choose:
        # before the server is started: a mistake is said at once
        look(local_folder(source), out, options, captions, columns, add)
    from tasks.servers.runtime import prefect_api

    with prefect_api(work):
        from flows.ingest import ingest as ingest_flow

        result = ingest_flow(source, out, options, captions, columns, workers, add, oversubscribe, choose)
    print(f"{result.sources:,} files: {result.train:,} clips in {out}, {result.validation:,} in {out / 'validation'}")
    buckets = Manifest.load(out).config.buckets
    if buckets:
        print("  " + ", ".join(f"{bucket.clips:,} of {bucket.spec.name}" for bucket in buckets))
    told = _tell(out)
    shapes = {bucket.spec.name: bucket.clips for bucket in buckets}
    print_json(as_json, {"data": str(out), **vars(result), "reasons": told} | ({"shapes": shapes} if shapes else {}))


def _shapes(size: str, sizes: str | None, lengths: str, fps: int) -> list[dict[str, int]]:
    """Every one of `sizes`, or the one `size`, in every length.

    Raises:
        LabError: a size or a length that is none.
    """
    for length in lengths.split(","):
        if not length.isdecimal():
            raise LabError(f"--lengths {lengths!r} holds {length!r}, which is no number of frames: write 10,20")
    what, named = ("--size", size) if sizes is None else ("--sizes", sizes)
    return [
        {"height": height, "width": width, "frames": int(length), "fps": fps}
        for height, width in (height_and_width(size, what) for size in named.split(","))
        for length in lengths.split(",")
    ]


def _given(ctx: typer.Context, options: dict[str, Any], there: Any | None) -> dict[str, Any]:
    """Options as they were given; of a dataset that is there, those that were not are its own."""
    return {n: getattr(there, n) if there and not _said(ctx, n) else value for n, value in options.items()}


def _said(ctx: typer.Context, option: str) -> bool:
    """Whether an option was given."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _named(given: str) -> tuple[str, str]:
    """A column and what the table calls it."""
    key, equals, name = given.partition("=")
    if not equals:
        raise LabError(f"--column {given!r} names no column: write KEY=NAME, for example caption=text")
    return key, name


def _tell(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Print how many files were left out, or read otherwise than they lie there, by reason with an example of each."""
    from t2v_models.shards.ingest_report import NOTICES, REJECTS, kinds

    told = {REJECTS: kinds(out / REJECTS), NOTICES: kinds(out / NOTICES)}
    for name, what in ((REJECTS, "rejected"), (NOTICES, "noticed")):
        count = sum(kind.count for kind in told[name])
        if count or name == REJECTS:
            print(f"{count:,} {what}" + (f", all in {out / name}" if count else ""))
        for kind in told[name][:SHOWN_KINDS]:
            print(
                f"  {kind.count:,} such as {kind.path}: {kind.text}"
                if kind.count > 1
                else f"  {kind.path}: {kind.text}"
            )
    return {Path(name).stem: [vars(kind) for kind in found] for name, found in told.items()}


@commands.command()
def verify(data: Data, work: Work = WORK, as_json: Json = False) -> None:
    """Read every byte of a dataset and name all damage, one line each; exit code 1 if there is any.

    \b
    t2v verify data/circles
    t2v verify https://host/circles                     what arrives from there

    Found are flipped bytes in any file; cut, missing or swapped shards; missing or extra
    members; the manifest of another dataset; what a killed writer left. To mend
    a folder, delete the damaged shards and render or ingest again with the same
    options.
    """
    from t2v_models.shards.manifest import require_finished
    from t2v_models.shards.remote import is_url, local_folder, verify_at
    from t2v_models.shards.verify import verify as damages
    from tasks.report.console import progress

    def show_shard(done: int, total: int) -> None:
        show(done / total, f"shard {done} of {total}")

    if not is_url(data):
        require_finished(local_folder(data))
    with progress("verify") as show:
        found = verify_at(data, work / "cache", show_shard) if is_url(data) else damages(local_folder(data), show_shard)
    print("\n".join(found) if found else f"{data} is sound")
    print_json(as_json, {"data": data, "damages": found})
    if found:
        raise typer.Exit(1)
