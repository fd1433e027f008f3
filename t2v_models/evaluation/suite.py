"""The whole suite for one split: figures of the verdicts, distances from real clips, copies of training clips."""

from collections.abc import Sequence
from functools import lru_cache

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.prompts import parse
from t2v_models.evaluation.baselines import BASELINES, CEILING, oracle
from t2v_models.evaluation.distances import Floats, trajectory_distances
from t2v_models.evaluation.memorisation import memorisation, training_paths
from t2v_models.evaluation.metrics import Case, summarise
from t2v_models.evaluation.statistics import Score
from t2v_models.evaluation.verdicts import Verdict, judge

REAL_SEED, OTHER_SEED = 2_000_000_000, 3_000_000_000
"""Seeds of the two sets of real clips: beyond those of any evaluation."""
FLOORS = ("unconditional", "retrieval", "independent", "frozen", "blank", "noise")
FLOOR_CLIPS = 8
"""Clips per prompt of each floor: they are far from the scores they bound."""


def cases(data: DatasetConfig) -> frozenset[Case]:
    """What the dataset trains on."""
    meanings = map(parse, data.prompts)
    return frozenset((m.action, m.shape, m.colour) for m in meanings)


@lru_cache(6)
def real_verdicts(data: DatasetConfig, split: str, prompts: tuple[str, ...], first_seed: int) -> tuple[Verdict, ...]:
    """Verdicts on real clips of the prompts, one each."""
    seeds = range(first_seed, first_seed + len(prompts))
    return tuple(judge(oracle(data.spec, prompts, seeds), prompts, seeds, split))


@lru_cache(2)
def _training_paths(data: DatasetConfig) -> Floats:
    return training_paths(data)


def score_split(verdicts: Sequence[Verdict], data: DatasetConfig, split: str) -> dict[str, Score]:
    """All figures of one split. Real clips of the same prompts are drawn and read beside them."""
    prompts = tuple(v.prompt for v in verdicts)
    real, other = (real_verdicts(data, split, prompts, seed) for seed in (REAL_SEED, OTHER_SEED))
    figures = summarise(verdicts, real, cases(data)) | trajectory_distances(verdicts, real, other)
    if split == "s0":
        figures |= memorisation(verdicts, real, _training_paths(data))
    return figures


@lru_cache(12)
def bounds(data: DatasetConfig, split: str, prompts: tuple[str, ...]) -> dict[str, dict[str, Score]]:
    """Figures of the ceiling, at the size of the evaluation, and of every floor, at `FLOOR_CLIPS` a prompt."""
    found = {CEILING: score_split(real_verdicts(data, split, prompts, OTHER_SEED), data, split)}
    asked = [p for p in dict.fromkeys(prompts) for _ in range(FLOOR_CLIPS)]
    for name in FLOORS:
        seeds = range(len(asked))
        found[name] = score_split(judge(BASELINES[name](data, asked, seeds), asked, seeds, split), data, split)
    return found
