"""Splits are made on meaning: what is held out is held out under any wording; what is trained covers all values."""

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.config import LabError
from t2v_models.text.split import words
from t2v_models.worlds import circles, shapes
from t2v_models.worlds.appearance import PALETTE, SHAPES
from t2v_models.worlds.bands import SIZES, SPEEDS
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.listed import WORLDS
from t2v_models.worlds.motions import ACTIONS, SIZE_MOTIONS
from t2v_models.worlds.prompts import CIRCLE_WORDING, UNSEEN_WORDING, WORDINGS, Meaning, check_hold_out, parse, say
from t2v_models.worlds.shapes import check_no_leak, trained_cells
from t2v_models.worlds.splits import SPLITS, Coverage
from tests.tiny import drawn_clip, split_prompts, train_prompts

HELD = check_hold_out(["up-right"])
ALL_SYNONYMS = {"circles": circles.SYNONYMS} | dict.fromkeys(("shapes", "pairs", "stories"), shapes.SYNONYMS)
COVERAGES: tuple[Coverage, ...] = (9, 43, 86, "one-factor")


@pytest.mark.parametrize("wording", [*WORDINGS, UNSEEN_WORDING, CIRCLE_WORDING])
def test_every_wording_means_what_was_said(wording: str) -> None:
    objects = [("circle", "blue")] if wording == CIRCLE_WORDING else list(product(SHAPES, PALETTE))
    for action, (shape, colour), size, speed in product(ACTIONS, objects, (None, *SIZES), (None, *SPEEDS)):
        if action not in SIZE_MOTIONS or size is speed is None:
            meaning = Meaning(action, shape, colour, size, speed)
            assert parse(say(meaning, wording)) == meaning


def test_prompts_of_the_shapes_world_read_like_english() -> None:
    assert split_prompts("shapes", "s3", HELD)[0] == "blue circle moving diagonally up-right"
    assert parse("red triangle moving diagonally up-right") == Meaning("up-right", "triangle", "red")
    assert parse("the ring is green and bouncing vertically") == Meaning("bounce-v", "ring", "green")


@pytest.mark.parametrize("coverage", COVERAGES)
def test_every_value_is_trained_at_every_coverage(coverage: Coverage) -> None:
    cells = trained_cells(HELD, coverage)
    assert len(set(cells)) == len(cells)
    assert {c.action for c in cells} == set(ACTIONS) - set(HELD)
    assert {c.shape for c in cells} == set(SHAPES)
    assert {c.colour for c in cells} == set(PALETTE)


@pytest.mark.parametrize("coverage", [9, 43, 86])
def test_coverage_is_a_balanced_covering_design(coverage: Coverage) -> None:
    cells = trained_cells(HELD, coverage)
    assert abs(len(cells) / 540 - int(coverage) / 100) < 0.002
    for pair, possible in zip(combinations(("action", "shape", "colour"), 2), (90, 90, 36), strict=True):
        found = {tuple(getattr(c, factor) for factor in pair) for c in cells}
        assert len(found) == min(possible, len(cells))  # 49 cells cannot hold 90 pairs, but every one of them is new
    for factor in ("action", "shape", "colour"):
        values = [getattr(c, factor) for c in cells]
        counts = [values.count(v) for v in set(values)]
        assert max(counts) - min(counts) <= 1


def test_less_coverage_is_part_of_more() -> None:
    few, some, most = (set(trained_cells(HELD, c)) for c in (9, 43, 86))
    assert few < some < most < set(trained_cells(HELD, None))


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from(ACTIONS), max_size=3), st.sampled_from([None, *COVERAGES]))
def test_splits_of_shapes_do_not_meet_and_use_only_trained_words(held: set[str], coverage: Coverage | None) -> None:
    hold_out = check_hold_out(held)
    trained = train_prompts("shapes", hold_out, coverage)
    meant = {parse(p) for p in trained}
    s0, s1, s2, s3, s4, s5, s6, s7 = (split_prompts("shapes", s, hold_out, coverage) for s in SPLITS)
    assert not s4, "no caption names a size or a speed"
    assert not s5 and not s6, "there is one object, and one motion"
    assert set(s0) <= set(trained)
    assert not set(s1) & set(trained) and {parse(p) for p in s1} <= meant
    assert not {parse(p) for p in s2} & meant
    assert {parse(p).action for p in s2}.isdisjoint(hold_out) and bool(s2) == (coverage is not None)
    assert {parse(p).action for p in s3} == set(hold_out)
    known = {w for p in trained for w in words(p)}
    assert {w for p in (*s0, *s1, *s2) for w in words(p)} <= known
    assert {parse(p) for p in s7} <= meant and all(not set(words(p)) <= known for p in s7)
    check_no_leak(trained, hold_out, coverage)
    for leaking in (*s2[:1], *s3[:1]):
        with pytest.raises(LabError, match="hold|held"):
            check_no_leak([leaking], hold_out, coverage)


@pytest.mark.parametrize("world", WORLDS)
def test_words_never_trained_mean_what_trained_ones_do(world: str) -> None:
    data = DatasetConfig(world=world, hold_out=("up-right", "shrink"))
    known, asked = {w for p in data.prompts for w in words(p)}, data.asked("s7")
    new = [set(words(p)) - known for p in asked]
    assert all(len(found) == 1 for found in new), "one word of each prompt"
    assert {word for found in new for word in found} == set(ALL_SYNONYMS[world]) - {"contracting", "dwindling"}
    assert {data.split_of(p) for p in asked} == {"s7"}


def test_what_is_held_out_is_so_in_words_never_trained() -> None:
    assert DatasetConfig().split_of("disc moving up-right") == "s3"


def test_coverage_of_circles_is_refused_and_old_datasets_keep_their_digest() -> None:
    with pytest.raises(LabError, match="coverage 9 of the circles world"):
        DatasetConfig(coverage=9)
    assert DatasetConfig().digest == "ea5131dcf4ca233b"
    assert DatasetConfig(world="shapes", coverage=9).digest != DatasetConfig(world="shapes").digest


def test_clips_of_shapes_are_what_their_caption_says() -> None:
    config = DatasetConfig(world="shapes", coverage=43, clips=700)
    for i in range(0, 700, 7):
        caption, motion = drawn_clip(config, i)
        assert parse(caption) == Meaning(motion.action, motion.shape, motion.colour)
