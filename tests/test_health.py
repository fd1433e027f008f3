"""Detectors of sick prompts: silent on real clips, sure of planted faults, in closed form where there is one."""

import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging import health
from t2v_models.judging.baselines import blank, unconditional
from t2v_models.judging.figures import by_prompt
from t2v_models.judging.verdicts import Verdict
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import history
from t2v_models.training.validation import watcher
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import draw_motion, trace
from t2v_models.worlds.prompts import parse
from tasks.report.lab import ModelReport, Report, write_report
from tests.grammar import GRAMMAR, alarms, judge, oracle, sentences
from tests.runs import SMALL, quiet, run_of
from tests.tiny import split_prompts

CLIPS = 8
"""Of each prompt, as while training."""
WORLDS: tuple[str, ...] = ("circles", "shapes")
SPEC = ClipSpec(size=64)


def prompts_of(world: str) -> tuple[str, ...]:
    return split_prompts(world, "s0", ("up-right",))


def truth(prompt: str, seed: int, rng: np.random.Generator) -> Verdict:
    """The verdict of a reader without error on a real clip."""
    meaning = parse(prompt)
    path = trace(draw_motion(meaning.action, SPEC, rng, meaning.shape, meaning.colour), SPEC)
    return Verdict(
        prompt=prompt, split="s0", seed=seed, asked=meaning.action, shown=meaning.action, right=True, valid=True,
        reason="", rmse=0.0, asked_shape=meaning.shape, shown_shape=meaning.shape, asked_colour=meaning.colour,
        shown_colour=meaning.colour, x=tuple(path.x), y=tuple(path.y), radius=tuple(path.radius),
    )  # fmt: skip


@lru_cache(maxsize=100)  # each fault is planted in the same ones
def real_look(world: str, seed: int, clips: int = CLIPS) -> list[Verdict]:
    """A look at all prompts of a world by a perfect model."""
    rng = np.random.default_rng([seed, *world.encode()])
    return [truth(prompt, i, rng) for prompt in prompts_of(world) for i in range(clips)]


def narrowed(verdicts: Sequence[Verdict], place: float, size: float) -> list[Verdict]:
    """The same clips with the spread of start and size inside every prompt multiplied."""
    out = []
    for group in by_prompt(verdicts).values():
        x, y, radius = np.mean([(v.x[0], v.y[0], v.radius[0]) for v in group], axis=0)
        for v in group:
            ratio = (radius + size * (v.radius[0] - radius)) / v.radius[0]
            dx, dy = (1 - place) * (x - v.x[0]), (1 - place) * (y - v.y[0])
            moved = {"x": np.add(v.x, dx), "y": np.add(v.y, dy), "radius": np.multiply(v.radius, ratio)}
            out.append(v.model_copy(update={name: tuple(path) for name, path in moved.items()}))
    return out


def mixed(verdicts: Sequence[Verdict], order: Sequence[int]) -> list[Verdict]:
    """Clip i is what clip `order[i]` was, though the caption is its own."""
    taken = ("shown", "shown_shape", "shown_colour", "x", "y", "radius")
    pairs = ((v, verdicts[k]) for v, k in zip(verdicts, order, strict=True))
    return [v.model_copy(update={name: getattr(w, name) for name in taken}) for v, w in pairs]


def swapped(verdicts: Sequence[Verdict], seed: int) -> list[Verdict]:
    """Every prompt gets the clips of one other prompt, which means something else."""
    asked = [v.asked for v in verdicts]
    shifts = [CLIPS * k for k in range(1, len(asked) // CLIPS)]
    apart = [k for k in shifts if all(a != b for a, b in zip(asked, np.roll(asked, k), strict=True))]
    return mixed(verdicts, np.roll(np.arange(len(asked)), apart[seed % len(apart)]).tolist())


def of_random_prompts(verdicts: Sequence[Verdict], seed: int) -> list[Verdict]:
    """Every clip is that of a random prompt."""
    return mixed(verdicts, np.random.default_rng(seed).integers(len(verdicts), size=len(verdicts)).tolist())


def found(verdicts: Sequence[Verdict], kind: health.Kind) -> int:
    return len({alarm.prompt for alarm in alarms(verdicts) if alarm.kind == kind})


def looks(fast: int) -> int:
    """Set T2V_LOOKS=2000 for the long proof."""
    return int(os.environ.get("T2V_LOOKS", fast))


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_looks_at_real_clips_raise_no_alarm(world: str) -> None:
    count = looks(40)
    alarmed = [seed for seed in range(count) if alarms(real_look(world, seed))]
    assert len(alarmed) <= 0.01 * count, alarmed


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("collapsed", lambda real, seed: narrowed(real, 0.25, 1)),
        ("collapsed", lambda real, seed: narrowed(real, 1, 0.1)),
        ("ignored", swapped),
        ("ignored", of_random_prompts),
    ],
    ids=["place", "size", "swapped", "random prompts"],
)
def test_planted_faults_are_found(
    world: str, kind: health.Kind, plant: Callable[[list[Verdict], int], list[Verdict]]
) -> None:
    count = looks(40) // (1 if world == "circles" else 4)
    hits = sum(found(plant(real_look(world, seed), seed), kind) for seed in range(count))
    assert hits >= 0.99 * count * len(prompts_of(world))


