"""The judge as a whole: what reads right, what reads wrong and why, on changed real clips (V2, V6, V8, V15)."""

from functools import partial

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging import suite
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.features import features
from t2v_models.judging.metrics import summarise
from t2v_models.judging.suite import bounds, real_clips
from t2v_models.judging.truth import Judged, Truth
from t2v_models.judging.verdicts import table
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import Motion, draw_motion
from t2v_models.worlds.prompts import parse
from t2v_models.worlds.render import render
from tests.grammar import judge, oracle

SPEC = ClipSpec(size=32)
DATA = DatasetConfig(spec=SPEC, clips=360)
TRUTH = Truth(DATA, "s0")
PROMPTS = [p for p in DATA.prompts for _ in range(8)]
SEEDS = range(len(PROMPTS))


def test_two_evaluations_are_equal_to_the_bit() -> None:
    once, again = (judge(oracle(SPEC, PROMPTS, SEEDS), PROMPTS, SEEDS, "s0") for _ in range(2))
    assert table(once).equals(table(again)) or str(once) == str(again)
    scores = (
        TRUTH.figures(Judged(v, features(oracle(SPEC, PROMPTS, SEEDS))), real_clips(DATA, "s0", PROMPTS, int))
        for v in (once, again)
    )
    assert len({str(s) for s in scores}) == 1


def test_judging_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = PROMPTS[:20], SEEDS[:20]
    frames = oracle(SPEC, *asked)
    monkeypatch.setattr(suite, "PART_BYTES", 7 * frames[0].nbytes)
    parts = list(suite.judge_parts(partial(oracle, SPEC), *asked, TRUTH))
    assert [len(f) for f, _ in parts] == [7, 7, 6]
    assert np.array_equal(np.concatenate([f for f, _ in parts]), frames)
    judged = suite.together([j for _, j in parts])
    whole = judge(frames, *asked, "s0")
    assert [(v.prompt, v.seed, v.shown, v.fault) for v in judged.verdicts] == [
        (v.prompt, v.seed, v.shown, v.fault) for v in whole
    ]
    np.testing.assert_allclose([v.x for v in judged.verdicts], [v.x for v in whole], rtol=1e-9)
    np.testing.assert_allclose(judged.features, features(frames), atol=1e-4)


def test_every_table_has_its_ceiling_and_floors() -> None:
    read: list[int] = []
    found = bounds(real_clips(DATA, "s0", PROMPTS, read.append), DATA, "s0", PROMPTS, read.append)
    assert sum(read) == suite.clips_beside(PROMPTS)
    assert list(found) == list(BASELINES)
    assert found["oracle"]["prompt_acc"].value >= 0.99
    assert found["oracle"]["prompt_success"].value >= 0.99
    assert all(found[name]["prompt_acc"].value < 0.2 for name in BASELINES if name not in ("oracle", "retrieval"))


