"""The grammar: every prompt means one thing, and what is held out is held out under every wording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_models.config import LabError
from t2v_models.text.split import words
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import ACTIONS, DIRECTIONS
from t2v_models.worlds.prompts import ARTICLE_PROMPTS, PHRASES, check_hold_out, parse
from t2v_models.worlds.shapes import check_no_leak
from t2v_models.worlds.splits import Split
from tests.tiny import drawn_clip, split_prompts, train_prompts


def test_the_articles_18_prompts_render_and_mean_what_they_say() -> None:
    assert len(set(ARTICLE_PROMPTS)) == 18
    assert {parse(p).action for p in (*ARTICLE_PROMPTS, "circle moving up")} == set(ACTIONS)
    config = DatasetConfig(clips=19, hold_out=())
    assert {drawn_clip(config, i)[0] for i in range(19)} == {*ARTICLE_PROMPTS, "circle moving up"}


def test_diagonally_and_word_order_are_synonyms() -> None:
    for text in ("moving up-right", "moving diagonally up-right", "moving right-up", "Moving UP RIGHT"):
        assert parse(f"circle {text}").action == "up-right"


def test_up_right_is_held_out_by_default_under_every_wording() -> None:
    config = DatasetConfig()
    captions = {drawn_clip(config, i)[0] for i in range(100)}
    assert len(captions) == 18
    assert all(parse(c).action != "up-right" for c in captions)
    assert {"up", "right"} <= {w for c in captions for w in words(c)}
    assert split_prompts("circles", "s3", config.hold_out) == (
        "circle moving diagonally up-right", "circle moving up-right",
    )  # fmt: skip


@given(st.sets(st.sampled_from(ACTIONS), max_size=4))
def test_splits_do_not_meet(held: set[str]) -> None:
    hold_out = check_hold_out(held)
    s0, s1, s3 = (split_prompts("circles", s, hold_out) for s in ("s0", "s1", "s3"))
    assert not set(s0) & set(s1)
    assert {parse(p).action for p in s3} == set(hold_out)
    assert {parse(p).action for p in (*s0, *s1)}.isdisjoint(hold_out)
    check_no_leak(s0, hold_out)


@pytest.mark.parametrize("split", ["s0", "s1", "s3"])
def test_split_prompts_are_distinct(split: Split) -> None:
    prompts = split_prompts("circles", split, ("up-right",))
    assert len(set(prompts)) == len(prompts) > 0


def test_the_leak_check_names_caption_and_meaning() -> None:
    with pytest.raises(LabError, match="'circle moving diagonally up-right' means 'up-right', which is held out"):
        check_no_leak(["circle moving left", "circle moving diagonally up-right"], ("up-right",))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("circle moving lefft", "unknown word 'lefft'.*did you mean 'left'"),
        ("square moving left", "names no colour for the square: put one of blue, red"),
        ("hexagon moving left", "unknown word 'hexagon'"),
        ("circle rotating left", "names no known motion"),
        ("moving left", "names no known motion"),
        ("", "names no known motion"),
    ],
)
def test_prompts_that_mean_nothing_are_refused_in_words(prompt: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse(prompt)


def test_unknown_motions_to_hold_out_are_refused_with_near_ones() -> None:
    with pytest.raises(LabError, match="unknown motion 'upright'.*did you mean 'up-right'"):
        DatasetConfig(hold_out=("upright",))  # type: ignore[arg-type]


def test_every_phrase_parses_to_its_action() -> None:
    for phrase, action in PHRASES.items():
        assert parse(f"circle {phrase}").action == action
    assert len(DIRECTIONS) == 8


def test_training_prompts_are_equally_frequent() -> None:
    config = DatasetConfig()
    counts = [sum(drawn_clip(config, i)[0] == p for i in range(180)) for p in train_prompts("circles", config.hold_out)]
    assert set(counts) == {10}
