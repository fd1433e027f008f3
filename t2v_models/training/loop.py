"""The one training loop. It owns data, schedule, seeds, logging, checkpoints and signals, and knows no model by name.

Torch is re-seeded before every step from (seed, step), and batch k is a function of (seed, k): so a run of a given
number of steps that was killed and resumed equals an unbroken one bit for bit on a CPU. Several ranks take parts of
the same batches and draw the same noise, so they learn what one process would.
"""

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from operator import not_
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from t2v_models import checkpoint as checkpoints
from t2v_models.batch import Metrics, cut, mean
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.config import Config, LabError, flatten
from t2v_models.distributed import collectives
from t2v_models.files import locked, remove, writing
from t2v_models.machine import device_type, keep_memory, matrix_gflops, threads
from t2v_models.model import VideoModel
from t2v_models.processes import cores
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches, resident
from t2v_models.shards.tokens import TokenStore
from t2v_models.training.clock import Clock

METRICS = "metrics.jsonl"
"""In the run folder: one line for each time figures are logged."""
LOCK_SECONDS = 20.0
"""How long a run waits for the folder: the ranks of a killed one need a moment to notice."""

Log = Callable[[int, dict[str, float]], None]
"""Receives the step and named figures."""
Watch = Callable[[int, VideoModel], dict[str, float]]
"""Looks at the model now and then (samples, scores) and returns figures to log."""


