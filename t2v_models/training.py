"""The one training loop. It owns data, schedule, seeds, logging, checkpoints and signals, and knows no model by name.

Torch is re-seeded before every step from (seed, step), and batch k is a function of (seed, k): so a run of a given
number of steps that was killed and resumed equals an unbroken one bit for bit on a CPU.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from t2v_models import checkpoint as checkpoints
from t2v_models.build import build
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.config import Config, LabError, flatten
from t2v_models.model import Metrics, VideoModel
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches

Log = Callable[[int, dict[str, float]], None]
"""Receives the step and named figures."""
Watch = Callable[[int, VideoModel], dict[str, float]]
"""Looks at the model now and then (samples, scores) and returns figures to log."""
WATCH_SHARE = 0.03
"""Most of the training time that watching may take; where looks are dear there are fewer of them."""


class TrainConfig(Config):
    """How long and how a model is trained; what it learns is the model's and the data's business."""

    steps: int | None = Field(None, ge=1, description="updates to make; give this or minutes")
    minutes: float | None = Field(None, gt=0, description="minutes to train, wall clock; give this or steps")
    seed: int = Field(0, ge=0, description="of weights, order and noise")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one")
    log_every: int = Field(50, ge=1, description="steps between logged figures")
    save_seconds: float = Field(30, gt=0, description="seconds between checkpoints: the most a kill can lose")
    watch_seconds: float = Field(20, gt=0, description="least seconds between samples and their scores")
    keep: int = Field(2, ge=2, description="checkpoints kept, newest first")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 1 or more at its end."""
        return step / self.steps if self.steps else seconds / (60 * self.minutes)  # type: ignore[operator]


def print_metrics(step: int, metrics: dict[str, float]) -> None:
    """One line per logged step: what `fit` does when it is given no `log`."""
    print(f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))


def fit(
    run: RunConfig,
    store: ClipStore,
    config: TrainConfig,
    run_dir: Path,
    log: Log = print_metrics,
    watch: Watch | None = None,
) -> Checkpoint:
    """Train from the newest checkpoint in `run_dir`, or from the start, to the end of the schedule.

    SIGINT and SIGTERM let the step finish, save, and then end the process the usual way.

    Raises:
        LabError: `run_dir` holds another run, or a loss is not finite (earlier checkpoints stay as they are).
    """
    model, last = _begin(run, run_dir, _device(config.device))
    step, clock = (last.step, Clock(last.seconds)) if last else (0, Clock(0))

    def tell(figures: dict[str, float]) -> None:
        _append(run_dir, step, figures)
        log(step, figures)

    if last and config.progress(step, clock.seconds) >= 1:
        return last
    batch_size = run.model.batch_size
    stream = batches(store, batch_size, run.model.group, run.seed, start=step)
    with _stop_signals() as stop:
        while (progress := config.progress(step, clock.seconds)) < 1 and not stop:
            with clock.waiting():
                batch = next(stream).to(model.device)
            torch.manual_seed(_mix(run.seed, step))
            metrics = model.training_step(batch, step, progress)
            step += 1
            if step % config.log_every == 0:
                speed = clock.speed(step, batch_size)
                tell(_finite(metrics, step, last) | _learning_rates(model) | speed | {"train/progress": progress})
            if clock.due("save", config.save_seconds):
                _finite(metrics, step, last)
                last = checkpoints.save(model, run, run_dir, step, clock.seconds, config.keep)
            if watch and clock.may_watch(config.watch_seconds):
                tell(_look(watch, step, model, clock))
    stream.close()
    _finite(metrics, step, last)
    last = checkpoints.save(model, run, run_dir, step, clock.seconds, config.keep)
    if stop:
        raise stop[0]
    if watch:
        tell(_look(watch, step, model, clock))
    return last


def _look(watch: Watch, step: int, model: VideoModel, clock: "Clock") -> dict[str, float]:
    """What `watch` says, when it looked, and the share of the time that went into looking."""
    seconds = clock.seconds
    with clock.watching():
        figures = watch(step, model)
    return figures | {"train/seconds": seconds, "speed/watch_share": clock.watch_share}


def history(run_dir: Path) -> dict[int, dict[str, float]]:
    """All figures of a run by step, from `metrics.jsonl`; of steps done twice, after a kill, the later count."""
    figures: dict[int, dict[str, float]] = {}
    path = run_dir / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
            row = json.loads(line)
            figures.setdefault(row.pop("step"), {}).update(row)
    return dict(sorted(figures.items()))


