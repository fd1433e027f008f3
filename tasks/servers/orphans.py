"""Runs that their worker does not look after: killed with it, never begun, cancelled while it did not
listen, taken for dead, or crashing every time.

A worker that lives sees how its runs end. When it is killed with them nobody does, and what tells is that they fall
silent (`tasks.servers.orchestration`); and a worker that has lost the server for half a minute does not listen for
cancellations of its runs any more (Prefect 3.8.8). So `t2v up` looks for the processes itself, and for crashed runs
that the server's rule has missed.
"""

import re
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from pathlib import Path
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry, Cancelled, Crashed, Failed, Pending, Running

from tasks.servers.old_runs import all_runs
from tasks.servers.orchestration import CRASHES, GOES_ON, LIVES, POOLS, SILENT

AWAY = (httpx.HTTPError, PrefectException)
"""What the client raises when the server is away."""
HEARD_SECONDS = 20
"""In so long a worker has passed a cancellation on, if it has heard of it."""
BEGIN_SECONDS = 300
"""In so long a run that a worker has taken has begun, on however busy a machine."""
FORGOTTEN_SECONDS = 60
"""In so long the server's rule has put a crashed run back into its queue, if it has seen the crash."""
TOLD_SECONDS = 5
"""In so long the log of a worker has why a process crashed, which the state says before."""
BURIED = "Flow run infrastructure exited with"
"""So a worker begins what it tells of a process that it buries; that it has crashed was told before."""

RECORD = re.compile(r"\d\d:\d\d:\d\d\.\d+ \|")
"""How each record of a log begins (Prefect 3.8.8)."""
EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")

ENGINES = {"prefect.runner._workspace_supervisor", "prefect.engine"}
"""What the process of a run is, before it has found its flow and after (Prefect 3.8.8)."""


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
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        outlive = False
        for run, process in _runs(client, [worker], StateType.PENDING, StateType.RUNNING, StateType.CANCELLING):
            assert run.state
            if run.state.timestamp < ended and process is None:
                state = Cancelled if run.state.is_cancelling() else Crashed
                client.set_flow_run_state(run.id, state(message="its process was killed with its worker"), force=True)
            elif run.state.timestamp < ended:
                outlive = True
        return outlive
    return True


def mark_never_begun() -> None:
    """Mark the runs of the lab's pools that a worker, of whatever machine, has taken long ago and that never began.

    One that dies between taking a run and starting its process leaves nothing that could fall silent, and the run would
    hold a place of its deployment for ever.
    """
    late = datetime.now(UTC) - timedelta(seconds=BEGIN_SECONDS)
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        for run in _in_states(client, StateType.PENDING):
            taken = run.work_pool_name in POOLS and run.state and run.state.timestamp < late
            if taken and _process(run) is None:
                message = (
                    f"taken by a worker and not begun after {BEGIN_SECONDS} s: the worker was killed before it began"
                )
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def give_up(logs: Path) -> None:
    """Let runs of deployments fail that crash every time, most of them before their flow begins and can count itself.

    Args:
        logs: folder of the workers' logs, for the reason.
    """
    late = datetime.now(UTC) - timedelta(seconds=TOLD_SECONDS)
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        for run in _in_states(client, StateType.CRASHED, StateType.SCHEDULED):
            known = run.state and run.state.name in ("Crashed", "AwaitingRetry") and run.state.timestamp < late
            if known:
                states = client.read_flow_run_states(run.id)
                crashes = _crashes(states)
                if crashes >= CRASHES and _process(run) is None:
                    log = logs / f"worker-{run.work_pool_name}.log"
                    why = _reason(run, states, log)
                    message = (
                        f"crashed {crashes} times and is not started again: {why}; mend that and start a new run, "
                        f"which goes on from what is finished (log: {log})"
                    )
                    client.set_flow_run_state(run.id, Failed(message=message), force=True)


def _crashes(states: list[State]) -> int:
    """How many starts ended in a crash: of one start it may be told twice, by the process and by the worker that buries
    it, and one that was only silent has not crashed.

    What a worker tells of one process after it has started the next, counts for that one, which `keep_living` sees.
    """
    begun, crashes = False, 0
    for state in sorted(states, key=lambda state: state.timestamp):
        if state.message == LIVES:
            begun, crashes = True, crashes - 1
        elif state.name == "Pending":  # how every start begins; `Submitting` and `Running` follow
            begun = True
        elif state.is_crashed() and begun:
            begun, crashes = False, crashes + 1
    return crashes


