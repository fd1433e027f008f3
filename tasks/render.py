"""Rendering as Prefect tasks: one task is a group of shards. Nothing here or below imports torch."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from t2v_models.shards.manifest import finish
from t2v_models.shards.write import write_shard
from t2v_models.worlds.dataset import DatasetConfig
from tasks.report.stopwatch import working


@task(task_run_name="render shards {first} to {last}", cache_policy=NO_CACHE, retries=1)
def render_shards(pool: ProcessPoolExecutor, folder: Path, config: DatasetConfig, first: int, last: int) -> int:
    """Write shards `first` to `last` in another process; returns how many were not there yet.

    Idempotence is by files: a whole shard of the same config is left alone.
    """
    with working("render"):
        return pool.submit(_write, folder, config, first, last).result()


@task(task_run_name="render shards {first} to {last}", cache_policy=NO_CACHE, retries=1)
def render_shards_here(folder: Path, config: DatasetConfig, first: int, last: int) -> int:
    """`render_shards` in the process that runs the task: a worker of a cluster."""
    return _write(folder, config, first, last)


@task(task_run_name="write the manifest of {folder.name}", cache_policy=NO_CACHE)
def write_manifest(folder: Path, config: DatasetConfig) -> str:
    """Complete the dataset; returns its digest."""
    with working("render"):
        return finish(folder, config).digest


def _write(folder: Path, config: DatasetConfig, first: int, last: int) -> int:
    return sum(write_shard(folder, config, index) for index in range(first, last + 1))
