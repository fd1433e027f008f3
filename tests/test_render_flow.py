"""Rendering in parallel, here and on Dask: the same bytes, one Prefect server, and no harm from kill -9."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import distributed
import psutil
import pytest
from distributed.client import FutureCancelledError

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.manifest import finish
from t2v_models.shards.verify import verify
from t2v_models.shards.write import read_metadata, sidecar_path, write_shard
from t2v_models.worlds.dataset import DatasetConfig
from tasks.servers import dask
from tasks.servers.dask import cluster_faults, dask_runner

CONFIG = DatasetConfig(clips=1500, clips_per_shard=50, spec=ClipSpec(size=32, frames=10))
SERVERS = {"tasks.servers.server", "prefect.server.api.server:create_app"}
"""What a Prefect server is started by: ours, and that of a process that knows of none."""
KILLS = int(os.environ.get("T2V_KILLS", "1"))
"""Kills of each runner; more than a suite has time for prove more."""

RENDER = """
import sys
from pathlib import Path
from tasks.servers.runtime import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    from flows import dataset
    from t2v_models.worlds.dataset import DatasetConfig
    dataset.TASK_PIXELS = 1_000_000
    config = DatasetConfig.model_validate_json(sys.argv[3])
    out, runner = Path(sys.argv[2]), sys.argv[4]
    if runner == "local":
        dataset.dataset(config, out, 2)
    else:
        dataset.dataset_on_dask(config, out, 2, None if runner == "dask" else runner)
"""


@pytest.fixture(scope="module")
def api(work: Path, server: str) -> Path:
    """The work folder of a Prefect server that all flows of this file use."""
    return work


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for index in range(CONFIG.shards):
        write_shard(folder, CONFIG, index)
    finish(folder, CONFIG)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(api: Path, out: Path, runner: str) -> subprocess.Popen[str]:
    script = api / "render.py"
    script.write_text(RENDER)
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, str(script), str(api), str(out), CONFIG.model_dump_json(), runner],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


@pytest.mark.slow
def test_dask_writes_the_same_bytes_and_starts_no_server_beside_the_one_that_is_there(
    api: Path, whole: Path, tmp_path: Path
) -> None:
    process = start(api, tmp_path / "out", "dask")
    most = 0
    while process.poll() is None:
        servers = [p for p in psutil.process_iter(["cmdline"]) if SERVERS & set(p.info["cmdline"] or ())]
        most = max(most, sum(str(api) in environment(p).get("PREFECT_HOME", "") for p in servers))
        time.sleep(1)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert most == 0
    assert contents(tmp_path / "out") == contents(whole)


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


class Cluster:
    """A scheduler and its workers, each a process that knows nothing of our Prefect server."""

    def __init__(self, folder: Path) -> None:
        self.workers: list[subprocess.Popen[bytes]] = []
        self._facts = folder / "scheduler.json"
        self._log = (folder / "cluster.log").open("wb")
        self.home = folder / "home of the workers"
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PREFECT_HOME": str(self.home),
        }  # fmt: skip
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        while not self._facts.is_file() and self.scheduler.poll() is None:
            time.sleep(0.1)
        self.address: str = json.loads(self._facts.read_text())["address"]

    def add(self, count: int) -> None:
        """Start workers and wait until they are at the scheduler's service."""
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self._facts.parent))
        self.workers += [self._start("worker", *options) for _ in range(count)]
        with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=300)

    def stop(self) -> None:
        """Kill whatever lives."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self._log.close()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command, "--no-dashboard", "--scheduler-file", str(self._facts)],
            stdout=self._log, stderr=self._log, env=self._environment,
        )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster, at first without workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_a_cluster_without_workers_is_one_sentence(cluster: Cluster) -> None:
    with pytest.raises(LabError, match=rf"scheduler at '{cluster.address}' has no workers: start some with `dask work"):
        dask_runner(2, cluster.address)


@pytest.mark.slow
def test_a_run_outlives_a_worker_of_a_cluster(api: Path, whole: Path, tmp_path: Path, cluster: Cluster) -> None:
    """One of two workers is killed in the middle; the other does its work, and neither starts a Prefect server."""
    cluster.add(2)
    out = tmp_path / "out"
    process = start(api, out, cluster.address)
    while process.poll() is None and len(list(out.glob("*.tar"))) < 10:
        time.sleep(0.05)
    cluster.workers[0].kill()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert contents(out) == contents(whole)
    assert cluster.workers[1].poll() is None
    assert not list(cluster.home.glob("*.db"))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "dask"])
def test_a_run_killed_at_any_moment_is_finished_by_the_next(
    api: Path, whole: Path, tmp_path: Path, runner: str
) -> None:
    chance = random.Random(runner)
    for attempt in range(KILLS):
        out = tmp_path / str(attempt)
        process = start(api, out, runner)
        shards = chance.randrange(1, CONFIG.shards - 2)
        while process.poll() is None and len(list(out.glob("*.tar"))) < shards:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        psutil.wait_procs(children, timeout=300)
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        tars = {path.name for path in out.glob("*.tar")}
        proven = [i for i in range(CONFIG.shards) if "shard_sha256" in read_metadata(sidecar_path(out, i))]
        assert len(tars) - len(proven) <= 2  # at most one of each worker
        redone = [i for i in range(CONFIG.shards) if write_shard(out, CONFIG, i)]
        assert set(redone) == set(range(CONFIG.shards)) - set(proven)
        finish(out, CONFIG)
        assert verify(out) == []
        assert contents(out) == contents(whole)


@pytest.mark.slow
def test_a_killed_process_of_a_rendering_is_one_sentence(api: Path, tmp_path: Path) -> None:
    """As when memory is used up."""
    from flows import dataset

    def kill() -> None:
        while not list(tmp_path.glob("*.tar")):
            time.sleep(0.05)
        for process in psutil.Process().children():
            with suppress(psutil.Error):  # one that has just ended
                if "spawn_main" in " ".join(process.cmdline()):
                    return process.kill()

    killer = Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(LabError, match="one of 2 processes that render was killed.*again with fewer workers"):
        dataset.dataset(CONFIG.model_copy(update={"clips": 100_000}), tmp_path, 2)
    killer.join()


def test_a_dask_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    with pytest.raises(LabError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        dask_runner(2, "tcp://127.0.0.1:9")
    with pytest.raises(LabError, match="Dask cluster was lost .*no more.*: start it again"), cluster_faults():
        raise FutureCancelledError("task", "no more")
