"""Runs of this machine that their worker does not look after: killed with it, cancelled without its hearing of it, or
taken for dead.

A worker that lives sees how its runs end. When it is killed with them nobody does, and what tells is that they fall
silent (`tasks.servers.orchestration`); and a worker that has lost the server for half a minute does not listen for
cancellations of its runs any more (Prefect 3.8.8). So `t2v up` looks for the processes itself, and for crashed runs
that the server's rule has missed.
"""

import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelled, Crashed, Running

from tasks.servers.orchestration import GOES_ON, LIVES, SILENT

AWAY = (httpx.HTTPError, PrefectException)
"""What the client raises when the server is away."""
HEARD_SECONDS = 20
"""In so long a worker has passed a cancellation on, if it has heard of it."""
FORGOTTEN_SECONDS = 30
"""In so long the server's rule has put a crashed run back into its queue, if it has seen the crash."""


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
    with suppress(*AWAY), get_client(sync_client=True) as client:
        outlive = False
        for run, process in _runs(client, [worker], StateType.PENDING, StateType.RUNNING, StateType.CANCELLING):
            assert run.state
            if run.state.timestamp < ended and process is None and run.infrastructure_pid:
                state = Cancelled if run.state.is_cancelling() else Crashed
                client.set_flow_run_state(run.id, state(message="its process was killed with its worker"), force=True)
            elif run.state.timestamp < ended:  # at work, or its worker has not told which process it is
                outlive = True
        return outlive
    return True


def keep_living(workers: Collection[str]) -> None:
    """Silent runs whose process lives were not killed: the machine was asleep. They are not started beside themselves.

    To be asked more often than every `tasks.servers.orchestration.REST_SECONDS`.
    """
    with suppress(*AWAY), get_client(sync_client=True) as client:
        for run, process in _runs(client, workers, StateType.CRASHED):
            if process and run.state and run.state.message == SILENT:
                client.set_flow_run_state(run.id, Running(message=LIVES), force=True)


def end_cancelled(workers: Collection[str]) -> None:
    """Ask the processes of cancelled runs to end, where their worker has not."""
    late = datetime.now(UTC) - timedelta(seconds=HEARD_SECONDS)
    with suppress(*AWAY), get_client(sync_client=True) as client:
        for run, process in _runs(client, workers, StateType.CANCELLING):
            if process and run.state and run.state.timestamp < late:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)


def put_back_forgotten(since: datetime) -> None:
    """Runs of deployments go on that have crashed since then and stay so, unless a person has paused the rule.

    What crashes in the first seconds of a server, as the runs of an earlier one do by their silence, its rule misses.
    """
    late = datetime.now(UTC) - timedelta(seconds=FORGOTTEN_SECONDS)
    crashed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])))
    with suppress(*AWAY), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=crashed):
            left = run.deployment_id and run.state and since < run.state.timestamp < late
            if left and all(rule.enabled for rule in client.read_automations_by_name(GOES_ON)):
                client.set_flow_run_state(run.id, AwaitingRetry(message="crashed; goes on from what is finished"))


def _runs(
    client: SyncPrefectClient, workers: Collection[str], *states: StateType
) -> Iterator[tuple[FlowRun, psutil.Process | None]]:
    """The runs of the workers in these states, each with its process, if that is there."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    for run in client.read_flow_runs(flow_run_filter=wanted):
        if run.labels.get("prefect.worker.name") in workers:
            yield run, _process(run)


def _process(run: FlowRun) -> psutil.Process | None:
    """The process that the worker has started for the run; its number may have gone to another one since."""
    with suppress(psutil.Error):
        found = psutil.Process(int(run.infrastructure_pid or 0))
        if found.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
            return found
    return None
