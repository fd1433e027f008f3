"""Several ranks learn what one process learns, stop together, and end with the process that launched them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models import launch, training
from t2v_models.build import FAMILIES
from t2v_models.launch import Job
from t2v_models.training import TrainConfig
from tests.forked import by_two_ranks
from tests.test_training import SMALL, train

pytestmark = pytest.mark.slow


STEPS = 6


def by_torchrun(data: Path, run_dir: Path, name: str) -> None:
    """Also: what the ranks tell comes back, each step once."""
    seen: dict[int, dict[str, float]] = {}
    config = TrainConfig(steps=STEPS, log_every=1, probe_seconds=0, ranks=2, device="cpu")
    job = Job(data=str(data), cache=data, model=SMALL[name], training=config, run_dir=run_dir)
    last = launch.train(job, lambda step, row: seen.setdefault(step, {}).update(row))
    assert last.step == STEPS
    assert seen == training.history(run_dir)


def forked(data: Path, run_dir: Path, name: str) -> None:
    """Without torchrun, which knows no model by name."""
    by_two_ranks(learn, data, run_dir, name)


def learn(data: Path, run_dir: Path, name: str) -> None:
    train(data, run_dir, STEPS, name, ranks=2, device="cpu")


@pytest.mark.parametrize(("name", "by_two"), list(zip(FAMILIES, (by_torchrun, forked), strict=True)))
def test_two_ranks_learn_what_one_learns_from_the_same_batches(
    name: str, by_two: Callable[[Path, Path, str], None], data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(data, one, STEPS, name)
    by_two(data, two, name)
    seen = training.history(two)
    for step, figures in training.history(one).items():
        losses = {name: value for name, value in figures.items() if name.startswith("train/")}
        assert losses == pytest.approx({name: seen[step][name] for name in losses}, abs=1e-5)
    weights, others = (checkpoints.load(run_dir)[0].state_dict() for run_dir in (one, two))
    for key, value in weights.items():  # looser: where a gradient is nearly 0, Adam makes a step of its rounding
        torch.testing.assert_close(others[key], value, rtol=1e-4, atol=1e-4)
