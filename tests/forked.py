"""Processes forked from a server that has imported once what they need: torch, its compiler and diffusers take ten
seconds each time."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from torch.distributed import TCPStore

from t2v_models.distributed import collectives

PATIENCE = 1200
"""Seconds after which something hangs, on however busy a machine."""


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process of its own that does the work."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.runs", "tests.preloaded"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def ended(process: BaseProcess, patience: float = PATIENCE) -> int | None:
    """The exit code of a process, once it has one; one that hangs is killed."""
    process.join(patience)
    process.kill()
    process.join()
    return process.exitcode


def by_two_ranks(work: Callable[..., None], *arguments: Any) -> None:
    """Have two processes do the work, which meet as those of torchrun do."""
    by_ranks(2, work, *arguments)


def by_ranks(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """Have so many processes do the work."""
    store, processes = _ranks(world, work, arguments)
    assert [ended(process) for process in processes] == [0] * world, store


def until_killed(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """The same of work that the first of them ends with SIGKILL, whereupon the others are killed as well."""
    store, processes = _ranks(world, work, arguments)
    first, *others = processes
    assert ended(first) == -signal.SIGKILL, store
    for process in others:
        process.kill()
        process.join()


def _ranks(world: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[TCPStore, list[BaseProcess]]:
    """The store by which they meet, and the processes."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # a port found and kept in one step
    return store, [start(_as_rank, rank, world, store.port, work, arguments) for rank in range(world)]


def _as_rank(rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    collectives.join()
    work(*arguments)
    collectives.leave()
