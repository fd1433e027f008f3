"""Where a run comes from: the code, who started it, the libraries, the machine, and whether its process lives."""

import getpass
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

OWNER_TAG = "t2v.process"
"""Which process owns the run, so that a later one can tell whether it still lives."""
PACKAGES = ("t2v-lab", "torch", "numpy", "mlflow", "prefect")


def provenance(stage: str) -> dict[str, str]:
    """Tags of every run: the code, who started it, the libraries, the machine and the process."""
    return {
        "mlflow.source.git.commit": _commit(),
        **source(stage),
        "t2v.machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        OWNER_TAG: _process_name(os.getpid()),
    } | {f"version.{package}": version(package) for package in PACKAGES}


def _commit() -> str:
    """The checkout's commit, or `unknown` for an installed package."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _process_name(pid: int) -> str:
    """`host pid start`: a later process with the same number has another start."""
    return f"{socket.gethostname()} {pid} {psutil.Process(pid).create_time():.0f}"


def is_dead(owner: str) -> bool:
    """Whether the owner ran on this machine and is no more; of other machines nothing is known."""
    host, _, rest = owner.partition(" ")
    if host != socket.gethostname() or not rest:
        return False
    try:
        return _process_name(int(rest.split()[0])) != owner
    except psutil.NoSuchProcess:
        return True


def source(stage: str) -> dict[str, str]:
    """Tags that say what made a run or a model, and who; MLflow's own guess is a file of Prefect's."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that nobody has
        user = str(os.getuid())
    return {"mlflow.source.name": f"t2v {stage}".strip(), "mlflow.source.type": "LOCAL", "mlflow.user": user}


@contextmanager
def system_metrics(uri: str, run_id: str) -> Iterator[None]:
    """Load, memory and disk of the machine among the run's figures, if MLflow's own variable asks for them."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() not in ("1", "true"):
        yield
        return
    from mlflow.system_metrics import system_metrics_monitor

    monitor: Any = system_metrics_monitor.SystemMetricsMonitor(  # type: ignore[no-untyped-call]
        run_id, resume_logging=True, tracking_uri=uri
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
