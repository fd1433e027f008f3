"""Shapes told from cumulants: closed forms, and that blur leaves them alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from t2v_models.worlds.appearance import SHAPES, Shape
from t2v_models.worlds.moments import core_from, measure, name_shapes
from t2v_models.worlds.outlines import SQUARE, cover


def drawn(shape: Shape, radius: float, blur: float = 0.0, opacity: float = 1.0) -> NDArray[np.float32]:
    """One object, off the middle, on a background wide enough for its blur: `(1, 1, h, w)`."""
    side = int(4 * radius + 10 * blur)
    place = np.arange(side, dtype=np.float64) + 0.5
    middle = side / 2
    inside = cover(shape, (place - middle - 0.3)[None], (place - middle + 0.2)[:, None], np.array([[radius]]))
    if blur:
        kernel = np.exp(-(np.subtract.outer(place, place) ** 2) / (2 * blur**2))
        inside = kernel @ inside @ kernel.T / kernel.sum(1).max() ** 2
    return (opacity * inside).astype(np.float32)[None, None]


def test_moments_of_disc_and_square_in_closed_form() -> None:
    disc, square = measure(drawn("circle", 30)), measure(drawn("square", 30))
    np.testing.assert_allclose(disc.look[0], [1, 0, 0, -1 / 6, 1, 1], atol=0.02)
    half = SQUARE  # of the side of a square of area pi: E x² = half²/3, E x⁴ = half⁴/5
    np.testing.assert_allclose(square.look[0, 0], 4 * half**2 / 3, atol=0.01)
    np.testing.assert_allclose(square.look[0, 2], 2 * half**4 / 5 - 6 * half**4 / 9, atol=0.005)
    assert (disc.x[0, 0], disc.y[0, 0]) == (pytest.approx(60.3, abs=0.01), pytest.approx(59.8, abs=0.01))
    assert np.sqrt(disc.mass[0, 0] / np.pi) == pytest.approx(30, rel=0.002)


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_adds_to_the_spread_and_to_no_cumulant_above_it(shape: Shape) -> None:
    sharp, soft = measure(drawn(shape, 8)).look[0], measure(drawn(shape, 8, blur=3)).look[0]
    np.testing.assert_allclose(soft[1:4], sharp[1:4], atol=0.003)
    assert soft[0] - sharp[0] == pytest.approx(4 * 3**2 / 8**2, abs=0.01)


@pytest.mark.parametrize("blur", [0.0, 0.7, 1.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_a_few_pixels_are_named_however_soft(shape: Shape, blur: float) -> None:
    weight = drawn(shape, 3.2, blur)
    named, core = name_shapes(measure(weight).look)
    assert SHAPES[named[0]] == shape
    strength = weight[weight > 0.25]
    assert strength[strength >= core_from(strength)].mean() == pytest.approx(core[0], abs=0.06)


@pytest.mark.parametrize("opacity", [0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_pale_objects_keep_their_shape(shape: Shape, opacity: float) -> None:
    named, core = name_shapes(measure(drawn(shape, 6, opacity=opacity)).look)
    assert SHAPES[named[0]] == shape
    assert core[0] == pytest.approx(1, abs=0.03)
