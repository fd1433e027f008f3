"""What a run leaves behind: figures in `metrics.jsonl`, checkpoints, sheets of samples."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from t2v_models import checkpoint as checkpoints
from t2v_models.batch import Metrics
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.config import LabError
from t2v_models.distributed import collectives
from t2v_models.files import writing
from t2v_models.model import VideoModel
from t2v_models.training.clock import Clock
from t2v_models.training.config import TrainConfig

METRICS = "metrics.jsonl"
"""In the run folder: one line for each time figures are logged."""
Log = Callable[[int, dict[str, float]], None]
"""Receives the step and named figures."""
Watch = Callable[[int, VideoModel], dict[str, float]]
"""Validates the model now and then (samples, scores) and returns figures to log."""


def print_metrics(step: int, metrics: dict[str, float]) -> None:
    """One line per logged step: what `fit` does when it is given no `log`."""
    print(f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))


def history(run_dir: Path) -> dict[int, dict[str, float]]:
    """All figures of a run by step, from `metrics.jsonl`; of steps done twice, after a kill, the later count."""
    figures: dict[int, dict[str, float]] = {}
    path = run_dir / METRICS
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
            row = json.loads(line)
            figures.setdefault(row.pop("step"), {}).update(row)
    return dict(sorted(figures.items()))


@dataclass
class RunLog:
    """What a run leaves behind: figures, checkpoints, samples. Only rank 0 writes."""

    run: RunConfig
    config: TrainConfig
    run_dir: Path
    model: VideoModel
    clock: Clock
    last: Checkpoint | None
    log: Log
    watch: Watch | None

    def tell(self, step: int, metrics: Metrics, figures: dict[str, float]) -> None:
        """Log mean metrics of the updates up to a step, the learning rates and `figures`."""
        self._write(step, _finite(metrics, step, self.last) | _learning_rates(self.model) | figures)

    def save_and_validate_if_due(self, step: int, metrics: Metrics, progress: float) -> None:
        """Save and validate, each at its own pace by the clock."""
        if collectives.is_rank_zero() and self.clock.due("save", self.config.save_seconds):
            self._save(step, metrics)
        if collectives.is_rank_zero() and self.watch and self.clock.may_watch(self.config.watch_seconds, progress):
            self._validate(step)

    def end(self, step: int, metrics: Metrics, validates: bool) -> Checkpoint:
        """Save for the last time; the checkpoint on all ranks."""
        if collectives.is_rank_zero():
            self._save(step, metrics)
            if validates and self.watch:
                self._validate(step)
        last = collectives.broadcast(self.last)
        assert last
        return last

    def _save(self, step: int, metrics: Metrics) -> None:
        _finite(metrics, step, self.last)
        _check_weights(self.model, step, self.last)
        seconds, keep = self.clock.seconds, self.config.keep
        self.last = checkpoints.save(self.model, self.run, self.run_dir, step, seconds, keep)

    def _validate(self, step: int) -> None:
        assert self.watch
        seconds = self.clock.seconds  # when it began, not when it had ended
        with self.clock.watching():
            figures = self.watch(step, self.model)
        self._write(step, figures | {"train/seconds": seconds, "speed/watch_share": self.clock.watch_share})

    def _write(self, step: int, figures: dict[str, float]) -> None:
        if collectives.is_rank_zero():
            path = self.run_dir / METRICS
            with writing(path), path.open("a") as file:
                file.write(json.dumps({"step": step} | figures) + "\n")
            self.log(step, figures)


def _learning_rates(model: VideoModel) -> dict[str, float]:
    return {f"train/lr/{name}": float(o.param_groups[0]["lr"]) for name, o in model.optimizers.items()}


def _finite(metrics: Metrics, step: int, last: Checkpoint | None) -> dict[str, float]:
    """The metrics as floats under `train/`.

    Raises:
        LabError: one is not finite: which, when, and where the last good checkpoint is.
    """
    figures = {f"train/{name}": float(value) for name, value in metrics.items()}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise LabError(f"{name} is {value} at step {step}; {_advice(last)}")
    return figures


def _check_weights(model: VideoModel, step: int, last: Checkpoint | None) -> None:
    """A finite loss may still make an update that is not: the weights are looked at before they are saved."""
    for name, value in model.state_dict().items():
        if not value.sum().isfinite():
            raise LabError(f"weights {name!r} are not finite at step {step}; {_advice(last)}")


def _advice(last: Checkpoint | None) -> str:
    good = f"the last good checkpoint is step {last.step}" if last else "there is no checkpoint yet"
    return f"{good}: try a lower learning rate or another seed"
