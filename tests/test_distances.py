"""Distances: closed forms, and the proof obligations V9 to V12 of the judge."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.evaluation import distances as d
from t2v_models.evaluation.baselines import oracle
from t2v_models.evaluation.memorisation import copy_rate, ct_z, nearest, paths_of, training_paths
from t2v_models.evaluation.metrics import std_ratio
from t2v_models.evaluation.verdicts import Verdict, judge

DATA = DatasetConfig(spec=ClipSpec(size=32), clips=1440)
PER_PROMPT = 32
PROMPTS = [p for p in DATA.prompts for _ in range(PER_PROMPT)]
Frames = np.ndarray


@cache
def real_frames(first_seed: int) -> Frames:
    return oracle(DATA.spec, PROMPTS, range(first_seed, first_seed + len(PROMPTS)))


@cache
def real(first_seed: int) -> list[Verdict]:
    return judge(real_frames(first_seed), PROMPTS, range(len(PROMPTS)), "s0")


def whitened(verdicts: list[Verdict]) -> Frames:
    return d.whiten(d.descriptor(verdicts), d.descriptor(real(10_000)))


def of(change: Callable[[Frames], Frames]) -> dict[str, float]:
    verdicts = judge(change(real_frames(0)), PROMPTS, range(len(PROMPTS)), "s0")
    points, ground = whitened(verdicts), whitened(real(10_000))
    return {name: distance(points, ground) for name, distance in d.DISTANCES.items()}


def test_frechet_in_closed_form() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    points = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    assert d.frechet(points, points) == pytest.approx(0, abs=1e-9)
    assert d.frechet(points + np.array([3, 0, 4]), points) == pytest.approx(25)
    assert d.frechet(2 * points, points) == pytest.approx(3)  # sum over axes of (2 - 1)²


def test_kernel_distances_agree_with_their_definition() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 4)), rng.normal(1, 1, size=(9, 4))

    def kernel(p: Frames, q: Frames) -> float:
        return float((p @ q / 4 + 1) ** 3)

    def within(s: Frames) -> float:
        return float(np.mean([kernel(p, q) for i, p in enumerate(s) for j, q in enumerate(s) if i != j]))

    between = np.mean([kernel(p, q) for p in a for q in b])
    assert d.mmd_cubic(a, b) == pytest.approx(within(a) + within(b) - 2 * between)
    assert 0 < d.mmd_rbf(a, b + 100) <= 2


def test_kernel_distances_are_unbiased_and_coverage_is_as_derived() -> None:
    rng = np.random.default_rng(2)
    pairs = [(rng.normal(size=(100, 5)), rng.normal(size=(100, 5))) for _ in range(200)]
    for distance in (d.mmd_rbf, d.mmd_cubic):
        found = [distance(a, b) for a, b in pairs]
        assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    # Naeem 2020: 1 - product over i of (N - i) / (N + M - i), i from 1 to k, N = M = 100
    expected = 1 - np.prod([(100 - i) / (200 - i) for i in range(1, d.NEIGHBOURS + 1)])
    assert np.mean([d.coverage(a, b) for a, b in pairs]) == pytest.approx(expected, abs=0.01)
    assert np.mean([d.density(a, b) for a, b in pairs]) == pytest.approx(1, abs=0.03)


def test_real_against_real_covers_zero_and_repeats_to_the_bit() -> None:
    scores = d.trajectory_distances(real(0), real(10_000), real(20_000))
    again = d.trajectory_distances(real(0), real(10_000), real(20_000))
    assert {k: v.model_dump() for k, v in scores.items()} == {k: v.model_dump() for k, v in again.items()}
    for name in ("mmd_rbf_a", "mmd_cubic_a"):
        score, beside = scores[name], scores[f"{name}_real"]
        assert abs(score.value - beside.value) < np.hypot(score.high - score.value, beside.high - beside.value)
        assert abs(score.value) < 0.05
    assert scores["frechet_a"].value / scores["frechet_a_real"].value == pytest.approx(1, abs=0.25)
    assert scores["coverage_a"].value == pytest.approx(scores["coverage_a_real"].value, abs=0.03)
    judged, unseen = (nearest(paths_of(v), training_paths(DATA)) for v in (real(0), real(10_000)))
    assert abs(ct_z(judged, unseen).value) < 2.6


def blur(strength: int) -> Callable[[Frames], Frames]:
    def change(frames: Frames) -> Frames:
        soft = frames.astype(np.float32)
        for _ in range(strength):
            for axis in (2, 3):
                soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
        return np.rint(soft).astype(np.uint8)

    return change


def jitter(size: int) -> Callable[[Frames], Frames]:
    def change(frames: Frames) -> Frames:
        rng, moved = np.random.default_rng(3), frames.copy()
        for clip in moved:
            for frame in clip:
                frame[:] = np.roll(frame, rng.integers(-size, size + 1, 2), (0, 1))
        return moved

    return change


def reverse(share: float) -> Callable[[Frames], Frames]:
    def change(frames: Frames) -> Frames:
        # motions whose reverse is another motion of the world leave the set of clips as it was, so drop a frame too
        changed = frames.copy()
        hit = np.arange(len(frames)) % 100 < 100 * share
        changed[hit] = frames[hit][:, [0, 0, *range(2, frames.shape[1])]]
        return changed

    return change


@pytest.mark.parametrize(
    "ladder",
    [[blur(0), blur(4), blur(12)], [jitter(0), jitter(1), jitter(2)], [reverse(0), reverse(0.25), reverse(1)]],
    ids=["blur", "jitter", "dropped frames"],
)
def test_distances_grow_along_corruption_ladders(ladder: list[Callable[[Frames], Frames]]) -> None:
    found = [of(change) for change in ladder]
    for name in ("mmd_rbf", "mmd_cubic", "frechet"):
        values = [f[name] for f in found]
        assert values == sorted(values), (name, values)
        assert values[-1] > values[0], (name, values)


def test_shuffled_frames_are_farther_than_a_mild_blur() -> None:
    def shuffle(frames: Frames) -> Frames:
        return frames[:, np.random.default_rng(4).permutation(frames.shape[1])]

    for name in ("mmd_rbf", "mmd_cubic", "frechet"):
        assert of(shuffle)[name] > 3 * of(blur(1))[name]


def test_planted_mode_collapse_moves_the_figures_in_order() -> None:
    ground, found = whitened(real(10_000)), []
    for dropped in (0, 1, 4, 8):
        kept = [v for v in real(0) if DATA.prompts.index(v.prompt) >= dropped]
        repeated = (kept * 2)[: len(PROMPTS)]
        points = whitened(repeated)
        found.append((d.mmd_rbf(points, ground), d.coverage(points, ground)))
    assert [m for m, _ in found] == sorted(m for m, _ in found)
    assert [-c for _, c in found] == sorted(-c for _, c in found)
    same_start = [v.model_copy(update={"x": tuple(x - v.x[0] + 16 for x in v.x)}) for v in real(0)]
    assert std_ratio(same_start, real(10_000)).value < 0.05 < 0.6 < std_ratio(real(0), real(10_000)).value


def test_planted_copies_are_found() -> None:
    training = training_paths(DATA)
    fresh, unseen = (nearest(paths_of(v), training) for v in (real(0), real(10_000)))
    for share in (0.01, 0.05, 0.1, 0.5):
        copies = int(share * len(fresh))
        planted = np.concatenate([np.full(copies, 0.02), fresh[copies:]])
        rate = copy_rate(planted, unseen).value
        assert rate == pytest.approx(share, abs=0.025)
        if share >= 0.5:
            assert ct_z(planted, unseen).value < -3
    copied = np.concatenate([np.full(len(fresh) // 5, 0.02), fresh[len(fresh) // 5 :]])
    assert ct_z(copied, unseen).value < ct_z(fresh, unseen).value - 3
