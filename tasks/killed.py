"""Runs that were killed together with their worker.

A worker that lives sees how its runs end. When it is killed with them nobody does, and what tells is that they fall
silent (`tasks.orchestration`). Where `t2v up` sees a worker end, it looks for the processes of its runs at once.
"""

import socket
from datetime import datetime

import httpx
import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Crashed

_ACTIVE = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    )
)


def worker_name(pool: str) -> str:
    """Of this machine's worker for a pool, as `gpu on box3`."""
    return f"{pool} on {socket.gethostname()}"


def mark_killed(worker: str, ended: datetime) -> bool:
    """Mark the runs of a worker of this machine that ended with it; whether this must be asked again.

    That is so while runs outlive their worker, and while the server is away.

    Args:
        worker: its name.
        ended: when it was seen to have ended; what has started since belongs to its successor.
    """
    try:
        with get_client(sync_client=True) as client:
            left = [
                run
                for run in client.read_flow_runs(flow_run_filter=_ACTIVE)
                if run.labels.get("prefect.worker.name") == worker and run.state and run.state.timestamp < ended
            ]
            gone = [run for run in left if not _lives(run)]
            for run in gone:
                assert run.state
                state = Cancelled if run.state.is_cancelling() else Crashed
                client.set_flow_run_state(run.id, state(message="its process was killed with its worker"), force=True)
    except (httpx.HTTPError, PrefectException):
        return True
    return len(left) > len(gone)


def _lives(run: FlowRun) -> bool:
    """Whether the process that the worker has started for the run is there; a number may have gone to another one."""
    if not run.infrastructure_pid:  # not told yet: its silence will
        return True
    try:
        found = psutil.Process(int(run.infrastructure_pid))
        return found.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
    except psutil.Error:
        return False
