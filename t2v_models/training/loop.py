"""The one training loop. It owns data, schedule, seeds, logging, checkpoints and signals, and knows no model by name.

Torch is re-seeded before every step from (seed, step), and batch k is a function of (seed, k): so a run of a given
number of steps that was killed and resumed equals an unbroken one bit for bit on a CPU. Several ranks take parts of
the same batches and draw the same noise, so they learn what one process would.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models.batch import Metrics, cut, mean
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.config import LabError, changes
from t2v_models.distributed import collectives
from t2v_models.files import locked, remove, writing
from t2v_models.fresh import fresh
from t2v_models.machine import device_type, keep_memory, matrix_gflops, threads
from t2v_models.model import VideoModel
from t2v_models.processes import cores
from t2v_models.sampler import RoundTrip
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches, resident
from t2v_models.shards.tokens import TokenStore
from t2v_models.training.clock import Clock
from t2v_models.training.config import TrainConfig
from t2v_models.training.run_log import METRICS, Log, RunLog, Watch, print_metrics

VECTORS = "captions.vectors"
"""File in a run folder: what a frozen text encoder says of the captions."""
LOCK_SECONDS = 20.0
"""How long a run waits for the folder: the ranks of a killed one need a moment to notice."""


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
        _encode_once(model, store.manifest.captions, run_dir)
        share, block = collectives.share(), store.manifest.block
        learnt = _learnt(run, store, device)
        stream = batches(learnt, size, group, run.seed, step, share, 1, block, run.mix, run.augment)
        clock = Clock(step, seconds, _machine_rate(device, config))
        run_log = RunLog(run, config, run_dir, model, clock, last, log, watch)
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
                    run_log.tell(step, collectives.all_reduce_metrics(mean(untold)), figures)
                    untold.clear()
                run_log.save_and_validate_if_due(step, metrics, config.progress(step, clock.seconds))
        last = run_log.end(step, metrics, validates=not stopped)
    if stopped:
        raise stop[0] if stop else SystemExit(128 + signal.SIGTERM)
    return last


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
        said = ", ".join(changes(last.run, run)[:3])
        raise LabError(f"{run_dir} holds another run ({said}): choose another --out, or repeat the first options")
    return last


def _begin(run: RunConfig, run_dir: Path, device: torch.device) -> tuple[VideoModel, Checkpoint | None]:
    """A fresh model, or the one the folder holds, on the device: the same on all ranks."""
    last = collectives.broadcast(check_run(run, run_dir) if collectives.is_rank_zero() else None)
    torch.manual_seed(_mix(run.seed, -1))
    model = (run.build() if last else fresh(run)).to(device)
    if last:
        checkpoints.restore(model, last, run_dir)
    return model, last


def _encode_once(model: VideoModel, captions: Sequence[str], run_dir: Path) -> None:
    """Let a frozen text encoder see every caption once: rank 0 keeps what it says in a file, which all ranks read."""
    if isinstance(model, RoundTrip):
        return  # it needs none
    lines, file = [line for caption in captions for line in caption.split("\n")], run_dir / VECTORS
    if collectives.is_rank_zero():
        model.text.remember(lines, file)
    collectives.broadcast(None)
    if not collectives.is_rank_zero():
        model.text.remember(lines, file)


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
    for temporary in (*folder.glob("*.tmp"), *run_dir.glob(f"{VECTORS}.*.tmp")):
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