def _append(run_dir: Path, step: int, figures: dict[str, float]) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step} | figures) + "\n")


def is_finished(run: RunConfig, config: TrainConfig, run_dir: Path) -> bool:
    """Whether the folder holds this very run at the end of its schedule."""
    last = checkpoints.newest(run_dir)
    return last is not None and last.run == run and config.progress(last.step, last.seconds) >= 1


def check_run(run: RunConfig, run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of the folder, None if it has none.

    Raises:
        LabError: the folder's run differs from `run`: which keys, then and now.
    """
    last = checkpoints.newest(run_dir)
    if last and last.run != run:
        then, now = flatten(last.run.model_dump(mode="json")), flatten(run.model_dump(mode="json"))
        keys = sorted((k for k in then | now if then.get(k) != now.get(k)), key=lambda k: (not k.endswith("name"), k))
        changes = ", ".join(f"{k} was {then.get(k)!r}, now {now.get(k)!r}" for k in keys[:3])
        raise LabError(f"{run_dir} holds another run ({changes}): choose another --out, or repeat the first options")
    return last


def _begin(run: RunConfig, run_dir: Path, device: torch.device) -> tuple[VideoModel, Checkpoint | None]:
    """A fresh model, or the one the folder holds, on the device."""
    last = check_run(run, run_dir)
    torch.manual_seed(_mix(run.seed, -1))
    model = build(run.model, run.spec, run.vocabulary).to(device)
    if last:
        checkpoints.restore(model, last, run_dir)
    return model, last


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise LabError("device 'cuda' was asked for and this machine has none: use --device cpu or auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _mix(seed: int, step: int) -> int:
    """One number from (seed, step) whose low and high bits are all well mixed."""
    return int(np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint64)[0] >> 1)


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
            good = f"the last good checkpoint is step {last.step}" if last else "there is no checkpoint yet"
            raise LabError(f"{name} is {value} at step {step}; {good}: try a lower learning rate or another seed")
    return figures


class Clock:
    """Seconds trained, seconds waited for data, and what falls due when."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.perf_counter() - before
        self._watched = self._last_look = 0.0
        self._last: dict[str, float] = {}
        self._waited = 0.0
        self._mark: tuple[float, float, int | None] = (self.seconds, 0.0, None)  # seconds, waited, step at the last log

    @property
    def seconds(self) -> float:
        """Seconds since the run began, those of earlier processes included."""
        return time.perf_counter() - self._start

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block as time waited for data."""
        since = time.perf_counter()
        yield
        self._waited += time.perf_counter() - since

    def due(self, what: str, every: float) -> bool:
        """Whether `every` seconds have passed since the last time, or since the start."""
        now = self.seconds
        if now - self._last.setdefault(what, now) < every:
            return False
        self._last[what] = now
        return True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Counts the block as time spent looking at the model."""
        since = time.perf_counter()
        yield
        self._last_look = time.perf_counter() - since
        self._watched += self._last_look

    @property
    def watch_share(self) -> float:
        """Share of this process's time that was spent looking."""
        return self._watched / (self.seconds - self._before)

    def may_watch(self, every: float) -> bool:
        """Whether a look is due, and `WATCH_SHARE` leaves time for it and for the one at the end.

        Both are taken to be as long as the last one; how long the first one takes nobody knows.
        """
        room = WATCH_SHARE * (self.seconds - self._before) - self._watched
        return 2 * self._last_look <= room and self.due("watch", every)

    def speed(self, step: int, batch_size: int) -> dict[str, float]:
        """Clips per second and the share of time spent waiting for data since the last call."""
        seconds, waited, since = self._mark
        now = self.seconds
        self._mark = (now, self._waited, step)
        steps = step - (since or 0)
        share = (self._waited - waited) / (now - seconds)
        return {"speed/clips_per_second": steps * batch_size / (now - seconds), "speed/data_wait_share": share}


@contextmanager
def _stop_signals() -> Iterator[list[BaseException]]:
    """A list that a SIGINT or SIGTERM fills with the exception to raise once the step is saved."""
    stop: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers; a submitted task is stopped by its runner
        return
    endings = {signal.SIGINT: KeyboardInterrupt(), signal.SIGTERM: SystemExit(128 + signal.SIGTERM)}
    before = {number: signal.signal(number, lambda n, _: stop.append(endings[signal.Signals(n)])) for number in endings}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
