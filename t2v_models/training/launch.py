"""Training by several processes: torchrun starts them, on one machine or on more.

On one machine they meet in files and talk over the loopback: torchrun's own meeting place is a store that listens on
all interfaces and asks nobody for a password (pytorch issue 173909). Between machines that is still so.

`train` writes what is to be done into the run folder and starts torchrun in a session of its own, so that a crash of
a rank is an error here and not the end of this process; figures come back through the run folder. More machines see
the same run folder and dataset: each sets torchrun's own variables (PET_NNODES, PET_RDZV_BACKEND=c10d,
PET_RDZV_ENDPOINT=host:port), one of them runs `t2v train … --ranks N`, and the others
`torchrun --nproc-per-node N -m t2v_models.training.launch RUN/job.json`.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from torch.distributed.elastic.multiprocessing.errors import record

from t2v_models import checkpoint as checkpoints
from t2v_models import files
from t2v_models.batch import cut
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.config import Config, LabError
from t2v_models.distributed import collectives
from t2v_models.ending import end_at_once
from t2v_models.families.build import ModelConfig
from t2v_models.machine import device_type, has_bfloat16
from t2v_models.processes import cores
from t2v_models.shards.opened import open_data
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit, stop_signals
from t2v_models.training.run_log import METRICS, Log
from t2v_models.training.validation import watcher

LIFELINE = "T2V_LIFELINE"
"""Set where a rank's standard input is a pipe that closes when the process that launched it is gone."""
POLL_SECONDS = 0.2
SAID = "t2v: "
"""Stands before the sentence of a LabError in the output of a rank."""
REFUSED = 2
"""Exit code of a rank that raised a LabError."""


class Job(Config):
    """All that a rank must be told."""

    data: str
    """A folder or a URL."""
    cache: Path
    """Where shards from a URL are kept."""
    run: RunConfig
    """Made once: what it builds on or begins with may be trained on while ranks start."""
    training: TrainConfig
    run_dir: Path


def by_several(config: TrainConfig) -> bool:
    """Whether more than this process trains: ranks of this machine, or, as torchrun's variable says, of others."""
    return config.ranks > 1 or "PET_NNODES" in os.environ


def here(config: TrainConfig, model: ModelConfig) -> TrainConfig:
    """The same with the precision that "auto" means for a family on this machine, so that all ranks have one.

    Raises:
        LabError: as of `device_type`.
    """
    if config.precision != "auto":
        return config
    fast = model.gains_by_bfloat16 and has_bfloat16(device_type(config.device, "float32", config.ranks))
    return config.model_copy(update={"precision": "bfloat16" if fast else "float32"})


def check_ranks(model: ModelConfig, config: TrainConfig) -> None:
    """Whether the ranks can share a batch and find room on this machine, before any of them is started.

    Raises:
        LabError: the batch has too few runs for them, or the machine too few GPUs or cores.
    """
    machines = int(os.environ.get("PET_NNODES", "1").partition(":")[0])  # torchrun's least and most, as 1:4
    cut(model.batch_size, model.group, config.ranks * machines * model.accumulate)
    on_cpu = device_type(config.device, config.precision, config.ranks) == "cpu"
    if on_cpu and config.ranks > (there := cores()) and not config.oversubscribe:
        raise LabError(
            f"{config.ranks} ranks on {there} CPU cores would wait for each other: use --ranks {there}, or add "
            "--oversubscribe"
        )


def train(job: Job, log: Log) -> Checkpoint:
    """As `training.loop.fit`, by `job.training.ranks` processes; a signal to this one lets them save and end.

    Raises:
        LabError: as of `check_ranks`, or what a rank raised.
    """
    check_ranks(job.run.model, job.training)
    path = files.write(job.run_dir / "job.json", job.model_dump_json(indent=2))
    metrics, output = job.run_dir / METRICS, job.run_dir / "launch.log"
    files.remove(output)  # the torchrun of a killed run may still write to its own
    seen = metrics.stat().st_size if metrics.is_file() else 0
    with (
        stop_signals() as stop, output.open("wb") as sink, TemporaryDirectory(prefix="t2v-ranks-") as meeting,
        _torchrun(path, job.training.ranks, Path(meeting), sink) as torchrun,
    ):  # fmt: skip
        told = False
        while torchrun.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                torchrun.wait(POLL_SECONDS)
            if stop and not told:
                torchrun.terminate()  # torchrun passes it on
                told = True
            seen = _pass_on(metrics, seen, log)
        _pass_on(metrics, seen, log)  # what came after the last poll
    if stop:
        raise stop[0]
    last = checkpoints.newest(job.run_dir)
    if torchrun.returncode or last is None:
        raise _fault(output)
    return last


def _torchrun(job: Path, count: int, meeting: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    """torchrun with `count` ranks; those of one machine meet in the folder `meeting`."""
    where, told = [], {}
    if "PET_RDZV_ENDPOINT" not in os.environ:
        where = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={meeting / 'torchrun'}"]
        told = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} | collectives.on_the_loopback(meeting / "ranks")
    return subprocess.Popen(
        [sys.executable, "-m", "t2v_models.training.torchrun", *where, f"--nproc-per-node={count}",
         "-m", __name__, str(job)],
        stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ | told | {LIFELINE: "1"},
    )  # fmt: skip


def _pass_on(metrics: Path, seen: int, log: Log) -> int:
    """Give the lines after byte `seen` to `log`; the bytes seen now."""
    if not metrics.is_file():
        return seen
    with metrics.open("rb") as file:
        file.seek(seen)
        lines, _, _ = file.read().rpartition(b"\n")
    for line in lines.splitlines():
        with suppress(json.JSONDecodeError):  # a killed run may have left half a line
            row = json.loads(line)
            log(row.pop("step"), row)
    return seen + len(lines) + bool(lines)


def _fault(output: Path) -> Exception:
    """What a rank said when it was refused, or else where to read."""
    lines = output.read_text(errors="replace").splitlines()
    sentence = next((line.removeprefix(SAID) for line in lines if line.startswith(SAID)), None)
    return LabError(sentence) if sentence else RuntimeError(f"a rank failed, see {output}: " + "\n".join(lines[-20:]))


def main(path: Path) -> None:
    """One rank."""
    if LIFELINE in os.environ:
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    job = Job.model_validate_json(path.read_bytes())
    collectives.join()
    try:
        store = open_data(job.data, job.cache, job.training.cache_gib)
        watch = watcher(job.run, store, job.run_dir)
        fit(job.run, store, job.training, job.run_dir, lambda step, figures: None, watch)
    except LabError as error:
        print(f"{SAID}{error}", file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    collectives.leave()


def _end_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    rank = record(main)  # the last that torchrun says is then why the first rank failed
    end_at_once(lambda: rank(Path(sys.argv[1])))
