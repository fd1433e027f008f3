"""Dask clusters for Prefect. Imported only where one is asked for: prefect-dask is an extra."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from t2v_models.config import LabError

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner

CONNECT_SECONDS = 10


def dask_runner(workers: int, address: str | None) -> "DaskTaskRunner":
    """A task runner on the scheduler at `address`, or on a cluster of `workers` processes that ends with the flow.

    Workers of our own cluster inherit the URL of the run's Prefect server; to those of others Prefect sends it.

    Raises:
        LabError: prefect-dask is not installed; nothing answers at the address, or its workers lack t2v-lab or there
            are none.
    """
    try:
        import distributed
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise LabError("Dask is not installed here: install t2v-lab[dask], or use the runner 'local'") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it would tell of each worker that leaves at the end
    if address is None:
        cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
        return DaskTaskRunner(cluster_kwargs=cluster)
    try:
        with distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            found = client.run(find_spec, "t2v_models")
    except (OSError, ValueError, TimeoutError) as error:
        raise LabError(
            f"no Dask scheduler answers at {address!r} ({error}): start one with `dask scheduler`"
        ) from error
    if not found:
        raise LabError(f"the Dask scheduler at {address!r} has no workers: start some with `dask worker {address}`")
    lacking = [worker for worker, spec in found.items() if spec is None]
    if lacking:
        raise LabError(f"Dask worker {lacking[0]} does not find t2v-lab: install it where the workers run")
    return DaskTaskRunner(address=address)


@contextmanager
def cluster_faults() -> Iterator[None]:
    """Turns the loss of a cluster into one sentence.

    Raises:
        LabError: the scheduler is gone, or a task took several workers with it.
    """
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except (FutureCancelledError, KilledWorker) as error:
        first, *_ = str(error).splitlines()
        raise LabError(
            f"the Dask cluster was lost ({first}): start it again and give the same command, whole shards are kept"
        ) from error
