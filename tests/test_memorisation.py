"""Copies of training clips: closed forms, calibration on real clips, and planted copies read from pixels (V9, V12)."""

from functools import cache

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.memorisation import (
    UNSEEN_PER_CLIP,
    copy_rate,
    ct_z,
    memorisation,
    nearest,
    training_paths,
    unseen_paths,
)
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.render import render
from tests.grammar import judge, oracle
from tests.tiny import drawn_clip

DATA = DatasetConfig(spec=ClipSpec(size=32), clips=1440)
PER_PROMPT = 56
PROMPTS = [p for p in DATA.prompts for _ in range(PER_PROMPT)]


@cache
def training() -> np.ndarray:
    return training_paths(DATA)


@cache
def unseen() -> np.ndarray:
    return nearest(unseen_paths(DATA, PROMPTS), training()).reshape(UNSEEN_PER_CLIP, -1)


@cache
def fresh() -> list[Verdict]:
    return judge(oracle(DATA.spec, PROMPTS, range(len(PROMPTS))), PROMPTS, range(len(PROMPTS)), "s0")


def planted(share: float) -> list[Verdict]:
    """Fresh clips of which a share, spread over all prompts, gives way to training clips, rendered and read again."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(PROMPTS))[: round(share * len(PROMPTS))]
    copied = [len(DATA.prompts) * int(rng.integers(80)) + DATA.prompts.index(PROMPTS[i]) for i in rows]
    frames = np.stack([render(drawn_clip(DATA, i)[1], DATA.spec) for i in copied])
    found = judge(frames, [PROMPTS[i] for i in rows], rows.tolist(), "s0")
    verdicts = list(fresh())
    for i, verdict in zip(rows, found, strict=True):
        verdicts[i] = verdict
    return verdicts


def test_distances_are_root_mean_squares_in_px_of_a_64_px_frame() -> None:
    path = training()[:1]
    assert nearest(path, path) == pytest.approx(0, abs=1e-5)
    moved = path + np.repeat([3.0, 4.0, 0.0], DATA.spec.frames)
    assert nearest(moved, path) == pytest.approx(5)


def test_ct_z_in_closed_form() -> None:
    near, far = np.arange(10.0), 100 + np.arange(40.0).reshape(4, 10)
    one = ct_z(near, far, ["a"] * 10)
    assert one.value == pytest.approx(-200 / np.sqrt(400 * 51 / 12))
    assert ct_z(near + 1000, far, ["a"] * 10).value == pytest.approx(-one.value)
    two = ct_z(near, far, ["a"] * 5 + ["b"] * 5)  # two strata: half the gain and a quarter of the variance, twice
    assert two.value == pytest.approx(-100 / np.sqrt(2 * 100 * 26 / 12))
    assert (two.n, round(two.high - two.low, 6)) == (10, 3.919928)


def test_unseen_clips_are_no_training_clips_and_always_the_same() -> None:
    assert unseen().min() > 0.05
    prompts = PROMPTS[:3]
    assert np.array_equal(unseen_paths(DATA, prompts), unseen_paths(DATA, prompts))


def test_real_clips_are_no_copies_as_often_as_stated() -> None:
    """Random halves of real clips: |z| ≤ 1.96 in 95 % of them, and 1 % of the clips called copies."""
    rng, pool, groups = np.random.default_rng(2), unseen(), PROMPTS
    inside, rates = [], []
    for _ in range(400):
        mixed = rng.permuted(pool.reshape(UNSEEN_PER_CLIP, -1, PER_PROMPT), axis=2)
        mixed = rng.permuted(mixed, axis=0).reshape(UNSEEN_PER_CLIP, -1)
        score = ct_z(mixed[0], mixed[1:], groups)
        inside.append(score.low <= 0 <= score.high)
        rates.append(copy_rate(mixed[0], mixed[1:]).value)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert np.mean(rates) == pytest.approx(0.01, abs=0.001)


def test_real_clips_read_from_pixels_are_no_copies() -> None:
    found = memorisation(fresh(), unseen(), training())
    assert abs(found["ct_z"].value) <= 2
    assert found["copy_rate"].low <= 0.01 <= found["copy_rate"].high
    assert found["copy_rate"].n == sum(v.valid for v in fresh())


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
def test_v12_planted_copies_are_found(share: float) -> None:
    found = memorisation(planted(share), unseen(), training())
    assert found["copy_rate"].value == pytest.approx(share, abs=0.02)
    if share >= 0.1:
        assert found["ct_z"].value < -3


def test_a_model_with_no_readable_clip_has_no_figure() -> None:
    blank = judge(np.full((1, 10, 32, 32, 3), 255, np.uint8), PROMPTS[:1], [0], "s0")
    assert memorisation(blank, unseen()[:, :1], training()) == {}
