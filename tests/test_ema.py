"""Averages of weights, and one of another length made of those that were kept."""

import pytest
import torch
from torch import nn

from t2v_models import checkpoint
from t2v_models.families.diffusion.config import KEPT, DiffusionSettings
from t2v_models.families.ema import Average, blend, power_share
from tests.commands import t2v
from tests.runs import tensors, train

POWERS = tuple(float(power) for power in KEPT.split(","))


def averages_of_a_walk(*powers: float) -> list[Average]:
    """Of 50 weights that walk at random for 1,000 steps."""
    walking, generator = nn.Linear(50, 1, bias=False), torch.Generator().manual_seed(0)
    walking.requires_grad_(False).weight.zero_()
    found = [Average([walking]) for _ in powers]
    for step in range(1000):
        walking.weight += torch.randn(walking.weight.shape, generator=generator)
        for average, power in zip(found, powers, strict=True):
            average.update(power_share(step, power))
    return found


def test_the_average_of_power_g_is_that_of_t_to_the_g():
    """Of weights that are the share of the run that is done: (g + 1) / (g + 2)."""
    network = nn.Linear(1, 1, bias=False).requires_grad_(False)
    average = Average([network])
    for step in range(2000):
        network.weight.fill_((step + 1) / 2000)
        average.update(power_share(step, 8.0))
    assert float(next(average.parameters())) == pytest.approx(9 / 10, abs=1e-3)


@pytest.mark.parametrize("power", [4, 5, 16, 40, 60])
def test_a_blend_is_the_average_of_another_power(power):
    shares = blend(POWERS, power)
    assert sum(shares) == pytest.approx(1)
    if power in POWERS:
        assert shares == pytest.approx([float(known == power) for known in POWERS], abs=1e-9)
    *kept, wanted, even, made = averages_of_a_walk(*POWERS, power, 0.0, 0.0)
    made.become(kept, shares)
    right, found, far = (average[0].weight for average in (wanted, made, even))
    assert (found - right).norm() < 0.03 * (far - right).norm()  # beside the mean of the whole run


def test_a_run_gets_another_average_and_all_else_stays(data, tmp_path, capsys):
    train(data, tmp_path / "run", 4, "diffusion")
    t2v("average", tmp_path / "run", "--power", 10, "--out", tmp_path / "other")
    assert "the average of power 10" in capsys.readouterr().out
    before, chosen = checkpoint.newest(tmp_path / "run"), checkpoint.newest(tmp_path / "other")
    assert before and chosen and chosen.step == before.step and chosen.run.model.ema_power == 10
    was, now = tensors(tmp_path / "run"), tensors(tmp_path / "other")
    shares = blend(chosen.run.model.ema_kept, 10)
    for name, found in now.items():
        if name.startswith("average."):
            parts = (was[name.replace("average", f"kept.{i}", 1)] for i in range(len(shares)))
            torch.testing.assert_close(found, sum(share * part for share, part in zip(shares, parts, strict=True)))
        else:
            assert torch.equal(found, was[name])


@pytest.mark.parametrize(
    ("family", "power", "words"),
    [
        ("diffusion", 3, "between those that were kept, 4 and 24 (found 3)"),
        ("gan", 8, "gan, which keeps one average only"),
    ],
)
def test_what_cannot_be_chosen_is_refused(data, tmp_path, capsys, family, power, words):
    train(data, tmp_path / "run", 1, family)
    with pytest.raises(AssertionError):
        t2v("average", tmp_path / "run", "--power", power, "--out", tmp_path / "other")
    assert words in capsys.readouterr().err and not list((tmp_path / "other").rglob("*.json"))


def test_one_average_is_no_choice():
    with pytest.raises(ValueError, match="two or more"):
        DiffusionSettings(ema_kept=(8,))
