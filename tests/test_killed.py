"""Runs that nobody looks after any more, on a real Prefect server: marked, ended, and put back into their queue."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import httpx
import psutil
import pytest

from t2v_models.config import LabError
from t2v_models.processes import cores
from tasks.servers import orphans
from tasks.servers.orchestration import CRASHES, GOES_ON, LIVES, MOVED_ON, SILENT, STAGES, set_up
from tasks.servers.supervisor import ONE_LINE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # prefect's own


@pytest.fixture(scope="module", autouse=True)
def pool(own_server: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="cpu", type="process"))


@pytest.fixture
def sleeper() -> Iterator[Callable[[UUID], subprocess.Popen[bytes]]]:
    """Starts the process of a run, as its worker would have."""
    made: list[subprocess.Popen[bytes]] = []

    def start(run: UUID) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PREFECT__FLOW_RUN_ID": str(run)}
        command = [sys.executable, "-c", "import time; time.sleep(600)", "prefect.engine"]
        made.append(subprocess.Popen(command, env=environment))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def run_with(state: object, worker: str = "cpu on here", pid: int | None = None, deployed: bool = True) -> UUID:
    """The id of a new run in a state, begun by a worker as a process."""
    from prefect import flow
    from prefect.client.orchestration import get_client

    work = flow(lambda: None, name="work")
    with get_client(sync_client=True) as client:
        if deployed:
            deployment = client.create_deployment(client.create_flow(work), "by hand", work_pool_name="cpu")
            run = client.create_flow_run_from_deployment(deployment)
        else:
            run = client.create_flow_run(work)
        client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
        client.update_flow_run(run.id, infrastructure_pid=str(pid) if pid else None)
        client.set_flow_run_state(run.id, state, force=True)  # type: ignore[arg-type]
        return run.id


def state_of(run: UUID) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    assert state
    return state.name


def test_runs_that_ended_with_their_worker_are_marked_and_living_ones_are_asked_again(sleeper) -> None:
    from prefect.states import Cancelling, Running

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    crashed, cancelled = (run_with(state, "a", gone.pid) for state in (Running(), Cancelling()))
    other = run_with(Running(), "b", gone.pid)
    now = datetime.now(UTC)
    assert not orphans.mark_killed("a", now), "there is nothing left to ask"
    assert [state_of(run) for run in (crashed, cancelled, other)] == ["Crashed", "Cancelled", "Running"]

    early = run_with(Running(), "b", gone.pid)  # of the next worker, which has started since
    living = run_with(Running(), "c")
    process = sleeper(living)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.update_flow_run(living, infrastructure_pid=str(process.pid))
    orphans.mark_killed("b", now)
    assert [state_of(run) for run in (other, early)] == ["Crashed", "Running"]
    later = datetime.now(UTC)
    assert orphans.mark_killed("c", later), "its process lives"
    process.kill()
    process.wait()
    assert not orphans.mark_killed("c", later)
    assert state_of(living) == "Crashed"


def test_a_silent_run_whose_process_lives_is_not_started_again(sleeper) -> None:
    """Its machine was asleep, or its worker told of the process before. One that says itself that it crashes is about
    to end."""
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed, Pending

    buried = f"{orphans.BURIED} non-zero status code 1"
    messages = (SILENT, buried, "Process was terminated", SILENT)
    silent, late, ending, _ = runs = [run_with(Crashed(message=m), "e") for m in messages]
    early = run_with(Pending(name="Submitting"), "e")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(early, Crashed(message=buried), force=True)
        for run in (silent, late, ending):
            client.update_flow_run(run, infrastructure_pid=str(sleeper(run).pid))
        client.update_flow_run(early, infrastructure_pid="1")  # of an earlier start
    sleeper(early)
    orphans.keep_living(["another"])
    assert state_of(silent) == "Crashed", "it is not of this worker"
    orphans.keep_living(["e"])
    assert [state_of(run) for run in runs] == ["Running", "Running", "Crashed", "Crashed"]
    assert state_of(early) == "Pending" in MOVED_ON, "it has not begun its flow, and the rule must see it"


def test_a_worker_that_dies_before_it_tells_of_the_process_leaves_no_run_behind(sleeper) -> None:
    """At each step of taking a run: its process was not started, it was and lives, or it was told of and has ended."""
    from prefect.states import Pending

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    submitting = Pending(name="Submitting")
    nothing, started = run_with(submitting, "g"), run_with(submitting, "g")
    ended = run_with(submitting, "g", gone.pid)
    process = sleeper(started)
    assert orphans.mark_killed("g", datetime.now(UTC)), "the process of one lives"
    assert [state_of(run) for run in (nothing, started, ended)] == ["Crashed", "Submitting", "Crashed"]
    process.kill()
    process.wait()
    assert not orphans.mark_killed("g", datetime.now(UTC))
    assert state_of(started) == "Crashed"


def test_a_run_that_was_taken_and_never_begun_is_marked_whoever_took_it(sleeper, monkeypatch) -> None:
    from prefect.states import Pending

    taken, starting = (run_with(Pending(), worker="") for _ in range(2))
    by_hand = run_with(Pending(), worker="", deployed=False)
    process = sleeper(starting)
    orphans.mark_never_begun()
    assert state_of(taken) == "Pending", "it still has time"
    monkeypatch.setattr(orphans, "BEGIN_SECONDS", 0)
    orphans.mark_never_begun()
    assert [state_of(run) for run in (taken, starting, by_hand)] == ["Crashed", "Pending", "Pending"]
    process.kill()
    process.wait()
    orphans.mark_never_begun()
    assert state_of(starting) == "Crashed"


@pytest.mark.parametrize(
    ("told", "crashes"),
    [
        ("Pending Submitting Running Crashed", 1),
        ("Pending Submitting Crashed AwaitingRetry buried AwaitingRetry", 1),
        ("Pending Submitting Crashed AwaitingRetry Pending buried Submitting Running", 2),
        ("Pending Submitting Crashed AwaitingRetry Pending buried Submitting Running Crashed", 2),
        ("Pending Submitting Crashed AwaitingRetry Pending Submitting buried lives Running", 1),
        ("Pending Submitting Crashed AwaitingRetry Pending Submitting buried lives Running Crashed", 2),
        ("Pending Running silent lives silent lives Crashed", 1),
    ],
)
def test_every_start_crashes_once_however_often_and_late_it_is_told(told: str, crashes: int) -> None:
    """Two where the worker tells of one process after the next start: it is not given up while the second one lives."""
    from prefect.client.schemas.objects import State
    from prefect.states import AwaitingRetry, Crashed, Pending, Running

    made: dict[str, Callable[[], State]] = {
        "Pending": Pending, "Submitting": lambda: Pending(name="Submitting"), "Running": Running, "Crashed": Crashed,
        "AwaitingRetry": AwaitingRetry, "silent": lambda: Crashed(message=SILENT),
        "buried": lambda: Crashed(message=f"{orphans.BURIED} non-zero status code 1"),
        "lives": lambda: Running(message=LIVES),
    }  # fmt: skip
    states = [made[name]() for name in told.split()]
    for second, state in enumerate(states):
        state.timestamp = datetime.now(UTC) + timedelta(seconds=second)
    assert orphans._crashes(states) == crashes


def test_a_run_that_crashes_every_time_fails_with_the_reason_and_one_that_slept_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "TOLD_SECONDS", 0)
    from prefect.client.orchestration import get_client
    from prefect.states import AwaitingRetry, Crashed, Pending, Running

    sleepy, broken, by_hand = run_with(AwaitingRetry()), run_with(AwaitingRetry()), run_with(Crashed(), deployed=False)
    record = (
        "07:42:28.866 | ERROR   | prefect.engine - Execution of flow run '{}' exited with unexpected exception\n{}\n"
    )
    ends = [(broken, "Traceback\n  File\nModuleNotFoundError: no module named 'x'"), (sleepy, "ValueError: of another")]
    hook = "RuntimeError: Hook subprocess\n"
    (tmp_path / "worker-cpu.log").write_text("".join(record.format(*end) for end in ends) + hook)

    def after(run: UUID, *states: object) -> str:
        with get_client(sync_client=True) as client:
            for state in states:
                client.set_flow_run_state(run, state, force=True)
        orphans.give_up(tmp_path)
        return state_of(run)

    slept = (Crashed(message=SILENT), Running(message=LIVES))
    assert after(sleepy, Running(), *slept * CRASHES, Crashed()) == "Crashed"
    told_twice = (Pending(), Crashed(), AwaitingRetry(), Crashed(message="buried"), AwaitingRetry())
    crash_and_retry = (Pending(), Crashed(), AwaitingRetry())
    assert after(broken, *told_twice * (CRASHES - 1)) == "AwaitingRetry"
    assert after(by_hand, *(Pending(), Crashed()) * CRASHES) == "Crashed"
    assert after(broken, *crash_and_retry) == "Failed", "also when the rule was quicker"
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(broken).state
    assert state and state.message
    assert state.message.startswith(f"crashed {CRASHES} times and is not started again: ModuleNotFoundError: no module")

    killed, status = run_with(AwaitingRetry()), "Process exited with status code: -9. It was a SIGKILL.\n"
    assert after(killed, *(Pending(), Crashed(message=status)) * CRASHES) == "Failed"
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(killed).state
    assert state and state.message and "status code: -9. It was a SIGKILL; mend that" in state.message


@contextmanager
def worker(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool `gpu`, called `real`; killed at the end of the block."""
    command = [str(Path(sys.executable).with_name("prefect")), "worker", "start", "--pool", "gpu", "--name", "real"]
    told = {name: value for name, value in os.environ.items() if name != ONE_LINE}  # as those of `t2v up`
    told |= {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=told) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_killed_as_it_takes_a_run_and_a_flow_that_cannot_be_imported(tmp_path: Path, monkeypatch) -> None:
    """Nothing is set by hand here: the first crash is a kill -9, the second one of a real process."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    monkeypatch.setattr(orphans, "CRASHES", 2)
    monkeypatch.setattr(orphans, "BEGIN_SECONDS", 0)
    monkeypatch.setattr(orphans, "FORGOTTEN_SECONDS", 0)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    since, log = datetime.now(UTC), tmp_path / "worker-gpu.log"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
        entry = {"entrypoint": "broken.py:broken", "path": str(tmp_path), "work_pool_name": "gpu"}
        made = client.create_deployment(client.create_flow(flow(lambda: None, name="broken")), "broken", **entry)
        run = client.create_flow_run_from_deployment(made).id

    def until(true: Callable[[str], bool], *acts: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not true(state_of(run)):
            assert time.monotonic() < deadline, (state_of(run), log.read_text())
            for act in acts:
                act()
            time.sleep(0.01)

    with worker(log) as process:
        until(lambda state: state != "Scheduled")
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:  # a process for the run that is there already would tell of a crash of its own
            with suppress(psutil.NoSuchProcess):
                member.kill()
    until(
        lambda state: state == "Crashed",
        lambda: orphans.mark_killed("real", datetime.now(UTC)),
        orphans.mark_never_begun,
    )
    with worker(log):
        until(lambda state: state != "Crashed", lambda: orphans.put_back_forgotten(since))
        until(lambda state: state == "Failed", lambda: orphans.give_up(tmp_path))
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run)
        begun = [state.name for state in client.read_flow_run_states(run)].count("Pending")
    assert found.state and found.state.message
    assert found.state.message.startswith("crashed 2 times and is not started again: ")
    assert "No module named 'no_such_module'" in found.state.message
    assert (begun, found.run_count) == (2, 0)


def test_a_cancelled_run_whose_worker_does_not_hear_is_asked_to_end(sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling, Running

    run = run_with(Running(), "d")
    process = sleeper(run)
    with get_client(sync_client=True) as client:
        client.update_flow_run(run, infrastructure_pid=str(process.pid))
        client.set_flow_run_state(run, Cancelling(), force=True)
    orphans.end_cancelled(["d"])
    assert process.poll() is None, "its worker still has time"
    monkeypatch.setattr(orphans, "HEARD_SECONDS", 0)
    orphans.end_cancelled(["another"])
    assert process.poll() is None, "it is not of this worker"
    orphans.end_cancelled(["d"])
    assert process.wait(300) == -15


@pytest.mark.parametrize("last", ["Pending", "Submitting", "Running", "heartbeat"])
def test_silence_is_seen_whatever_a_run_was_last_heard_of(last: str) -> None:
    """A worker may be killed at each step; Prefect begins to wait anew only with what the rule names (3.8.8)."""
    from tasks.servers.orchestration import AUTOMATIONS

    [trigger] = [a.trigger for a in AUTOMATIONS if SILENT in str(a.actions)]
    assert f"prefect.flow-run.{last}" in trigger.after


def test_crashed_runs_that_the_rule_has_missed_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.automations import Automation
    from prefect.states import Crashed

    from tasks.servers import old_runs
    from tasks.servers.orchestration import AUTOMATIONS

    monkeypatch.setattr(old_runs, "PAGE", 1)  # as if the store had hundreds

    earlier = run_with(Crashed())
    since = datetime.now(UTC)
    forgotten, by_hand = run_with(Crashed()), run_with(Crashed(), deployed=False)
    orphans.put_back_forgotten(since)
    assert state_of(forgotten) == "Crashed", "the rule still has time"
    monkeypatch.setattr(orphans, "FORGOTTEN_SECONDS", 0)
    [rule] = [Automation(**a.model_dump()) for a in AUTOMATIONS if a.name == GOES_ON]
    rule.enabled = False
    rule.create()
    orphans.put_back_forgotten(since)
    assert state_of(forgotten) == "Crashed", "a person has paused the rule"
    rule.enable()
    orphans.put_back_forgotten(since)
    assert [state_of(run) for run in (earlier, forgotten, by_hand)] == ["Crashed", "AwaitingRetry", "Crashed"]


@pytest.mark.parametrize(("deployed", "end"), [(False, "Cancelled"), (True, "Scheduled")])
def test_a_stage_ends_with_a_lab_begun_by_hand_and_waits_for_one_that_goes_on(deployed: bool, end: str) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    from tasks.servers.pools import PoolStage, run_on_pools

    lab, started = (
        flow(lambda: run_on_pools([PoolStage("a", "wanted/stage", {})], nullcontext), name="lab"),
        datetime.now(UTC),
    )
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(flow(lambda: None, name="wanted")), "stage")
        run = client.create_flow_run_from_deployment(client.create_deployment(client.create_flow(lab), "lab"))

        def stages() -> list[UUID]:
            runs = client.read_flow_runs()
            return [run.id for run in runs if run.parent_task_run_id and run.created and run.created > started]

        over = Event()

        def interrupt() -> None:
            while not over.wait(0.05):
                if stages():
                    return os.kill(os.getpid(), signal.SIGINT)

        Thread(target=interrupt, daemon=True).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                run_flow(lab, flow_run=run if deployed else None)
        finally:
            over.set()
        [stage] = stages()
    assert state_of(stage) == end


def test_stages_that_do_not_need_each_other_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """c waits for a and b, which are at work together; d fails, so e never starts, and the others still end."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Failed

    from tasks.servers import pools

    monkeypatch.setattr(pools, "POLL_SECONDS", 0.05)
    after = {"a": (), "b": (), "c": ("a", "b"), "d": (), "e": ("d",)}
    stages = [pools.PoolStage(name, "side/stage", {"name": name}, needs) for name, needs in after.items()]
    at_work: list[str] = []
    ended: list[str] = []

    @contextmanager
    def working(name: str) -> Iterator[None]:
        at_work.append(name)
        yield
        ended.append(name)

    with get_client(sync_client=True) as client:
        stage = client.create_deployment(client.create_flow(flow(lambda name: None, name="side")), "stage")
        over = Event()

        def worker() -> None:
            with get_client(sync_client=True) as mine:
                while not over.wait(0.05):
                    runs = [run for run in mine.read_flow_runs() if run.deployment_id == stage]
                    open_ = {run.parameters["name"]: run for run in runs if run.state and not run.state.is_final()}
                    if {"a", "b", "d"} <= open_.keys() or ended:
                        for name, run in open_.items():
                            state = Failed(message="on purpose") if name == "d" else Completed()
                            mine.set_flow_run_state(run.id, state, force=True)

        Thread(target=worker, daemon=True).start()
        try:
            with pytest.raises(LabError, match=r"did not complete \(Failed: on purpose\)"):
                flow(lambda: pools.run_on_pools(stages, working), name="lab")()
        finally:
            over.set()
    assert at_work[:3] == ["a", "b", "d"] and at_work[3:] == ["c"]
    assert sorted(ended) == ["a", "b", "c", "d"]


