"""What operating the lab costs: orchestration a task, tracking a step, starting `t2v up`. One JSON line per figure.

    python benchmarks/operating.py [--up]

The machine may be busy with other work, so beside the seconds on the wall stand those of the processor, and a share is
always of two figures of this run. `--up` starts the servers and workers too, in a temporary folder.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from figures import tell

TASKS = 100
STEPS = 2000
METRICS = 12
"""Figures of one logged step, as many as a GAN logs."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up", action="store_true", help="also start 't2v up', which takes a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        from tasks.servers.runtime import prepare

        prepare(work)
        orchestration(work)
        tracking(work)
        if arguments.up:
            up(work / "up")


def orchestration(work: Path) -> None:
    """Milliseconds a task costs beyond its work, of 100 tasks in threads under one server of our own."""
    from tasks.servers.runtime import prefect_api

    with prefect_api(work):
        from prefect import flow, task
        from prefect.cache_policies import NO_CACHE
        from prefect.task_runners import ThreadPoolTaskRunner

        @task(cache_policy=NO_CACHE)
        def nothing(i: int) -> int:
            return i

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=16))  # type: ignore[arg-type]
        def many(tasks: int) -> int:
            return sum(future.result() for future in [nothing.submit(i) for i in range(tasks)])

        many(10)  # the first run pays for imports and connections
        for tasks in (TASKS, TASKS, TASKS):
            wall, cpu = time.perf_counter(), time.process_time()
            many(tasks)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            tell(
                {
                    "figure": "orchestration a task, ms",
                    "ms": 1000 * wall / tasks,
                    "cpu_ms": 1000 * cpu / tasks,
                    "tasks": tasks,
                    "gate": 30,
                }
            )


def tracking(work: Path) -> None:
    """Processor time of telling MLflow figures, in the loop and in the sending thread, as a share of a training's."""
    from tasks.mlflow.tracking import track

    steps = 0.026  # seconds of the fastest GAN updates seen on two cores, assumed: slower ones make the share smaller
    with track(work, "benchmark", "tracking", params={}, tags={}) as tracker:
        wall, loop, all_threads = 0.0, 0.0, time.process_time()
        for step in range(0, STEPS * 50, 50):
            begun, mine = time.perf_counter(), time.thread_time()
            tracker.log(step, {f"train/figure_{i}": float(step) for i in range(METRICS)})
            wall += time.perf_counter() - begun
            loop += time.thread_time() - mine
        while tracker._rows or len(tracker._outbox):
            time.sleep(0.05)
        all_threads = time.process_time() - all_threads
    share = all_threads / (STEPS * 50 * steps)
    tell({"figure": "tracking in the loop, ms a logged step", "cpu_ms": 1000 * loop / STEPS, "ms": 1000 * wall / STEPS})
    tell(
        {
            "figure": "tracking, share of training at 50 steps a log",
            "ratio": share,
            "cpu_ms": 1000 * all_threads / STEPS,
            "gate": 0.01,
        }
    )


def up(work: Path) -> None:
    """Seconds until `t2v up` is ready on a fresh folder, and what the processors did for it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    command = [str(Path(sys.executable).with_name("t2v")), "up", "--work", str(work), "--prefect-port", "0"]
    begun = time.perf_counter()
    process = subprocess.Popen([*command, "--mlflow-port", "0"], stderr=subprocess.PIPE, text=True, env=clean)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("ready"):
                break
        wall = time.perf_counter() - begun
        everything = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        times = [p.cpu_times() for p in everything]
        cpu = sum(t.user + t.system + t.children_user + t.children_system for t in times)
        tell({"figure": "t2v up ready, s", "seconds": wall, "cpu_seconds": cpu, "gate": 60})
        begun = time.perf_counter()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    tell({"figure": "t2v up stopped, s", "seconds": time.perf_counter() - begun})


if __name__ == "__main__":
    main()
