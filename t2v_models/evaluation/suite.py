"""The whole suite for one split: figures of the verdicts, distances from real clips, copies of training clips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.prompts import parse
from t2v_models.clips.spec import ClipSpec
from t2v_models.evaluation.baselines import BASELINES, CEILING, oracle
from t2v_models.evaluation.distances import Floats, feature_distances, trajectory_distances
from t2v_models.evaluation.features import features
from t2v_models.evaluation.memorisation import UNSEEN_PER_CLIP, memorisation, nearest, training_paths, unseen_paths
from t2v_models.evaluation.metrics import Case, summarise
from t2v_models.evaluation.statistics import Score
from t2v_models.evaluation.verdicts import Verdict, judge

REAL_SEED, OTHER_SEED = 2_000_000_000, 3_000_000_000
"""Seeds of the two sets of real clips: beyond those of any evaluation."""
FLOORS = ("unconditional", "retrieval", "independent", "frozen", "blank", "noise")
FLOOR_CLIPS = 8
"""Clips per prompt of each floor: they are far from the scores they bound."""

PART_BYTES = 64 * 2**20
"""Frames that are in memory at once."""

Sampler = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]


def cases(data: DatasetConfig) -> frozenset[Case]:
    """What the dataset trains on."""
    meanings = map(parse, data.prompts)
    return frozenset((m.action, m.shape, m.colour) for m in meanings)


@dataclass(frozen=True)
class Judged:
    """What there is to say of clips once their pixels are gone: verdicts and features B, a row each."""

    verdicts: Sequence[Verdict]
    features: Floats


def judge_parts(
    sample: Sampler, prompts: Sequence[str], seeds: Sequence[int], split: str, spec: ClipSpec
) -> Iterator[tuple[NDArray[np.uint8], Judged]]:
    """Sample and judge clips of `spec` part by part: the frames of each part, and what they show.

    Memory does not grow with the number of clips, as long as nobody keeps the frames.
    """
    size = max(1, PART_BYTES // (spec.frames * spec.size**2 * 3))
    for part in (slice(i, i + size) for i in range(0, len(prompts), size)):
        frames = sample(prompts[part], seeds[part])
        yield frames, Judged(judge(frames, prompts[part], seeds[part], split), features(frames))


def together(parts: Sequence[Judged]) -> Judged:
    """All parts as one."""
    return Judged([v for p in parts for v in p.verdicts], np.concatenate([p.features for p in parts]))


@lru_cache(6)
def real_clips(data: DatasetConfig, split: str, prompts: tuple[str, ...], first_seed: int) -> Judged:
    """Real clips of the prompts, one each."""
    seeds = range(first_seed, first_seed + len(prompts))
    return together([j for _, j in judge_parts(partial(oracle, data.spec), prompts, seeds, split, data.spec)])


@lru_cache(2)
def _training_paths(data: DatasetConfig) -> Floats:
    return training_paths(data)


@lru_cache(4)
def _unseen_distances(data: DatasetConfig, prompts: tuple[str, ...]) -> Floats:
    """Distances of unseen real clips of the prompts from the training clips, `(UNSEEN_PER_CLIP, n)`."""
    return nearest(unseen_paths(data.spec, prompts), _training_paths(data)).reshape(UNSEEN_PER_CLIP, -1)


def score_split(judged: Judged, data: DatasetConfig, split: str) -> dict[str, Score]:
    """All figures of one split. Real clips of the same prompts are drawn and read beside them."""
    verdicts = judged.verdicts
    prompts = tuple(v.prompt for v in verdicts)
    real, other = (real_clips(data, split, prompts, seed) for seed in (REAL_SEED, OTHER_SEED))
    figures = summarise(verdicts, real.verdicts, cases(data))
    figures |= trajectory_distances(verdicts, real.verdicts, other.verdicts)
    figures |= feature_distances(judged.features, real.features, other.features)
    if split == "s0":
        figures |= memorisation(verdicts, _unseen_distances(data, prompts), _training_paths(data))
    return figures


@lru_cache(12)
def bounds(data: DatasetConfig, split: str, prompts: tuple[str, ...]) -> dict[str, dict[str, Score]]:
    """Figures of the ceiling, at the size of the evaluation, and of every floor, at `FLOOR_CLIPS` a prompt."""
    found = {CEILING: score_split(real_clips(data, split, prompts, OTHER_SEED), data, split)}
    asked = [p for p in dict.fromkeys(prompts) for _ in range(FLOOR_CLIPS)]
    for name in FLOORS:
        sample = partial(BASELINES[name], data)
        parts = [j for _, j in judge_parts(sample, asked, range(len(asked)), split, data.spec)]
        found[name] = score_split(together(parts), data, split)
    return found
