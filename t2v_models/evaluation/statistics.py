"""Intervals: 95 %, by a method that suits what is averaged, and the same to the last bit every time."""

import math
from collections.abc import Hashable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from t2v_models.config import Config

Floats = NDArray[np.float64]

Z95 = 1.959963984540054
DRAWS = 2000
"""Resamples of a bootstrap: the ends of its interval then vary by a few per cent of its width."""
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""97.5 % quantiles of Student's t for 1, 2, … degrees of freedom."""


class Score(Config):
    """A figure with its 95 % interval and the number of clips it rests on."""

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


def newcombe(one: Score, other: Score) -> Score:
    """`one` minus `other` for two independent proportions (Newcombe 1998, method 10); n is the smaller one."""
    gap = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Score(value=gap, low=gap - below, high=gap + above, n=min(one.n, other.n))


@cache
def _weights(clusters: int) -> Floats:
    """How often each cluster is drawn, `(DRAWS, clusters)`: one table for all figures, so they stay paired."""
    rng = np.random.default_rng([clusters, *b"bootstrap"])
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), DRAWS).astype(np.float64)


def cluster_ratio(above: ArrayLike, below: ArrayLike, groups: Sequence[Hashable]) -> Score:
    """Σ above / Σ below, resampling whole groups: percentile bootstrap (Efron 1979; Miller 2024 for clusters).

    Args:
        above: `(n,)` numerators; rows that are not finite in either are left out.
        below: `(n,)` denominators; ones make it a mean.
        groups: the group (prompt) of each row.
    """
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)
    kept = np.isfinite(top) & np.isfinite(bottom)
    n = int(kept.sum())
    if n == 0:
        return Score(value=math.nan, low=math.nan, high=math.nan, n=0)
    names = {name: i for i, name in enumerate(dict.fromkeys(g for g, k in zip(groups, kept, strict=True) if k))}
    place = np.array([names[g] for g, k in zip(groups, kept, strict=True) if k])
    tops, bottoms = (np.bincount(place, v[kept], len(names)) for v in (top, bottom))
    value = float(tops.sum() / bottoms.sum()) if bottoms.sum() else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (_weights(len(names)) @ tops) / (_weights(len(names)) @ bottoms)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Score(value=value, low=math.nan, high=math.nan, n=n)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Score(value=value, low=min(float(low), value), high=max(float(high), value), n=n)


def cluster_mean(values: ArrayLike, groups: Sequence[Hashable]) -> Score:
    """The mean of the finite values with a prompt-clustered percentile bootstrap."""
    return cluster_ratio(values, np.ones(len(groups)), groups)


def block_mean(values: Sequence[float], n: int) -> Score:
    """The mean over disjoint blocks with a t-interval; `n` is the number of clips in all blocks together."""
    found = np.array(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Score(value=mean, low=math.nan, high=math.nan, n=n)
    half = T95[min(len(found) - 1, len(T95)) - 1] * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Score(value=mean, low=mean - half, high=mean + half, n=n)
