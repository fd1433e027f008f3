"""The feature network: the shipped file, what it takes, and that training repeats itself."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from t2v_models.clips.motions import ACTIONS, draw_motion
from t2v_models.clips.render import render
from t2v_models.clips.spec import ClipSpec
from t2v_models.evaluation import feature_training as training
from t2v_models.evaluation.features import CHUNK, FOLDS, WEIGHTS, features, features_digest, forward, prepare


def clips(spec: ClipSpec, count: int, shape: str = "circle", colour: str = "blue") -> np.ndarray:
    rngs = [np.random.default_rng(i) for i in range(count)]
    return np.stack([render(draw_motion(ACTIONS[i % 16], spec, r, shape, colour), spec) for i, r in enumerate(rngs)])


@pytest.mark.parametrize(
    "spec", [ClipSpec(size=s, frames=t) for s, t in ((32, 10), (64, 4), (48, 16), (16, 7))], ids=str
)
def test_clips_of_any_size_and_length_have_finite_features(spec: ClipSpec) -> None:
    seen = features(clips(spec, 8, "triangle", "red"))
    assert seen.shape == (8, training.CHANNELS[-1])
    assert np.isfinite(seen).all() and seen.std(0).min() > 0


def test_the_size_of_the_frame_hardly_matters() -> None:
    rngs = [np.random.default_rng(i) for i in range(32)]
    large = [draw_motion(ACTIONS[i % 16], ClipSpec(size=64), r, "circle", "blue") for i, r in enumerate(rngs)]
    halved = [
        m.model_copy(update={
            "start": (m.start[0] / 2, m.start[1] / 2), "radius": m.radius / 2, "radius_end": m.radius_end / 2,
            "speed": m.speed / 2, "swing": m.swing / 2,
        })
        for m in large
    ]  # fmt: skip
    one = features(np.stack([render(m, ClipSpec(size=64)) for m in large]))
    two = features(np.stack([render(m, ClipSpec(size=32)) for m in halved]))
    assert np.abs(one - two).mean() < 0.1  # standard deviations


def test_equal_clips_give_equal_bits_wherever_they_stand() -> None:
    frames = clips(ClipSpec(size=32), 16)
    many = np.concatenate([frames] * (2 * CHUNK // 16))
    assert np.array_equal(features(many)[CHUNK : 2 * CHUNK], features(many[:CHUNK]))
    assert np.array_equal(features(many), features(many))


def test_numpy_and_torch_see_the_same() -> None:
    ink = prepare(clips(ClipSpec(size=32), 8))
    weights = {name: w.astype(np.float32) for name, w in load(WEIGHTS.read_bytes()).items()}
    by_torch = forward(torch.from_numpy(ink), {name: torch.from_numpy(w) for name, w in weights.items()})
    np.testing.assert_allclose(forward(ink, weights), by_torch.numpy(), atol=1e-4)


def test_the_file_is_small_and_named_by_its_digest() -> None:
    assert WEIGHTS.stat().st_size < 300_000
    assert len(features_digest()) == 16
    assert {w.dtype for w in load(WEIGHTS.read_bytes()).values()} == {np.dtype(np.float16)}
    assert len(load(WEIGHTS.read_bytes())) == 2 * len(FOLDS)


@pytest.mark.parametrize("kind", training.DAMAGES)
def test_damage_grows_with_its_strength_and_leaves_the_clip_alone(kind: str) -> None:
    frames, other = clips(ClipSpec(size=32), 2)
    before = frames.copy()
    weak, strong = (
        np.abs(training.damage(frames, kind, s, other, np.random.default_rng(0)).astype(int) - frames).mean()
        for s in (0.3, 1.0)
    )
    assert 0 <= weak < strong
    assert np.array_equal(frames, before)


@pytest.mark.slow
def test_training_learns_and_repeats_itself_to_the_bit() -> None:
    threads = torch.get_num_threads()
    try:
        once, again = (save(training.train(4)) for _ in range(2))
        assert once == again
        rng = np.random.default_rng(0)
        weights, taught = training.initial_weights(torch.Generator().manual_seed(0)), training.lesson(rng)
        optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], 2e-3)
        totals = []
        for _ in range(25):
            total = sum(training.losses(weights, taught).values())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            totals.append(total.item())
        assert totals[-1] < 0.7 * totals[0]
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif("T2V_RETRAIN" not in os.environ, reason="four minutes of CPU: set T2V_RETRAIN=1")
def test_the_shipped_file_is_what_training_gives(tmp_path: Path) -> None:
    training.main(tmp_path / "again.safetensors", training.STEPS)
    shipped, again = (load(p.read_bytes()) for p in (WEIGHTS, tmp_path / "again.safetensors"))
    for name, weight in shipped.items():
        np.testing.assert_allclose(again[name].astype(np.float32), weight.astype(np.float32), atol=0.02)


def test_features_are_scaled() -> None:
    """No feature is far from its mean over lessons, so none decides a distance by itself."""
    assert np.abs(features(clips(ClipSpec(size=32), 64, "cross", "green"))).max() < 8
