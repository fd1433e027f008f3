"""Figures that are more than a mean over clips: of prompts, of parts, or beside real clips. Each has its interval.

Clips that cannot be read count as wrong. Definitions follow PhyWorld (Kang et al. 2025), GenEval (Ghosh et al. 2023)
and Okawa et al. (2023) where named. What a figure is called and what it is for is in `metrics`.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.statistics import Score, delta, exact, least, wilson
from t2v_models.judging.statistics import mean as mean_of
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.laws import least_speed
from t2v_models.worlds.motions import DIRECTIONS

Verdicts = Sequence[Verdict]
Case = tuple[str, str, str]
"""Motion, shape and colour: what a clip can be a case of."""
Influence = Sequence[NDArray[np.float64]]
"""Of each clip on a figure, prompt by prompt (`statistics.delta`)."""


def by_prompt(verdicts: Verdicts) -> dict[str, list[Verdict]]:
    """The verdicts of each prompt, in order of first appearance."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.prompt, []).append(verdict)
    return groups


def share(verdicts: Verdicts, true: Callable[[Verdict], bool]) -> Score:
    """Share of verdicts for which something is true, 0 to 1."""
    return wilson(sum(map(true, verdicts)), len(verdicts))


def average(verdicts: Verdicts, number: Callable[[Verdict], float]) -> Score:
    """Mean of a number, 0 or more, over the clips that have it."""
    return mean_of([number(v) for v in verdicts], [v.prompt for v in verdicts], minimum=0)


def accuracy(verdicts: Verdicts) -> Score:
    """Share of clips that show the motion their prompt asks for, 0 to 1."""
    return share(verdicts, lambda v: v.right)


def worst_prompt_acc(verdicts: Verdicts) -> Score:
    """Accuracy of the prompt that is obeyed least, 0 to 1: a mean can hide a dead prompt."""
    groups = by_prompt(verdicts).values()
    wide = [exact(sum(v.right for v in group), len(group), 0.05 / len(groups)) for group in groups]
    return least([accuracy(group) for group in groups], wide)


def sign_right(verdict: Verdict, axis: int) -> bool:
    """Whether it goes the right way along x (0) or y (1): slower than `least_speed` along the axis is no sign."""
    if not verdict.valid or not math.isfinite(verdict.angle):
        return False
    pace = np.diff([verdict.x, verdict.y][axis])
    found = float(np.mean(pace))
    sign = 0 if abs(found) < least_speed(len(verdict.x), verdict.unit) else math.copysign(1, found)
    asked = DIRECTIONS[verdict.asked][axis]  # type: ignore[index]
    return sign == (asked > 0) - (asked < 0)


def case_copy(verdicts: Verdicts, seen: Collection[Case]) -> Score:
    """On what was never trained: share of clips that show a trained case instead, 0 to 1 (PhyWorld's case-based copy).

    Retrieval of the nearest seen prompt scores 1.
    """
    unseen = [v for v in verdicts if (v.asked, v.asked_shape, v.asked_colour) not in seen]
    return share(unseen, lambda v: (v.shown, v.shown_shape, v.shown_colour) in seen)


def mult_ratio(verdicts: Verdicts) -> Score:
    """Accuracy of the whole over the product of the accuracies of its parts (Okawa et al. 2023); 1 if independent.

    The parts are motion, shape and colour where prompts differ in more than motion, otherwise the two axes of diagonal
    directions.
    """
    if len({(v.asked_shape, v.asked_colour) for v in verdicts}) > 1:
        rows, parts = list(verdicts), np.array([_parts_right(v) for v in verdicts])
    else:
        rows = [v for v in verdicts if "-" in v.asked and v.asked in DIRECTIONS]
        parts = np.array([[sign_right(v, 0), sign_right(v, 1)] for v in rows]).reshape(len(rows), 2)
    rates, whole = parts.mean(0) if rows else np.zeros(parts.shape[1]), parts.all(1)
    if not rates.all():
        return Score(value=math.nan, low=math.nan, high=math.nan, n=len(rows))
    value = float(whole.mean() / rates.prod())
    influence = ((whole - whole.mean()) / rates.prod() - value * (parts / rates - 1).sum(1)) / len(rows)
    return delta(value, influence, [v.prompt for v in rows], minimum=0)


def _parts_right(v: Verdict) -> tuple[bool, bool, bool]:
    return v.right, v.valid and v.shown_shape == v.asked_shape, v.valid and v.shown_colour == v.asked_colour


def _moving(verdicts: Verdicts) -> list[Verdict]:
    """Clips in which motion is asked for and present."""
    return [v for v in verdicts if v.must_move and v.moves]


def teleport(verdicts: Verdicts, real: Verdicts) -> Score:
    """Share of steps longer than twice the longest real step of the same prompt, 0 to 1; moving clips.

    A clip is one number, its own share: its steps are not independent.
    """
    limits = {prompt: 2 * max(float(_steps(v).max()) for v in group) for prompt, group in by_prompt(real).items()}
    rows = [v for v in _moving(verdicts) if v.prompt in limits]
    return average(rows, lambda v: float((_steps(v) > limits[v.prompt]).mean()))


def _steps(verdict: Verdict) -> NDArray[np.float64]:
    return np.asarray(np.hypot(np.diff(verdict.x), np.diff(verdict.y)))


