"""Measure answering: one JSON line per figure, for one clip of 10 frames at 64 px.

    python benchmarks/serving.py                  every figure, about two minutes
    python benchmarks/serving.py --requests 500   more requests for a steadier p99

A GAN is trained for a few steps, which is enough, because speed does not depend on what it has learned but on how
noisy its clips are. In-process parts are CPU time on one thread. Requests go one after the other over the loopback to
`mlflow models serve` in a process of its own: by the clock on the wall, which on a busy machine says little (beside
it stands `ping`, the same server answering nothing), and by the CPU time that the server spends on an answer.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx
import psutil
import torch
from figures import Figure, tell

from t2v_models import generate
from t2v_models.batch import to_frames
from t2v_models.clips import media
from t2v_models.families.gan.model import GanConfig
from t2v_models.fresh import new_run
from t2v_models.model import VideoModel
from t2v_models.shards.manifest import finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import write_shard
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.dataset import DatasetConfig

DATA = DatasetConfig(clips=360, clips_per_shard=360)
"""64 x 64 pixels, 10 frames."""
STEPS = 60
PROMPT = "circle moving left"
TURNS = 30
BLOCK = 20
"""Requests of one kind in a row: a process's CPU time is counted in hundredths of a second."""
READY_SECONDS = 300


def trained(folder: Path) -> Path:
    """A run folder with a model trained for seconds."""
    write_shard(folder / "data", DATA, 0)
    manifest = finish(folder / "data", DATA)
    run = new_run(manifest, GanConfig(), seed=0)
    fit(run, ClipStore(manifest), TrainConfig(steps=STEPS), folder / "run", lambda step, figures: None)
    return folder / "run"


def cpu_seconds(do: Callable[[], object]) -> float:
    """Median CPU seconds of one call, all threads together."""
    do()
    times = []
    for _ in range(TURNS):
        before = time.process_time()
        do()
        times.append(time.process_time() - before)
    return statistics.median(times)


def parts(model: VideoModel) -> Iterator[Figure]:
    """What one answer is made of, in this process."""
    with torch.inference_mode():
        seconds = cpu_seconds(lambda: model.sample([PROMPT], [0]))
    yield {"figure": "sample one clip", "milliseconds": 1e3 * seconds, "gate": 10, "target": 2}
    video = model.sample([PROMPT], [0])
    yield {"figure": "to frames", "milliseconds": 1e3 * cpu_seconds(lambda: to_frames(video))}
    clip = generate.sample_frames(model, [PROMPT], [0])[0]
    for name, encode in (("mp4", media.to_mp4), ("webp", media.to_webp)):
        size = len(encode(clip, 10))
        seconds = cpu_seconds(lambda encode=encode: encode(clip, 10))
        yield {"figure": f"encode {name}", "milliseconds": 1e3 * seconds, "bytes": size}


@contextmanager
def served(run_dir: Path, work: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server of the run's model, registered in a store of its own: its address and its process."""
    from tasks.mlflow.store import tracking_uri
    from tasks.mlflow.tracking import track
    from tasks.servers.runtime import prepare

    prepare(work)
    with track(work, "benchmark", "serving", params={}, tags={}) as tracker:
        uri = tracker.model(run_dir, "t2v-gan", PROMPT)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    here = Path(sys.executable).parent
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri(work), "PATH": f"{here}:{os.environ['PATH']}"}
    command = [here / "mlflow", "models", "serve", "--env-manager", "local", "-m", uri, "-p", port]
    with (work / "server.log").open("wb") as log, subprocess.Popen(
        command, cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as server:  # fmt: skip
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not _answers(f"http://127.0.0.1:{port}/ping"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((work / "server.log").read_text())
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}", psutil.Process(server.pid)
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def latency(address: str, server: psutil.Process, requests: int) -> Iterator[Figure]:
    """From question to answer, and the server's CPU time for it; kinds of question take turns, so load is on all."""
    with httpx.Client(base_url=address, timeout=60) as client:
        asked: dict[str, Callable[[int], httpx.Response]] = {
            "ping": lambda seed: client.get("/ping"),
            "one clip as mp4": lambda seed: client.post("/invocations", json={"prompt": PROMPT, "seed": seed}),
            "one clip as webp": lambda seed: client.post(
                "/invocations", json={"prompt": PROMPT, "seed": seed, "format": "webp"}
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in asked}
        cpu = dict.fromkeys(asked, 0.0)
        for turn in range(1 + requests // BLOCK):  # the first one is not counted
            for name, ask in asked.items():
                before = _cpu_seconds(server)
                for seed in range(BLOCK):
                    start = time.perf_counter()
                    ask(turn * BLOCK + seed).raise_for_status()
                    times[name] += [time.perf_counter() - start] if turn else []
                cpu[name] += _cpu_seconds(server) - before if turn else 0
    for name, found in times.items():
        hundredths = [1e3 * q for q in statistics.quantiles(found, n=100)]
        gate = {"target_p50": 100} if name != "ping" else {}
        yield {
            "figure": name, "p50_ms": hundredths[49], "p99_ms": hundredths[98],
            "server_cpu_ms": 1e3 * cpu[name] / len(found), "n": len(found), "load": os.getloadavg()[0],
        } | gate  # fmt: skip


def _cpu_seconds(process: psutil.Process) -> float:
    """Of a process and its children, all threads together."""
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=200, help="of each kind, at most 2,000")
    requests = min(parser.parse_args().requests, 2000)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = trained(Path(folder))
        for figure in parts(generate.load_run(run_dir)):
            tell(figure)
        with served(run_dir, Path(folder) / "work") as (address, server):
            for figure in latency(address, server, requests):
                tell(figure)


if __name__ == "__main__":
    main()
