"""Every law does what its name says, for any draw, and the object never leaves the frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import SHAPES, Shape
from t2v_models.worlds.motions import (
    ACTIONS,
    DIRECTIONS,
    Action,
    Trace,
    draw_motion,
    radius_range,
    reflect,
    speed_range,
    trace,
    triangle,
)  # fmt: skip
from t2v_models.worlds.outlines import EXTENTS

specs = st.builds(ClipSpec, frames=st.integers(4, 40), size=st.integers(16, 96))
seeds = st.integers(0, 2**32)


def path(action: Action, spec: ClipSpec, seed: int) -> Trace:
    return trace(draw_motion(action, spec, np.random.default_rng(seed), "circle", "blue"), spec)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ACTIONS), st.sampled_from(SHAPES), specs, seeds)
def test_object_stays_wholly_in_the_frame(action: Action, shape: Shape, spec: ClipSpec, seed: int) -> None:
    p = trace(draw_motion(action, spec, np.random.default_rng(seed), shape, "blue"), spec)
    reach = EXTENTS[shape]
    assert (p.x - reach.side * p.radius).min() >= -1e-9
    assert (p.x + reach.side * p.radius).max() <= spec.size + 1e-9
    assert (p.y - reach.up * p.radius).min() >= -1e-9
    assert (p.y + reach.down * p.radius).max() <= spec.size + 1e-9


@given(st.sampled_from(ACTIONS), st.sampled_from(SHAPES), seeds)
def test_sizes_and_speeds_lie_in_the_training_range(action: Action, shape: Shape, seed: int) -> None:
    spec = ClipSpec()
    motion = draw_motion(action, spec, np.random.default_rng(seed), shape, "red")
    least, most = radius_range(action, shape, spec)
    assert least - 1e-9 <= min(motion.radius, motion.radius_end) <= max(motion.radius, motion.radius_end) <= most + 1e-9
    speed = abs(motion.swing * motion.rate) if action.startswith("rotate") else abs(motion.speed)
    assert speed_range(action, spec)[0] - 1e-9 <= speed <= speed_range(action, spec)[1] + 1e-9


@given(st.sampled_from([a for a in ACTIONS if a not in ("shrink", "expand")]), st.sampled_from(SHAPES), seeds)
def test_every_shape_is_at_least_10_px_wide_and_high(action: Action, shape: Shape, seed: int) -> None:
    radius = draw_motion(action, ClipSpec(), np.random.default_rng(seed), shape, "red").radius
    assert 2 * EXTENTS[shape].side * radius >= 10 - 1e-9
    assert (EXTENTS[shape].up + EXTENTS[shape].down) * radius >= 10 - 1e-9


@given(st.sampled_from(list(DIRECTIONS)), specs, seeds)
def test_directions_are_straight_and_steady(action: Action, spec: ClipSpec, seed: int) -> None:
    p = path(action, spec, seed)
    steps = np.stack([np.diff(p.x), np.diff(p.y)], 1)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-9)
    np.testing.assert_allclose(steps[0] / np.linalg.norm(steps[0]), DIRECTIONS[action], atol=1e-9)


@given(st.sampled_from(list(DIRECTIONS)), seeds)
def test_straight_motion_is_at_least_one_pixel_a_frame_at_64_px(action: Action, seed: int) -> None:
    p = path(action, ClipSpec(), seed)
    assert np.hypot(np.diff(p.x), np.diff(p.y)).min() >= 1 - 1e-9


@pytest.mark.parametrize(("action", "sense"), [("rotate-cw", 1), ("rotate-ccw", -1)])
@given(spec=specs, seed=seeds)
def test_orbits_turn_their_way_through_at_least_90_degrees(
    action: Action, sense: int, spec: ClipSpec, seed: int
) -> None:
    motion = draw_motion(action, spec, np.random.default_rng(seed), "circle", "blue")
    p = trace(motion, spec)
    angle = np.unwrap(np.arctan2(p.y - motion.start[1], p.x - motion.start[0]))  # y is down: growing is clockwise
    assert np.degrees((angle[-1] - angle[0]) * sense) >= 90
    np.testing.assert_allclose(np.hypot(p.x - motion.start[0], p.y - motion.start[1]), motion.swing)


@pytest.mark.parametrize("action", ["bounce-v", "bounce-h"])
@given(spec=specs, seed=seeds)
def test_bounces_turn_at_a_wall_and_keep_the_other_axis_still(action: Action, spec: ClipSpec, seed: int) -> None:
    p = path(action, spec, seed)
    along, across = (p.y, p.x) if action == "bounce-v" else (p.x, p.y)
    assert np.ptp(across) == 0
    turns = np.diff(np.sign(np.diff(along)))
    assert (turns != 0).sum() >= 1
    near_wall = np.minimum(along - p.radius, spec.size - p.radius - along).min()
    assert near_wall <= np.abs(np.diff(along)).max() / 2 + 1e-9


@pytest.mark.parametrize("action", ["zigzag-v", "zigzag-h"])
@given(spec=specs, seed=seeds)
def test_zigzags_advance_steadily_and_turn_at_least_twice(action: Action, spec: ClipSpec, seed: int) -> None:
    motion = draw_motion(action, spec, np.random.default_rng(seed), "circle", "blue")
    p = trace(motion, spec)
    along, across = (p.y, p.x) if action == "zigzag-v" else (p.x, p.y)
    np.testing.assert_allclose(np.diff(along), motion.speed, atol=1e-9)
    np.testing.assert_array_less(np.abs(across - (motion.start[0] if action == "zigzag-v" else motion.start[1])),
                                 abs(motion.swing) + 1e-9)  # fmt: skip
    turns = [motion.phase + k * motion.rate for k in range(2)]
    assert 1 <= turns[0] < turns[1] <= spec.frames - 2 + 1e-9


@pytest.mark.parametrize(("action", "sign"), [("shrink", -1), ("expand", 1)])
@given(spec=specs, seed=seeds)
def test_size_changes_by_half_at_least_in_place(action: Action, sign: int, spec: ClipSpec, seed: int) -> None:
    p = path(action, spec, seed)
    assert np.ptp(p.x) == np.ptp(p.y) == 0
    assert (p.radius[-1] / p.radius[0]) ** sign >= 1.5


def test_draws_are_continuous_and_differ() -> None:
    starts = {path("left", ClipSpec(), seed).x[0] for seed in range(200)}
    assert len(starts) == 200


def test_triangle_wave_and_reflection_in_closed_form() -> None:
    np.testing.assert_allclose(triangle(np.array([0, 0.5, 1, 1.5, 2, -1])), [1, 0, -1, 0, 1, -1])
    np.testing.assert_allclose(reflect(np.array([2.0, 5, 7, 9, -1]), 2, 6), [2, 5, 5, 3, 5])
