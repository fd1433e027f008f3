"""Figures: closed forms, the ceiling, and the floor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.figures import accuracy
from t2v_models.judging.metrics import summarise
from t2v_models.judging.statistics import Z95, wilson
from t2v_models.judging.verdicts import Verdict, table
from tests.grammar import judge, oracle
from tests.tiny import split_prompts


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(243, 256, 91.6, 97.1), (973, 1024, 93.5, 96.2), (256, 256, 98.5, 100)]
)
def test_wilson_intervals_agree_with_published_values(hits: int, n: int, low: float, high: float) -> None:
    score = wilson(hits, n)
    assert (100 * score.low, 100 * score.high) == pytest.approx((low, high), abs=0.15)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_its_equation(pair: tuple[int, int]) -> None:
    hits, n = pair
    score = wilson(hits, n)
    assert 0 <= score.low <= score.value <= score.high <= 1
    for bound in (score.low, score.high):
        if 0 < bound < 1:
            assert abs(score.value - bound) == pytest.approx(Z95 * math.sqrt(bound * (1 - bound) / n), abs=1e-9)
    assert (wilson(n - hits, n).low, wilson(n - hits, n).high) == pytest.approx((1 - score.high, 1 - score.low))


def test_nothing_is_known_of_no_clips() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high, wilson(0, 0).n) == (0, 1, 0)


def test_real_clips_reach_the_ceiling_on_every_split() -> None:
    for split in ("s0", "s1", "s3"):
        prompts = [p for p in split_prompts("circles", split, ("up-right",)) for _ in range(12)]
        seeds = list(range(len(prompts)))
        scores = summarise(judge(oracle(ClipSpec(size=32), prompts, seeds), prompts, seeds, split))
        assert scores["prompt_acc"].value >= 0.995, split
        assert scores["valid"].value == 1
        assert scores["dir_x"].value == scores["dir_y"].value == 1


def test_real_clips_move_the_right_way_however_long_they_are() -> None:
    """Long clips are slow: an object has the same frame to cross."""
    prompts = [p for split in ("s0", "s3") for p in split_prompts("circles", split, ("up-right",)) for _ in range(4)]
    for frames in (4, 64, 200):
        spec = ClipSpec(frames=frames, size=32)
        scores = summarise(judge(oracle(spec, prompts, range(len(prompts))), prompts, range(len(prompts)), "s0"))
        assert [scores[name].value for name in ("moving", "dir_x", "dir_y")] == [1, 1, 1], frames


def test_shuffled_prompts_score_at_chance() -> None:
    prompts = [p for p in split_prompts("circles", "s0", ("up-right",)) for _ in range(40)]
    frames = oracle(ClipSpec(size=32), prompts, range(len(prompts)))
    asked = [v.asked for v in judge(frames, prompts, range(len(prompts)), "s0")]
    chance = sum((asked.count(a) / len(asked)) ** 2 for a in set(asked))
    rng = np.random.default_rng(0)
    shown = np.array([v.shown for v in judge(frames, prompts, range(len(prompts)), "s0")])
    rates = [np.mean(shown[rng.permutation(len(shown))] == np.array(asked)) for _ in range(200)]
    assert np.mean(rates) == pytest.approx(chance, abs=0.005)


def verdict(prompt: str, asked: str, shown: str) -> Verdict:
    return Verdict(prompt=prompt, split="s0", seed=0, asked=asked, shown=shown, right=asked == shown,
                   valid=shown != "invalid", reason="" if asked == shown else "no", rmse=0.0)  # fmt: skip


def test_figures_in_closed_form() -> None:
    verdicts = [
        verdict("a", "up", "up"), verdict("a", "up", "up-left"), verdict("b", "left", "invalid"),
        verdict("b", "left", "down-left"), verdict("c", "shrink", "shrink"), verdict("c", "shrink", "shrink"),
    ]  # fmt: skip
    scores = summarise(verdicts)
    assert accuracy(verdicts).value == scores["prompt_acc"].value == 0.5
    assert (scores["worst_prompt_acc"].value, scores["worst_prompt_acc"].n) == (0, 2)
    assert scores["valid"].value == pytest.approx(5 / 6)


def test_verdicts_say_why_and_make_a_table() -> None:
    spec = ClipSpec(size=32)
    frames = oracle(spec, ["circle moving left", "circle shrinking"], [0, 1])
    verdicts = judge(np.concatenate([frames, np.full_like(frames[:1], 255)]),
                     ["circle moving right", "circle shrinking", "circle moving up"], [0, 1, 2], "s0")  # fmt: skip
    assert [v.right for v in verdicts] == [False, True, False]
    assert [v.reason for v in verdicts] == ["moves like 'left', asked for 'right'", "", "no object in a frame"]
    assert table(verdicts).num_rows == 3
    assert math.isnan(verdicts[2].rmse)


def test_the_oracle_is_a_function_of_its_seeds() -> None:
    spec, prompts = ClipSpec(size=16), ["circle moving left"] * 2
    assert (oracle(spec, prompts, [1, 2]) == oracle(spec, prompts, [1, 2])).all()
    assert (oracle(spec, prompts, [1, 2]) != oracle(spec, prompts, [3, 4])).any()
