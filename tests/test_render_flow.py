"""Rendering in parallel, here and on Dask: the same bytes, one Prefect server, and no harm from kill -9."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.manifest import finish
from t2v_models.shards.verify import verify
from t2v_models.shards.write import read_metadata, sidecar_path, write_shard
from tasks.dask import dask_runner
from tasks.runtime import prefect_api, prepare

CONFIG = DatasetConfig(clips=3000, clips_per_shard=50, spec=ClipSpec(size=32, frames=10))
MOMENTS = int(os.environ.get("T2V_KILLS", "1"))
"""Kills of each runner; more than a suite has time for prove more."""

RENDER = """
import sys
from pathlib import Path
from tasks.runtime import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    from flows import dataset
    from t2v_models.clips.dataset import DatasetConfig
    dataset.TASK_PIXELS = 1_000_000
    config = DatasetConfig.model_validate_json(sys.argv[3])
    render = dataset.dataset if sys.argv[4] == "local" else dataset.dataset_on_dask
    render(config, Path(sys.argv[2]), 2)
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The work folder of a Prefect server that all flows of this file use: its start takes long."""
    work = tmp_path_factory.mktemp("work")
    environment = dict(os.environ)
    prepare(work)
    with prefect_api(work):
        yield work
    os.environ.clear()
    os.environ.update(environment)


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
def test_dask_writes_the_same_bytes_with_one_server(api: Path, whole: Path, tmp_path: Path) -> None:
    process = start(api, tmp_path / "out", "dask")
    most = 0
    while process.poll() is None:
        servers = [p for p in psutil.process_iter(["cmdline"]) if "tasks.server" in (p.info["cmdline"] or ())]
        most = max(most, sum(str(api) in environment(p).get("PREFECT_HOME", "") for p in servers))
        time.sleep(0.3)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert most == 1
    assert contents(tmp_path / "out") == contents(whole)


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "dask"])
def test_a_run_killed_at_any_moment_is_finished_by_the_next(
    api: Path, whole: Path, tmp_path: Path, runner: str
) -> None:
    chance = random.Random(runner)
    for attempt in range(MOMENTS):
        out = tmp_path / str(attempt)
        process = start(api, out, runner)
        shards = chance.randrange(1, CONFIG.shards - 2)
        while process.poll() is None and len(list(out.glob("*.tar"))) < shards:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        psutil.wait_procs(children, timeout=30)
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        tars = {path.name for path in out.glob("*.tar")}
        proven = [i for i in range(CONFIG.shards) if "shard_sha256" in read_metadata(sidecar_path(out, i))]
        assert len(tars) - len(proven) <= 2  # at most one of each worker
        redone = [i for i in range(CONFIG.shards) if write_shard(out, CONFIG, i)]
        assert set(redone) == set(range(CONFIG.shards)) - set(proven)
        finish(out, CONFIG)
        assert verify(out) == []
        assert contents(out) == contents(whole)


def test_a_dask_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(LabError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        dask_runner(2, "tcp://127.0.0.1:9")
    with pytest.raises(LabError, match="workers is 0, which must be 1 or more"):
        dask_runner(0, None)
