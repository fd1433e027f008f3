"""Words of size and speed: what they mean is drawn, what is drawn is read, and s4 asks for more than is trained."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.metrics import summarise
from t2v_models.judging.verdicts import Verdict
from t2v_models.text.split import words
from t2v_models.worlds.appearance import SHAPES, Shape
from t2v_models.worlds.bands import BEYOND, MOST_FRAMES, SIZES, SLACK, SPEEDS, TRAINED, Size, Speed, band
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import (
    ACTIONS,
    ORBITS,
    SIZE_MOTIONS,
    Action,
    Motion,
    draw_motion,
    radius_range,
    speed_range,
    trace,
)
from t2v_models.worlds.outlines import EXTENTS
from t2v_models.worlds.prompts import Meaning, parse
from t2v_models.worlds.render import render
from t2v_models.worlds.shapes import check_no_leak
from t2v_models.worlds.splits import Coverage
from tests.grammar import judge, oracle
from tests.tiny import drawn_clip

SPEC = ClipSpec(size=32)
WORLDS: tuple[str, ...] = ("circles", "shapes")
DATA = {world: DatasetConfig(world=world, bands=True, spec=SPEC) for world in WORLDS}
MOVING = [a for a in ACTIONS if a not in SIZE_MOTIONS]


@pytest.mark.parametrize("scale", [SIZES, SPEEDS])
def test_the_last_of_four_even_steps_lies_beyond_the_trained_range(scale: tuple[Size | Speed, ...]) -> None:
    lows, highs = np.array([band(word) for word in scale]).T
    gaps = lows[1:] - highs[:-1]
    np.testing.assert_allclose(np.diff(lows), lows[1] - lows[0])
    np.testing.assert_allclose(gaps, 2 * SLACK * (highs - lows)[0])  # so no clip is right for two words
    assert lows[0] == 0 and highs[2] == 1 < lows[3]
    assert band(None) == (0, 1)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(MOVING), st.sampled_from(SHAPES), st.sampled_from([None, *SIZES]),
    st.sampled_from([None, *SPEEDS]), st.integers(4, MOST_FRAMES), st.integers(16, 96), st.integers(0, 2**32),
)  # fmt: skip
def test_every_drawn_clip_has_the_size_and_speed_it_is_asked_for_and_stays_in_the_frame(
    action: Action, shape: Shape, size: Size | None, speed: Speed | None, frames: int, side: int, seed: int
) -> None:
    if size in BEYOND:
        speed = None  # no split asks for both, and the largest shapes then have no room
    spec = ClipSpec(frames=frames, size=side)
    motion = draw_motion(action, spec, np.random.default_rng(seed), shape, "red", size, speed)
    least, most = radius_range(action, shape, spec, size)
    assert least - 1e-9 <= motion.radius == motion.radius_end <= most + 1e-9
    orbit = motion.swing / spec.unit
    slowest, fastest = speed_range(action, spec, speed, (orbit, orbit))
    drawn = motion.swing * abs(motion.rate) if action in ORBITS else abs(motion.speed)
    assert slowest - 1e-9 <= drawn <= fastest + 1e-9
    path, reach = trace(motion, spec), EXTENTS[shape]
    assert (path.x - reach.side * path.radius).min() >= -1e-9
    assert (path.x + reach.side * path.radius).max() <= spec.size + 1e-9
    assert (path.y - reach.up * path.radius).min() >= -1e-9
    assert (path.y + reach.down * path.radius).max() <= spec.size + 1e-9


@pytest.mark.parametrize("world", WORLDS)
def test_every_caption_of_a_dataset_is_true_of_its_clip(world: str) -> None:
    data, spoken = DATA[world], set()
    for i in range(0, len(data.prompts), 1 if world == "circles" else 7):
        caption, motion = drawn_clip(data, i)
        meaning = parse(caption)
        spoken.add(meaning.size or meaning.speed)
        if motion.action in SIZE_MOTIONS:
            assert not meaning.size and not meaning.speed
            continue
        least, most = radius_range(motion.action, motion.shape, SPEC, meaning.size)
        assert least - 1e-9 <= motion.radius <= most + 1e-9
    assert spoken == {None, *TRAINED}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("coverage", [None, 9, 43, 86, "one-factor"])
def test_s4_says_in_trained_words_what_was_never_trained(world: str, coverage: Coverage | None) -> None:
    if world == "circles" and coverage:
        pytest.skip("of the shapes world")
    data = DatasetConfig(world=world, coverage=coverage, bands=True)
    trained, asked = {parse(p) for p in data.prompts}, [parse(p) for p in data.asked("s4")]
    assert {w for p in data.asked("s4") for w in words(p)} <= {w for p in data.prompts for w in words(p)}
    assert {m.size or m.speed for m in asked} == set(BEYOND)
    if coverage != "one-factor":
        assert {m.action for m in asked} == {m.action for m in trained} - set(SIZE_MOTIONS)
        for action in {m.action for m in asked}:
            assert {m.size or m.speed for m in trained if m.action == action} == {None, *TRAINED}
    if world == "shapes" and coverage != "one-factor":
        assert len({(m.size or m.speed, m.shape) for m in trained}) == 7 * len(SHAPES), "every word with every shape"
    assert {Meaning(m.action, m.shape, m.colour) for m in asked} <= trained, "only the word is new"
    assert {parse(p) for p in data.asked("s0")} <= trained
    check_no_leak(data.prompts, data.hold_out, coverage)
    for prompt in data.asked("s4"):
        with pytest.raises(LabError, match="'very (big|fast)', which is held out as beyond all that is trained"):
            check_no_leak([prompt], data.hold_out, coverage)


def test_without_bands_nothing_is_said_and_nothing_changes() -> None:
    for world in WORLDS:
        data = DatasetConfig(world=world)
        assert not data.asked("s4")
        assert "bands" not in data.model_dump_json()
        assert all(parse(p).size is parse(p).speed is None for p in data.prompts)
        assert data.digest != DatasetConfig(world=world, bands=True).digest
    saved = DatasetConfig(bands=True).model_dump_json()
    assert DatasetConfig.model_validate_json(saved) == DatasetConfig(bands=True)


def test_what_cannot_be_said_is_one_sentence() -> None:
    with pytest.raises(LabError, match="'small' of an object that is shrinking"):
        parse("small circle shrinking")
    with pytest.raises(LabError, match="'very fast' of an object that is expanding"):
        parse("the ring is red and expanding very fast")
    with pytest.raises(LabError, match="bands of 11 frames: .* use 10 frames or fewer"):
        DatasetConfig(bands=True, spec=ClipSpec(frames=11))
    with pytest.raises(LabError, match="unknown word 'bigg'.*did you mean 'big'"):
        parse("very bigg circle moving left")
    assert parse("a very small red ring moving left-up slowly") == Meaning(
        "up-left", "ring", "red", "very small", "slowly"
    )


def _of(motion: Motion, prompt: str) -> list[Verdict]:
    return judge(render(motion, ClipSpec())[None], [prompt], [0], "s4")


@cache
def judged(name: str, world: str, split: str, each: int = 4) -> tuple[Verdict, ...]:
    prompts = [p for p in DATA[world].asked(split) for _ in range(each)]  # type: ignore[arg-type]
    seeds = range(len(prompts))
    return tuple(judge(BASELINES[name](DATA[world], prompts, seeds), prompts, seeds, split))


@pytest.mark.parametrize("world", WORLDS)
def test_s4_has_its_ceiling_and_lookup_fails_it(world: str) -> None:
    real, found = (summarise(judged(name, world, "s4")) for name in ("oracle", "retrieval"))
    assert real["prompt_success"].value >= 0.995
    assert max(real["speed_err"].value, real["radius_err"].value) <= 0.002
    assert found["prompt_acc"].value >= 0.99, "it moves as asked"
    assert found["prompt_success"].value == 0, "at a size or speed that was trained"
    assert {v.fault.split(":")[0] for v in judged("retrieval", world, "s4")} == {"wrong size", "wrong speed"}
    for name in ("unconditional", "independent", "frozen", "blank", "noise"):
        assert np.mean([v.success for v in judged(name, world, "s4", 1)]) <= 0.02, name


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("scale", "reason", "number"), [(SIZES, "wrong size", "radius_err"), (SPEEDS, "wrong speed", "speed_err")]
)
def test_a_neighbouring_word_is_refused_for_that_reason_alone(
    world: str, scale: tuple[Size | Speed, ...], reason: str, number: str
) -> None:
    prompts = [p for s in ("s0", "s4") for p in DATA[world].asked(s) if (parse(p).size or parse(p).speed) in scale]  # type: ignore[arg-type]
    ranks = [scale.index(parse(p).size or parse(p).speed) for p in prompts]  # type: ignore[arg-type]
    shown = [p.replace(scale[k], scale[k - 1 if k else 1]) for p, k in zip(prompts, ranks, strict=True)]
    assert all(parse(a) != parse(b) for a, b in zip(prompts, shown, strict=True))
    frames = oracle(SPEC, shown, range(len(shown)))
    wrong = judge(frames, prompts, range(len(prompts)), "s4")
    assert np.mean([v.fault.startswith(reason) and not v.success and v.right for v in wrong]) >= 0.99
    right = judge(frames, shown, range(len(shown)), "s4")
    assert np.mean([v.success for v in right]) >= 0.995
    assert max(getattr(v, number) for v in right) <= 0.05
    assert min(getattr(v, number) for v in wrong) > max(getattr(v, number) for v in right)


@pytest.mark.parametrize(("word", "share", "off"), [("very big", 1.3, 0), ("very big", 1.0, 0.6), ("small", 1.0, 1.2)])
def test_the_radius_error_is_the_distance_to_the_band(word: str, share: float, off: float) -> None:
    drawn = draw_motion("right", ClipSpec(), np.random.default_rng(3), "circle", "blue")
    radius = 5 + 3 * share
    motion = drawn.model_copy(update={"radius": radius, "radius_end": radius, "start": (12.0, 30.0), "speed": 2.0})
    (verdict,) = _of(motion, f"{word} circle moving right")
    assert verdict.radius_err == pytest.approx(off, abs=0.03)
    assert verdict.success == (off == 0) and verdict.speed_err == 0


@pytest.mark.parametrize(("word", "share", "off"), [("fast", 0.9, 0), ("fast", 1.3, 0.75), ("very slowly", 0.5, 0.75)])
def test_the_speed_error_is_the_distance_to_the_band(word: str, share: float, off: float) -> None:
    drawn = draw_motion("right", ClipSpec(), np.random.default_rng(3), "circle", "blue")
    motion = drawn.model_copy(update={"start": (10.0, 30.0), "speed": 1 + 2.5 * share})
    (verdict,) = _of(motion, f"circle moving right {word}")
    assert verdict.speed_err == pytest.approx(off, abs=0.01)
    assert verdict.success == (off == 0) and verdict.radius_err == 0
