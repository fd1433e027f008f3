"""Numbers that processes of one machine tell each other through memory they share.

Gloo sends them through sockets, and whoever waits for them falls asleep: waking up can take longer than the message.
"""

import os
import time
from collections.abc import Sequence

import numpy as np
import psutil
import torch
from torch import Tensor

AWAKE_SECONDS = 0.02
"""How long a process that waits for the others keeps its core: as long as equal shares of work differ."""
LINE = 64
"""Bytes of a line of cache: no two processes write into the same."""


def board_bytes(world: int, length: int, dtype: torch.dtype) -> int:
    """Size of the file behind a board."""
    return world * LINE + 2 * world * length * dtype.itemsize


class Board:
    """A board on which each of `world` processes writes `length` numbers in its own row, and reads the rows of all.

    All of them open the same file of `board_bytes` zeros, and exchange equally often.
    """

    def __init__(self, path: str, rank: int, world: int, length: int, dtype: torch.dtype) -> None:
        memory = np.memmap(path, np.uint8, "r+")
        # of each process how often it has written, and its number in the system
        self.heads = memory[: world * LINE].view(np.int64).reshape(world, -1)
        self.sides = torch.from_numpy(memory[world * LINE :]).view(dtype).view(2, world, length)
        self.rank = rank
        self.count = 0
        self.heads[rank, 1] = os.getpid()

    def exchange(self, parts: Sequence[Tensor]) -> Tensor:
        """Write the joined parts, wait until all have written: the rows of all, `(world, length)`, until the next call.

        Raises:
            RuntimeError: a process has ended and will never write.
        """
        self.count += 1
        side = self.sides[self.count % 2]  # the others may still read what stands on the other side
        torch.cat(list(parts), out=side[self.rank])
        self.heads[self.rank, 0] = self.count
        self._wait()
        return side

    def _wait(self) -> None:
        since = time.perf_counter()
        while True:
            all_here = bool((self.heads[:, 0] >= self.count).all())
            os.sched_yield()  # after the look: the interpreter's lock, let go and taken, keeps reading in this order
            if all_here:
                return
            if time.perf_counter() - since > AWAKE_SECONDS:
                self._look_for_the_others()
                time.sleep(0.001)

    def _look_for_the_others(self) -> None:
        for rank, (count, process) in enumerate(self.heads[:, :2].tolist()):
            opened = process > 0
            if opened and count < self.count and not psutil.pid_exists(process):
                raise RuntimeError(f"rank {rank} (process {process}) has ended")
