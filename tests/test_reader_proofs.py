"""The proofs of the judge over both worlds: all shapes, colours and motions; real, soft, damaged, moved."""

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds import laws
from t2v_models.worlds.appearance import BACKGROUND, PALETTE, SHAPES, Colour, Shape
from t2v_models.worlds.motions import ACTIONS, DIRECTIONS, Action, Motion, draw_motion, radius_range, trace
from t2v_models.worlds.outlines import EXTENTS, cover
from t2v_models.worlds.prompts import WORDINGS, Meaning, say
from t2v_models.worlds.reader import TOLERANCE, Readings, read
from t2v_models.worlds.render import render
from tests.grammar import judge

Frames = NDArray[np.uint8]
Motions = list[Motion]
COLOURS: tuple[Colour, ...] = tuple(PALETTE)
BACKWARDS: dict[str, str] = {
    "rotate-cw": "rotate-ccw", "rotate-ccw": "rotate-cw", "shrink": "expand", "expand": "shrink",
    **{a: b for a, v in DIRECTIONS.items() for b, w in DIRECTIONS.items() if np.allclose(np.add(v, w), 0)},
}  # fmt: skip


@cache
def world(size: int, each: int = 2, frames: int = 10, name: str = "shapes", seed: int = 7) -> tuple[Frames, Motions]:
    """`each` clips of every motion and shape, all colours in turn; of the circles world `each` times six."""
    spec = ClipSpec(size=size, frames=frames)
    cells = [(a, s) for _ in range(each) for a in ACTIONS for s in SHAPES]
    motions = [
        draw_motion(a, spec, np.random.default_rng([seed, i]),
                    *(("circle", "blue") if name == "circles" else (s, COLOURS[(i + i // 6) % 6])))
        for i, (a, s) in enumerate(cells)
    ]  # fmt: skip
    return np.stack([render(m, spec) for m in motions]), motions


def seen(frames: Frames, motions: Motions) -> Readings:
    return read(frames, [m.colour for m in motions], [m.shape for m in motions], [m.action for m in motions])


def right(reading: Readings, motions: Motions) -> NDArray[np.bool_]:
    """Motion, colour, opacity and shape all as asked."""
    return np.array(
        [a == m.action and not look for a, look, m in zip(reading.action, reading.look, motions, strict=True)]
    )


def blurred(frames: Frames, sigma: float = 1.0) -> Frames:
    """Gaussian blur along x and y."""
    soft = [cv2.GaussianBlur(frame, (9, 9), sigma, borderType=cv2.BORDER_REPLICATE)
            for frame in frames.reshape(-1, *frames.shape[2:]).astype(np.float64)]  # fmt: skip
    return np.rint(soft).astype(np.uint8).reshape(frames.shape)


def noisy(frames: Frames) -> Frames:
    noise = np.random.default_rng(0).normal(0, 0.05 * 255, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def recoloured(frames: Frames) -> Frames:
    """Every clip's darkness off by 10 % of full scale in each channel, up or down."""
    error = np.random.default_rng(0).choice([-25.5, 25.5], (len(frames), 1, 1, 1, 3))
    dark = 255.0 - frames.min(-1, keepdims=True)
    return np.clip(frames + error * dark / dark.max((1, 2, 3, 4), keepdims=True), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_darkness_is_the_area_and_the_centre_is_the_centre_of_mass(shape: Shape) -> None:
    rng = np.random.default_rng(0)
    for radius in (2.5, 5.0, 8.0):
        x, y = 20 + rng.random(2)
        place = np.arange(40) + 0.5
        inside = cover(shape, (place - x)[None], (place - y)[:, None], np.array([[radius]]))
        assert inside.sum() == pytest.approx(np.pi * radius**2, rel=0.03)
        assert (inside.sum(0) @ place) / inside.sum() == pytest.approx(x, abs=0.08)
        assert (inside.sum(1) @ place) / inside.sum() == pytest.approx(y, abs=0.08)
        assert not inside[place < y - EXTENTS[shape].up * radius - 1].any()
        assert not inside[place > y + EXTENTS[shape].down * radius + 1].any()
        assert not inside[:, np.abs(place - x) > EXTENTS[shape].side * radius + 1].any()


def share(shown: Sequence[str], asked: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(shown, asked, strict=True)]))


def actions(motions: Motions) -> list[str]:
    return [m.action for m in motions]


@pytest.mark.parametrize("name", ["circles", "shapes"])
@pytest.mark.parametrize("size", [32, 64])
def test_v1_real_clips_are_read_right(size: int, name: str) -> None:
    """288 clips; `benchmarks/worlds.py --only right` has thousands, of more sizes and forms, and the worst motion."""
    frames, motions = world.__wrapped__(size, 3, name=name, seed=0)
    reading = seen(frames, motions)
    good, moved = right(reading, motions), np.array(actions(motions))
    assert good.mean() >= 0.995  # at most one of all
    assert min(good[moved == action].mean() for action in ACTIONS) > 0.9
    assert reading.law_rmse.mean() <= 0.05


@pytest.mark.parametrize("frames", [4, 5, 7, 16, 40, 100])
def test_v1_clips_of_any_length_are_read_right(frames: int) -> None:
    clips, motions = world.__wrapped__(32, 2, frames)
    assert right(seen(clips, motions), motions).mean() >= 0.995


@pytest.mark.parametrize("size", [32, 64])
def test_states_are_read_exactly(size: int) -> None:
    frames, motions = world(size)
    reading, spec = seen(frames, motions), ClipSpec(size=size)
    assert right(reading, motions).mean() >= 0.995
    assert (np.linalg.norm(reading.colour - [PALETTE[m.colour] for m in motions], axis=1) < 10).all()
    np.testing.assert_allclose(reading.opacity, 1, atol=0.04)
    assert reading.colour_change.max() < 8
    assert reading.shape_iou.min() > 0.94
    truth = [trace(m, spec) for m in motions]
    for shape in SHAPES:
        rows = [i for i, m in enumerate(motions) if m.shape == shape]
        errors = [np.hypot(reading.x[i] - truth[i].x, reading.y[i] - truth[i].y).mean() for i in rows]
        assert np.mean(errors) <= (0.015 if size == 64 else 0.03), shape
        for i in rows:
            np.testing.assert_allclose(reading.radius[i], truth[i].radius, atol=0.08)


def test_v2_shuffled_prompts_score_chance() -> None:
    frames, motions = world(64)
    shown, rng = np.array(seen(frames, motions).action), np.random.default_rng(0)
    asked = np.array(actions(motions))
    scores = [(shown == rng.permutation(asked)).mean() for _ in range(200)]
    assert abs(np.mean(scores) - 1 / 16) < 0.005


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("soften", [blurred, noisy, recoloured])
def test_soft_failures_still_read_right(soften: Callable[[Frames], Frames], size: int) -> None:
    frames, motions = world(size)
    assert right(seen(soften(frames), motions), motions).mean() >= 0.98


@pytest.mark.parametrize("size", [32, 64])
def test_v3_reversed_clips_read_as_the_opposite_motion(size: int) -> None:
    frames, motions = world(size)
    shown = seen(np.ascontiguousarray(frames[:, ::-1]), motions).action
    assert share(shown, [BACKWARDS.get(a, a) for a in actions(motions)]) >= 0.995
    assert share(shown, actions(motions)) == pytest.approx(4 / 16, abs=0.01)  # bounces and zigzags


def transformed(action: str, turns: int, mirror: bool, backwards: bool) -> str:
    """The motion that a clip shows after quarter turns clockwise, then a left-right mirror, then reversal of time."""
    for _ in range(turns):
        if action in DIRECTIONS:
            dx, dy = DIRECTIONS[action]  # type: ignore[index]
            action = next(a for a, v in DIRECTIONS.items() if np.allclose(v, (-dy, dx)))
        elif action.endswith(("-v", "-h")):
            action = action[:-1] + ("h" if action.endswith("v") else "v")
    if mirror and action in DIRECTIONS:
        dx, dy = DIRECTIONS[action]  # type: ignore[index]
        action = next(a for a, v in DIRECTIONS.items() if np.allclose(v, (-dx, dy)))
    elif mirror and action.startswith("rotate"):
        action = BACKWARDS[action]
    return BACKWARDS.get(action, action) if backwards else action


def moved(frames: Frames, turns: int, mirror: bool, backwards: bool) -> Frames:
    """The pixels of what `transformed` does to the label."""
    frames = np.rot90(frames, -turns, axes=(1, 2))
    frames = frames[:, :, ::-1] if mirror else frames
    return np.ascontiguousarray(frames[::-1] if backwards else frames)


SYMMETRIES = (st.integers(0, 3), st.booleans(), st.booleans())


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ACTIONS), st.sampled_from(SHAPES), st.sampled_from([(32, 10), (64, 10), (32, 24)]),
    st.integers(0, 2**32), *SYMMETRIES,
)  # fmt: skip
def test_v4_symmetries_of_the_square_and_of_time_transform_the_label(
    action: Action, shape: Shape, size: tuple[int, int], seed: int, turns: int, mirror: bool, backwards: bool
) -> None:
    spec = ClipSpec(size=size[0], frames=size[1])
    frames = render(draw_motion(action, spec, np.random.default_rng(seed), shape, "red"), spec)
    shown = read(np.stack([frames, moved(frames, turns, mirror, backwards)]), ["red"] * 2).action
    assert shown == [action, transformed(action, turns, mirror, backwards)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 191), st.integers(0, 2**32), *SYMMETRIES)
def test_v4_holds_for_clips_whose_truth_nobody_knows(
    index: int, seed: int, turns: int, mirror: bool, backwards: bool
) -> None:
    clip, rng = world(32)[0][index], np.random.default_rng(seed)
    broken = noisy(clip[np.clip(np.arange(10) + rng.integers(-1, 2, 10), 0, 9)])
    reading = read(np.stack([broken, moved(broken, turns, mirror, backwards)]), ["red"] * 2)
    assert reading.action[1] == transformed(reading.action[0], turns, mirror, backwards)
    assert reading.reason[0] == reading.reason[1]


@pytest.mark.parametrize("size", [32, 64])
def test_v5_clips_without_coherent_motion_are_not_read_as_it(size: int) -> None:
    frames, motions = world(size)
    rng, spec = np.random.default_rng(0), ClipSpec(size=size)

    def score(clips: Frames) -> float:
        return share(seen(clips, motions).action, actions(motions))

    assert score(np.stack([clip[rng.permutation(10)] for clip in frames])) <= 0.03
    assert score(frames[:, :1].repeat(10, axis=1)) == 0
    others = np.stack([[render(draw_motion(m.action, spec, rng, m.shape, m.colour), spec) for _ in range(10)]
                       for m in motions[:96]])  # fmt: skip
    t, picked = np.arange(10), rng.integers(0, 10, (96, 10))
    rows, motions = np.arange(96)[:, None], motions[:96]
    assert score(others[rows, t, picked]) <= 0.02  # independent frames
    assert score(others[rows, t, t]) <= 0.15  # the right moment of ten clips


REASONS = {
    "blank": {"no object in a frame"}, "missing": {"no object in a frame"}, "half": {"half opacity"},
    "noise": {"object too large", "not one compact object"}, "dirt": {"background not clean"},
    "colour": {"wrong colour"},
    "shape": {"wrong shape"}, "small": {"object too small", "wrong size"}, "large": {"object too large", "wrong size"},
    "fast": {"wrong speed"},
}  # fmt: skip


def damaged(kind: str, frames: Frames, motions: Motions, spec: ClipSpec) -> tuple[Frames, Motions]:
    """Clips with one thing wrong, and what they are asked for."""
    out, rng = frames.copy(), np.random.default_rng(0)
    if kind == "blank":
        out[:] = 255
    elif kind == "noise":
        out = rng.integers(0, 256, frames.shape, np.uint8)
    elif kind == "missing":
        out[np.arange(len(out)), rng.integers(0, 10, len(out))] = 255
    elif kind == "half":
        out = (255 - (255 - frames.astype(int)) // 2).astype(np.uint8)
    elif kind == "dirt":
        out = np.minimum(frames, 235)
    elif kind == "colour":
        motions = [m.model_copy(update={"colour": COLOURS[COLOURS.index(m.colour) - 1]}) for m in motions]
    elif kind == "shape":
        motions = [m.model_copy(update={"shape": SHAPES[SHAPES.index(m.shape) - 1]}) for m in motions]
    else:
        share, pace = {"small": (0.5, 1.0), "large": (1.7, 1.0), "fast": (1.0, 1.0 + 3.0 * (kind == "fast"))}[kind]
        motions = [m for m in motions if m.action in DIRECTIONS]
        middle, steps = spec.size / 2, spec.frames - 1
        changed = []
        for m in motions:
            speed, (dx, dy) = spec.unit * pace, DIRECTIONS[m.action]
            start = (middle - dx * speed * steps / 2, middle - dy * speed * steps / 2)
            radius = share * radius_range(m.action, m.shape, spec)[share > 1]
            changed.append(m.model_copy(
                update={"radius": radius, "radius_end": radius, "speed": speed, "start": start}))  # fmt: skip
        out = np.stack([render(m, spec) for m in changed])
    return out, motions


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("kind", REASONS)
def test_v6_what_is_no_such_clip_is_marked_with_its_reason(kind: str, size: int) -> None:
    frames, motions = damaged(kind, *world(size), ClipSpec(size=size))
    prompts = [say(Meaning(m.action, m.shape, m.colour), WORDINGS[0]) for m in motions]
    given = [v.fault.split(":")[0] for v in judge(frames, prompts, range(len(prompts)), "s0")]
    assert np.mean([g in REASONS[kind] for g in given]) >= 0.99, {g for g in given if g not in REASONS[kind]}


@pytest.mark.parametrize("size", [32, 64])
def test_v6_two_objects_are_refused(size: int) -> None:
    spec, clips, colours = ClipSpec(size=size), [], []
    for i in range(192):
        rng = np.random.default_rng([3, i])
        colour, other = COLOURS[i % 6], COLOURS[(i // 6) % 6]
        pair = [Motion(action="right", shape=SHAPES[(i + k) % 6], colour=c, speed=0.1,
                       start=tuple(spec.unit * np.array([16 + 30 * k, 20 + 20 * rng.random()])), radius=r, radius_end=r)
                for k, (c, r) in enumerate(zip((colour, other), spec.unit * rng.uniform(5, 7, 2), strict=True))
                ]  # fmt: skip
        clips.append(np.minimum(*(render(m, spec) for m in pair)))
        colours.append(colour)
    reading = read(np.stack(clips), colours)
    assert np.mean([r == "not one compact object" for r in reading.reason]) >= 0.99


@pytest.mark.slow
def test_v7_the_jitter_ladder_shows_in_the_distance_and_not_in_the_motion() -> None:
    spec = ClipSpec()
    asked = [a for a in ACTIONS if a not in ("shrink", "expand") for _ in range(16)]
    paths = [trace(draw_motion(a, spec, np.random.default_rng([5, i]), "circle", "blue"), spec)
             for i, a in enumerate(asked)]  # fmt: skip
    places = np.array([(p.x, p.y) for p in paths])  # (n, 2, t)
    noise, grid = np.random.default_rng(0).normal(size=places.shape), np.arange(96) + 0.5 - 16
    rmse, steps = [], (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    for sigma in steps:  # drawn on a larger background, so that nothing is cut off, read in units of the smaller
        x, y = (places + sigma * noise).swapaxes(0, 1)
        inside = (cover("circle", grid - u[:, None, None], grid[:, None] - v[:, None, None], p.radius[:, None, None])
                  for u, v, p in zip(x, y, paths, strict=True))  # fmt: skip
        clips = [np.rint(255 + (np.array(PALETTE["blue"]) - 255) * i[..., None]).astype(np.uint8) for i in inside]
        reading = read(np.stack(clips), ["blue"] * len(asked))
        if sigma <= 1:
            assert share(laws.best_law(reading.x, reading.y, 1.0), asked) >= 0.99
            assert np.sqrt(((reading.x - 16 - x) ** 2).mean()) < 0.02
        fits = laws.nearest(asked, reading.x, reading.y, 1.0)
        assert (fits.rmse <= TOLERANCE).mean() >= (0.99 if sigma <= 1 else 0)
        rmse.append(np.sqrt((fits.rmse**2).mean()))
    np.testing.assert_allclose(np.array(rmse) / steps, np.polyfit(steps, rmse, 1)[0], rtol=0.1)


def test_v8_one_change_moves_one_figure() -> None:
    spec = ClipSpec()
    motion = draw_motion("right", spec, np.random.default_rng(5), "square", "red")
    motion = motion.model_copy(update={"speed": 2.0, "start": (14.0, 32.0), "radius": 6.0, "radius_end": 6.0})
    faster = motion.model_copy(update={"speed": 2.2})
    larger = motion.model_copy(update={"radius": 7.2, "radius_end": 7.2})
    shifted = motion.model_copy(update={"colour": "orange"})
    reading = seen(np.stack([render(m, spec) for m in (motion, faster, larger, shifted)]), [motion] * 4)
    np.testing.assert_allclose(reading.speed, [2, 2.2, 2, 2], atol=0.005)
    np.testing.assert_allclose(reading.radius.mean(1), [6, 6, 7.2, 6], atol=0.02)
    assert reading.look == ["", "", "", "wrong colour"]
    assert reading.colour_name == ["red", "red", "red", "orange"]
    assert reading.law_rmse.max() < 0.02 and reading.shape_iou.min() > 0.98
    np.testing.assert_allclose(reading.angle, 0, atol=0.1)


def test_angles_are_counted_as_seen() -> None:
    spec = ClipSpec()
    asked: list[Action] = ["right", "up-right", "up", "up-left", "down", "down-right"]
    frames = np.stack([render(draw_motion(a, spec, np.random.default_rng(0), "ring", "green"), spec) for a in asked])
    np.testing.assert_allclose(read(frames, ["green"] * 6).angle, [0, 45, 90, 135, -90, -45], atol=0.5)


def test_a_law_is_held_to_its_meaning() -> None:
    spec = ClipSpec()
    frames = render(draw_motion("right", spec, np.random.default_rng(0), "circle", "blue"), spec)[None]
    same, other = (read(frames, ["blue"], actions=[a]) for a in ("right", "left"))  # type: ignore[list-item]
    assert same.action == other.action == ["right"]
    assert same.law_rmse[0] < 0.02 < 2 < other.law_rmse[0]
    assert other.law_x[0, -1] < other.law_x[0, 0]


def test_the_ground_is_measured() -> None:
    frames, motions = world(64)
    grey = np.minimum(frames, 250)
    grey[:, 1::2] = np.minimum(frames[:, 1::2], 245)
    reading = seen(grey, motions)
    np.testing.assert_allclose(reading.background_error, 7.5 / 255, atol=1e-4)
    np.testing.assert_allclose(reading.flicker, 5 / 255, atol=1e-4)
    assert BACKGROUND == (255, 255, 255)
