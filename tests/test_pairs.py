"""The world of two objects: its grammar and splits, its pixels, and the proofs of the eye that reads them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.features import features
from t2v_models.judging.statistics import Score
from t2v_models.judging.suite import real_clips
from t2v_models.judging.truth import Judged, Real, Truth
from t2v_models.judging.verdicts import judge
from t2v_models.text.split import words
from t2v_models.worlds.appearance import PALETTE, SHAPES
from t2v_models.worlds.dataset import DatasetConfig, draw_clips, world_of
from t2v_models.worlds.listed import WORLDS
from t2v_models.worlds.motions import ACTIONS, Motion
from t2v_models.worlds.pair_prompts import RELATED, UNSEEN_RELATED, UNSEEN_WORDING, WORDINGS, Pair, parse, say
from t2v_models.worlds.prompts import Meaning
from t2v_models.worlds.splits import evenly
from t2v_models.worlds.world import Frames, Reading, Scene, drawn
from tests.spoilt import (
    Spoilt,
    with_a_third,
    with_another,
    with_colours_exchanged,
    with_motions_exchanged,
    with_one_missing,
)

WORLD, SMALL = WORLDS["pairs"], DatasetConfig(world="pairs", spec=ClipSpec(size=32), clips=90)
SPLITS = ("s0", "s1", "s2", "s3", "s5")
Scenes = list[Scene]


@cache
def clips(size: int = 32, count: int = 90, first: int = 0) -> tuple[Frames, list[Pair], Scenes]:
    """Clips of captions that are evenly spread, what they mean and their scenes."""
    data = DatasetConfig(world="pairs", spec=ClipSpec(size=size), clips=10_000)
    made = [draw_clips(data, range(i, i + 1))[0] for i in range(first, first + 17 * count, 17)]
    scenes = [scene for _, scene in made]
    return drawn(WORLD, scenes, data.spec), [parse(caption) for caption, _ in made], scenes


def read(frames: Frames, asked: Sequence[Pair]) -> list[Reading]:
    return list(WORLD.read(frames, asked))


def share(flags: Sequence[bool]) -> float:
    return float(np.mean(flags))


@pytest.mark.parametrize("size", [32, 64])
def test_real_clips_are_right_in_all(size: int) -> None:
    frames, asked, _ = clips(size, 90 if size == 32 else 40)
    found = read(frames, asked)
    assert share([r.success for r in found]) >= 0.99, [r.fault for r in found if r.fault]
    assert share([r.counted == r.back == r.front == 1 for r in found]) >= 0.99
    assert {r.related for r in found if r.related == r.related} == {1.0}
    assert sum(r.occlusion == 1 for r in found) > 3 and not any(r.occlusion == 0 for r in found)
    assert np.nanmax([r.traj_rmse for r in found]) < 0.5


def test_real_clips_are_right_under_every_prompt() -> None:
    """Each of 60 prompts of s0 in 4 clips; `benchmarks/worlds.py --only right` has 50, of two sizes."""
    prompts = [prompt for prompt in SMALL.asked("s0") for _ in range(4)]
    found = read(BASELINES["oracle"](SMALL, prompts, range(len(prompts))), [parse(prompt) for prompt in prompts])
    assert share([r.success for r in found]) >= 0.99, [r.fault for r in found if r.fault]
    assert min(share([r.success for r in found[i : i + 4]]) for i in range(0, len(found), 4)) >= 0.75


def test_words_that_no_clip_shows_are_told_and_no_model_in_training_is_asked_for_them() -> None:
    few = DatasetConfig(world="pairs", clips=20)
    said = {word for caption, _ in draw_clips(few, range(20)) for word in words(caption)}
    assert set(few.unshown_words) == {word for prompt in few.prompts for word in words(prompt)} - said != set()
    assert few.watched == few.prompts[:20]
    assert evenly(range(7), 3) == (0, 3, 6) and evenly(range(2), 3) == (0, 1) and evenly((), 3) == ()
    whole = DatasetConfig(world="pairs", clips=len(few.prompts))
    assert whole.unshown_words == () and whole.watched == whole.asked("s0")


def test_swapped_captions_have_the_same_words_and_are_wrong() -> None:
    frames, asked, _ = clips()
    for exchange in (with_colours_exchanged, with_motions_exchanged):
        others = [exchange(pair) for pair in asked]
        told = [[sorted(words(say(p, RELATED[0] if p.relation else WORDINGS[0]))) for p in both]
                for both in (asked, others)]  # fmt: skip
        differ = [i for i, pair in enumerate(asked) if others[i] != pair and pair.back.shape != pair.front.shape]
        assert all(told[0][i] == told[1][i] for i in differ) and len(differ) > 50
        found = read(frames[differ], [others[i] for i in differ])
        assert share([r.success for r in found]) <= 0.01
        assert share([r.binding == 0 for r in found]) >= 0.99 and not any(r.binding == 1 for r in found)


@pytest.mark.parametrize("spoil", [with_one_missing, with_a_third, with_another])
def test_what_is_missing_added_or_exchanged_is_named(spoil: Callable[[Frames, Scenes, ClipSpec], Spoilt]) -> None:
    frames, asked, scenes = clips()
    spoilt, told = spoil(frames, scenes, SMALL.spec)
    found = read(spoilt, asked)
    assert share([r.fault == fault for r, fault in zip(found, told, strict=True)]) >= 0.99
    if spoil is with_one_missing:
        assert share([r.counted == 0 and not r.valid for r in found]) >= 0.99


def test_the_wrong_one_in_front_and_a_broken_relation_are_named() -> None:
    frames, asked, scenes = clips(64)
    overlap = [i for i, r in enumerate(read(frames, asked)) if r.occlusion == 1]
    turned = drawn(WORLD, [Scene(objects=scenes[i].objects[::-1]) for i in overlap], ClipSpec())
    found = read(turned, [asked[i] for i in overlap])
    assert not any(r.occlusion == 1 for r in found) and all(r.right for r in found)
    assert share([r.occlusion == 0 and "not in front" in r.fault for r in found]) >= 0.8  # the rest overlaps too little
    related = [i for i, pair in enumerate(asked) if pair.relation]
    inverse = [Pair(asked[i].front, asked[i].back, asked[i].relation) for i in related]
    found = read(frames[related], inverse)
    assert all(r.related == 0 and r.right and not r.success for r in found) and len(found) > 10


def test_blurred_noisy_and_pale_clips_are_still_read() -> None:
    frames, asked, _ = clips(64, 40)
    noisy = frames + np.random.default_rng(0).normal(0, 0.05 * 255, frames.shape)
    soft = sum(np.roll(frames.astype(float), (a, b), (2, 3)) for a in (-1, 0, 1) for b in (-1, 0, 1)) / 9
    for damaged in (noisy, soft):
        found = read(np.clip(np.rint(damaged), 0, 255).astype(np.uint8), asked)
        assert share([r.right for r in found]) >= 0.95, [r.fault for r in found if not r.right]


@pytest.mark.parametrize("kind", ["blank", "noise", "frozen", "one frame of each"])
def test_what_is_no_such_clip_is_not_right(kind: str) -> None:
    frames, asked, _ = clips()
    broken = {
        "blank": np.full_like(frames, 255), "noise": np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8),
        "frozen": frames[:, :1].repeat(10, 1), "one frame of each": np.roll(frames, np.arange(10), 0),
    }[kind]  # fmt: skip
    if kind == "one frame of each":
        broken = frames[(np.arange(len(frames))[:, None] + 7 * np.arange(10)) % len(frames), np.arange(10)]
    assert not any(r.success for r in read(broken, asked))


def test_the_front_object_is_drawn_over_the_back_one() -> None:
    spec = ClipSpec(size=16, frames=4)
    back = Motion(action="right", shape="square", colour="red", start=(8, 8), radius=5, radius_end=5)
    front = back.model_copy(update={"shape": "circle", "colour": "blue", "radius": 3.0, "radius_end": 3.0})
    both, ink = drawn(WORLD, [Scene(objects=(back, front))], spec)[0, 0], np.array(PALETTE["blue"], float)
    below, over = (drawn(WORLDS["shapes"], [Scene(objects=(m,))], spec)[0, 0].astype(float) for m in (back, front))
    opacity = (255 - over[..., :1]) / (255 - ink[0])
    np.testing.assert_allclose(both, opacity * ink + (1 - opacity) * below, atol=2.5)
    assert both[8, 8].tolist() == list(PALETTE["blue"]) and both[4, 8].tolist() == list(PALETTE["red"])


def test_clips_are_functions_of_their_number() -> None:
    some = draw_clips(SMALL, range(40))
    assert [draw_clips(SMALL, range(i, i + 1))[0] for i in range(20, 40)] == some[20:]
    for _, scene in some:
        frames = drawn(WORLD, [scene], SMALL.spec)
        assert np.array_equal(frames[0], drawn(WORLD, [some[0][1], scene], SMALL.spec)[1])


def test_splits_do_not_meet_and_use_trained_words() -> None:
    trained, asked = {parse(c) for c in SMALL.prompts}, {s: SMALL.asked(s) for s in SPLITS}
    known = {w for caption in SMALL.prompts for w in words(caption)}
    assert len(trained) == len(SMALL.prompts) == 2025 and all(len(found) == 60 for found in asked.values())
    for split, prompts in asked.items():
        assert {SMALL.split_of(p) for p in prompts} == {split}
        assert {w for p in prompts for w in words(p)} <= known
        if split in ("s0", "s1"):
            assert {parse(p) for p in prompts} <= trained and (set(prompts) <= set(SMALL.prompts)) == (split == "s0")
        else:
            with pytest.raises(LabError, match="held out"):
                WORLD.check_no_leak(SMALL, prompts[:1])
    things = {frozenset((m.colour, m.shape) for m in pair.objects) for pair in trained}
    assert {thing for both in things for thing in both} == {(c, s) for c in PALETTE for s in SHAPES}
    partners = [frozenset((m.colour, m.shape) for m in with_colours_exchanged(parse(p)).objects) for p in asked["s5"]]
    assert set(partners) <= things
    assert {a for pair in trained for a in (pair.back.action, pair.front.action)} == {*ACTIONS} - {"up-right"}
    WORLD.check_no_leak(SMALL, SMALL.prompts)


@pytest.mark.parametrize("wording", [*WORDINGS, UNSEEN_WORDING, *RELATED, UNSEEN_RELATED])
def test_every_wording_means_what_was_said(wording: str) -> None:
    for action in ACTIONS:
        pair = Pair(Meaning(action, "ring", "green"), Meaning("down-left", "cross", "black"))
        if "relation" in wording or "inverse" in wording:
            for relation in ("above", "left of"):
                if (action, relation) not in (("bounce-v", "above"), ("bounce-h", "left of")):
                    related = Pair(pair.back, replace(pair.front, action=action), relation)  # type: ignore[arg-type]
                    assert parse(say(related, wording)) == related
        else:
            assert parse(say(pair, wording)) == pair


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("red circle moving left", "does not tell of two objects"),
        ("red circle moving left and red square moving up", "two red objects"),
        ("red circle moving left and blue square dancing", "unknown word 'dancing'"),
        ("red circle moving left and blue square moving", "no known motion"),
        ("red circle above blue square bouncing vertically", "bounces towards it"),
    ],
)
def test_what_says_nothing_is_refused(prompt: str, why: str) -> None:
    with pytest.raises(LabError, match=why):
        parse(prompt)


def test_options_that_do_not_go_with_it_are_refused() -> None:
    with pytest.raises(LabError, match="the pairs world has no coverage"):
        DatasetConfig(world="pairs", coverage=43)
    with pytest.raises(LabError, match="pairs of 20 frames"):
        DatasetConfig(world="pairs", spec=ClipSpec(frames=20))
    assert world_of(["red circle moving left and blue square moving up"], ClipSpec()).world == "pairs"


@cache
def asked_of(split: str) -> tuple[list[str], Real]:
    prompts = list(SMALL.asked(split)[::2])  # type: ignore[arg-type]
    return prompts, real_clips(SMALL, split, prompts, lambda clips: None)


def scores(name: str, split: str) -> dict[str, Score]:
    prompts, real = asked_of(split)
    frames = BASELINES[name](SMALL, prompts, range(len(prompts)))
    judged = Judged(judge(frames, prompts, range(len(prompts)), split, WORLD), features(frames))
    return Truth(SMALL, split).figures(judged, real)


def test_ceiling_and_floors() -> None:
    best = scores("oracle", "s5")
    for figure in ("prompt_acc", "prompt_success", "valid", "back_acc", "front_acc", "binding", "count_acc"):
        assert best[figure].value >= 0.96, figure
    assert scores("retrieval", "s0")["prompt_success"].value >= 0.96
    floor = scores("retrieval", "s5")
    assert floor["prompt_success"].value == 0 and floor["case_copy"].value > 0.7
    assert {scores(name, "s5")["prompt_success"].value for name in ("blank", "noise", "frozen", "unconditional")} == {0}
