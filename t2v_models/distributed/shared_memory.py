"""All-reduce between processes of one machine, through memory they share.

Gloo sends them through sockets, and whoever waits for them falls asleep: waking up can take longer than the message.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from t2v_models.config import LabError

AWAKE_SECONDS = 0.02
"""For so long a process that waits for the others keeps its core: about as much as their shares of work differ by."""
LOOK_SECONDS = 1.0
"""How often it then sees whether the others are still there."""
SILENT_SECONDS = 1800.0
"""When it gives up on one that is there and does not write."""
LINE = 64
"""Bytes of a line of cache: heads of two rows share none."""


def new_shared_file(world: int, length: int, dtype: torch.dtype) -> str:
    """A new file of zeros for `SharedRows`, written whole: who touches memory that the disk has no room for is killed.

    Raises:
        LabError: there is no room.
    """
    size = world * LINE + 2 * world * length * dtype.itemsize
    number, path = tempfile.mkstemp(prefix="t2v-ranks-")
    os.close(number)
    try:
        Path(path).write_bytes(bytes(size))
    except OSError as error:
        os.unlink(path)
        raise LabError(
            f"ranks of one machine share memory, {size:,} bytes as a file in {tempfile.gettempdir()} "
            f"({error.strerror}): set TMPDIR to a folder with more room"
        ) from error
    return path


class SharedRows:
    """Shared memory in which each of `world` processes writes `length` numbers into its own row, and reads all rows.

    All of them open the same `new_shared_file` before the first exchange, and exchange equally often.
    """

    def __init__(self, path: str, rank: int, world: int, length: int, dtype: torch.dtype) -> None:
        memory = np.memmap(path, np.uint8, "r+").view(np.ndarray)  # plain views of it are three times as fast
        heads = memory[: world * LINE].view(np.int64).reshape(world, -1)
        self.counts, self.processes = heads[:, 0], heads[:, 1]
        self.sides = torch.from_numpy(memory[world * LINE :]).view(dtype).view(2, world, length)
        self.rank = rank
        self.count = 0
        self.processes[rank] = os.getpid()

    def exchange(self, parts: Sequence[Tensor]) -> Tensor:
        """Write the joined parts, wait until all have written.

        Returns:
            the rows of all, `(world, length)`: the shared memory itself, to be read before the next call.

        Raises:
            RuntimeError: a process has ended before it wrote, or has not written for half an hour.
        """
        self.count += 1
        side = self.sides[self.count % 2]  # the others may still read what stands on the other side
        torch.cat(list(parts), out=side[self.rank])
        _keep_order()
        self.counts[self.rank] = self.count
        self._wait()
        _keep_order()
        return side

    def _wait(self) -> None:
        since = looked = time.perf_counter()
        while (self.counts < self.count).any():
            now = time.perf_counter()
            if now - since < AWAKE_SECONDS:
                os.sched_yield()
                continue
            time.sleep(0.001)
            if now - looked > LOOK_SECONDS:
                looked = now
                self._look_for_the_others(now - since)

    def _look_for_the_others(self, seconds: float) -> None:
        for rank, process in enumerate(self.processes.tolist()):
            ended = _has_ended(process)  # looked up first: it may write and end at any time
            if self.counts[rank] < self.count and (ended or seconds > SILENT_SECONDS):
                what = "has ended" if ended else f"has not come for {seconds / 60:.0f} minutes"
                raise RuntimeError(f"rank {rank} (process {process}) {what}")


def _keep_order() -> None:
    """What stands before is done before what stands after, also on processors that reorder reads and writes: the
    interpreter's lock is let go and taken again."""
    os.sched_yield()


def _has_ended(process: int) -> bool:
    try:
        return process > 0 and psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
