"""Gaussian blobs: where they lie, how they add up, and that none is ever lost."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from t2v_models.families.gan.blobs import draw_blobs, soft_clamp
from t2v_models.families.gan.painter import moments


@given(st.floats(-1e4, 1e4), st.floats(0, 1e3))
@example(-1700.0, 1e-12)  # numbers so near each other are told apart by rounding alone
def test_a_limit_changes_nothing_well_within_it_and_is_never_passed(x, more):
    numbers = torch.tensor([x, x + more, -x], dtype=torch.float64)
    held, later, mirrored = soft_clamp(4, numbers).tolist()
    assert held <= later + 1e-14
    assert mirrored == -held
    assert abs(held) < 4
    assert held == x if abs(x) <= 3.2 else abs(held) > 3.2


@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4))
def test_no_numbers_hide_a_spot_for_good(numbers):
    """Of a blob anywhere there is something to see, so there is a gradient that brings it back."""
    blobs = torch.tensor([[1.0, 1.0, 1.0, *numbers]], dtype=torch.float64, requires_grad=True)
    opacity = draw_blobs(blobs).sum()
    assert opacity > 0.05
    (gradient,) = torch.autograd.grad(opacity, blobs)
    assert (gradient[0, :3] > 0.01).all()


def test_a_spot_lies_where_its_numbers_say():
    opacity, place, spread = [1.0, 2.0, 0.0], [0.75, -0.25], [4 / 3, 4 / 3]  # in the middle of column 5, row 3
    frame = draw_blobs(torch.tensor([[*opacity, *place, *spread]]))
    fine = torch.exp(-((torch.arange(8000) / 1000 + 0.0005)[:, None] - torch.tensor([5.5, 3.5])).square() / 2)
    bump = fine.view(8, 1000, 2).mean(1) * math.sqrt(2 / math.pi)  # an integral, in units of a half of all
    expected = 0.3 * bump[:, 1, None] * bump[:, 0]
    torch.testing.assert_close(frame, torch.stack([expected, 2 * expected, 0 * expected]), rtol=1e-4, atol=1e-5)


@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_a_small_spot_that_moves_within_a_cell_keeps_its_mass_and_its_centre_is_read(x, y):
    blobs = torch.tensor([[1.0, 1.0, 1.0, x, y, -1.0, -1.0], [1.0, 1.0, 1.0, 0.0, 0.0, -1.0, -1.0]])
    moved, still = draw_blobs(blobs[:, None])
    torch.testing.assert_close(moved.sum(), still.sum(), rtol=1e-4, atol=0)
    centre_x, centre_y, _, _, opacity, _ = moments(moved)
    assert (centre_x.item(), centre_y.item()) == pytest.approx((2 * x, 2 * y), abs=0.2)
    torch.testing.assert_close(opacity, moved.sum() / 3)


def test_blobs_of_a_frame_add_up_and_frames_are_drawn_one_by_one():
    blobs = torch.randn(2, 4, 3, 7)
    frames = draw_blobs(blobs)
    assert frames.shape == (2, 4, 3, 8, 8)
    torch.testing.assert_close(frames, sum(draw_blobs(blobs[..., k : k + 1, :]) for k in range(3)))
    torch.testing.assert_close(frames[1, 2], draw_blobs(blobs[1, 2]))
