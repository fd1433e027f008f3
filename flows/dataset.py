"""Render a dataset in parallel. Imports no torch, so neither do its worker processes."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from prefect import flow
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.config import LabError
from t2v_models.shards.manifest import check_folder, is_complete
from tasks.console import progress, say
from tasks.render import render_shards, write_manifest

TASK_PIXELS = 30_000_000
"""Pixels of one task's clips: about two seconds of rendering on one core, so that orchestration stays small."""


@flow(
    flow_run_name="render {config.clips} clips of {config.world} at {config.spec.size} px",
    # Threads only wait; the process pool below does the work. (Prefect's annotation refuses its own runner.)
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]
)
def dataset(config: DatasetConfig, out: Path, workers: int = 2) -> Path:
    """Render a dataset into the folder `out`, or finish one that was interrupted; a complete one is left alone.

    Args:
        config: what to render; the clips are a function of it alone.
        out: folder of the shards and their manifest.
        workers: processes that render; they change the time, not the bytes.
    """
    if workers < 1:
        raise LabError(f"workers is {workers}, which must be 1 or more: leave it out for 2")
    if is_complete(out, config):
        say(f"dataset  {out} is complete, nothing to render")
        return out
    check_folder(out, config)
    clips_per_task = TASK_PIXELS // (config.spec.frames * config.spec.size**2)
    step = max(1, clips_per_task // config.clips_per_shard)
    groups = [(first, min(first + step, config.shards) - 1) for first in range(0, config.shards, step)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, progress("render") as show:
        futures = [render_shards.submit(pool, out, config, first, last) for first, last in groups]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            show(done / len(groups), f"{config.clips:,} clips into {config.shards} shards")
    write_manifest(out, config)
    return out
