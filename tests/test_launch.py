"""Several ranks learn what one process learns, stop together, and end with the process that launched them."""

from pathlib import Path

import pytest
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models import launch, training
from t2v_models.build import FAMILIES
from t2v_models.launch import Job
from t2v_models.training import TrainConfig
from tests.test_training import SMALL, train

pytestmark = pytest.mark.slow


def job(data: Path, run_dir: Path, steps: int, name: str = "gan", ranks: int = 2) -> Job:
    config = TrainConfig(steps=steps, log_every=1, probe_seconds=0, ranks=ranks, device="cpu")
    return Job(data=str(data), cache=data, model=SMALL[name], training=config, run_dir=run_dir)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_ranks_learn_what_one_learns_from_the_same_batches(name: str, data: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(data, one, 6, name)
    seen: dict[int, dict[str, float]] = {}
    last = launch.train(job(data, two, 6, name), lambda step, row: seen.setdefault(step, {}).update(row))
    assert last.step == 6
    assert seen == training.history(two)
    for step, figures in training.history(one).items():
        losses = {name: value for name, value in figures.items() if name.startswith("train/")}
        assert losses == pytest.approx({name: seen[step][name] for name in losses}, abs=1e-5)
    weights, others = (checkpoints.load(run_dir)[0].state_dict() for run_dir in (one, two))
    for key, value in weights.items():  # looser: where a gradient is nearly 0, Adam makes a step of its rounding
        torch.testing.assert_close(others[key], value, rtol=1e-4, atol=1e-4)