def test_what_is_not_narrow_enough_is_no_collapse_however_many_clips_show_it() -> None:
    assert not alarms(narrowed(real_look("circles", 0, clips=200), 0.75, 0.75))


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_pixels_tell_the_same(world: str) -> None:
    data = DatasetConfig(world=world, clips=1, spec=ClipSpec(size=32))
    prompts = prompts_of(world)
    asked = [p for p in prompts for _ in range(CLIPS)]
    seeds = list(range(len(asked)))

    def look(frames: np.ndarray) -> list[Verdict]:
        return judge(frames, asked, seeds, "s0")

    real = oracle(data.spec, asked, seeds)
    assert alarms(look(real)) == []
    assert found(look(np.repeat(real[::CLIPS], CLIPS, axis=0)), "collapsed") == len(prompts)
    assert found(look(np.roll(real, CLIPS * (len(prompts) // 3), axis=0)), "ignored") >= 0.99 * len(prompts)
    assert found(look(unconditional(data, asked, seeds)), "ignored") >= 0.95 * len(prompts)
    assert found(look(blank(data, asked, seeds)), "vanished") == len(prompts)


def test_one_sick_prompt_is_named_and_the_others_are_not() -> None:
    real = real_look("circles", 1)
    one = "circle shrinking"
    sick = [v for v in narrowed(real, 0.2, 1) if v.prompt == one] + [v for v in real if v.prompt != one]
    counts = {"health/collapsed": 1, "health/ignored": 0, "health/vanished": 0, "health/unjudged": 0}
    assert health.of_clips(sick, GRAMMAR) == counts
    [sentence] = sentences(sick, {})
    assert sentence.startswith("'circle shrinking' starts at nearly the same place in every clip: spread 0.")
    assert sentences([v.model_copy(update={"split": "s3"}) for v in sick], {}) == []


def test_a_model_that_hears_all_but_the_colour_is_found() -> None:
    real = real_look("shapes", 2)
    rng = np.random.default_rng(0)
    colours = [v.shown_colour for v in real]
    painted = [v.model_copy(update={"shown_colour": str(rng.choice(colours))}) for v in real]
    assert found(painted, "ignored") >= 0.99 * len(prompts_of("shapes"))
    assert all("clips show" in alarm.sentence for alarm in alarms(painted))


def test_a_few_lost_objects_are_chance_and_more_are_not() -> None:
    real = real_look("circles", 3)

    def lose(count: int) -> list[Verdict]:
        gone = {"valid": False, "reason": "no object in a frame", "radius": (6.0, 0.0)}
        return [v.model_copy(update=gone) if i < count else v for i, v in enumerate(real)]

    assert found(lose(1), "vanished") == 0
    assert alarms(lose(3))[0].sentence.endswith("loses its object in 3 of 8 clips")
    assert found(lose(CLIPS), "vanished") == len(alarms(lose(CLIPS))) == 1  # and nothing else is said of it


def test_clips_that_cannot_be_read_are_not_taken_for_health() -> None:
    noise = [v.model_copy(update={"valid": False}) for v in real_look("circles", 4)]
    assert alarms(noise) == []
    assert health.of_clips(noise, GRAMMAR)["health/unjudged"] == 18
    assert sentences(noise, {}) == ["18 of 18 prompts have fewer than 4 clips that can be read"]


def test_the_score_gap_must_be_out_for_long() -> None:
    def history(*gaps: float) -> dict[int, dict[str, float]]:
        return {50 * i: {"train/score_gap": gap} for i, gap in enumerate(gaps)}

    assert "above 10" in health.score_gap(history(1, 11, 11, -12, 11, 11))
    assert health.score_gap(history(1, 11, 11, 11, 11, 11)).endswith("for 200 updates")
    assert "below 0.05" in health.score_gap(history(1, 0, 0.01, -0.04, 0, 0))
    assert health.score_gap(history(11, 11, 11, 11)) == ""  # 150 updates
    assert health.score_gap(history(11, 11, 11, 11, 11, 9)) == ""  # it came back
    assert health.score_gap(history(0, 11, 0, 11, 0, 11)) == ""
    assert health.of_history({0: {"train/loss": 1.0}}) == {}
    assert health.of_history(history(11, 11, 11, 11, 11)) == {"health/score_gap": 1}
    assert sentences([], history(1, 1)) == []


def test_what_was_learnt_and_lost_is_named_even_if_it_came_back() -> None:
    def watched(*shares: float) -> dict[int, dict[str, float]]:
        return {100 * look: {"watch/prompt_acc": share} for look, share in enumerate(shares)}

    for well in ((), (0.0,), (0.1, 0.6, 0.9, 0.87, 0.99), (0.2, 0.06)):
        assert sentences([], watched(*well)) == []
    assert sentences([], watched(0.2, 0.94, 0.8, 0.0, 0.4, 0.99)) == [
        "94% of watched clips obeyed at update 100, 0% at update 300, 99% at the last look"
    ]
    assert health.of_history(watched(0.9, 0.5)) == {"health/relapse": 1}
    assert health.of_history(watched(0.5, 0.9)) == {"health/relapse": 0}


def test_closed_forms() -> None:
    assert health.at_least(0, 8, 0.3) == pytest.approx(1)
    assert health.at_least(3, 3, 0.5) == pytest.approx(1 / 8)
    assert health.at_least(2048, 4096, 0.5) == pytest.approx(0.5, abs=0.01)
    assert [health.at_least(hits, 4, chance) for chance in (0, 1) for hits in (0, 1, 4)] == [1, 0, 0, 1, 1, 1]
    assert 2 * health.least_ratio(2, 0.01) == pytest.approx(0.02)  # P(X < x) = 1 - exp(-x/2) <= x/2
    assert health.least_ratio(10_000, 0.01) == pytest.approx(1 / math.e, rel=0.01)
    draws = np.random.default_rng(0).normal(size=(100_000, CLIPS)).var(1, ddof=1)
    undercut = (draws < health.least_ratio(CLIPS - 1, 0.01)).mean()
    assert 0.006 <= undercut <= 0.0105  # the bound holds, and gives little away


def test_a_tokenizer_that_uses_few_of_its_codes_is_told_what_to_try() -> None:
    for last, sick in ((0.049, 1), (0.05, 0)):
        history = {1: {"train/codes/used": 0.5}, 9: {"train/codes/used": last}}
        assert health.of_history(history) == {"health/codes": sick}
        assert health.lost_codes(history).startswith(
            "4.9% of the codes are used: try quantiser fsq, fewer codes"
        ) == bool(sick)
    assert not health.lost_codes({})


def test_training_logs_how_many_prompts_are_sick(data: Path, tmp_path: Path) -> None:
    run, store = run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data))
    config = TrainConfig(steps=1, log_every=1, probe_seconds=0)
    fit(run, store, config, tmp_path, quiet, watcher(run, store, tmp_path))
    told = history(tmp_path)[1]
    assert {f"health/{kind}" for kind in health.KINDS} | {"health/score_gap", "health/relapse"} <= told.keys()


def test_the_report_names_what_fires_and_is_silent_otherwise(tmp_path: Path) -> None:
    sick = narrowed(real_look("circles", 1), 0, 1)
    alarms = sentences(sick, {})
    assert len(alarms) == len(prompts_of("circles"))
    for said in (alarms, []):
        page = write_report(
            tmp_path, Report("Lab", {}, [ModelReport("gan", "", {}, [], sick, [], said)], 10)
        ).read_text()
        assert page.count("starts at nearly the same place in every clip: spread 0.00 of real") == len(said)
        assert ("What is wrong" in page) == bool(said)
