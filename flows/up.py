"""The lab as a service on one machine: both servers with their UIs, the deployments, and a worker for each pool."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from t2v_models.config import LabError
from tasks.console import say

ROOT = Path(__file__).parents[1]
POOLS = {"cpu": None, "gpu": 1}
"""Work pools, and how many runs one worker takes at a time: a GPU takes one."""
READY_SECONDS = 120
STOP_SECONDS = 20


def serve(work: Path, prefect_port: int, mlflow_port: int) -> None:
    """Start everything, print the addresses, and wait; Ctrl-C stops everything.

    Only the loopback is listened on. All state is under `work`.

    Raises:
        LabError: a part does not start: which, and where its log is.
    """
    if not (ROOT / "prefect.yaml").is_file():
        raise LabError(
            f"there is no prefect.yaml in {ROOT}: run 't2v up' from a checkout installed with 'pip install -e .'"
        )
    work = work.absolute()
    logs = work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    prefect_port, mlflow_port = _free(prefect_port, "Prefect"), _free(mlflow_port, "MLflow")
    prefect, mlflow = f"http://127.0.0.1:{prefect_port}", f"http://127.0.0.1:{mlflow_port}"
    # Runs on the pools find the servers and the work folder through the environment of their worker.
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being terminated stops everything, as Ctrl-C does
    os.environ |= {"PREFECT_API_URL": f"{prefect}/api", "T2V_WORK": str(work)}
    with ExitStack() as running:

        def start(name: str, *command: str) -> subprocess.Popen[bytes]:
            return running.enter_context(_process(name, logs, *command))

        server = start("prefect", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port))
        store = start(
            "mlflow", "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port),
            "--backend-store-uri", f"sqlite:///{work}/mlflow.db",
            "--artifacts-destination", str(work / "mlflow-artifacts"),
        )  # fmt: skip
        _wait(f"{prefect}/api/health", server, logs / "prefect.log")
        _wait(f"{mlflow}/health", store, logs / "mlflow.log")
        os.environ["MLFLOW_TRACKING_URI"] = mlflow
        for pool in POOLS:
            _once(logs, "prefect", "work-pool", "create", pool, "--type", "process", "--overwrite")
        _once(logs, "prefect", "--no-prompt", "deploy", "--all")
        for pool, limit in POOLS.items():
            limited = ("--limit", str(limit)) if limit else ()
            start(f"worker-{pool}", "prefect", "worker", "start", "--pool", pool, "--type", "process", *limited)
        say(f"Prefect  {prefect}\nMLflow   {mlflow}\nlogs     {logs}\nCtrl-C stops everything")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("stopping")
            return
    raise LabError(f"the Prefect server has ended: read {logs / 'prefect.log'} and start 't2v up' again")


def _free(port: int, what: str) -> int:
    """`port` if nothing listens there, else another one, which is said."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
            say(f"port {port} is taken: {what} gets {probe.getsockname()[1]}")
        return int(probe.getsockname()[1])


def _command(tool: str, *arguments: str) -> list[str]:
    """A command of a package in this environment, whatever PATH says."""
    return [str(Path(sys.executable).with_name(tool)), *arguments]


@contextmanager
def _process(name: str, logs: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, with a log file; it and its children are ended with the block."""
    with (logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(_command(*command), cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _once(logs: Path, *command: str) -> None:
    with (logs / "setup.log").open("ab") as log:
        done = subprocess.run(
            _command(*command), cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False
        )
    if done.returncode:
        raise LabError(f"'{' '.join(command)}' failed with code {done.returncode}: read {logs / 'setup.log'}")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise LabError(f"nothing answers at {url}: read {log} for the reason, or choose another port")
