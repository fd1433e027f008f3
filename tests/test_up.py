"""`t2v up` as a person starts it: both UIs answer on the loopback, everything ends with Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

T2V = str(Path(sys.executable).with_name("t2v"))

pytestmark = pytest.mark.slow


def test_both_uis_answer_deployments_are_there_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_"))}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        command = [T2V, "up", "--work", str(tmp_path / "work"), "--prefect-port", str(busy), "--mlflow-port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean | {"HOME": str(tmp_path)})
        with process:
            assert process.stderr is not None
            said: dict[str, str] = {}
            for line in process.stderr:
                said[line.split()[0]] = line.split()[-1]
                if line.startswith("Ctrl-C"):
                    break
            assert said["port"] == said["Prefect"].rsplit(":")[-1], "a taken port is replaced, and that is said"
            assert httpx.get(said["Prefect"], follow_redirects=True).status_code == 200
            assert "MLflow" in httpx.get(said["MLflow"]).text
            found = httpx.post(f"{said['Prefect']}/api/deployments/filter", json={}).json()
            assert {"quick", "nightly", "smoke", "circles", "gan"} <= {d["name"] for d in found}
            pools = httpx.post(f"{said['Prefect']}/api/work_pools/filter", json={}).json()
            assert {"cpu", "gpu"} <= {p["name"] for p in pools}
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 4
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(timeout=60) == 0
        assert not psutil.wait_procs(children, timeout=10)[1]
    assert not any(p.name.startswith((".prefect", ".mlflow")) for p in tmp_path.iterdir())
