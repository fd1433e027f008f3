"""Learning rates over a run: a linear rise by step, a linear fall to 0 at the end by progress."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer

from t2v_models.model import FamilyConfig, LossModel

HIGHEST = "initial_lr"
"""Key of a group's highest rate, which it had when it was new; it is saved with the optimiser."""

Rise = Annotated[int, Field(ge=1, le=100_000, description="updates over which the steps rise from 0")]
Fall = Annotated[float, Field(gt=0, le=1, description="share of the run, its end, over which they fall to 0")]


class PacedConfig(FamilyConfig):
    """Settings of a model whose rates rise and fall."""

    warmup_steps: Rise = 30
    decay: Fall


class PacedModel(LossModel):
    """A model whose rates rise and fall."""

    config: PacedConfig

    def before_step(self, step: int, progress: float) -> None:
        """Set the rates of this update."""
        follow(self.optimizers.values(), step, progress, self.config.warmup_steps, self.config.decay)


def follow(optimizers: Iterable[Optimizer], step: int, progress: float, warmup_steps: int, decay: float) -> None:
    """Set the rates of an update.

    Args:
        optimizers: new ones, or such as have followed before.
        step: updates done before.
        progress: share of the run that is done, in [0, 1).
        warmup_steps: updates of the rise.
        decay: share of the run, its end, of the fall.
    """
    share = min(1.0, (step + 1) / warmup_steps) * min(1.0, (1 - progress) / decay)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group.setdefault(HIGHEST, group["lr"])
