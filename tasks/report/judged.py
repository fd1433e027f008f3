"""An evaluated run, read from its folder."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from t2v_models import checkpoint
from t2v_models.checkpoint import Checkpoint
from t2v_models.config import LabError
from t2v_models.judging.scores import Evaluation
from t2v_models.leaderboard.milestones import Milestones
from t2v_models.training import loop


@dataclass(frozen=True)
class Judged:
    """An evaluation and, where it is of a training, that run."""

    place: Path
    """Folder of the evaluation."""
    evaluation: Evaluation
    run_dir: Path
    last: Checkpoint | None
    """What was judged; None for a baseline or an archive of clips."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """That of a run folder, or an evaluation folder.

        Raises:
            LabError: there is none, or the run was trained further since.
        """
        place = folder if (folder / "scores.json").is_file() else folder / "evaluation"
        if not (place / "scores.json").is_file():
            raise LabError(f"{folder} has no evaluation: run 't2v evaluate {folder}' first")
        found = Evaluation.model_validate_json((place / "scores.json").read_bytes())
        run_dir = folder if checkpoint.folder(folder).is_dir() else folder.parent
        last = checkpoint.newest(run_dir) if checkpoint.folder(run_dir).is_dir() else None
        if last and found.source != last.sha256:
            raise LabError(
                f"{place} has scores of other weights than {run_dir} holds now: run 't2v evaluate {run_dir}' again"
            )
        return cls(place, found, run_dir, last)

    @cached_property
    def history(self) -> dict[int, dict[str, float]]:
        """Figures of the training by step; none for a baseline."""
        return loop.history(self.run_dir) if self.last else {}

    @property
    def reached(self) -> dict[str, float]:
        """Seconds and clip-steps to the levels of `Milestones`."""
        ways = Milestones(self.last.run.model.batch_size if self.last else 1)
        return {name: v for step, figures in self.history.items() for name, v in ways.passed(step, figures).items()}