def test_many_that_write_at_once_wait_for_each_other(own_server: str) -> None:
    """Heartbeats of workers read before they write; SQLite refuses such a one at once if another wrote in between."""
    path = "/work_pools/cpu/workers/heartbeat"
    with httpx.Client(base_url=own_server, timeout=60) as client, ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda n: client.post(path, json={"name": f"w{n % 8}"}).status_code, range(64))
        assert set(answers) == {204}


def test_a_server_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert orphans.mark_killed("a", datetime.now(UTC) + timedelta(hours=1))


def test_the_cpu_pool_gives_out_as_many_runs_as_there_are_cores_and_stages_have_places_of_their_own() -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Scheduled

    set_up()
    waiting = [run_with(Scheduled()) for _ in range(cores() + 2)]
    with get_client(sync_client=True) as client:

        def given() -> int:
            found = client.get_scheduled_flow_runs_for_work_pool("cpu", scheduled_before=datetime.now(UTC))
            return len([answer for answer in found if answer.flow_run.id in waiting])

        default = client.read_work_queue_by_name("default", "cpu")
        assert default.concurrency_limit == client.read_work_queue_by_name(STAGES, "cpu").concurrency_limit == cores()
        client.update_work_queue(default.id, concurrency_limit=3)
        set_up()
        assert client.read_work_queue_by_name("default", "cpu").concurrency_limit == 3, "a person has changed it"
        at_work = sum(run.work_queue_name == "default" for run in client.read_flow_runs() if in_place(run.state))
        client.update_work_queue(default.id, concurrency_limit=at_work + 2)
        assert given() == 2
        client.set_flow_run_state(waiting[0], Pending(), force=True)
        assert given() == 1


def in_place(state: object) -> bool:
    """Whether a run in this state counts against the limit of its queue."""
    return getattr(state, "name", "") in ("Pending", "Submitting", "Running", "Cancelling")