def _reason(run: FlowRun, states: list[State], log: Path) -> str:
    """Why a run has crashed last: what its state says, or where that knows a status only, as 1, what the log says."""
    last = max((state for state in states if state.is_crashed()), key=lambda state: state.timestamp)
    said = (last.message or "").strip().rstrip(".")
    return said if said and not re.search(r"status code: \d", said) else _last_error(run.id, log)


def _last_error(run: UUID, log: Path) -> str:
    """The exception that a run ended with, by the log that it shares with others: the last line of the last record of
    its end, which goes on to the next record, whosever that is."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    ends = [place for place, line in enumerate(lines) if f"flow run '{run}' exited with" in line]
    record = takewhile(lambda line: not RECORD.match(line), lines[ends[-1] + 1 :] if ends else ())
    named = [line for line in record if EXCEPTION.match(line)]
    return named[-1] if named else "the log of its worker names no error of this run"


def keep_living(workers: Collection[str]) -> None:
    """Runs whose process lives have not crashed, whatever is told: they are not started beside themselves.

    A silent one was not killed, its machine was asleep. And a worker tells of a crash once more when it buries the
    process, which can be after the next start.

    To be asked more often than every `tasks.servers.orchestration.REST_SECONDS`.
    """
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        for run, process in _runs(client, workers, StateType.CRASHED):
            if process and run.state and (run.state.message or "").startswith((SILENT, BURIED)):
                client.set_flow_run_state(run.id, _before_crash(client.read_flow_run_states(run.id)), force=True)


def _before_crash(states: list[State]) -> State:
    """What the run was doing: at work, or about to begin."""
    last = max((s for s in states if not s.is_crashed()), key=lambda state: state.timestamp)
    return Pending(message=LIVES) if last.is_pending() else Running(message=LIVES)


def end_cancelled(workers: Collection[str]) -> None:
    """Ask the processes of cancelled runs to end, where their worker has not."""
    late = datetime.now(UTC) - timedelta(seconds=HEARD_SECONDS)
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        for run, process in _runs(client, workers, StateType.CANCELLING):
            if process and run.state and run.state.timestamp < late:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)


def put_back_forgotten(since: datetime) -> None:
    """Runs of deployments go on that have crashed since then and stay so, unless a person has paused the rule.

    What crashes in the first seconds of a server, as the runs of an earlier one do by their silence, its rule misses.
    """
    late = datetime.now(UTC) - timedelta(seconds=FORGOTTEN_SECONDS)
    with suppress(*AWAY):
        client = _client(PREFECT_API_URL.value())
        for run in _in_states(client, StateType.CRASHED):
            left = run.state and since < run.state.timestamp < late
            if left and all(rule.enabled for rule in client.read_automations_by_name(GOES_ON)):
                client.set_flow_run_state(run.id, AwaitingRetry(message="crashed; goes on from what is finished"))


@cache
def _client(server: str) -> SyncPrefectClient:
    """One for all looks at a server: to open one takes 40 ms of a core, which reads the machine's certificates."""
    return get_client(sync_client=True)


def _runs(
    client: SyncPrefectClient, workers: Collection[str], *states: StateType
) -> Iterator[tuple[FlowRun, psutil.Process | None]]:
    """The runs of the workers in these states, each with its process, if that is there."""
    for run in _in_states(client, *states):
        if run.labels.get("prefect.worker.name") in workers:
            yield run, _process(run)


def _in_states(client: SyncPrefectClient, *states: StateType) -> list[FlowRun]:
    """All runs of deployments in these states, however many; what people have begun by hand is theirs."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )
    return all_runs(client, wanted)


def _process(run: FlowRun) -> psutil.Process | None:
    """The process that a worker has started for the run here; its number may have gone to another one since.

    A worker that was killed may not have told the number, or only that of an earlier start: then it is looked for.
    """
    known = [int(run.infrastructure_pid)] if run.infrastructure_pid else []
    for number in (*known, *psutil.pids()):
        with suppress(psutil.Error):
            process = psutil.Process(number)
            # its children have the same environment, and so has what Prefect starts after a crash
            is_ours = process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
            if is_ours and ENGINES.intersection(process.cmdline()):
                return process
    return None
