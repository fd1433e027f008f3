"""The whole suite for one split: figures of the verdicts, distances from real clips, copies of training clips."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.baselines import BASELINES, CEILING, real
from t2v_models.judging.distances import Floats, feature_distances, trajectory_distances
from t2v_models.judging.features import features
from t2v_models.judging.figures import Case
from t2v_models.judging.memorisation import UNSEEN_PER_CLIP, memorisation, nearest, training_paths, unseen_paths
from t2v_models.judging.metrics import summarise
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Verdict, judge
from t2v_models.worlds.dataset import DatasetConfig

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
    return frozenset(data.rules.case(data.rules.parse(prompt)) for prompt in data.prompts)


@dataclass(frozen=True)
class Judged:
    """What there is to say of clips once their pixels are gone: verdicts and features B, a row each."""

    verdicts: Sequence[Verdict]
    features: Floats


def judge_parts(
    sample: Sampler, prompts: Sequence[str], seeds: Sequence[int], split: str, data: DatasetConfig
) -> Iterator[tuple[NDArray[np.uint8], Judged]]:
    """Sample and judge clips part by part: the frames of each part, and what they show.

    Memory does not grow with the number of clips, as long as nobody keeps the frames. The features, whose products of
    matrices leave Python to others, are worked out in a thread of their own while the clips are read.
    """
    size = max(1, PART_BYTES // (data.spec.frames * data.spec.size**2 * 3))
    with ThreadPoolExecutor(1) as meanwhile:
        for part in (slice(i, i + size) for i in range(0, len(prompts), size)):
            frames = sample(prompts[part], seeds[part])
            seen = meanwhile.submit(features, frames)
            verdicts = judge(frames, prompts[part], seeds[part], split, data.rules)
            yield frames, Judged(verdicts, seen.result())


def together(parts: Sequence[Judged]) -> Judged:
    """All parts as one."""
    return Judged([v for p in parts for v in p.verdicts], np.concatenate([p.features for p in parts]))


@dataclass(frozen=True)
class Real:
    """What the clips of one split are set beside, whatever model made them: row i answers the same prompt in all."""

    first: Judged
    """One real clip for each judged one; their paths, steps and spread are what is usual for a prompt."""
    other: Judged
    """As many again, for the distance between real clips and for the ceiling. A distance depends on the number of clips
    in a block, so fewer would not do; beyond `MOST_CLIPS` only the ceiling rests on the rest."""
    training: Floats
    """`training_paths`, where copies are looked for: on `s0`, elsewhere none."""
    unseen: Floats
    """Distances of unseen real clips from those, `(UNSEEN_PER_CLIP, n)`."""


def real_clips(data: DatasetConfig, split: str, prompts: Sequence[str], read: Callable[[int], None]) -> Real:
    """Draw and read real clips of the prompts, two each; `read` is told how many after each part."""
    first, other = (
        _judged(partial(real, data), prompts, range(seed, seed + len(prompts)), split, data, read)
        for seed in (REAL_SEED, OTHER_SEED)
    )
    training, unseen = np.zeros((0, 3 * data.spec.frames)), np.zeros((UNSEEN_PER_CLIP, 0))
    if split == "s0" and (paths := training_paths(data)).size:
        training = paths
        unseen = nearest(unseen_paths(data, prompts), training).reshape(UNSEEN_PER_CLIP, -1)
    return Real(first, other, training, unseen)


def _judged(
    sample: Sampler, prompts: Sequence[str], seeds: Sequence[int], split: str, data: DatasetConfig,
    read: Callable[[int], None],
) -> Judged:  # fmt: skip
    parts = []
    for _, part in judge_parts(sample, prompts, seeds, split, data):
        parts.append(part)
        read(len(part.verdicts))
    return together(parts)


def score_split(judged: Judged, real: Real, data: DatasetConfig, split: str) -> dict[str, Score]:
    """All figures of one split, beside real clips of the same prompts."""
    verdicts, usual = judged.verdicts, real.first
    others = trajectory_distances(verdicts, usual.verdicts, real.other.verdicts)
    others |= feature_distances(judged.features, usual.features, real.other.features)
    if split == "s0":
        others |= memorisation(verdicts, real.unseen, real.training)
    return summarise(verdicts, usual.verdicts, cases(data), others)


def bounds(
    real: Real, data: DatasetConfig, split: str, prompts: Sequence[str], read: Callable[[int], None]
) -> dict[str, dict[str, Score]]:
    """Figures of the ceiling, at the size of the evaluation, and of every floor, at `FLOOR_CLIPS` a prompt."""
    found = {CEILING: score_split(real.other, real, data, split)}
    asked = [p for p in dict.fromkeys(prompts) for _ in range(FLOOR_CLIPS)]
    beside = real_clips(data, split, asked, read)
    for name in FLOORS:
        judged = _judged(partial(BASELINES[name], data), asked, range(len(asked)), split, data, read)
        found[name] = score_split(judged, beside, data, split)
    return found


def clips_beside(prompts: Sequence[str]) -> int:
    """How many clips `real_clips` and `bounds` draw and read together."""
    return 2 * len(prompts) + (2 + len(FLOORS)) * FLOOR_CLIPS * len(set(prompts))
