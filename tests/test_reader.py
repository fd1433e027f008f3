"""The judge is proven before any model is judged: it inverts the renderer and refuses what is no clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import BACKGROUND, PALETTE
from t2v_models.worlds.laws import nearest
from t2v_models.worlds.motions import ACTIONS, Action, draw_motion, trace
from t2v_models.worlds.reader import read
from t2v_models.worlds.render import render

OPPOSITE: dict[str, str] = {
    "right": "left", "left": "right", "up": "down", "down": "up", "up-right": "down-left", "down-left": "up-right",
    "up-left": "down-right", "down-right": "up-left", "rotate-cw": "rotate-ccw", "rotate-ccw": "rotate-cw",
    "shrink": "expand", "expand": "shrink",
}  # fmt: skip
"""Motions seen backwards; the others are their own opposite."""


def clips(spec: ClipSpec, per_action: int, seed: int = 0) -> tuple[np.ndarray, list[Action]]:
    asked = [a for a in ACTIONS for _ in range(per_action)]
    draws = [draw_motion(a, spec, np.random.default_rng([seed, i]), "circle", "blue") for i, a in enumerate(asked)]
    return np.stack([render(m, spec) for m in draws]), asked


def actions(frames: np.ndarray) -> list[str]:
    return read(frames, ["blue"] * len(frames)).action


@pytest.mark.parametrize(
    ("size", "frames"), [(64, 10), (32, 10), (16, 10), (32, 16), (64, 6), (64, 4), (64, 40), (32, 64)]
)
def test_real_clips_are_read_right(size: int, frames: int) -> None:
    pixels, asked = clips(ClipSpec(size=size, frames=frames), 40 if frames <= 16 else 10)
    right = np.array([a == b for a, b in zip(actions(pixels), asked, strict=True)])
    assert right.mean() >= 0.995
    for action in ACTIONS:
        assert right[[a == action for a in asked]].mean() >= 0.98, action


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ACTIONS), st.sampled_from([32, 48, 64]), st.integers(0, 2**32))
def test_states_invert_the_renderer(action: Action, size: int, seed: int) -> None:
    spec = ClipSpec(size=size)
    motion = draw_motion(action, spec, np.random.default_rng(seed), "circle", "blue")
    truth, found = trace(motion, spec), read(render(motion, spec)[None], ["blue"])
    assert np.hypot(found.x[0] - truth.x, found.y[0] - truth.y).mean() < 0.03
    np.testing.assert_allclose(found.radius[0], truth.radius, atol=0.05)


def test_reversed_clips_read_as_the_opposite_motion() -> None:
    pixels, asked = clips(ClipSpec(), 25)
    expected = [OPPOSITE.get(a, a) for a in asked]
    assert np.mean([a == b for a, b in zip(actions(pixels[:, ::-1]), expected, strict=True)]) >= 0.995


def test_a_mirror_swaps_left_and_right_and_the_sense_of_turning() -> None:
    pixels, asked = clips(ClipSpec(size=32), 10)
    swap = {"left": "right", "right": "left"} | {"rotate-cw": "rotate-ccw", "rotate-ccw": "rotate-cw"}
    for up in ("up", "down"):
        swap |= {f"{up}-left": f"{up}-right", f"{up}-right": f"{up}-left"}
    assert actions(pixels[:, :, :, ::-1]) == [swap.get(a, a) for a in asked]


def test_shuffled_frames_are_no_motion() -> None:
    pixels, asked = clips(ClipSpec(), 25)
    rng = np.random.default_rng(0)
    shuffled = np.stack([clip[rng.permutation(len(clip))] for clip in pixels])
    assert np.mean([a == b for a, b in zip(actions(shuffled), asked, strict=True)]) <= 0.03


def test_what_rounding_decides_changes_no_fit() -> None:
    """A frame shown twice: two places of the turn fit equally well, and 1e-12 px must not choose between them."""
    x = np.array([51.4, 49.4, 47.4, 43.5, 43.5, 41.5, 39.5, 37.6, 35.6, 33.6])
    y = np.array([22.2, 27.0, 31.8, 31.4, 31.4, 26.6, 21.8, 26.0, 30.8, 35.6])
    x_noise, y_noise = np.random.default_rng(0).normal(scale=1e-12, size=(2, 100, len(x)))
    found = nearest(["zigzag-h"] * 100, x + x_noise, y + y_noise, unit=1.0)
    assert np.ptp(found.y, axis=0).max() < 1e-10  # without the rule for ties 0.0015 px
    assert np.ptp(found.rmse) < 1e-10


def test_frozen_clips_read_still() -> None:
    pixels, _ = clips(ClipSpec(size=32), 5)
    reading = read(pixels[:, :1].repeat(10, axis=1), ["blue"] * len(pixels))
    assert set(reading.action) == {"still"}
    assert set(reading.reason) == {"no motion"}


def reason(frames: np.ndarray) -> str:
    reading = read(frames[None], ["blue"])
    assert reading.action == ["invalid"]
    assert not reading.valid[0]
    assert np.isnan(reading.rmse[0])
    return reading.reason[0]


def test_what_is_no_clip_is_refused_with_its_reason() -> None:
    spec = ClipSpec(size=32)
    clip = render(draw_motion("left", spec, np.random.default_rng(1), "circle", "blue"), spec)
    blank = np.full_like(clip, 255)
    noise = np.random.default_rng(0).integers(0, 256, clip.shape).astype(np.uint8)
    missing = clip.copy()
    missing[4] = 255
    two = np.minimum(clip, clip[:, ::-1, ::-1])
    pale = (255 - (255 - clip.astype(int)) // 12).astype(np.uint8)
    faint_dirt = np.minimum(clip, 240)
    assert reason(blank) == "no object in a frame"
    assert reason(missing) == "no object in a frame"
    assert reason(pale) == "no object in a frame"
    assert reason(noise) in ("object too large", "not one compact object")
    assert reason(two) == "not one compact object"
    assert reason(faint_dirt) == "background not clean"


def test_darkness_is_the_area_of_the_disc_and_colours_are_exact() -> None:
    spec = ClipSpec()
    motion = draw_motion("expand", spec, np.random.default_rng(0), "circle", "blue")
    path, frames = trace(motion, spec), render(motion, spec)
    red = 0
    dark = (BACKGROUND[red] - frames[..., red].astype(float)).sum((1, 2)) / (BACKGROUND[red] - PALETTE["blue"][red])
    np.testing.assert_allclose(dark, np.pi * path.radius**2, rtol=0.01)
    frame = frames[0]
    assert tuple(frame[int(path.y[0]), int(path.x[0])]) == PALETTE["blue"]
    corners = frame[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == BACKGROUND).all()
