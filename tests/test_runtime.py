"""The one Prefect server of a run, seen from outside: each test is a process of its own, with an empty home."""

import contextlib
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from t2v_models.config import LabError
from tasks.servers.runtime import WORK, OneLineHandler, check_prefect, prefect_api, prepare, to_try

PATIENCE_SECONDS = 600
"""The longest that anything here may take on a busy machine; only what hangs is waited for so long."""

FLOW = """
import os, sys, time
from pathlib import Path
from tasks.servers.runtime import prefect_api, prepare

work = Path(sys.argv[1])
prepare(work)
from prefect import flow, get_run_logger, task
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

@task
def double(i):
    get_run_logger().info("doubling %d", i)
    return 2 * i

def twice(n, wait=0.0, error=None):
    numbers = [f.result() for f in [double.submit(i) for i in range(n)]]
    print("working", flush=True)
    time.sleep(wait)
    if error:
        raise error
    return sum(numbers)

THREADS = flow(twice, name="threads", task_runner=ThreadPoolTaskRunner(max_workers=2), validate_parameters=False)
PROCESSES = flow(twice, name="processes", task_runner=ProcessPoolTaskRunner(max_workers=2), validate_parameters=False)

if __name__ == "__main__":
    with prefect_api(work) as url:
        assert os.environ["PREFECT_API_URL"] == url
        {body}
    assert "PREFECT_API_URL" not in os.environ
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder for all tests: a fresh database takes long."""
    return tmp_path_factory.mktemp("work")


