"""How many processes find a core, and those that work for this one and end with it, whatever ends it."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

from t2v_models.config import LabError


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


WORKERS = min(2, cores())
"""Processes that render or decode, unless another number is asked for."""


def check_workers(count: int, oversubscribe: bool) -> None:
    """See that so many processes find a core each, before any of them is started.

    Raises:
        LabError: they do not, and that was not asked for by name.
    """
    if count < 1:
        raise LabError(f"workers is {count}, which must be 1 or more: leave it out for {WORKERS}")
    if count > (there := cores()) and not oversubscribe:
        raise LabError(
            f"{count} workers on {there} CPU cores would wait for each other: use {there} or fewer, or ask for "
            "oversubscribe"
        )


class Died(Exception):
    """A process ended before it answered."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
        """That ended it; 0 if it ended by itself."""


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes. Python's own would stay for ever when this process is killed."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def in_process(work: Callable[..., Any], *given: object) -> Any:
    """What `work` returns in a fresh process of its own.

    Raises:
        Died: the process was ended by a signal, or ended itself.
        Exception: whatever `work` raises.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, given))
    process.start()
    there.close()
    try:
        result, error = here.recv()
    except EOFError:
        process.join()
        raise Died(max(0, -(process.exitcode or 0))) from None
    process.join()
    if error is not None:
        raise error
    return result


def _answer(there: Connection, work: Callable[..., Any], given: tuple[object, ...]) -> None:
    _end_with_parent()
    try:
        there.send((work(*given), None))
    except Exception as error:
        there.send((None, error))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end with parent").start()
