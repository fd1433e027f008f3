"""Figures in closed form, on verdicts written by hand, and their intervals."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_models.judging import figures as m
from t2v_models.judging.metrics import METRICS, document, summarise
from t2v_models.judging.statistics import Score, block_mean, exact, mean, newcombe, wilson
from t2v_models.judging.verdicts import Verdict
from t2v_models.leaderboard.compare import by_change, differences
from t2v_models.leaderboard.milestones import Milestones


def verdict(asked: str, shown: str, prompt: str = "", seed: int = 0, **numbers: object) -> Verdict:
    """A clip of five frames that goes right by 2 px/frame, unless told otherwise."""
    path = {
        "x": tuple(10.0 + 2 * t for t in range(5)),
        "y": (20.0,) * 5,
        "radius": (6.0,) * 5,
        "angle": 0.0,
        "path": 8.0,
    }
    look = {"asked_shape": "circle", "shown_shape": "circle", "asked_colour": "blue", "shown_colour": "blue"}
    right, valid = asked == shown, shown != "invalid"
    return Verdict.model_validate(
        {"prompt": prompt or asked, "split": "s0", "seed": seed, "asked": asked, "shown": shown, "right": right,
         "valid": valid, "reason": "" if right else "no", "rmse": 0.0, "permanent": valid} | path | look | numbers
    )  # fmt: skip


def test_signs_are_those_of_the_path() -> None:
    verdicts = [
        verdict("right", "right"),
        verdict("up-right", "right"),
        verdict("left", "right"),
        verdict("shrink", "right"),
    ]
    assert (METRICS["dir_x"].over(verdicts).value, METRICS["dir_x"].over(verdicts).n) == (pytest.approx(2 / 3), 3)
    assert METRICS["dir_y"].over(verdicts).value == pytest.approx(2 / 3)  # up-right has no sign along y
    assert METRICS["dir_x"].over([verdict("right", "invalid")]).value == 0


def test_failures_are_imputed_not_dropped() -> None:
    verdicts = [verdict("right", "right", traj_rmse=1.0), verdict("right", "invalid", size=32)]
    assert (METRICS["traj_rmse"].over(verdicts).value, METRICS["traj_rmse"].over(verdicts).n) == (1, 1)
    assert (METRICS["traj_rmse_imputed"].over(verdicts).value, METRICS["traj_rmse_imputed"].over(verdicts).n) == (
        8.5,
        2,
    )


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
    assert METRICS["radius_cv"].over([frozen]).n == METRICS["permanence"].over([frozen]).n == 0
    assert m.motion_ratio([frozen], [verdict("right", "right")]).value == 0
    moving = METRICS["moving"].over([frozen, verdict("right", "right"), verdict("shrink", "shrink")])
    assert (moving.value, moving.n) == (0.5, 2)
    lost = verdict("right", "invalid")
    assert METRICS["permanence"].over([verdict("right", "right"), lost]).value == 0.5


def test_a_jump_is_a_teleport() -> None:
    jump = verdict("right", "other", x=(10.0, 12.0, 14.0, 40.0, 42.0), path=32.0)
    score = m.teleport([jump, verdict("right", "right")], [verdict("right", "right")])
    assert score.value == pytest.approx(1 / 8)


def test_best_come_first() -> None:
    verdicts = [verdict("right", "invalid"), verdict("right", "right", traj_rmse=0.5), verdict("right", "left"),
                verdict("right", "right", success=True, traj_rmse=1.0)]  # fmt: skip
    assert m.best_first(verdicts) == [3, 1, 2, 0]


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 4)), min_size=1, max_size=40))
def test_means_lie_inside_their_interval(rows: list[tuple[float, int]]) -> None:
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    score = mean(values, groups)
    assert score.value == pytest.approx(np.mean(values), abs=1e-9)
    assert score.low <= score.value <= score.high
    assert mean([*values, math.nan], [*groups, 0]).value == pytest.approx(score.value, abs=1e-9)


def test_the_interval_of_one_prompt_is_students_and_of_one_clip_unbounded() -> None:
    t = 4.3027  # 97.5 % of Student's t with two degrees of freedom
    score = mean([-1.0, 0.0, 1.0], "aaa")
    assert (score.low, score.high) == pytest.approx((-t / math.sqrt(3), t / math.sqrt(3)), abs=1e-3)
    assert mean([1.0, 2.0, 3.0], "aaa", minimum=0).low == 0
    assert mean([1.0, 2.0, 3.0], "abc").high == pytest.approx(2 + t / math.sqrt(3), abs=1e-3)
    assert (mean([5.0, math.nan], "aa").low, mean([5.0], "a", minimum=0).low, mean([5.0], "a").high) == (
        -math.inf,
        0,
        math.inf,
    )
    assert math.isnan(mean([math.nan], "a").value)
    assert "traj_rmse" not in summarise([verdict("right", "right", traj_rmse=1.0)])  # nothing says how sure it is


def test_exact_intervals_agree_with_published_values() -> None:
    score = exact(15, 148, 0.05)  # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 5
    assert (score.low, score.high) == (pytest.approx(0.0578, abs=1e-4), pytest.approx(0.1617, abs=1e-4))
    assert (exact(0, 20, 0.05).low, exact(20, 20, 0.05).high) == (0, 1)


def held(truth: float, scores: Iterable[Score]) -> float:
    """Share of intervals that hold the truth."""
    return float(np.mean([s.low <= truth <= s.high for s in scores]))


@pytest.mark.parametrize(("prompts", "clips", "missing", "empty"), [
    *((k, n, 0.0, 0) for k in (1, 2, 3, 18) for n in (2, 8, 64)), (3, 64, 0.2, 0), (18, 64, 0.9, 0), (8, 2, 0.0, 10),
])  # fmt: skip
def test_intervals_of_means_hold_the_truth(prompts: int, clips: int, missing: float, empty: int) -> None:
    """For any number of prompts that differ by more than clips do, where clips or whole prompts lack the number."""
    rng, levels = np.random.default_rng(0), np.arange(prompts) * 10.0
    groups = list(np.repeat(np.arange(prompts + empty), clips))
    scores = []
    for _ in range(2000):
        values = (levels[:, None] + rng.normal(size=(prompts, clips))).ravel()
        values[rng.random(len(values)) < missing] = math.nan
        scores.append(mean([*values, *[math.nan] * (empty * clips)], groups))
    assert 0.935 <= held(levels.mean(), scores) <= 0.965


def test_prompts_with_a_clip_each_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    for prompts in (2, 3, 5):
        scores = [mean(rng.normal(size=prompts), range(prompts)) for _ in range(2000)]
        assert 0.935 <= held(0, scores) <= 0.965


@pytest.mark.parametrize("rates", [(0.9,), (0.9,) * 18, (0.5, *(0.95,) * 17), (0.98,) * 60, (1.0,) * 18])
def test_the_interval_of_the_worst_prompt_knows_that_it_was_chosen(rates: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        shown = {str(i): rng.random(64) < rate for i, rate in enumerate(rates)}
        found.append(m.worst_prompt_acc([CLIPS[bool(hit)][prompt] for prompt, hits in shown.items() for hit in hits]))
    assert held(min(rates), found) >= 0.94
    assert all(score.low <= score.value <= score.high for score in found)


CLIPS = {hit: {str(i): verdict("up", "up" if hit else "left", str(i)) for i in range(60)} for hit in (False, True)}


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "clips", "valid"), [(2, 40, 40), (18, 2, 2), (18, 8, 8), (1, 64, 2), (3, 64, 3)])
def test_intervals_of_ratios_to_real_clips_hold_the_truth(prompts: int, clips: int, valid: int) -> None:
    """Half as wide and as long as real clips, which are drawn by chance too; also where few clips can be read."""
    rng = np.random.default_rng(0)
    spreads: list[Score] = []
    lengths: list[Score] = []
    for _ in range(300):
        made, real = (
            [
                verdict("up", "up" if i < kept else "invalid", str(p), x=(x, x), path=x if i < kept else math.nan)
                for p in range(prompts) for i, x in enumerate(width * rng.random(clips))
            ]
            for width, kept in ((5.0, valid), (10.0, clips))
        )  # fmt: skip
        spreads.append(m.std_ratios(made, real)["std_ratio_x"])
        lengths.append(m.motion_ratio(made, real))
    assert min(held(0.5, spreads), held(0.5, lengths)) >= 0.9
    assert lengths[0].n == prompts * valid


def test_a_single_clip_beside_real_ones_says_nothing() -> None:
    real = [verdict("right", "right", path=float(i)) for i in range(1, 9)]
    assert m.motion_ratio([verdict("right", "right")], real).high == math.inf
    assert "motion_ratio" not in summarise(
        [verdict("right", "right"), verdict("right", "invalid", path=math.nan)], real
    )
    unreadable = [verdict("up", "invalid", path=math.nan)]
    assert m.motion_ratio([*real, verdict("up", "up")], [*real, *unreadable]).value == pytest.approx(1)


def test_the_interval_of_parts_holds_the_truth() -> None:
    """Axes right by themselves, in 80 and 60 % of the clips."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        axes = rng.random((64, 2)) < (0.8, 0.6)
        found.append(m.mult_ratio([verdict("up-right", "other", x=(9.0, 9.0 + h), y=(9.0, 9.0 - v)) for h, v in axes]))
    assert 0.92 <= held(1, found) <= 0.98