class TrainConfig(Config, allow_inf_nan=False):
    """How long and how a model is trained; what it learns is the model's and the data's business."""

    steps: int | None = Field(None, ge=1, description="updates to make; give this or minutes")
    minutes: float | None = Field(None, gt=0, description="minutes to train, wall clock; give this or steps")
    seed: int = Field(0, ge=0, description="of weights, order and noise")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one")
    ranks: int = Field(1, ge=1, description="processes on each machine that share every batch; torchrun starts them")
    oversubscribe: bool = Field(
        False, exclude_if=not_, description="allow more ranks than CPU cores, which then wait for each other"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the networks' arithmetic")
    probe_seconds: float = Field(1, ge=0, description="seconds to measure the matrix rate; 0 counts no arithmetic")
    log_every: int = Field(50, ge=1, description="steps between logged figures")
    save_seconds: float = Field(30, gt=0, description="seconds between checkpoints: the most a kill can lose")
    watch_seconds: float = Field(5, gt=0, description="least seconds between samples and their scores")
    mix: dict[str, float] = Field({}, exclude_if=not_, description="shares of batches by shape, as 64x36x1: 0.2")
    cache_gib: float = Field(10, gt=0, description="disk space for shards that come from a URL")
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

    Called by each of several ranks, they share every batch; rank 0 logs, saves and watches, its clock is everybody's.
    SIGINT and SIGTERM let the step finish, save, and then end the process the usual way.

    Raises:
        LabError: the batch has too few runs for all ranks, `run_dir` holds another run, or is being trained by another
            process, or a loss or a weight is not finite (earlier checkpoints stay as they are).
    """
    device = _device(config)
    keep_memory()
    size, group = run.model.batch_size, run.model.group
    cut(size, group, collectives.share().world * run.model.accumulate)  # refused now, and by all ranks
    with stop_signals() as stop, _sole_trainer(run_dir), threads(run.model.threads or _share_of_cores()):
        model, last = _begin(run, run_dir, device)
        step, seconds = (last.step, last.seconds) if last else (0, 0.0)
        if last and config.progress(step, seconds) >= 1:
            return last
        share, block = collectives.share(), store.manifest.block
        stream = batches(_learnt(run, store, device), size, group, run.seed, step, share, 1, block, run.mix)
        clock = Clock(step, seconds, _machine_rate(device, config))
        record = _Record(run, config, run_dir, model, clock, last, log, watch)
        metrics: Metrics = {}
        untold: list[Metrics] = []  # of the updates since figures were logged
        with closing(stream):
            while True:
                now = config.progress(step, clock.seconds) if collectives.is_rank_zero() else 0.0
                progress, stopped = collectives.all_reduce_max(now, len(stop))
                if progress >= 1 or stopped:
                    break
                with clock.waiting():
                    batch = next(stream).to(device)
                noise = _mix(run.seed, step)
                torch.manual_seed(noise)
                with arithmetic(device, config.precision):
                    metrics = clock.counting(model.training_step, replace(batch, seed=noise), step, progress)
                step += 1
                untold.append(metrics)
                if step % config.log_every == 0:
                    figures = {"train/progress": progress} | clock.speed(step, size)
                    record.tell(step, collectives.all_reduce_metrics(mean(untold)), figures)
                    untold.clear()
                record.save_and_look_if_due(step, metrics, config.progress(step, clock.seconds))
        last = record.end(step, metrics, looks=not stopped)
    if stopped:
        raise stop[0] if stop else SystemExit(128 + signal.SIGTERM)
    return last


def history(run_dir: Path) -> dict[int, dict[str, float]]:
    """All figures of a run by step, from `metrics.jsonl`; of steps done twice, after a kill, the later count."""
    figures: dict[int, dict[str, float]] = {}
    path = run_dir / METRICS
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
            row = json.loads(line)
            figures.setdefault(row.pop("step"), {}).update(row)
    return dict(sorted(figures.items()))


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
    """A fresh model, or the one the folder holds, on the device: the same on all ranks."""
    last = collectives.broadcast(check_run(run, run_dir) if collectives.is_rank_zero() else None)
    torch.manual_seed(_mix(run.seed, -1))
    model = run.build().to(device)
    if last:
        checkpoints.restore(model, last, run_dir)
    else:
        checkpoints.load_parents(model, run)
    return model, last


@dataclass
class _Record:
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

    def save_and_look_if_due(self, step: int, metrics: Metrics, progress: float) -> None:
        """Save and watch, each at its own pace by the clock."""
        if collectives.is_rank_zero() and self.clock.due("save", self.config.save_seconds):
            self._save(step, metrics)
        if collectives.is_rank_zero() and self.watch and self.clock.may_watch(self.config.watch_seconds, progress):
            self._look(step)

    def end(self, step: int, metrics: Metrics, looks: bool) -> Checkpoint:
        """Save for the last time; the checkpoint on all ranks."""
        if collectives.is_rank_zero():
            self._save(step, metrics)
            if looks and self.watch:
                self._look(step)
        last = collectives.broadcast(self.last)
        assert last
        return last

    def _save(self, step: int, metrics: Metrics) -> None:
        _finite(metrics, step, self.last)
        _check_weights(self.model, step, self.last)
        seconds, keep = self.clock.seconds, self.config.keep
        self.last = checkpoints.save(self.model, self.run, self.run_dir, step, seconds, keep)

    def _look(self, step: int) -> None:
        assert self.watch
        seconds = self.clock.seconds  # when it looked, not when it had seen
        with self.clock.watching():
            figures = self.watch(step, self.model)
        self._write(step, figures | {"train/seconds": seconds, "speed/watch_share": self.clock.watch_share})

    def _write(self, step: int, figures: dict[str, float]) -> None:
        if collectives.is_rank_zero():
            path = self.run_dir / METRICS
            with writing(path), path.open("a") as file:
                file.write(json.dumps({"step": step} | figures) + "\n")
            self.log(step, figures)


@contextmanager
def _sole_trainer(run_dir: Path) -> Iterator[None]:
    """Rank 0 holds the folder, so that what a killed run left behind cannot write into it beside its successor."""
    if not collectives.is_rank_zero():
        yield
        return
    with locked(run_dir / "lock", LOCK_SECONDS, "trains"):
        _tidy(run_dir)
        yield


def _tidy(run_dir: Path) -> None:
    """Remove what a killed run was writing, and end its last line, so that it spoils no other."""
    folder = checkpoints.folder(run_dir)
    for temporary in folder.glob("*.tmp"):
        remove(temporary)
    for weights in folder.glob("*.safetensors"):
        if not weights.with_suffix(".json").exists():
            remove(weights)
    path = run_dir / METRICS
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with writing(path), path.open("a") as file:
            file.write("\n")


def _share_of_cores() -> int:
    """CPU threads of each of the ranks on this machine."""
    return max(1, cores() // collectives.local_world())


def _machine_rate(device: torch.device, config: TrainConfig) -> float:
    """GFLOP/s of the machines of all ranks together, in the run's precision; 0 where nobody asked."""
    seconds, dtype = config.probe_seconds, getattr(torch, config.precision)
    measures = seconds > 0 and (device.type == "cuda" or collectives.local_rank() == 0)
    return collectives.all_reduce_sum(_matrix_gflops(device, seconds, dtype) if measures else 0.0)


_matrix_gflops = cache(matrix_gflops)
"""Once a process: a lab trains several models in it."""


def _device(config: TrainConfig) -> torch.device:
    if device_type(config.device, config.precision, collectives.local_world()) == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", collectives.local_rank())
    torch.cuda.set_device(device)
    return device


def arithmetic(device: torch.device, precision: str) -> torch.autocast:
    """In which precision networks compute. No cache: a step updates weights and uses them again."""
    return torch.autocast(device.type, torch.bfloat16, precision == "bfloat16", cache_enabled=False)


def _learnt(run: RunConfig, store: ClipStore, device: torch.device) -> ClipStore | DeviceClips | TokenStore:
    """The clips, or their tokens where a model that the run builds on has made some of all."""
    if folder := run.model.tokens_of(run.dataset_digest):
        return TokenStore(store.manifest, folder, [parent.sha256 for parent in run.parents.values()])
    return resident(store, device)


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


@contextmanager
def stop_signals() -> Iterator[list[BaseException]]:
    """A list that a SIGINT or SIGTERM fills with the exception to raise once all is saved."""
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
