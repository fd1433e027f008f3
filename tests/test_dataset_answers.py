"""Whoever holds a dataset's configuration asks it, and never of which kind it is."""

import pytest

from t2v_models.config import LabError
from t2v_models.shards.ingested import IngestConfig
from t2v_models.worlds.dataset import DatasetConfig

OWN = IngestConfig(split="validation", source_sha256="0" * 64, clips=2, prompts=("a dog runs", "a cat walks"))
SHAPES = DatasetConfig(world="shapes", coverage=43)


def test_captions_of_a_world_mean_the_same_by_its_grammar() -> None:
    assert SHAPES.meaning("a red square moving up-left") == SHAPES.meaning("the square is red and moving left-up")
    assert SHAPES.meaning("red square moving up") != SHAPES.meaning("red square moving down")
    with pytest.raises(LabError, match="unknown word 'dog'"):
        SHAPES.meaning("a dog runs")


def test_captions_of_own_clips_mean_the_same_by_their_words() -> None:
    assert OWN.meaning("A dog runs.") == OWN.meaning("runs a DOG")
    assert OWN.meaning("a dog runs") != OWN.meaning("a dog, a dog runs")


def test_each_says_what_to_watch_who_can_judge_and_how_it_is_made() -> None:
    assert (OWN.command, OWN.split, OWN.truth, OWN.watched, OWN.asked("s0")) == (
        "ingest", "validation", None, ("a dog runs", "a cat walks"), (),
    )  # fmt: skip
    assert (SHAPES.command, SHAPES.split, SHAPES.truth) == ("render", "train", SHAPES)
    assert SHAPES.watched == SHAPES.asked("s0") and len(SHAPES.watched) > 50
    assert not set(OWN.columns) & set(SHAPES.columns)
