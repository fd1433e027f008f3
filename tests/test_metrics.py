"""Figures in closed form, on verdicts written by hand, and their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_models.evaluation import metrics as m
from t2v_models.evaluation.compare import by_change, differences
from t2v_models.evaluation.milestones import Milestones
from t2v_models.evaluation.statistics import block_mean, cluster_mean, cluster_ratio, newcombe, wilson
from t2v_models.evaluation.verdicts import Verdict


def verdict(asked: str, shown: str, prompt: str = "", seed: int = 0, **numbers: object) -> Verdict:
    """A clip of five frames that goes right by 2 px/frame, unless told otherwise."""
    path = {
        "x": tuple(10.0 + 2 * t for t in range(5)),
        "y": (20.0,) * 5,
        "radius": (6.0,) * 5,
        "angle": 0.0,
        "path": 8.0,
    }
    right, valid = asked == shown, shown != "invalid"
    return Verdict.model_validate(
        {"prompt": prompt or asked, "split": "s0", "seed": seed, "asked": asked, "shown": shown, "right": right,
         "valid": valid, "reason": "" if right else "no", "rmse": 0.0, "permanent": valid} | path | numbers
    )  # fmt: skip


def test_signs_are_those_of_the_path() -> None:
    verdicts = [
        verdict("right", "right"),
        verdict("up-right", "right"),
        verdict("left", "right"),
        verdict("shrink", "right"),
    ]
    assert (m.direction(verdicts, 0).value, m.direction(verdicts, 0).n) == (pytest.approx(2 / 3), 3)
    assert m.direction(verdicts, 1).value == pytest.approx(2 / 3)  # up-right has no sign along y
    assert m.direction([verdict("right", "invalid")], 0).value == 0


def test_failures_are_imputed_not_dropped() -> None:
    verdicts = [verdict("right", "right", traj_rmse=1.0), verdict("right", "invalid", size=32)]
    assert (m.mean(verdicts, "traj_rmse").value, m.mean(verdicts, "traj_rmse").n) == (1, 1)
    assert (m.mean(verdicts, "traj_rmse_imputed").value, m.mean(verdicts, "traj_rmse_imputed").n) == (8.5, 2)


def test_copied_cases_count_only_where_nothing_was_trained() -> None:
    seen = {("up", "circle", "blue"), ("right", "circle", "blue")}
    verdicts = [
        verdict("up-right", "up"),
        verdict("up-right", "up-right"),
        verdict("up-right", "other"),
        verdict("up", "right"),
    ]
    assert (m.case_copy(verdicts, seen).value, m.case_copy(verdicts, seen).n) == (pytest.approx(1 / 3), 3)


def test_the_whole_is_the_product_of_independent_parts() -> None:
    ways = {(1, -1): 4, (1, 0): 4, (0, -1): 4, (0, 0): 4}  # each axis right in half of the clips, independently
    verdicts = [
        verdict("up-right", "other", x=tuple(10.0 + 2 * h * t for t in range(5)),
                y=tuple(20.0 + 2 * v * t for t in range(5)))
        for (h, v), count in ways.items() for _ in range(count)
    ]  # fmt: skip
    assert m.mult_ratio(verdicts).value == pytest.approx(1)
    assert m.mult_ratio([v for v in verdicts if v.x[1] != v.x[0] and v.y[1] != v.y[0]]).value == 1


def test_consistency_is_asked_only_where_there_is_motion() -> None:
    frozen = verdict("right", "still", path=0.0, radius_cv=0.0)
    assert m.mean([frozen], "radius_cv").n == m.permanence([frozen]).n == 0
    assert m.motion_ratio([frozen], [verdict("right", "right")]).value == 0
    assert (m.moving([frozen, verdict("right", "right"), verdict("shrink", "shrink")]).value, m.moving([frozen]).n) == (
        0.5,
        1,
    )
    lost = verdict("right", "invalid")
    assert m.permanence([verdict("right", "right"), lost]).value == 0.5


def test_a_jump_is_a_teleport() -> None:
    jump = verdict("right", "other", x=(10.0, 12.0, 14.0, 40.0, 42.0), path=32.0)
    score = m.teleport([jump, verdict("right", "right")], [verdict("right", "right")])
    assert score.value == pytest.approx(1 / 8)


def test_best_come_first() -> None:
    verdicts = [verdict("right", "invalid"), verdict("right", "right", traj_rmse=0.5), verdict("right", "left"),
                verdict("right", "right", success=True, traj_rmse=1.0)]  # fmt: skip
    assert m.best_first(verdicts) == [3, 1, 2, 0]


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 4)), min_size=1, max_size=40))
def test_cluster_means_lie_inside_their_interval_and_repeat(rows: list[tuple[float, int]]) -> None:
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    score = cluster_mean(values, groups)
    assert score.value == pytest.approx(np.mean(values), abs=1e-9)
    assert score.low <= score.value <= score.high
    assert score == cluster_mean(values, groups)


def test_clusters_widen_the_interval_to_what_they_are_worth() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(size=40)
    values = np.repeat(levels, 25)  # 1,000 clips that are worth 40
    score = cluster_mean(values, list(np.repeat(np.arange(40), 25)))
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * levels.std() / math.sqrt(40), rel=0.1)
    assert math.isnan(cluster_mean([math.nan], ["a"]).value)
    assert cluster_ratio([2.0, 4.0], [1.0, 2.0], "ab").value == 2


def test_blocks_and_differences_agree_with_published_values() -> None:
    score = block_mean([1.0, 2.0, 3.0], 30)
    assert (score.value, score.high) == (2, pytest.approx(2 + 4.303 / math.sqrt(3)))
    gap = newcombe(wilson(56, 70), wilson(48, 80))  # Newcombe 1998, table II, example (a), method 10
    assert (gap.value, gap.low, gap.high) == (
        pytest.approx(0.2),
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )


def test_differences_are_paired_and_say_who_is_better() -> None:
    prompts = ("right", "left", "up", "down", "up-left")
    first = [verdict(p, p, seed=s, traj_rmse=float(s), shape_iou=0.9) for p in prompts for s in range(20)]
    second = [v.model_copy(update={"traj_rmse": v.traj_rmse - 0.5, "right": v.asked != "up"}) for v in reversed(first)]
    found = {d.metric: d for d in differences(first, second)}
    assert (found["traj_rmse"].gap.value, found["traj_rmse"].gap.low, found["traj_rmse"].better) == (-0.5, -0.5, True)
    assert found["prompt_acc"].better is False
    assert found["shape_iou"].better is None
    assert by_change(first, second)[-1][0] == "up"


def test_milestones_are_the_first_readings_at_each_level() -> None:
    readings = {5: 0.2, 20: 0.85, 30: 0.4, 40: 0.9, 50: 1.0}
    ways = Milestones(64)
    passed = {s: ways.passed(s, {"watch/prompt_acc": a, "train/seconds": s / 2}) for s, a in readings.items()}
    assert passed == {
        5: {}, 30: {},
        20: {"reach/50_seconds": 10, "reach/50_clip_steps": 1280, "reach/80_seconds": 10, "reach/80_clip_steps": 1280},
        40: {"reach/90_seconds": 20, "reach/90_clip_steps": 2560},
        50: {"reach/95_seconds": 25, "reach/95_clip_steps": 3200},
    }  # fmt: skip
    assert ways.passed(60, {"train/loss/generator": 1.0}) == {}
