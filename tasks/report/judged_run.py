"""An evaluated run, read from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Self

from t2v_models import checkpoint
from t2v_models.checkpoint import Checkpoint
from t2v_models.config import LabError
from t2v_models.judging.scores import Evaluation
from t2v_models.leaderboard.milestones import Milestones
from t2v_models.training import run_log
from tasks.report.console import say

SCORES = "scores.json"


@dataclass(frozen=True)
class JudgedRun:
    """An evaluation and, where it is of a training, that run."""

    place: Path
    """Folder of the evaluation."""
    evaluation: Evaluation
    run_dir: Path
    last: Checkpoint | None
    """What was judged; None for a baseline or an archive of clips."""

    @classmethod
    def of(cls, folder: Path, elsewhere: Path | None = None, sha256: str | None = None) -> Self:
        """That of a run folder, or an evaluation folder.

        Of a run with several, it is the usual one, of all splits; without that, the only one there is.

        Args:
            folder: of the run or of the evaluation; or the name of something else that was judged.
            elsewhere: folder of evaluations outside of runs, where one of the same weights may be.
            sha256: of what is no run.

        Raises:
            LabError: there is none, or there are several; the run was trained further since.
        """
        run_dir = folder if checkpoint.folder(folder).is_dir() else folder.parent
        last = checkpoint.newest(run_dir) if checkpoint.folder(run_dir).is_dir() else None
        place = folder if (folder / SCORES).is_file() else folder / "evaluation"
        if not (place / SCORES).is_file():
            place = _the_only_one(folder, last.sha256 if last else sha256, elsewhere)
        found = _read(place)
        again = f"'t2v evaluate {quote(str(run_dir))}'"
        if last and found.source != last.sha256:
            raise LabError(f"{place} has scores of other weights than {run_dir} holds now: run {again} again")
        return cls(place, found, run_dir, last)

    @cached_property
    def newer(self) -> list[Path]:
        """Evaluations of the same weights that were made after this one, with other splits, clips or wishes."""
        since = (self.place / SCORES).stat().st_mtime
        others = [p.parent for p in sorted(self.run_dir.glob(f"*/{SCORES}")) if p.stat().st_mtime > since]
        return [other for other in others if _read(other).source == self.evaluation.source]

    @cached_property
    def history(self) -> dict[int, dict[str, float]]:
        """Figures of the training by step; none for a baseline."""
        return run_log.history(self.run_dir) if self.last else {}

    @property
    def reached(self) -> dict[str, float]:
        """Seconds and clip-steps to the levels of `Milestones`."""
        ways = Milestones(self.last.run.model.batch_size if self.last else 1)
        return {name: v for step, figures in self.history.items() for name, v in ways.passed(step, figures).items()}


def _the_only_one(run: Path, sha256: str | None, elsewhere: Path | None) -> Path:
    """The folder of the only evaluation of these weights or this archive that is not in its usual place."""
    if sha256 is None:
        what = "is neither a run nor an evaluation" if run.exists() else "does not exist"
        raise LabError(f"{run} {what}: name a run folder that 't2v evaluate' has judged")
    places = [*run.glob(f"*/{SCORES}"), *(elsewhere.glob(f"*/{SCORES}") if elsewhere else ())]
    found = sorted(str(path.parent) for path in places if _read(path.parent).source == sha256)
    if not found:
        like = "" if checkpoint.folder(run).is_dir() else " --like DATA"  # what was not trained here knows none
        raise LabError(f"{run} has no evaluation: run 't2v evaluate {quote(str(run))}{like}' first")
    if len(found) > 1:
        raise LabError(f"{run} has {len(found)} evaluations: name one in its place, {' or '.join(found)}")
    return Path(found[0])


def _read(place: Path) -> Evaluation:
    return Evaluation.model_validate_json((place / SCORES).read_bytes())


def tell_newer(judged: Sequence[JudgedRun]) -> None:
    """Of runs that were evaluated otherwise since, which evaluation is told of."""
    for one in judged:
        for other in one.newer:
            say(
                f"{one.place} is taken, {other} is newer and judged otherwise: name that folder in its place to take it"
            )
