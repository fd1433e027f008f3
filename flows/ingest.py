"""Turn people's own clips into a dataset. Imports no torch, so neither do the processes that decode."""

from collections.abc import Mapping
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from t2v_models.clips.spec import sides
from t2v_models.processes import WORKERS, check_workers
from t2v_models.shards.forms import with_chosen_sizes
from t2v_models.shards.ingest import Ingested
from t2v_models.shards.ingest import ingest as ingest_clips
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.isolated import isolated
from t2v_models.shards.sources import list_sources
from t2v_models.shards.spool import spool_path
from t2v_models.shards.unpack import as_folder
from t2v_models.shards.windows import Job
from tasks.report.console import progress, say
from tasks.report.progress import concluded
from tasks.report.stopwatch import working


@flow(flow_run_name="ingest {source}", validate_parameters=False)
def ingest(
    source: str,
    out: Path,
    options: IngestOptions,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    workers: int = WORKERS,
    add: bool = False,
    oversubscribe: bool = False,
    choose: bool = False,
) -> Ingested:
    """Decode, fit and cut clips into the dataset `out`; a complete one of the same clips is left alone.

    Args:
        source: a folder of clips or of WebDataset tars, a table that names them, one of these, or the URL of tars.
        out: folder of the dataset.
        options: how files become clips.
        captions: a table for a folder of clips; without it, captions stand in text files beside them.
        columns: what the table's columns are called, where they have unusual names.
        workers: processes that decode; they change the time, not the bytes.
        add: add the clips to the dataset that is there.
        oversubscribe: allow more workers than CPU cores.
        choose: sizes by the forms of the files, of about as many pixels as the one in the options.

    Raises:
        LabError: more workers than cores.
    """
    check_workers(workers, oversubscribe)
    result = _ingest(source, out, options, captions, columns, workers, add, choose)
    told = f"{result.sources:,} files: {result.train:,} clips in {out}, {result.validation:,} in {out / 'validation'}"
    return concluded(result, told)


@task(task_run_name="ingest {source}", cache_policy=NO_CACHE)
def _ingest(
    source: str,
    out: Path,
    options: IngestOptions,
    captions: Path | None,
    columns: Mapping[str, str] | None,
    workers: int,
    add: bool,
    choose: bool,
) -> Ingested:
    mapper = isolated(workers)
    with working("ingest"), as_folder(source, out) as folder, progress("ingest") as show:
        if choose:
            listing = list_sources(folder, captions, columns, options.takes_images)
            jobs = [Job(item, spool_path(out, number)) for number, item in enumerate(listing.sources)]
            options, files = with_chosen_sizes(options, jobs, mapper)
            told = ", ".join(f"{sides(*size)} for {count:,}" for size, count in files.items())
            say(f"ingest   sizes by the forms of the files: {told}")
        return ingest_clips(
            folder, out, options, captions, columns, mapper,
            lambda done, total: show(done / total, f"file {min(int(done) + 1, total):,} of {total:,}"), add,
        )  # fmt: skip
