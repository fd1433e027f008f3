"""Intervals: 95 %, by a method that suits what is averaged, and the same to the last bit every time."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import betaincinv, stdtrit

from t2v_models.config import Config

Z95 = 1.959963984540054


class Score(Config, allow_inf_nan=True):
    """A figure with its 95 % interval and the number of clips it rests on; NaN where nothing is known."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)

    def __str__(self) -> str:
        """For proportions: `97.8 % [96.1, 98.8]`."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(hits: int, n: int) -> Score:
    """A proportion with its Wilson score interval (Wilson 1927); with n = 0 nothing is known: [0, 1]."""
    if n == 0:
        return Score(value=math.nan, low=0, high=1, n=0)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Score(value=p, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)), n=n)


def exact(hits: int, n: int, miss: float) -> Score:
    """A proportion with the interval that misses the truth at most as often as said (Clopper and Pearson 1934).

    Wilson's, of about the right length at 95 %, is too short far out: where `miss` is small and the proportion near 1.
    """
    low = float(betaincinv(hits, n - hits + 1, miss / 2)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - miss / 2)) if hits < n else 1.0
    return Score(value=hits / n, low=low, high=high, n=n)


def newcombe(one: Score, other: Score) -> Score:
    """`one` minus `other` for two independent proportions (Newcombe 1998, method 10); n is the smaller one."""
    gap = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Score(value=gap, low=gap - below, high=gap + above, n=min(one.n, other.n))


def least(scores: Sequence[Score], wider: Sequence[Score]) -> Score:
    """The least of k figures. That it was chosen as the least is in its interval, which holds the least of the truths.

    No truth is less than its own lower end, so the least of these needs no correction; the truths are below all of
    their upper ends together only if each misses k times more rarely (Bonferroni).

    Args:
        scores: the figures.
        wider: the same with intervals that miss 0.05 / k.
    """
    worst = min(scores, key=lambda score: score.value)
    return worst.model_copy(update={"low": min(s.low for s in scores), "high": min(s.high for s in wider)})


def delta(
    value: float, influence: ArrayLike, groups: Sequence[Hashable], miss: float = 0.05, minimum: float = -math.inf
) -> Score:
    """Any smooth figure of clips by the delta method, for other clips of the same prompts (Cochran 1977, chapter 5).

    The prompts are all that a split asks, so the clips of each are drawn anew and the prompts are not: what other
    prompts would give, the interval does not know. Prompts with a single clip that counts are taken together as one.

    Args:
        value: the figure.
        influence: `(n,)` its derivative by the weight of each clip, at equal weights; nan for one that does not count.
        groups: the prompt of each clip.
        miss: how often the interval may miss the truth.
        minimum: what the figure cannot be less than.

    Returns:
        A t-interval, unbounded where a single clip says nothing of the others.
    """
    effect = np.asarray(influence, np.float64)
    counts = np.isfinite(effect)
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    place = np.array([names[group] for group in groups], np.intp)
    several = np.bincount(place, counts)[place] > 1
    place = np.where(several, place, len(names))
    part = several | counts  # how many clips of a prompt count is chance, too
    place, effect, counts = place[part], np.nan_to_num(effect[part]), counts[part]
    size = np.bincount(place)
    centre = np.where(size > 1, np.bincount(place, effect) / np.maximum(size, 1), 0)
    inner = np.bincount(place, (effect - centre[place]) ** 2)
    variance = float((inner * size / np.maximum(size - 1, 1)).sum())
    freedom = int(counts.sum()) - int((size > 0).sum())
    half = float(stdtrit(freedom, 1 - miss / 2)) * math.sqrt(variance) if freedom > 0 else math.inf
    return Score(value=value, low=max(minimum, value - half), high=value + half, n=int(counts.sum()))


def mean(values: ArrayLike, groups: Sequence[Hashable], minimum: float = -math.inf) -> Score:
    """The mean of the finite values with the interval of `delta`."""
    found = np.asarray(values, np.float64)
    found = np.where(np.isfinite(found), found, math.nan)
    n = int(np.isfinite(found).sum())
    if n == 0:
        return Score(value=math.nan, low=math.nan, high=math.nan, n=0)
    value = float(np.nanmean(found))
    return delta(value, (found - value) / n, groups, minimum=minimum)


def block_mean(values: Sequence[float], n: int) -> Score:
    """The mean over disjoint blocks, or runs, with a t-interval; `n` is the number of clips in all of them together."""
    found = np.array(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Score(value=mean, low=math.nan, high=math.nan, n=n)
    half = float(stdtrit(len(found) - 1, 0.975)) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Score(value=mean, low=mean - half, high=mean + half, n=n)