def start(work: Path, body: str) -> subprocess.Popen[str]:
    script = work / f"script-{len(list(work.glob('script-*')))}.py"
    script.write_text(FLOW.replace("{body}", body))
    home = work / "home"
    home.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.Popen(
        [sys.executable, str(script), str(work)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


def servers_of(work: Path) -> list[psutil.Process]:
    """Living Prefect servers whose state is in `work`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            serves = any(word in ("tasks.servers.server", "uvicorn") for word in process.cmdline())
            if serves and process.environ().get("PREFECT_HOME") == str(work / "prefect"):
                found.append(process)
    return found


def counts(work: Path) -> Counter[str]:
    """Runs of flows and of tasks in each state, and lines that tasks have logged."""
    found: Counter[str] = Counter()
    if (work / "prefect" / "prefect.db").exists():
        with contextlib.closing(sqlite3.connect(work / "prefect" / "prefect.db")) as database:
            for table in ("flow_run", "task_run"):
                rows = database.execute(f"SELECT state_type, count(*) FROM {table} GROUP BY 1")
                found.update({f"{table} {state}": count for state, count in rows})
            [lines] = database.execute("SELECT count(*) FROM log WHERE message LIKE 'doubling%'").fetchone()
            found["lines"] = lines
    return found


def test_a_command_to_try_names_the_work_folder_where_it_is_another() -> None:
    assert to_try(WORK, "evaluate", "r'o o") == """t2v evaluate 'r'"'"'o o'"""
    assert to_try(Path("my work"), "evaluate", "run") == "t2v evaluate run --work 'my work'"
    assert to_try(WORK, "generate", "run", "-.3 2", "--out", "a.mp4") == "t2v generate run --out a.mp4 -- '-.3 2'"


@pytest.mark.slow
def test_two_runs_that_start_together_share_a_fresh_folder(work: Path) -> None:
    """Its database is still to be made, and two that made it at once would spoil it.

    An error in a flow is told once and recorded.
    """
    whole, broken = (start(work, body) for body in ("print(THREADS(2))", "THREADS(2, error=ValueError('no luck'))"))
    output, errors = whole.communicate(timeout=PATIENCE_SECONDS)
    assert (whole.returncode, output.split()[-1]) == (0, "2"), errors
    _, errors = broken.communicate(timeout=PATIENCE_SECONDS)
    assert broken.returncode == 1
    assert errors.startswith("Traceback"), errors  # Python's own, since nothing here catches the error
    assert errors.count("ValueError: no luck") == 1, errors
    assert counts(work) == {"flow_run COMPLETED": 1, "flow_run FAILED": 1, "task_run COMPLETED": 4, "lines": 4}
    assert servers_of(work) == []


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_said(work: Path) -> None:
    """30 tasks in threads, 4 in processes: one server, all states and logs recorded, nothing on the terminal."""
    before = counts(work)
    process = start(work, "assert THREADS(30) == 870; assert PROCESSES(4) == 12")
    most = 0
    while process.poll() is None:
        most = max(most, len(servers_of(work)))
        time.sleep(0.2)
    output, errors = process.communicate()
    assert (process.returncode, output.split(), errors) == (0, ["working", "working"], "")
    assert most == 1
    assert servers_of(work) == []
    assert counts(work) - before == {"flow_run COMPLETED": 2, "task_run COMPLETED": 34, "lines": 34}
    # Prefect breaks off a write that is under way when its server stops, says so with a traceback, and writes those
    # events again: what it must never say is that it dropped one.
    log = (work / "prefect" / "server.log").read_text()
    said = [line for line in log.splitlines() if re.match(r"\d\d:\d\d:\d\d", line)]
    assert all(re.search(r"Error flushing \d+ events \(\d+ to retry, 0 dropped\)", line) for line in said), log
    assert bool(said) == bool(log), log
    assert list((work / "home").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_stops_the_run_and_then_the_server(work):
    process = start(work, f"THREADS(2, wait={2 * PATIENCE_SECONDS})")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert "sqlalchemy" not in errors
    assert errors.count("Traceback") <= 1, errors  # Python's own
    assert servers_of(work) == []


@pytest.mark.slow
def test_an_idle_server_leaves_the_processor_alone_and_a_killed_run_leaves_none(work):
    """Once it has started it takes far less than a loop that is as free to run, however busy the machine is."""

    def share() -> float:
        before, begun = sum(server.cpu_times()[:2]), time.process_time()
        while time.process_time() - begun < 1:
            pass
        return sum(server.cpu_times()[:2]) - before

    process = start(work, f"THREADS(2, wait={2 * PATIENCE_SECONDS})")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    [server] = servers_of(work)
    assert any(share() < 0.5 for _ in range(20)), "it never comes to rest"
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(servers_of(work), timeout=PATIENCE_SECONDS)
    assert alive == []


def test_a_given_server_that_does_not_answer_is_one_sentence(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    with pytest.raises(LabError, match=f"127.0.0.1:{port}/api, but no Prefect server answers"), prefect_api(tmp_path):
        pass


def test_a_given_server_that_wants_a_password_is_one_sentence(monkeypatch, tmp_path):
    """As Prefect's with PREFECT_SERVER_API_AUTH_STRING, which says to everybody that it is well."""

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Basic {b64encode(b'ann:secret').decode()}"
            self.send_response(200 if known or self.path == "/api/health" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
        check_prefect(url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:wrong")
        with pytest.raises(LabError, match=f"{url} wants a password: set PREFECT_API_AUTH_STRING") as found:
            check_prefect(url)
        assert "wrong" not in str(found.value)
        server.shutdown()


def test_a_given_server_is_used_by_a_prefect_that_was_imported_before(monkeypatch, tmp_path):
    """It would start one of its own, which answers every page and has the database of `t2v up`."""
    from prefect.settings import PREFECT_API_URL

    given = "http://127.0.0.1:9/api"
    monkeypatch.setattr("tasks.servers.runtime.check_prefect", lambda url: None)
    monkeypatch.setenv("PREFECT_API_URL", given)
    with prefect_api(tmp_path):
        assert PREFECT_API_URL.value() == given


def test_prepare_keeps_what_the_user_has_set(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {"PREFECT_HOME": "/elsewhere"})
    prepare(tmp_path)
    assert os.environ["PREFECT_HOME"] == "/elsewhere"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_console_shows_one_line_a_record_and_leaves_errors_of_runs_to_the_command_line(capsys):
    handler = OneLineHandler(sys.stderr)
    try:
        raise ValueError("no luck")
    except ValueError:
        failed = sys.exc_info()
    for name, text, error in [
        ("prefect.client", "away\nand more", None),
        ("prefect.flow_runs", "slow", None),
        ("prefect.flow_runs", "Encountered exception during execution", failed),
        ("prefect.task_runs", "Finished in state Failed('no luck')", None),
        ("prefect.events", "lost", failed),
    ]:
        handler.handle(logging.LogRecord(name, logging.WARNING, "", 0, text, None, error))
    assert capsys.readouterr().err.splitlines() == ["warning: away", "warning: slow", "warning: lost"]
