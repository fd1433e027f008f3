"""Pixels are what the shapes' exact coverage says, wherever the window lies and whichever clips are drawn together."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import BACKGROUND, PALETTE, SHAPES, Shape
from t2v_models.worlds.dataset import DatasetConfig, draw_clips
from t2v_models.worlds.motions import ACTIONS, draw_motion, trace, traces
from t2v_models.worlds.outlines import CROSS, DIAMOND, EXTENTS, SQUARE, TRIANGLE, cover
from t2v_models.worlds.render import render, sprites
from tests.tiny import drawn_clip

WORLDS: tuple[str, ...] = ("circles", "shapes")


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(ACTIONS), st.integers(4, 12), st.integers(16, 80), st.integers(0, 2**32))
@example("right", 5, 26, 4)  # a diamond's corner that the window cut off while coverage reached beyond the diamond
def test_every_pixel_is_within_one_level_of_the_exact_colour(
    shape: Shape, action: str, frames: int, size: int, seed: int
) -> None:
    spec = ClipSpec(frames=frames, size=size)
    motion = draw_motion(action, spec, np.random.default_rng(seed), shape, "red")  # type: ignore[arg-type]
    path, centres = trace(motion, spec), np.arange(size) + 0.5
    dx, dy = centres - path.x[:, None], centres - path.y[:, None]
    inside = cover(shape, dx[:, None, :], dy[:, :, None], path.radius[:, None, None])[..., None]
    exact = np.array(BACKGROUND) + (np.array(PALETTE["red"], float) - BACKGROUND) * inside
    assert np.abs(render(motion, spec) - exact).max() <= 1


def is_inside(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie in a shape of unit radius."""
    x, y = np.abs(x), y + 0 * x
    if shape == "square":
        return np.maximum(x, np.abs(y)) <= SQUARE
    if shape == "diamond":
        return x + np.abs(y) <= DIAMOND
    if shape == "triangle":
        return (y <= TRIANGLE) & (np.sqrt(3) * x <= y + 2 * TRIANGLE)
    short, long = np.minimum(x, np.abs(y)), np.maximum(x, np.abs(y))
    return (short <= CROSS / 3) & (long <= CROSS)


@pytest.mark.parametrize("shape", ["square", "diamond", "triangle", "cross"])
@settings(max_examples=15, deadline=None)
@given(radius=st.floats(0.8, 6), x=st.floats(0, 1), y=st.floats(0, 1))
def test_what_straight_edges_cover_is_exact_at_corners_too(shape: Shape, radius: float, x: float, y: float) -> None:
    """Against 96 x 96 points a pixel."""
    points, side = 96, 2 * int(EXTENTS[shape].greatest * radius + 3)
    place = np.arange(side) + 0.5 - side / 2
    fine = (np.arange(side * points) + 0.5) / points - side / 2
    there = is_inside(shape, (fine - x) / radius, (fine[:, None] - y) / radius)
    share = there.reshape(side, points, side, points).mean((1, 3))
    inside = cover(shape, (place - x)[None], (place - y)[:, None], np.array([[radius]]))
    np.testing.assert_allclose(inside, share, atol=1.5 / points)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("spec", [ClipSpec(), ClipSpec(size=16, frames=23)])
def test_clips_drawn_together_are_those_drawn_alone(world: str, spec: ClipSpec) -> None:
    config = DatasetConfig(world=world, clips=300, spec=spec, seed=5)
    whole = draw_clips(config, range(100, 220))
    assert whole[20:50] == draw_clips(config, range(120, 150))
    drawn = [(caption, scene.objects[0]) for caption, scene in whole]
    assert [drawn[i] for i in (0, 7, 119)] == [drawn_clip(config, 100 + i) for i in (0, 7, 119)]
    motions = [motion for _, motion in drawn]
    paths = traces(motions, spec)
    pixels = np.full((spec.frames, spec.size, spec.size, 3), 7, np.uint8)
    for i, sprite in enumerate(sprites([(m.shape, m.colour) for m in motions], paths, spec)):
        alone = trace(motions[i], spec)
        np.testing.assert_array_equal([paths.x[i], paths.y[i], paths.radius[i]], [alone.x, alone.y, alone.radius])
        np.testing.assert_array_equal(sprite.paint(pixels), render(motions[i], spec))


def test_numbers_of_clips_and_seeds_are_uniform_and_independent() -> None:
    phases = [
        np.array(
            [
                m.phase
                for _, s in draw_clips(DatasetConfig(seed=seed), range(4000))
                for m in s.objects
                if m.action == "rotate-cw"
            ]
        )
        for seed in (0, 1)
    ]
    for values in phases:
        counts, _ = np.histogram(values, 8, (0, 2 * np.pi))
        expected = len(values) / 8
        assert ((counts - expected) ** 2 / expected).sum() < 29.9  # chi-square with 7 degrees: one in 10,000
    assert abs(np.corrcoef(*(values[:200] for values in phases))[0, 1]) < 0.28  # four standard deviations
