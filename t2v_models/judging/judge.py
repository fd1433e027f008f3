"""What a judge is: it looks at clips until nothing but its findings is kept of them, and makes figures of findings.

One judge knows the truth of the world that drew the data (`truth`); one of clips whose truth nobody knows would stand
beside it, with findings and figures of its own in the same table of metrics.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from t2v_models.judging.statistics import Score
from t2v_models.worlds.world import Frames

Findings = TypeVar("Findings")
Beside = TypeVar("Beside", contravariant=True)


class Judge(Protocol[Findings, Beside]):
    """Of the clips of one split of one dataset."""

    def judge(self, frames: Frames, prompts: Sequence[str], seeds: Sequence[int]) -> Findings:
        """What clips `(n, t, h, w, 3)` show; clip i answers `prompts[i]`."""

    def figures(self, judged: Findings, beside: Beside) -> dict[str, Score]:
        """The figures of `metrics.METRICS` that this judge has, beside what it sets clips against."""
