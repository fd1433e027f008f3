"""The whole suite for one split: a model's clips judged part by part, real clips beside them, ceiling and floors."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.baselines import BASELINES, CEILING, FLOORS, real
from t2v_models.judging.memorisation import UNSEEN_PER_CLIP, nearest, training_paths, unseen_paths
from t2v_models.judging.statistics import Score
from t2v_models.judging.truth import Judged, Real, Truth
from t2v_models.worlds.dataset import DatasetConfig

REAL_SEED, OTHER_SEED = 2_000_000_000, 3_000_000_000
"""Seeds of the two sets of real clips: beyond those of any evaluation."""
FLOOR_CLIPS = 8
"""Clips per prompt of each floor: they are far from the scores they bound."""

PART_BYTES = 64 * 2**20
"""Frames that are in memory at once."""


class Looks(Protocol):
    """A judge of clips of one dataset."""

    @property
    def data(self) -> Any:
        """The dataset."""

    def judge(self, frames: NDArray[np.uint8], prompts: Sequence[str], seeds: Sequence[int]) -> Judged:
        """What clips `(n, t, h, w, 3)` show."""


Sampler = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]


def judge_parts(
    sample: Sampler, prompts: Sequence[str], seeds: Sequence[int], judge: Looks
) -> Iterator[tuple[NDArray[np.uint8], Judged]]:
    """Sample and judge clips part by part: the frames of each part, and what they show.

    Memory does not grow with the number of clips, as long as nobody keeps the frames.
    """
    spec = judge.data.spec
    size = max(1, PART_BYTES // math.prod(spec.shape))
    for part in (slice(i, i + size) for i in range(0, len(prompts), size)):
        frames = sample(prompts[part], seeds[part])
        yield frames, judge.judge(frames, prompts[part], seeds[part])


def together(parts: Sequence[Judged]) -> Judged:
    """All parts as one."""
    return Judged([v for p in parts for v in p.verdicts], np.concatenate([p.features for p in parts]))


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
    for _, part in judge_parts(sample, prompts, seeds, Truth(data, split)):
        parts.append(part)
        read(len(part.verdicts))
    return together(parts)


def bounds(
    real: Real, data: DatasetConfig, split: str, prompts: Sequence[str], read: Callable[[int], None]
) -> dict[str, dict[str, Score]]:
    """Figures of the ceiling, at the size of the evaluation, and of every floor, at `FLOOR_CLIPS` a prompt."""
    judge = Truth(data, split)
    found = {CEILING: judge.figures(real.other, real)}
    asked = [p for p in dict.fromkeys(prompts) for _ in range(FLOOR_CLIPS)]
    beside = real_clips(data, split, asked, read)
    for name in FLOORS:
        judged = _judged(partial(BASELINES[name], data), asked, range(len(asked)), split, data, read)
        found[name] = judge.figures(judged, beside)
    return found


def clips_beside(prompts: Sequence[str]) -> int:
    """How many clips `real_clips` and `bounds` draw and read together."""
    return 2 * len(prompts) + (2 + len(FLOORS)) * FLOOR_CLIPS * len(set(prompts))
