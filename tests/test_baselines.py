"""Baselines: the ceiling and the floors are where they must be (V5, V13 of the judge)."""

import numpy as np
import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.clips.splits import split_prompts
from t2v_models.evaluation.baselines import BASELINES, nearest_seen
from t2v_models.evaluation.metrics import summarise
from t2v_models.evaluation.statistics import Score
from t2v_models.evaluation.suite import cases
from t2v_models.evaluation.verdicts import judge

DATA = DatasetConfig(spec=ClipSpec(size=32))


def scores(name: str, split: str, count: int = 12) -> dict[str, Score]:
    prompts = [p for p in split_prompts("circles", split, DATA.hold_out) for _ in range(count)]
    frames = BASELINES[name](DATA, prompts, range(len(prompts)))
    return summarise(judge(frames, prompts, range(len(prompts)), split), seen=cases(DATA))


def test_retrieval_knows_every_wording_and_nothing_new() -> None:
    assert scores("retrieval", "s0")["prompt_acc"].value >= 0.995
    assert scores("retrieval", "s1")["prompt_acc"].value >= 0.98
    held_out = scores("retrieval", "s3")
    assert held_out["prompt_acc"].value == 0
    assert held_out["case_copy"].value == 1
    assert max(held_out["dir_x"].value, held_out["dir_y"].value) <= 0.75


def test_the_deaf_oracle_scores_chance_and_looks_perfect() -> None:
    found = scores("unconditional", "s0", 40)
    motions = [c[0] for c in cases(DATA)]
    assert found["prompt_acc"].low <= 1 / len(motions) <= found["prompt_acc"].high
    assert found["valid"].value == 1
    assert found["shape_iou"].value > 0.98


@pytest.mark.parametrize(
    ("name", "most", "valid"), [("independent", 0.02, 1), ("frozen", 0, 1), ("blank", 0, 0), ("noise", 0, 0)]
)
def test_floors(name: str, most: float, valid: float) -> None:
    found = scores(name, "s0")
    assert found["prompt_acc"].value <= most
    assert found["valid"].value == pytest.approx(valid, abs=0.05)
    assert "permanence" not in found if name == "frozen" else True  # a frozen clip earns no praise for consistency


def test_baselines_are_functions_of_their_seeds() -> None:
    for name, baseline in BASELINES.items():
        once, again = (baseline(DATA, ["circle moving left"] * 2, [5, 6]) for _ in range(2))
        assert np.array_equal(once, again), name
        assert once.shape == (2, 10, 32, 32, 3)


def test_the_nearest_seen_prompt_shares_most_words() -> None:
    assert nearest_seen(DATA, "circle shrinking") == "circle shrinking"
    assert "up" in nearest_seen(DATA, "circle moving diagonally up-right") or "right" in nearest_seen(
        DATA, "circle moving diagonally up-right"
    )
