"""How long a training took to reach an accuracy, from the clips read along the way."""

from collections.abc import Mapping

from t2v_models.judging.metrics import WATCHED

LEVELS = (0.5, 0.8, 0.9, 0.95)


class Milestones:
    """Tells the first reading at each level, once. A resumed run replays its history to go on where it was."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._ahead = list(LEVELS)

    def passed(self, step: int, figures: Mapping[str, float]) -> dict[str, float]:
        """Seconds and clip-steps (clips learnt from, repeats counted) to every level this reading is the first at.

        Args:
            step: updates done.
            figures: of that step; only the share that obeys and `train/seconds` count.

        Returns:
            `reach/50_seconds` and `reach/50_clip_steps`, and so on; nothing where no level was passed.
        """
        found: dict[str, float] = {}
        while self._ahead and figures.get(WATCHED, 0) >= self._ahead[0]:
            name = f"reach/{100 * self._ahead.pop(0):.0f}"
            found |= {f"{name}_seconds": figures["train/seconds"], f"{name}_clip_steps": float(step * self._batch_size)}
        return found
