"""Two evaluations side by side: what differs by how much, and which prompts got better or worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2v_models.judging.figures import accuracy, by_prompt
from t2v_models.judging.metric import Metric
from t2v_models.judging.metrics import METRICS, OBEYED, metric_of
from t2v_models.judging.statistics import Score, mean, newcombe
from t2v_models.judging.verdicts import Verdict


@dataclass(frozen=True)
class Difference:
    """One figure of two models; `gap` is the second minus the first with its interval."""

    metric: str
    first: float
    second: float
    gap: Score
    clips: tuple[int, int]
    """Of each; of means both have the pairs."""

    @property
    def share(self) -> bool:
        return metric_of(self.metric).kind == "share"

    @property
    def better(self) -> bool | None:
        """Whether the second model is better; None where the interval covers no difference."""
        if not self.gap.low <= self.gap.high or self.gap.low <= 0 <= self.gap.high:
            return None
        higher = metric_of(self.metric).higher_is_better
        return None if higher is None else (self.gap.value > 0) == higher


def differences(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[Difference]:
    """Shares by Newcombe's interval for two proportions; means over the pairs with equal prompt and seed.

    A pair counts where both clips have the number. With fewer than two pairs there is no mean.
    """
    judge = first[0].judge if first else "truth"
    numbers = [entry for entry in METRICS.values() if entry.number and entry.judge == judge]
    shares = [(entry, entry.over(first), entry.over(second)) for entry in numbers if entry.kind == "share"]
    found = [Difference(m.name, a.value, b.value, newcombe(b, a), (a.n, b.n)) for m, a, b in shares if a.n and b.n]
    partner = {(v.prompt, v.seed): v for v in second}
    pairs = [(v, partner[v.prompt, v.seed]) for v in first if (v.prompt, v.seed) in partner]
    return found + [gap for m in numbers if m.kind == "mean" and (gap := _paired(m, pairs))]


def _paired(entry: Metric, pairs: Sequence[tuple[Verdict, Verdict]]) -> Difference | None:
    """The difference of a mean over the pairs in which both clips have the number; none of fewer than two."""
    assert entry.number
    both = [(v.prompt, entry.number(v), entry.number(w)) for v, w in pairs]
    both = [row for row in both if math.isfinite(row[1] + row[2])]
    if len(both) < 2:
        return None
    prompts, then, now = zip(*both, strict=True)
    gap = mean([b - a for a, b in zip(then, now, strict=True)], prompts)
    return Difference(entry.name, sum(then) / len(both), sum(now) / len(both), gap, (len(both), len(both)))


def by_change(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[tuple[str, Difference]]:
    """Accuracy of every prompt both were asked, with the greatest gain first and the greatest loss last."""
    then, now = by_prompt(first), by_prompt(second)
    changes = []
    for prompt in (p for p in then if p in now):
        a, b = accuracy(then[prompt]), accuracy(now[prompt])
        changes.append((prompt, Difference(OBEYED, a.value, b.value, newcombe(b, a), (a.n, b.n))))
    return sorted(changes, key=lambda change: -change[1].gap.value)