def test_one_wrong_attribute_is_the_reason_and_moves_its_own_figure_only() -> None:
    prompt = "circle moving left"
    motions = [draw_motion(parse(prompt).action, SPEC, np.random.default_rng(i), "circle", "blue") for i in range(40)]
    right = judge(np.stack([render(x, SPEC) for x in motions]), [prompt] * 40, range(40), "s0")
    wide = [
        x.model_copy(update={"radius": 6.0, "radius_end": 6.0, "start": (25.0, 16.0), "speed": 1.5}) for x in motions
    ]
    large = judge(np.stack([render(x, SPEC) for x in wide]), [prompt] * 40, range(40), "s0")
    fast = [
        x.model_copy(update={"radius": 3.0, "radius_end": 3.0, "start": (28.5, 16.0), "speed": 2.7}) for x in motions
    ]
    quick = judge(np.stack([render(x, SPEC) for x in fast]), [prompt] * 40, range(40), "s0")
    flashing = np.stack([render(x, SPEC) for x in motions])
    flashing[:, 4, ..., 0] = 255 - np.rint((255 - flashing[:, 4, ..., 0]) * (145 / 225))  # red from 30 to 110
    flashed = judge(flashing, [prompt] * 40, range(40), "s0")
    assert all(v.success for v in right)
    assert all(v.right and v.fault.startswith("wrong colour in a frame") for v in flashed)
    assert summarise(flashed)["colour_change"].value == pytest.approx(80 * 0.9, abs=1)
    assert all(v.right and v.fault.startswith("wrong size") for v in large)
    assert all(v.right and v.fault.startswith("wrong speed") for v in quick)
    known, sized, sped = summarise(right), summarise(large), summarise(quick)
    assert sized["radius_err"].value == pytest.approx(2.0, abs=0.05)
    assert sped["speed_err"].value == pytest.approx(0.95, abs=0.05)
    assert sized["speed_err"].value == sped["radius_err"].value == known["radius_err"].value == 0
    for name in ("prompt_acc", "valid", "shape_acc"):
        assert known[name].value == sized[name].value == sped[name].value == 1


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("speed", {"speed": 0.207, "path": 1.863}),
        ("radius", {"size": 1.0}),
        ("hue", {"colour_err": 37.2}),
        ("hue of a frame", {"colour_change": 37.2 * 0.9}),  # which is paler and so no part of the clip's core
    ],
)
def test_v8_a_change_moves_its_own_number_and_no_other(change: str, moved: dict[str, float]) -> None:
    spec, names = ClipSpec(), ("speed", "path", "angle", "traj_rmse", "step_err", "radius_cv", "shape_iou",
                               "colour_err", "colour_change", "opacity", "bg_err", "flicker")  # fmt: skip
    start = [Motion(action="right", start=(16.2 + k / 9, 30.7 - k / 7), radius=5, radius_end=5, speed=2.07)
             for k in range(12)]  # fmt: skip
    update = {"speed": {"speed": 2.277}, "radius": {"radius": 6.0, "radius_end": 6.0}}.get(change, {})
    before, after = (
        np.stack([render(m, spec) for m in motions])
        for motions in (start, [m.model_copy(update=update) for m in start])
    )
    if change.startswith("hue"):  # at a right angle to blue, so that its opacity stays
        turned = slice(None) if change == "hue" else slice(4, 5)
        dark = (255 - after[:, turned, ..., :1]) / (255 - 30)
        after[:, turned] = np.rint(255 - dark * [255 - 52, 255 - 60, 255 - 220])
    numbers = []
    for frames in (before, after):
        verdicts = judge(frames, ["circle moving right"] * 12, range(12), "s0")
        assert all(v.right for v in verdicts)
        numbers.append({name: np.mean([getattr(v, name) for v in verdicts]) for name in names})
        numbers[-1]["size"] = np.mean([v.radius for v in verdicts])
    for name in numbers[0]:
        near = {"colour_err": 1.0, "colour_change": 1.0, "angle": 0.1}.get(name, 0.02)
        assert numbers[1][name] - numbers[0][name] == pytest.approx(moved.get(name, 0), abs=near), name


def test_a_clip_is_green_where_all_is_right_amber_where_only_the_motion_is_and_else_red() -> None:
    """The mark of every clip agrees with `prompt_success` and `prompt_acc`, and what is not right has a reason."""
    frames = np.concatenate([BASELINES[name](DATA, PROMPTS[::4], range(36)) for name in ("oracle", "frozen", "noise")])
    asked = [*PROMPTS[::4], *(f"red {p}" for p in PROMPTS[::4]), *PROMPTS[::4]]
    frames[36:72] = frames[:36]
    verdicts = judge(frames, asked, range(len(asked)), "s0")
    assert [v.mark for v in verdicts] == ["right"] * 36 + ["partly"] * 36 + ["wrong"] * 36
    for v in verdicts:
        assert v.success == (v.mark == "right") == (not v.fault)
        assert v.right == (v.mark != "wrong")
    assert {v.fault for v in verdicts[36:72]} == {"wrong colour"}
