"""What processes of one machine write for each other is what the others read, whoever is late, and nobody waits for
the dead."""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from t2v_models.distributed import shared_memory
from t2v_models.distributed.shared_memory import AWAKE_SECONDS, SharedRows, new_shared_file
from tests.forked import ended, start

WORLD, LENGTH, ROUNDS = 3, 1000, 300


def numbers(rank: int, turn: int) -> torch.Tensor:
    return torch.arange(LENGTH) * (rank + 1) + 7 * turn


def exchange(path: Path, rank: int, rounds: int) -> None:
    """Some rounds, now and then late: by less than the others stay awake for, or by more."""
    rows = SharedRows(str(path), rank, WORLD, LENGTH, torch.int64)
    late = random.Random(rank)
    for turn in range(rounds):
        if late.random() < 0.05:
            time.sleep(late.choice((0.2, 2)) * AWAKE_SECONDS)
        mine = numbers(rank, turn)
        found = rows.exchange([mine[:10], mine[10:11], mine[11:]])
        assert torch.equal(found, torch.stack([numbers(other, turn) for other in range(WORLD)])), turn


def wait_for_the_dead(path: Path, rank: int) -> None:
    with pytest.raises(RuntimeError, match=r"rank 1 \(process \d+\) has ended"):
        exchange(path, rank, ROUNDS)


@pytest.fixture
def blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Path(new_shared_file(WORLD, LENGTH, torch.int64))


def test_all_read_what_each_has_written_in_every_round(blank: Path) -> None:
    processes = [start(exchange, blank, rank, ROUNDS) for rank in range(WORLD)]
    assert [ended(process) for process in processes] == [0] * WORLD


def test_nobody_waits_for_a_process_that_has_ended_and_was_not_reaped(blank: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the list of processes
        rows = SharedRows(str(blank), 0, WORLD, LENGTH, torch.int64)
        rows.counts[2], rows.processes[1] = 1, child.pid
        with pytest.raises(RuntimeError, match=rf"rank 1 \(process {child.pid}\) has ended"):
            rows.exchange([numbers(0, 0)])


def test_nobody_waits_for_ever(blank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "SILENT_SECONDS", 0.5)
    rows = SharedRows(str(blank), 0, WORLD, LENGTH, torch.int64)
    rows.processes[1:] = os.getpid()
    with pytest.raises(RuntimeError, match=rf"rank 1 \(process {os.getpid()}\) has not come for 0 minutes"):
        rows.exchange([numbers(0, 0)])


def test_who_waits_for_a_process_that_has_ended_says_which(blank: Path) -> None:
    short = start(exchange, blank, 1, 5)
    waiting = [start(wait_for_the_dead, blank, rank) for rank in (0, 2)]
    assert [ended(process) for process in (short, *waiting)] == [0, 0, 0]