def motion_ratio(verdicts: Verdicts, real: Verdicts) -> Score:
    """Mean path length over that of real clips of the same prompt, 0 and more; valid clips, 0 for frozen ones."""
    lengths = {p: np.array([v.path for v in group if v.valid]) for p, group in by_prompt(real).items()}
    usual = {p: found for p, found in lengths.items() if len(found)}
    asked = [v for v in verdicts if v.must_move and v.prompt in usual and math.isfinite(v.path)]
    if not asked:
        return Score(value=math.nan, low=math.nan, high=math.nan, n=0)
    ratios = {p: np.array([v.path for v in group]) / usual[p].mean() for p, group in by_prompt(asked).items()}
    n, value = len(asked), float(np.concatenate([*ratios.values()]).mean())
    made = [(found - value) / n for found in ratios.values()]
    drawn = [-found.sum() * (usual[p] / usual[p].mean() - 1) / len(usual[p]) / n for p, found in ratios.items()]
    half = _half(made, drawn)
    return Score(value=value, low=max(0.0, value - half), high=value + half, n=n)


FREE = ("x", "y", "speed", "radius")
"""What prompts leave open: start, mean step, size at the start."""


def std_ratios(verdicts: Verdicts, real: Verdicts) -> dict[str, Score]:
    """Spread of each of `FREE` over that of real clips as `std_ratio_NAME`, and the least of them as `std_ratio`.

    1 when as diverse as the data, 0 when every clip of a prompt is the same. Variances within prompts are added up
    before they are divided; prompts with fewer than two readable clips count as having none.
    """
    groups, known = by_prompt(verdicts), by_prompt(real)
    names = [p for p in groups if p in known]
    n = sum(len(groups[p]) for p in names)
    made, usual = ([_Spread.of(of[p]) for p in names] for of in (groups, known))
    narrow, wide = (
        [_std_ratio(made, usual, k, n, miss) for k in range(len(FREE))] for miss in (0.05, 0.05 / len(FREE))
    )
    return {"std_ratio": least(narrow, wide)} | {f"std_ratio_{w}": s for w, s in zip(FREE, narrow, strict=True)}


@dataclass(frozen=True)
class _Spread:
    """Variance of each of `FREE` in one prompt, and its derivative by the weight of each clip, `(n, FREE)`."""

    variance: NDArray[np.float64]
    influence: NDArray[np.float64]

    @staticmethod
    def of(group: Verdicts) -> "_Spread":
        valid = np.array([v.valid for v in group])
        free = np.array([(v.x[0], v.y[0], v.path, v.radius[0]) for v in group if v.valid])
        if len(free) < 2:
            return _Spread(np.zeros(len(FREE)), np.zeros((len(group), len(FREE))))
        variance, influence = free.var(0, ddof=1), np.full((len(group), len(FREE)), math.nan)
        influence[valid] = ((free - free.mean(0)) ** 2 - variance) / (len(free) - 1)
        if len(free) == 2:  # two clips do not tell how much their variance varies: as much as that of a Gaussian
            influence[valid] = np.outer([1, -1], variance / math.sqrt(2))
        return _Spread(variance, influence)


def _std_ratio(made: Sequence[_Spread], usual: Sequence[_Spread], k: int, n: int, miss: float) -> Score:
    """√(Σ variance made / Σ variance usual) of one of `FREE`; the interval is that of its logarithm, which is even."""
    above, below = (sum(float(s.variance[k]) for s in of) for of in (made, usual))
    if not below:
        return Score(value=math.nan, low=math.nan, high=math.nan, n=n)
    if not above:
        return Score(value=0, low=0, high=0, n=n)
    half = _half([s.influence[:, k] / above for s in made], [s.influence[:, k] / below for s in usual], miss)
    value, factor = math.sqrt(above / below), float(np.exp(half / 2))
    return Score(value=value, low=value / factor, high=value * factor, n=n)


def _half(made: Influence, drawn: Influence, miss: float = 0.05) -> float:
    """Half the interval of a figure of made clips and of real ones, both drawn by chance (Zou and Donner 2008)."""
    halves = []
    for sample in (made, drawn):
        groups = [i for i, effects in enumerate(sample) for _ in effects]
        halves.append(delta(0, np.concatenate(sample), groups, miss).high)
    return math.hypot(*halves)


def likeness(ratio: Score) -> Score:
    """Of a ratio that is 1 in the best case: it or its inverse, whichever is less; 0 where it is not above 0."""

    def lesser(value: float) -> float:
        return min(value, 1 / value) if value > 0 else 0.0

    ends = lesser(ratio.low), lesser(ratio.high)
    high = 1.0 if ratio.low <= 1 <= ratio.high else max(ends)
    return Score(value=lesser(ratio.value), low=min(ends), high=high, n=ratio.n)


def best_first(verdicts: Verdicts) -> list[int]:
    """Positions of the clips from best to worst: successes, right, valid, then nearest to what was asked."""

    def faults(i: int) -> tuple[bool, bool, bool, float]:
        v = verdicts[i]
        off = -v.match if v.judge == "reference" else v.traj_rmse if v.valid else 0.0
        return not v.valid, not v.right, not v.success, off

    return sorted(range(len(verdicts)), key=faults)