def test_blocks_and_differences_agree_with_published_values() -> None:
    score = block_mean([1.0, 2.0, 3.0], 30)
    assert (score.value, score.high) == (2, pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-3))
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


def test_every_score_that_an_evaluation_writes_is_in_the_table_and_its_document() -> None:
    """Those of the golden file are all there are: distances, memorisation and trained cases among them."""
    golden = json.loads((Path(__file__).parent / "golden" / "scores.json").read_text())
    written = {metric for name in ("circles", "shapes") for metric in golden[name]}
    assert written <= set(METRICS)
    of_truth = {name for name, metric in METRICS.items() if metric.judge != "reference"}
    of_two = {"back_acc", "front_acc", "binding", "occlusion", "count_acc", "relation_acc"}
    in_sequence = {"part_acc", "parts_in_order", "object_kept", "seam_jump"}
    assert of_truth - written <= of_two | in_sequence | {
        "case_copy", "mult_ratio", "frechet_excess_a", "frechet_excess_b", "refused",
    }  # fmt: skip
    written_down = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    assert document() in written_down, "write it anew: python -m t2v_models.judging.metrics"


def test_no_other_file_lists_metrics() -> None:
    """A file that names more than three has a list of its own; what computes figures, and what the gate guards, may."""
    root, may = Path(__file__).parents[1], {"metrics.py", "figures.py", "distances.py", "memorisation.py", "gate.py"}
    may |= {"proof.py", "beside.py"}  # what proves a judge, and what sets clips beside their own
    names = "|".join(METRICS)
    for folder in ("flows", "tasks", "t2v_models/judging", "t2v_models/leaderboard", "t2v_models/training"):
        for path in (root / folder).rglob("*.py"):
            found = set(re.findall(rf"[\"/`]({names})[\"`]", path.read_text()))
            assert path.name in may or len(found) <= 3, (path, found)
