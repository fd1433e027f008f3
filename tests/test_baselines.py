"""Baselines: the ceiling and the floors are where they must be (V5, V13 of the judge)."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.baselines import BASELINES, nearest_seen
from t2v_models.judging.features import features
from t2v_models.judging.metrics import summarise
from t2v_models.judging.statistics import Score
from t2v_models.judging.suite import real_clips
from t2v_models.judging.truth import Judged, Real, Truth, cases
from t2v_models.text.split import words
from t2v_models.worlds.appearance import PALETTE, SHAPES
from t2v_models.worlds.bands import BEYOND
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import ACTIONS
from t2v_models.worlds.prompts import WORDINGS, Meaning, parse, say
from t2v_models.worlds.splits import SPLITS, Coverage, Split
from tests.grammar import judge, oracle
from tests.tiny import split_prompts

DATA = DatasetConfig(spec=ClipSpec(size=32))


def scores(name: str, split: str, count: int = 12) -> dict[str, Score]:
    prompts = [p for p in split_prompts("circles", split, DATA.hold_out) for _ in range(count)]
    frames = BASELINES[name](DATA, prompts, range(len(prompts)))
    return summarise(judge(frames, prompts, range(len(prompts)), split), seen=cases(DATA))


def test_retrieval_knows_every_wording_and_nothing_new() -> None:
    assert scores("retrieval", "s0")["prompt_acc"].value >= 0.995
    assert scores("retrieval", "s1")["prompt_acc"].value >= 0.98
    held_out = scores("retrieval", "s3")
    assert held_out["prompt_acc"].value == 0
    assert held_out["case_copy"].value == 1
    assert max(held_out["dir_x"].value, held_out["dir_y"].value) <= 0.75


def test_real_clips_of_random_prompts_score_chance_and_look_perfect() -> None:
    found = scores("unconditional", "s0", 40)
    motions = [c[0] for c in cases(DATA)]
    assert found["prompt_acc"].low <= 1 / len(motions) <= found["prompt_acc"].high
    assert found["valid"].value == 1
    assert found["shape_iou"].value > 0.98


@pytest.mark.parametrize(
    ("name", "most", "valid"), [("independent", 0.02, 1), ("frozen", 0, 1), ("blank", 0, 0), ("noise", 0, 0)]
)
def test_floors(name: str, most: float, valid: float) -> None:
    found = scores(name, "s0")
    assert found["prompt_acc"].value <= most
    assert found["valid"].value == pytest.approx(valid, abs=0.05)
    assert "permanence" not in found if name == "frozen" else True  # a frozen clip earns no praise for consistency


def test_baselines_are_functions_of_their_seeds() -> None:
    for name, baseline in BASELINES.items():
        once, again = (baseline(DATA, ["circle moving left"] * 2, [5, 6]) for _ in range(2))
        assert np.array_equal(once, again), name
        assert once.shape == (2, 10, 32, 32, 3)


NEAREST = {
    "circle shrinking": "circle shrinking",
    "circle moving left-up": "circle moving up-left",  # as sets of words they are equal
    "circle moving up-right": "circle moving right",  # 3 words of 4, as "circle moving up", which comes later
    "circle moving diagonally up-right": "circle moving diagonally up-left",  # 4 of 6, before "down-right"
}


@pytest.mark.parametrize("data", [DATA, DatasetConfig(world="shapes", coverage=43, bands=True)], ids=lambda d: d.world)
def test_the_nearest_seen_prompt_shares_most_words(data: DatasetConfig) -> None:
    """The greatest share of common words, the first of equals, and what is held out is never seen."""
    if data == DATA:
        assert {prompt: nearest_seen(data, prompt) for prompt in NEAREST} == NEAREST
    said = [(seen, set(words(seen))) for seen in data.prompts]
    for prompt in (p for split in SPLITS for p in data.asked(split)):
        asked = set(words(prompt))
        shares = [Fraction(len(asked & seen), len(asked | seen)) for _, seen in said]
        found = nearest_seen(data, prompt)
        assert found == data.prompts[shares.index(max(shares))], prompt
        meaning = parse(found)
        assert meaning in {data.meaning(p) for p in data.prompts}
        assert meaning.action not in data.hold_out and not {meaning.size, meaning.speed} & set(BEYOND)


SEEN_PARTS = ("prompt_acc", "shape_acc", "colour_acc")


@cache
def shapes_asked(coverage: Coverage, split: Split) -> tuple[DatasetConfig, list[str], Real]:
    data = DatasetConfig(world="shapes", coverage=coverage, bands=split == "s4", spec=ClipSpec(size=32), clips=600)
    prompts = [p for p in data.asked(split) for _ in range(2)]
    return data, prompts, real_clips(data, split, prompts, lambda clips: None)


@cache
def shapes_scores(name: str, coverage: Coverage, split: Split) -> dict[str, Score]:
    data, prompts, real = shapes_asked(coverage, split)
    frames = BASELINES[name](data, prompts, range(len(prompts)))
    judged = Judged(judge(frames, prompts, range(len(prompts)), split), features(frames))
    return Truth(data, split).figures(judged, real)


@pytest.mark.parametrize("coverage", [9, 43, 86])
@pytest.mark.parametrize("split", ["s0", "s1", "s2", "s3", "s4"])
def test_shapes_have_their_ceiling_on_every_split_and_coverage(split: Split, coverage: Coverage) -> None:
    found = shapes_scores("oracle", coverage, split)
    assert all(found[part].value >= 0.99 for part in (*SEEN_PARTS, "prompt_success", "valid"))
    assert found["traj_rmse"].value <= 0.05 and found["shape_iou"].value > 0.95
    if split != "s3":
        assert found["motion_ratio"].value == pytest.approx(1, abs=0.2)  # a 95 % interval would miss one time in twenty
    for score in found.values():
        assert score.n > 0 and not score.low > score.value and not score.value > score.high


@pytest.mark.parametrize("coverage", [9, 43, 86])
def test_retrieval_of_shapes_is_right_where_seen_and_never_on_the_whole_of_what_is_new(coverage: Coverage) -> None:
    assert shapes_scores("retrieval", coverage, "s0")["prompt_success"].value >= 0.99
    assert shapes_scores("retrieval", coverage, "s1")["prompt_success"].value >= 0.99
    pairs = shapes_scores("retrieval", coverage, "s2")
    assert pairs["prompt_success"].value == pairs["mult_ratio"].value == 0
    assert pairs["case_copy"].value == 1
    assert 1 / 3 <= np.mean([pairs[part].value for part in SEEN_PARTS]) <= 2 / 3 + 0.01  # one part is always wrong
    held_out = shapes_scores("retrieval", coverage, "s3")
    assert held_out["prompt_acc"].value == held_out["prompt_success"].value == 0
    assert held_out["case_copy"].value == 1


@pytest.mark.parametrize("name", ["unconditional", "independent", "frozen", "blank", "noise"])
def test_floors_of_unseen_pairs(name: str) -> None:
    assert shapes_scores(name, 43, "s2")["prompt_success"].value <= 0.02


def test_unseen_pairs_demand_motion_shape_and_colour() -> None:
    hold_out, spec = ("up-right",), ClipSpec(size=32)
    prompts = split_prompts("shapes", "s2", hold_out, 43)  # type: ignore[arg-type]
    meanings = [parse(p) for p in prompts]
    moves, forms, inks = ([*ACTIONS], [*SHAPES], [*PALETTE])
    others = {
        "moves like": [Meaning(moves[moves.index(m.action) - 1], m.shape, m.colour) for m in meanings],
        "wrong shape": [Meaning(m.action, forms[forms.index(m.shape) - 1], m.colour) for m in meanings],
        "wrong colour": [Meaning(m.action, m.shape, inks[inks.index(m.colour) - 1]) for m in meanings],
    }
    for reason, shown in others.items():
        frames = oracle(spec, [say(m, WORDINGS[0]) for m in shown], range(len(shown)))
        verdicts = judge(frames, prompts, range(len(prompts)), "s2")
        assert np.mean([v.fault.startswith(reason) and not v.success for v in verdicts]) >= 0.99, reason
        assert np.mean([v.right for v in verdicts]) == (0 if reason == "moves like" else 1)
