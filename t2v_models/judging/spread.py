"""How much clips differ from each other: all of them, and those of one caption, as embeddings see it."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from t2v_models.judging.distances import Floats
from t2v_models.judging.statistics import Score, delta
from t2v_models.judging.truth import Judged

SAME = 1e-9
"""Variance of embeddings, whose length is 1, below which clips are one: the same one twice differs by rounding."""


def diversity(judged: Judged, real: Judged) -> dict[str, Score]:
    """Standard deviation of all clips over that of real clips of the same prompts; 1 as diverse, 0 all the same.

    Nothing where those are one clip.
    """
    away, usual = (((seen.features - seen.features.mean(0)) ** 2).sum(1) for seen in (judged, real))
    return _ratio("diversity", away, usual, [v.prompt for v in judged.verdicts])


def caption_spread(judged: Judged, meaning: Callable[[str], Hashable], real: Judged) -> dict[str, Score]:
    """Standard deviation among clips of one caption, over that of all real clips; 0 where seeds change nothing.

    Nothing where no caption has two clips, or those are one clip.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, verdict in enumerate(judged.verdicts):
        groups.setdefault(meaning(verdict.prompt), []).append(row)
    rows = [row for group in groups.values() if len(group) > 1 for row in group]
    if not rows:
        return {}
    away = []
    for group in groups.values():
        if len(group) > 1:
            seen = judged.features[group]
            away += (((seen - seen.mean(0)) ** 2).sum(1) * len(group) / (len(group) - 1)).tolist()
    usual = ((real.features - real.features.mean(0)) ** 2).sum(1)
    return _ratio("caption_spread", np.array(away), usual, [judged.verdicts[row].prompt for row in rows])


def _ratio(name: str, away: Floats, usual: Floats, prompts: Sequence[str]) -> dict[str, Score]:
    """√(mean of squares / that of real ones), with the interval of its square; real ones are taken as known."""
    if usual.mean() < SAME:
        return {}
    shares = away / usual.mean()
    value = float(shares.mean())
    square = delta(value, (shares - value) / len(shares), prompts, minimum=0)
    root = {end: math.sqrt(getattr(square, end)) for end in ("value", "low", "high")}
    return {name: square.model_copy(update=root)}
