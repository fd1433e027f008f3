"""Render a dataset in parallel, here or on a Dask cluster. Imports no torch, so neither do its worker processes."""

from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from prefect import flow
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from t2v_models.config import LabError
from t2v_models.processes import WORKERS, check_workers, process_pool
from t2v_models.shards.manifest import check_folder, is_complete
from t2v_models.worlds.dataset import DatasetConfig
from tasks.render import render_shards, render_shards_here, write_manifest
from tasks.report.console import progress, say
from tasks.report.progress import concluded
from tasks.report.stopwatch import working
from tasks.servers.orchestration import check_starts

TASK_PIXELS = 100_000_000
"""Pixels of one task's clips: a third of a second on one core, ten times what Prefect adds; and the 10,000 clips of the
default dataset are still five tasks, so that two processes share them."""

FLOW_RUN_NAME = "render {config.clips} clips of {config.world} at {config.spec.sides} px"


@flow(
    flow_run_name=FLOW_RUN_NAME,
    # Threads only wait; the process pool below does the work. (Prefect's annotation refuses its own runner.)
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]
)
def dataset(config: DatasetConfig, out: Path, workers: int = WORKERS, oversubscribe: bool = False) -> Path:
    """Render a dataset into the folder `out`, or finish one that was interrupted; a complete one is left alone.

    Args:
        config: what to render; the clips are a function of it alone.
        out: folder of the shards and their manifest.
        workers: processes that render; they change the time, not the bytes.
        oversubscribe: allow more of them than CPU cores.

    Raises:
        LabError: a process that renders was killed; more of them than cores.
    """
    check_starts()
    check_workers(workers, oversubscribe)
    try:
        with process_pool(workers) as pool:
            _render(config, out, lambda first, last: render_shards.submit(pool, out, config, first, last))
    except BrokenProcessPool as error:
        raise LabError(
            f"one of {workers} processes that render was killed, most often because memory was used up: do the same "
            "again with fewer workers, what is rendered is kept"
        ) from error
    return concluded(out, _rendered(config, out))


def dataset_on_dask(
    config: DatasetConfig, out: Path, workers: int = WORKERS, address: str | None = None, oversubscribe: bool = False
) -> Path:
    """`dataset` with the same bytes on a Dask cluster.

    Args:
        config: what to render.
        out: a folder that all workers reach under the same absolute path.
        workers: processes of the cluster that is started here, unless there is an address.
        address: of a running scheduler, such as `tcp://host:8786`; t2v-lab must be installed where its workers run.
        oversubscribe: allow more workers of the cluster that is started here than CPU cores.

    Raises:
        LabError: prefect-dask is not installed; there is no cluster at the address, or it is lost.
    """
    if address is None:
        check_workers(workers, oversubscribe)
    from tasks.servers.dask import cluster_faults, dask_runner

    @flow(name="dataset", flow_run_name=FLOW_RUN_NAME, task_runner=dask_runner(workers, address))  # type: ignore[arg-type]
    def on_dask(config: DatasetConfig, out: Path) -> Path:
        with working("render"):
            _render(config, out, lambda first, last: render_shards_here.submit(out, config, first, last))
        return concluded(out, _rendered(config, out))

    with cluster_faults():
        return on_dask(config, out.absolute())


def _render(config: DatasetConfig, out: Path, submit: Callable[[int, int], PrefectFuture[int]]) -> None:
    """Submit groups of shards and wait for them all."""
    if is_complete(out, config):
        say(f"dataset  {out} is complete, nothing to render")
        return
    check_folder(out, config)
    clips_per_task = TASK_PIXELS // (config.spec.frames * config.spec.height * config.spec.width)
    step = max(1, clips_per_task // config.clips_per_shard)
    groups = [(first, min(first + step, config.shards) - 1) for first in range(0, config.shards, step)]
    finished = len(list(out.glob("shard-*.parquet")))
    if finished:
        say(f"dataset  {out} has {finished} of {config.shards} shards, the others are rendered")
    with progress("render") as show:
        futures = [submit(first, last) for first, last in groups]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            show(done / len(groups), f"{config.clips:,} clips into {config.shards} shards")
    write_manifest(out, config)


def _rendered(config: DatasetConfig, out: Path) -> str:
    return f"{config.clips:,} clips of {config.world} at {config.spec.sides} px in {out}"
