"""The judge of clips whose world is known: it reads them back and compares them with the prompt and with real clips."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from t2v_models.judging.distances import Floats, feature_distances, trajectory_distances
from t2v_models.judging.features import features
from t2v_models.judging.memorisation import memorisation
from t2v_models.judging.metrics import summarise
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Verdict, judge
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.world import Case, Frames


@dataclass(frozen=True)
class Judged:
    """What there is to say of clips once their pixels are gone: verdicts and features B, a row each."""

    verdicts: Sequence[Verdict]
    features: Floats


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


@dataclass(frozen=True)
class Truth:
    """A `judge.Judge` of the clips of one split."""

    data: DatasetConfig
    split: str

    def judge(self, frames: Frames, prompts: Sequence[str], seeds: Sequence[int]) -> Judged:
        """Verdicts and features.

        The features, whose products of matrices leave Python to others, are worked out in a thread of their own while
        the clips are read.
        """
        with ThreadPoolExecutor(1) as meanwhile:
            seen = meanwhile.submit(features, frames)
            verdicts = judge(frames, prompts, seeds, self.split, self.data.rules)
            return Judged(verdicts, seen.result())

    def figures(self, judged: Judged, beside: Real) -> dict[str, Score]:
        """All figures of the split, beside real clips of the same prompts."""
        verdicts, usual = judged.verdicts, beside.first
        others = trajectory_distances(verdicts, usual.verdicts, beside.other.verdicts)
        others |= feature_distances(judged.features, usual.features, beside.other.features)
        if self.split == "s0":
            others |= memorisation(verdicts, beside.unseen, beside.training)
        return summarise(verdicts, usual.verdicts, cases(self.data), others)


def cases(data: DatasetConfig) -> frozenset[Case]:
    """What the dataset trains on."""
    return frozenset(data.rules.case(data.rules.parse(prompt)) for prompt in data.prompts)
