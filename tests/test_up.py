"""The parts of `t2v up`, each as a process of its own: started again when it ends, ended with its children."""

import os
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from flows.cli.up import port_for, servers
from t2v_models.config import LabError
from tasks.servers import supervisor, up_note
from tasks.servers.postgres import NAMES, databases
from tasks.servers.runtime import prepare
from tasks.servers.supervisor import Services, answers, end, free_port

SLEEP = ("python", "-c", "import time; time.sleep(600)")


def until(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_what_is_killed_is_started_again_and_everything_ends_with_the_block(tmp_path: Path, capsys) -> None:
    with Services(tmp_path / "logs", tmp_path) as parts:
        parts.start("server", *SLEEP)
        parts.start("worker", *SLEEP)
        assert parts.revive() == []
        first = up_note.process(parts.processes()["worker"])
        assert first
        first.kill()
        until(lambda: "worker" not in parts.processes())
        assert parts.revive() == ["worker"]
        left = [up_note.process(name) for name in parts.processes().values()]
        assert len(left) == 2
    assert not any(process and process.is_running() for process in left)
    assert "worker has been killed by SIGKILL and is started again" in capsys.readouterr().err.replace("\n", " ")


def test_ctrl_c_while_a_part_starts_waits_until_it_is_known(tmp_path: Path) -> None:
    noted: list[str] = []

    def note(processes: dict[str, str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        noted.extend(processes.values())

    with pytest.raises(KeyboardInterrupt), Services(tmp_path / "logs", tmp_path, note) as parts:
        parts.start("server", *SLEEP)
    [part] = noted
    assert not up_note.process(part)


def test_a_part_that_keeps_ending_is_not_started_for_ever(tmp_path: Path) -> None:
    with Services(tmp_path / "logs", tmp_path) as parts:
        parts.start("broken", "python", "-c", "raise SystemExit(3)")
        for _ in range(supervisor.ENDINGS - 1):
            until(lambda: not parts.processes())
            assert parts.revive() == ["broken"]
        until(lambda: not parts.processes())
        with pytest.raises(LabError, match=f"ended with code 3 {supervisor.ENDINGS} times: read .*broken.log"):
            parts.revive()


def test_a_server_that_ends_before_it_answers_is_one_sentence(tmp_path: Path) -> None:
    with Services(tmp_path / "logs", tmp_path) as parts:
        parts.start("broken", "python", "-c", "print('no luck')")
        with pytest.raises(LabError, match="nothing answers at http://127.0.0.1:9/health: read .*broken.log"):
            parts.wait("broken", "http://127.0.0.1:9/health")
    assert (tmp_path / "logs" / "broken.log").read_text() == "no luck\n"
    assert not answers("no url")


def test_ending_takes_the_children_along_even_deaf_ones(monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 1)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        found = psutil.Process(process.pid)
        until(lambda: found.children())
        [child] = found.children()
        end([process.pid, 2**22 + 1])
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not found.is_running()


def test_a_taken_port_is_replaced_and_that_is_said(capsys) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port, "Prefect") != port
    assert f"port {port} is taken: Prefect gets" in capsys.readouterr().err


@pytest.fixture
def healthy() -> Iterator[str]:
    """The address of a server that says it is well, as Prefect's and MLflow's do."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] in (None, f"Basic {b64encode(b'ann:secr@t').decode()}")
            self.send_response(401 if not allowed else 200 if self.path in ("/api/health", "/health") else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Well) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_servers_that_are_named_are_used_and_none_is_started(healthy: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{healthy}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", healthy)
    with Services(tmp_path / "logs", tmp_path) as parts:
        assert servers(parts, tmp_path, 0, 0) == (healthy, healthy)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", healthy.replace("://", "://ann:secr%40t@"))
        assert servers(parts, tmp_path, 0, 0)[0] == healthy
        monkeypatch.setenv("MLFLOW_TRACKING_URI", healthy.replace("://", "://ann:wrong@"))
        with pytest.raises(LabError, match="no MLflow server answers"):
            servers(parts, tmp_path, 0, 0)
        assert parts.processes() == {}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(LabError, match="MLFLOW_TRACKING_URI is http://127.0.0.1:9, but no MLflow server answers"):
            servers(parts, tmp_path, 0, 0)
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        with pytest.raises(LabError, match="PREFECT_API_URL is http://127.0.0.1:9/api, but no Prefect server answers"):
            servers(parts, tmp_path, 0, 0)


def test_a_server_at_the_usual_port_is_not_used_unasked(healthy: str, capsys) -> None:
    """It may keep the runs of another work folder; how to use it is said."""
    port = int(healthy.rsplit(":")[-1])
    assert port_for(port, "Prefect", "PREFECT_API_URL", "/api") != port
    assert f"PREFECT_API_URL={healthy}/api" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ups_do_not_start_at_once_and_the_parts_of_a_killed_one_are_ended(tmp_path: Path, request) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_WORK"))}
    asked = [
        sys.executable,
        "-m",
        "flows.cli.main",
        "up",
        "--work",
        str(tmp_path),
        "--prefect-port=0",
        "--mlflow-port=0",
    ]

    def begun() -> subprocess.Popen[str]:
        """A `t2v up` that has started its first parts, which need some seconds until they answer."""
        process = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, env=clean)
        request.addfinalizer(lambda: process.send_signal(signal.SIGINT))
        until(lambda: (note := up_note.written(tmp_path)) and note.up == up_note.identity(process.pid))
        assert up_note.running(tmp_path) is None, "its servers do not answer yet"
        return process

    def parts() -> list[str]:
        note = up_note.written(tmp_path)
        return list(note.parts.values()) if note else []

    first = begun()
    again = subprocess.run(asked, capture_output=True, text=True, env=clean)
    assert again.returncode == 2
    assert again.stderr == f"t2v: another process starts or stops 't2v up' in {tmp_path}: wait for it, or stop it\n"
    first.kill()
    first.communicate()
    left = parts()
    assert left and all(map(up_note.process, left))
    second = begun()
    left += parts()
    second.send_signal(signal.SIGINT)
    _, said = second.communicate()
    assert second.returncode == 0
    assert "of a 't2v up' that was killed" in said
    assert not any(map(up_note.process, left))


def test_commands_find_the_servers_of_a_living_up_and_forget_those_of_a_dead_one(tmp_path: Path, monkeypatch) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    monkeypatch.setattr(os, "environ", clean)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        who = up_note.identity(other.pid)
        note = up_note.Running(prefect="http://127.0.0.1:1", mlflow="http://127.0.0.1:2", up=who, parts={"mlflow": who})
        up_note.write(tmp_path, note)
        assert up_note.running(tmp_path) == note
        prepare(tmp_path)
        assert clean["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
        assert clean["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:2"
        other.communicate(b"\n")
    assert up_note.running(tmp_path) is None
    assert up_note.written(tmp_path) == note
    (tmp_path / "up.json").write_text("{")
    assert up_note.running(tmp_path) is None


def test_a_clock_that_is_set_does_not_hide_a_process(tmp_path: Path) -> None:
    pid, start = up_note.identity().split()
    moved = f"{pid} {int(start) + 5}"
    up_note.write(tmp_path, up_note.Running(prefect="http://127.0.0.1:1", up=moved, parts={}))
    up_note.note(tmp_path, parts={"worker": moved})
    assert up_note.running(tmp_path) == up_note.Running(prefect="http://127.0.0.1:1", up=moved, parts={"worker": moved})
    assert up_note.process(f"{pid} {int(start) - 3600}") is None, "an earlier process of the same number"


@pytest.mark.parametrize("url", ["mysql://localhost/x", "localhost", "postgresql://"])
def test_an_address_that_is_not_of_postgres_is_one_sentence(url: str) -> None:
    with pytest.raises(LabError, match="write it as postgresql://user:password@host:5432"):
        databases(url)


@pytest.mark.parametrize(
    "url",
    ["lab:secret/word@localhost", "lab:secret@localhost:99999", "lab:secret%zz@localhost", "[lab:secret@localhost"],
)
def test_an_address_that_cannot_be_read_is_one_sentence_without_the_password(url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(LabError, match="write it as postgresql://user:password@host:5432") as found:
        databases(f"postgresql://{url}")
    assert "secret" not in str(found.value)


def test_a_postgres_that_is_away_is_one_sentence_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(LabError, match="PostgreSQL at 127.0.0.1:9 refuses") as found:
        databases("postgresql://lab:secret@127.0.0.1:9")
    assert "secret" not in str(found.value)


def test_an_mlflow_that_is_away_is_one_sentence_without_the_password(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    with pytest.raises(LabError, match=r"is http://ann:\*\*\*@127.0.0.1:9, but no MLflow server answers") as found:
        servers(Services(tmp_path, tmp_path), tmp_path, 0, 0)
    assert "secret" not in str(found.value)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of our own; PostgreSQL refuses to run as root, so then as another user."""
    pytest.importorskip("psycopg")
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are not on the PATH")
    user = []
    folder = tmp_path_factory.mktemp("postgres")
    if os.geteuid() == 0:
        if not shutil.which("runuser") or subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres' to run it as")
        user = ["runuser", "-u", "postgres", "--"]
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 1:
                parent.chmod(parent.stat().st_mode | 1)  # passage for the other user
        shutil.chown(folder, "postgres")
    port = free_port(0, "PostgreSQL")
    data, options = str(folder / "data"), f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    clean = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run([*user, shutil.which("initdb"), "-D", data, "-U", "lab", "-A", "trust"], **clean)
    control = [*user, shutil.which("pg_ctl"), "-D", data]
    subprocess.run([*control, "-w", "-o", options, "-l", str(folder / "log"), "start"], cwd=folder, check=True)
    try:
        yield f"postgresql://lab@127.0.0.1:{port}"
    finally:
        subprocess.run([*control, "-w", "-m", "immediate", "stop"], cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_databases_are_made_once_and_their_drivers_reach_them(postgres: str) -> None:
    import asyncio

    import asyncpg
    import psycopg

    first = databases(postgres)
    assert databases(postgres) == first
    plain = first["mlflow"].replace("+psycopg", "")
    with psycopg.connect(plain) as server:
        assert server.execute("SELECT current_database()").fetchone() == (NAMES["mlflow"],)

    async def where() -> str:
        connection = await asyncpg.connect(first["prefect"].replace("+asyncpg", ""))
        found = await connection.fetchval("SELECT current_database()")
        await connection.close()
        return str(found)

    assert asyncio.run(where()) == NAMES["prefect"]
    with psycopg.connect(postgres + "/postgres", autocommit=True) as server:
        server.execute("CREATE ROLE guest LOGIN")
        for name in NAMES.values():
            server.execute(f"DROP DATABASE {name}")
    with pytest.raises(LabError, match="permission denied to create database"):
        databases(postgres.replace("lab@", "guest@"))
