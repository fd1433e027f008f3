"""What a figure of an evaluation is, and what it rests on."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from t2v_models.judging.figures import Case, Verdicts, std_ratios
from t2v_models.judging.statistics import Score, mean, wilson
from t2v_models.judging.verdicts import Verdict

Judges = Literal["truth", "reference"]
Kind = Literal["share", "mean", "ratio", "distance", "z"]
"""A share is 0 to 1 and shown in per cent. What is `mean` is the mean of a number of each clip."""


@dataclass(frozen=True)
class Evidence:
    """What figures rest on. Without real clips, or features, those figures that need them are left out."""

    verdicts: Verdicts
    real: Verdicts = ()
    """Of real clips of the same prompts."""
    seen: Collection[Case] = ()
    """The cases trained on."""
    others: Mapping[str, Score] = field(default_factory=dict)
    """Distances and figures of memorisation, which are worked out together."""

    @cached_property
    def std_ratios(self) -> dict[str, Score]:
        return std_ratios(self.verdicts, self.real) if self.paths else {}

    @property
    def judge(self) -> str | None:
        """Who said all this."""
        return self.verdicts[0].judge if self.verdicts else "truth"

    @property
    def paths(self) -> bool:
        """Whether there are real clips to compare paths with, in a world whose objects have any."""
        return bool(self.real and self.real[0].x)


Number = Callable[[Verdict], float]
Compute = Callable[[Evidence], Score | None]


@dataclass(frozen=True)
class Metric:
    """One figure. Either a number of each clip, nan where it has none, or what is computed of all together."""

    name: str
    title: str
    """What a person calls it."""
    about: str
    """Range, meaning, and the clips that count."""
    kind: Kind
    higher_is_better: bool | None
    """None where neither way is: the figure of real clips is best."""
    number: Number | None = None
    compute: Compute | None = None
    unit: str = ""
    headline: bool = False
    """It stands in short tables."""
    judge: Judges | None = "truth"
    """Whose it is: that of clips whose truth is known, that of clips without, or either's."""
    minimum: float = 0
    """The least that a mean can be."""

    def score(self, evidence: Evidence) -> Score | None:
        """The figure with its interval; None where nothing is known."""
        if self.judge not in (None, evidence.judge):
            return None
        found = self.compute(evidence) if self.compute else self.over(evidence.verdicts)
        return found if found and math.isfinite(found.value + found.high - found.low) else None

    def over(self, verdicts: Verdicts) -> Score:
        """Of a number: its share, or its mean, over the clips that have it."""
        assert self.number, self.name
        values = [self.number(v) for v in verdicts]
        if self.kind == "share":
            found = [value for value in values if not math.isnan(value)]
            return wilson(int(sum(found)), len(found))
        return mean(values, [v.prompt for v in verdicts], minimum=self.minimum)
