"""Two evaluations side by side: what differs by how much, and which prompts got better or worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2v_models.judging.metrics import accuracy, by_prompt, direction, permanence, prompt_success, shape_acc, valid
from t2v_models.judging.statistics import Score, mean, newcombe
from t2v_models.judging.verdicts import Verdict

NUMBERS = ("traj_rmse", "speed_err", "step_err", "angle_err", "shape_iou", "radius_err", "colour_err",
           "colour_change", "bg_err", "radius_cv", "flicker")  # fmt: skip
"""Numbers of a clip that are compared pairwise."""
HIGHER_IS_BETTER = frozenset({"shape_iou"})


@dataclass(frozen=True)
class Difference:
    """One figure of two models; `gap` is the second minus the first with its interval."""

    metric: str
    first: float
    second: float
    gap: Score
    share: bool

    @property
    def better(self) -> bool | None:
        """Whether the second model is better; None where the interval covers no difference."""
        if not self.gap.low <= self.gap.high or self.gap.low <= 0 <= self.gap.high:
            return None
        return (self.gap.value > 0) == (self.share or self.metric in HIGHER_IS_BETTER)


def differences(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[Difference]:
    """Shares by Newcombe's interval for two proportions; means over the pairs with equal prompt and seed.

    A pair counts where both clips have the number. With fewer than two pairs there is no mean.
    """
    shares = {
        "prompt_acc": (accuracy(first), accuracy(second)),
        "prompt_success": (prompt_success(first), prompt_success(second)),
        "valid": (valid(first), valid(second)), "shape_acc": (shape_acc(first), shape_acc(second)),
        "dir_x": (direction(first, 0), direction(second, 0)), "dir_y": (direction(first, 1), direction(second, 1)),
        "permanence": (permanence(first), permanence(second)),
    }  # fmt: skip
    found = [Difference(m, a.value, b.value, newcombe(b, a), True) for m, (a, b) in shares.items() if a.n and b.n]
    partner = {(v.prompt, v.seed): v for v in second}
    pairs = [(v, partner[v.prompt, v.seed]) for v in first if (v.prompt, v.seed) in partner]
    for name in NUMBERS:
        both = [(a, b) for a, b in ((getattr(v, name), getattr(w, name)) for v, w in pairs) if math.isfinite(a + b)]
        prompts = [v.prompt for v, w in pairs if math.isfinite(getattr(v, name) + getattr(w, name))]
        if len(both) > 1:
            gap = mean([b - a for a, b in both], prompts)
            first_mean, second_mean = (sum(side) / len(both) for side in zip(*both, strict=True))
            found.append(Difference(name, first_mean, second_mean, gap, False))
    return found


def by_change(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[tuple[str, Difference]]:
    """Accuracy of every prompt both were asked, with the greatest gain first and the greatest loss last."""
    then, now = by_prompt(first), by_prompt(second)
    changes = []
    for prompt in (p for p in then if p in now):
        a, b = accuracy(then[prompt]), accuracy(now[prompt])
        changes.append((prompt, Difference("prompt_acc", a.value, b.value, newcombe(b, a), True)))
    return sorted(changes, key=lambda change: -change[1].gap.value)
