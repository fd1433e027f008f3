"""Several ranks learn what one process learns, on one machine or on more, and go on where others stopped."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models.config import LabError
from t2v_models.training import launch, run_log
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import Job
from tasks.servers.supervisor import free_port
from tests.forked import PATIENCE, by_two_ranks
from tests.runs import SMALL, run_of, tensors, train

STEPS = 6


@pytest.mark.parametrize(
    ("changes", "machines", "sentence"),
    [
        ({"ranks": 99}, "1", "a batch of 8 clips is 4 runs of 2, too few for 99 parts"),
        ({"ranks": 3}, "2", "too few for 6 parts"),
        ({"ranks": 3}, "2:4", "too few for 6 parts"),
        ({"ranks": 4}, "1", "4 ranks on 3 CPU cores would wait for each other: use --ranks 3, or add --oversubscribe"),
        ({"ranks": 4, "oversubscribe": True}, "1", None),
        ({"ranks": 2}, "2", None),
        ({"ranks": 2, "device": "cuda"}, "1", "device 'cuda' was asked for and this machine has none"),
    ],
)
def test_ranks_that_find_no_work_or_no_core_are_refused_before_one_is_started(
    changes: dict[str, object],
    machines: str,
    sentence: str | None,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(launch, "cores", lambda: 3)
    monkeypatch.setenv("PET_NNODES", machines)
    config = TrainConfig.model_validate({"steps": 1, "device": "cpu"} | changes)
    if sentence is None:
        return launch.check_ranks(SMALL["gan"], config)
    job = Job(data=str(data), cache=tmp_path, run=run_of(data, SMALL["gan"]), training=config, run_dir=tmp_path / "run")
    with pytest.raises(LabError, match=sentence):
        launch.train(job, lambda step, row: None)
    assert not (tmp_path / "run").exists()


def by_torchrun(data: Path, run_dir: Path, name: str, ranks: int = 2) -> None:
    """Also: what the ranks tell comes back, each step once."""
    before = run_log.history(run_dir)
    seen: dict[int, dict[str, float]] = {}
    config = TrainConfig(steps=STEPS, log_every=1, probe_seconds=0, ranks=ranks, device="cpu")
    job = Job(data=str(data), cache=data, run=run_of(data, SMALL[name]), training=config, run_dir=run_dir)
    with listening() as addresses:
        last = launch.train(job, lambda step, row: seen.setdefault(step, {}).update(row))
    assert last.step == STEPS
    if ranks > 1:
        assert addresses == {"127.0.0.1"}, "other machines could reach the ranks"
    assert before | seen == run_log.history(run_dir)


@contextmanager
def listening() -> Iterator[set[str]]:
    """The addresses at which the children of this process listen while the block runs."""
    found: set[str] = set()
    over = Event()

    def look() -> None:
        while not over.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    found.update(c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield found
        finally:
            over.set()
        looking.result()


def forked(data: Path, run_dir: Path, name: str) -> None:
    """Without torchrun, which knows no model by name."""
    by_two_ranks(learn, data, run_dir, name)


def learn(data: Path, run_dir: Path, name: str, steps: int = STEPS) -> None:
    train(data, run_dir, steps, name, ranks=2, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by_two"), [("gan", by_torchrun), ("diffusion", forked), ("phenaki", forked)])
def test_two_ranks_learn_what_one_learns_from_the_same_batches(
    name: str, by_two: Callable[[Path, Path, str], None], data: Path, tmp_path: Path
) -> None:
    """Of the loop: that each family's own steps are equal by any ranks is proven in `test_ranks`."""
    one, two = tmp_path / "one", tmp_path / "two"
    train(data, one, STEPS, name)
    by_two(data, two, name)
    seen = run_log.history(two)
    for step, figures in run_log.history(one).items():
        losses = {name: value for name, value in figures.items() if name.startswith("train/")}
        assert losses == pytest.approx({name: seen[step][name] for name in losses}, abs=1e-5)
    weights, others = (checkpoints.load(run_dir)[0].state_dict() for run_dir in (one, two))
    for key, value in weights.items():  # looser: where a gradient is nearly 0, Adam makes a step of its rounding
        torch.testing.assert_close(others[key], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_machines_go_on_as_two_ranks_of_one_would(data: Path, tmp_path: Path, monkeypatch) -> None:
    """The machines are process groups on the loopback, a rank each; a run of two ranks of one machine is their start.

    Half of its steps are made before; the models at the end of both ways are equal bit for bit.
    """
    one, two, name = tmp_path / "one", tmp_path / "two", "frame_gan"  # its threads are given, not those of a machine
    by_two_ranks(learn, data, one, name, STEPS // 2)
    shutil.copytree(one, two)
    by_two_ranks(learn, data, one, name)
    meeting = {"PET_NNODES": "2", "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": f"127.0.0.1:{free_port(0, 'c10d')}"}
    for variable, value in meeting.items():
        monkeypatch.setenv(variable, value)
    other = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "-m", "t2v_models.training.launch"]
    with subprocess.Popen([*other, str(two / "job.json")], env=os.environ | {"OMP_NUM_THREADS": "1"}) as machine:
        by_torchrun(data, two, name, ranks=1)
        assert machine.wait(PATIENCE) == 0
    assert list(run_log.history(two)) == list(range(1, STEPS + 1))
    states = (tensors(run_dir) for run_dir in (one, two))
    for (key, value), (_, other_value) in zip(*(sorted(state.items()) for state in states), strict=True):
        assert torch.equal(value, other_value), f"{key} differs"
