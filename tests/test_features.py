"""The feature network: the shipped file, what it takes, and that training repeats itself."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging import feature_training as training
from t2v_models.judging.features import (
    CHUNK,
    FOLDS,
    NUMBERS,
    WEIGHTS,
    along_time,
    code,
    darkness,
    features,
    features_digest,
)
from t2v_models.worlds.appearance import Colour, Shape
from t2v_models.worlds.motions import ACTIONS, draw_motion
from t2v_models.worlds.render import render


def clips(spec: ClipSpec, count: int, shape: str = "circle", colour: str = "blue") -> np.ndarray:
    rngs = [np.random.default_rng(i) for i in range(count)]
    return np.stack([render(draw_motion(ACTIONS[i % 16], spec, r, shape, colour), spec) for i, r in enumerate(rngs)])


@pytest.mark.parametrize(
    "spec", [ClipSpec(size=s, frames=t) for s, t in ((32, 10), (64, 4), (48, 16), (16, 7))], ids=str
)
def test_clips_of_any_size_and_length_have_finite_features(spec: ClipSpec) -> None:
    seen = features(clips(spec, 8, "triangle", "red"))
    assert seen.shape == (8, 4 * len(NUMBERS))
    assert np.isfinite(seen).all() and seen.std(0).min() > 0


def same_clips(size: int) -> np.ndarray:
    """32 clips that were drawn for 32 px, with all their lengths multiplied."""
    looks: tuple[tuple[Shape, Colour], ...] = (("circle", "blue"), ("square", "red"), ("cross", "orange"))
    shown = []
    for i in range(32):
        m = draw_motion(ACTIONS[i % 16], ClipSpec(size=32), np.random.default_rng(i), *looks[i % 3])
        lengths = {name: getattr(m, name) * size / 32 for name in ("radius", "radius_end", "speed", "swing")}
        start = m.start[0] * size / 32, m.start[1] * size / 32
        shown.append(render(m.model_copy(update=lengths | {"start": start}), ClipSpec(size=size)))
    return np.stack(shown)


@pytest.mark.parametrize("size", [64, 128])
def test_the_size_of_the_frame_hardly_matters(size: int) -> None:
    """The same clips in frames of a whole multiple of 32 px: each feature within a few per cent of its scatter."""
    small = features(same_clips(32))
    off = np.sqrt(((features(same_clips(size)) - small) ** 2).mean(0)) / small.std(0)
    assert off.max() < 0.15, off.reshape(4, -1)  # 0.07 was measured, 1.3 if pixels are left out and not averaged


def test_a_frame_that_is_no_multiple_looks_softer_and_is_else_the_same() -> None:
    small, other = (features(same_clips(size))[:, : len(NUMBERS)] for size in (32, 48))
    off = dict(zip(NUMBERS, np.sqrt(((other - small) ** 2).mean(0)) / small.std(0), strict=True))
    assert max(off[name] for name in NUMBERS[:6]) < 0.1, off  # 0.05 was measured
    assert (other - small).mean(0)[NUMBERS.index("blur")] > 0


def test_equal_clips_give_equal_bits_wherever_they_stand() -> None:
    frames = clips(ClipSpec(size=32), 16)
    many = np.concatenate([frames] * (2 * CHUNK // 16))
    assert np.array_equal(features(many)[CHUNK : 2 * CHUNK], features(many[:CHUNK]))
    assert np.array_equal(features(many), features(many))


def test_numpy_and_torch_see_the_same() -> None:
    frames = darkness(clips(ClipSpec(size=32), 8).reshape(-1, 32, 32, 3))
    weights = {name: w.astype(np.float32) for name, w in load(WEIGHTS.read_bytes()).items()}
    by_torch = code(torch.from_numpy(frames), {name: torch.from_numpy(w) for name, w in weights.items()})
    np.testing.assert_allclose(code(frames, weights), by_torch.numpy(), atol=1e-4)


def test_moments_in_closed_form() -> None:
    """A code that grows evenly has its mean and its slope and does not bend; swapped neighbours bend it."""
    even = np.arange(10.0)[None, :, None] * [[[2.0, -1.0]]] + [[[5.0, 7.0]]]
    length = np.sqrt(82.5)  # of the numbers -4.5 to 4.5
    np.testing.assert_allclose(along_time(even), [[14, 2.5, 2 * length, -length, 0, 0, 0, 0]], atol=1e-9)
    swapped = even[:, [0, 1, 2, 3, 5, 4, 6, 7, 8, 9]]  # errors +2, -2: 1, -3, 3, -1 and 1, -4, 6, -4, 1 times 2
    np.testing.assert_allclose(along_time(swapped)[0, 4::2], [2 * np.sqrt(20 / 8), 2 * np.sqrt(70 / 7)])
    backwards = along_time(even[:, ::-1]) * np.repeat([1, -1, 1, 1], 2)
    np.testing.assert_allclose(backwards, along_time(even), atol=1e-9)


def test_the_network_measures_what_it_was_taught() -> None:
    """Root mean squared errors on sound frames of both worlds, in half frames, darkness and strengths."""
    rng = np.random.default_rng(0)
    weights = {name: torch.from_numpy(w.astype(np.float32)) for name, w in load(WEIGHTS.read_bytes()).items()}
    lessons = [training.examples(rng) for _ in range(4)]
    off = torch.cat([code(taught.darkness, weights) - taught.truth for taught in lessons])
    whole = torch.cat([(taught.truth[:, 6:] == 0).all(1) for taught in lessons])
    errors = dict(zip(NUMBERS, off[whole].square().mean(0).sqrt().tolist(), strict=True))
    assert max(errors[name] for name in ("x", "y")) < 0.04, errors
    assert max(errors.values()) < 0.15, errors


def test_the_file_is_small_and_named_by_its_digest() -> None:
    assert WEIGHTS.stat().st_size < 300_000
    assert len(features_digest()) == 16
    assert {w.dtype for w in load(WEIGHTS.read_bytes()).values()} == {np.dtype(np.float16)}
    assert len(load(WEIGHTS.read_bytes())) == 2 * len(FOLDS)


@pytest.mark.parametrize("kind", training.DAMAGES)
def test_damage_grows_with_its_strength_and_leaves_the_frames_alone(kind: str) -> None:
    frames = clips(ClipSpec(size=32), 1)[0]
    before, only = frames.copy(), np.eye(len(training.DAMAGES))[training.DAMAGES.index(kind)]
    none, weak, strong = (
        np.abs(training.spoil(frames, strength * only, np.random.default_rng(0)).astype(int) - frames).mean()
        for strength in (0.0, 0.3, 1.0)
    )
    assert none == 0 < weak < strong
    assert np.array_equal(frames, before)


def test_lessons_are_true() -> None:
    """Where a frame is neither blurred nor noisy, the darkness in it and its centre are what the lesson says."""
    taught = training.examples(np.random.default_rng(3))
    marks = 2 * (np.arange(32) + 0.5) / 32 - 1
    whole = [i for i in range(len(taught.darkness)) if not taught.truth[i, 6:].any()]
    assert len(whole) > 200
    for i in whole:
        frame, (x, y, size, *dark) = taught.darkness[i].numpy(), taught.truth[i].tolist()[:6]
        mass, area = frame.sum((0, 1)), np.pi * (4 * (size + 1)) ** 2
        np.testing.assert_allclose(mass / area, dark, atol=0.05)
        assert frame.sum((0, 2)) @ marks / mass.sum() == pytest.approx(x, abs=0.01)
        assert frame.sum((1, 2)) @ marks / mass.sum() == pytest.approx(y, abs=0.01)


@pytest.mark.slow
def test_training_learns_and_repeats_itself_to_the_bit() -> None:
    threads = torch.get_num_threads()
    try:
        once, again = (save(training.train(4)) for _ in range(2))
        assert once == again
        rng = np.random.default_rng(0)
        weights, taught = training.initial_weights(torch.Generator().manual_seed(0)), training.examples(rng)
        optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], 2e-3)
        totals = []
        for _ in range(25):
            total = training.errors(weights, taught).sum()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            totals.append(total.item())
        assert totals[-1] < 0.7 * totals[0]
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif("T2V_RETRAIN" not in os.environ, reason="two minutes of CPU: set T2V_RETRAIN=1")
def test_the_shipped_file_is_what_training_gives(tmp_path: Path) -> None:
    training.main(tmp_path / "again.safetensors", training.STEPS)
    shipped, again = (load(p.read_bytes()) for p in (WEIGHTS, tmp_path / "again.safetensors"))
    for name, weight in shipped.items():
        np.testing.assert_allclose(again[name].astype(np.float32), weight.astype(np.float32), atol=0.02)
