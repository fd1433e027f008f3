"""Learning rates over a run: a linear rise by step, a linear fall to 0 at the end by progress."""

from collections.abc import Iterable

from torch.optim import Optimizer

INITIAL = "initial_lr"
"""Key of a group's highest rate; it is saved with the optimiser."""


def remember(optimizers: Iterable[Optimizer]) -> None:
    """Keep the rates of fresh optimisers as their highest."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group[INITIAL] = group["lr"]


def follow(optimizers: Iterable[Optimizer], step: int, progress: float, warmup_steps: int, decay: float) -> None:
    """Set the rates of an update.

    Args:
        optimizers: whose rates were remembered.
        step: updates done before.
        progress: share of the run that is done, in [0, 1).
        warmup_steps: updates of the rise.
        decay: share of the run, its end, of the fall.
    """
    share = min(1.0, (step + 1) / warmup_steps) * min(1.0, (1 - progress) / decay)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group[INITIAL]
