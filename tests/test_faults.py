"""Kills, stops and their sequels: whatever ends a run, the same command goes on, and the end is the same.

`T2V_KILLS=20` kills twenty times; a few are enough for every day.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models.config import LabError
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training import launch, loop, run_log
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import Job
from t2v_models.training.loop import fit
from t2v_models.training.run_log import METRICS
from tests.forked import PATIENCE, by_two_ranks, ended, start
from tests.runs import SMALL, quiet, run_of, tensors

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("T2V_KILLS", "4"))
FOREVER = 10**6


def learn(data: Path, run_dir: Path, steps: int) -> None:
    """A run that saves after every step, so that most of its time goes into writing checkpoints."""
    config = TrainConfig(steps=steps, log_every=1, save_seconds=1e-9, probe_seconds=0)
    fit(run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data)), config, run_dir, quiet)


def learn_by_two(data: Path, run_dir: Path, steps: int) -> None:
    """The same by two ranks of torchrun."""
    job = Job(data=str(data), cache=data, run=run_of(data, SMALL["gan"]), training=of_two(steps), run_dir=run_dir)
    launch.train(job, quiet)


def learn_as_rank(data: Path, run_dir: Path, steps: int) -> None:
    """What each of those two ranks does."""
    fit(run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data)), of_two(steps), run_dir, quiet)


def of_two(steps: int) -> TrainConfig:
    return TrainConfig(steps=steps, log_every=1, save_seconds=0.05, probe_seconds=0, ranks=2, device="cpu")


def lines(run_dir: Path) -> int:
    path = run_dir / METRICS
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def is_writing(run_dir: Path) -> bool:
    return any(checkpoints.folder(run_dir).glob("*.tmp"))


def wait_for(process: BaseProcess, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.is_alive() and time.monotonic() < end, f"waited in vain, exit code {process.exitcode}"
        time.sleep(0.002)


def wait_for_lines(process: BaseProcess, run_dir: Path, count: int) -> None:
    wait_for(process, lambda: lines(run_dir) >= count)


def end_by_sigterm(process: BaseProcess, run_dir: Path) -> int:
    """The step that a run has saved when it is told to end.

    A container may kill it ten seconds later: how many it takes is said and no fault, since a busy machine needs more.
    """
    told = time.time()
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process) == 128 + signal.SIGTERM
    last = checkpoints.newest(run_dir)
    assert last and last.step == max(run_log.history(run_dir))
    saved = max(path.stat().st_mtime for path in checkpoints.folder(run_dir).iterdir())
    print(f"saved {saved - told:.2f} s after SIGTERM, ended {time.time() - told:.2f} s after it")
    return last.step


def same(one: Path, other: Path) -> bool:
    left, right = tensors(one), tensors(other)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def newest_step(run_dir: Path) -> int:
    last = checkpoints.newest(run_dir)
    return last.step if last else 0


def test_kill_nine_at_random_moments_loses_no_whole_checkpoint_and_the_end_is_the_same(
    data: Path, tmp_path: Path
) -> None:
    steps, killed = 16 * KILLS, tmp_path / "killed"
    assert ended(start(learn, data, tmp_path / "whole", steps)) == 0
    moment, reached, while_writing = random.Random(0), 0, 0
    for _ in range(KILLS):
        process = start(learn, data, killed, steps)
        wait_for_lines(process, killed, lines(killed) + moment.randrange(2, 8))
        if moment.random() < 0.5:
            wait_for(process, lambda: is_writing(killed))
        else:
            time.sleep(moment.uniform(0, 0.03))
        process.kill()
        assert ended(process) == -signal.SIGKILL
        while_writing += is_writing(killed)
        assert newest_step(killed) >= reached
        reached = newest_step(killed)
    print(f"{while_writing} of {KILLS} kills while a checkpoint was written, {reached} of {steps} steps done by then")
    assert reached
    assert ended(start(learn, data, killed, steps)) == 0
    assert not is_writing(killed)
    assert same(tmp_path / "whole", killed)
    assert list(run_log.history(killed)) == list(range(1, steps + 1))


def test_sigterm_saves_the_step_it_was_in(data: Path, tmp_path: Path) -> None:
    process = start(learn, data, tmp_path, FOREVER)
    wait_for_lines(process, tmp_path, 3)
    end_by_sigterm(process, tmp_path)


def test_a_folder_has_one_trainer_at_a_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(learn, data, tmp_path, FOREVER)
    wait_for_lines(process, tmp_path, 1)
    monkeypatch.setattr(loop, "LOCK_SECONDS", 0.0)
    with pytest.raises(LabError, match=f"another process trains in {tmp_path}"):
        learn(data, tmp_path, FOREVER)
    process.kill()
    assert ended(process) == -signal.SIGKILL


def test_two_ranks_that_are_stopped_or_whose_launcher_is_killed_go_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    steps, broken = 150, tmp_path / "broken"
    process = start(learn_by_two, data, broken, steps)
    wait_for_lines(process, broken, 5)
    stopped = end_by_sigterm(process, broken)
    assert 5 <= stopped < steps

    process = start(learn_by_two, data, broken, steps)
    wait_for_lines(process, broken, stopped + 5)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    for run_dir in (broken, tmp_path / "whole"):  # without torchrun, which takes its time to start
        by_two_ranks(learn_as_rank, data, run_dir, steps)
    assert newest_step(broken) == steps
    assert same(tmp_path / "whole", broken)


def ranks_of_torchrun() -> dict[str, psutil.Process]:
    """Processes that torchrun of this one started, by their number on this machine."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            if rank := process.environ().get("LOCAL_RANK"):
                found[rank] = process
    return found


def test_a_rank_that_is_killed_ends_the_other_and_the_command_says_so(data: Path, tmp_path: Path) -> None:
    killed: list[psutil.Process] = []

    def kill_second(step: int, figures: dict[str, float]) -> None:
        if not killed:
            killed.append(ranks_of_torchrun()["1"])
            killed[0].kill()

    job = Job(data=str(data), cache=data, run=run_of(data, SMALL["gan"]), training=of_two(FOREVER), run_dir=tmp_path)
    with pytest.raises(RuntimeError, match=r"a rank failed(.|\n)*SIGKILL"):
        launch.train(job, kill_second)
    assert killed and not ranks_of_torchrun()
