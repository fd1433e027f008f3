"""Sources through several processes, in which a decoder that crashes takes only its own file with it."""

import signal
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Protocol, TypeVar

from t2v_models.config import LabError
from t2v_models.processes import Died, in_process, process_pool
from t2v_models.shards.spool import share_done
from t2v_models.shards.windows import Job

LOOK_SECONDS = 0.5
"""How often it is looked how far the film is that is waited for."""

Result = TypeVar("Result")
Work = Callable[[Job], Result]


class Mapper(Protocol):
    """Gives what becomes of each job, in their order, or why nothing does; meanwhile calls with the share of the next
    that is done, 0–1."""

    def __call__(
        self, work: Work[Result], jobs: list[Job], on_share: Callable[[float], None]
    ) -> Generator[Result | str, None, None]:
        """Of these jobs."""


def in_turn(
    work: Work[Result], jobs: list[Job], on_share: Callable[[float], None]
) -> Generator[Result | str, None, None]:
    """In this process."""
    yield from map(work, jobs)


def isolated(workers: int) -> Mapper:
    """In `workers` processes.

    The mapper raises LabError if the system ends a process although nothing else is at work: it does so when memory
    runs out, and a film must not be lost for that.
    """

    def run(
        work: Work[Result], jobs: list[Job], on_share: Callable[[float], None]
    ) -> Generator[Result | str, None, None]:
        rest = iter(jobs)
        pool = process_pool(workers)
        waiting: list[tuple[Job, Future[Result]]] = []

        def submit(job: Job) -> Future[Result]:
            try:
                return pool.submit(work, job)
            except BrokenProcessPool as error:  # since the last result was asked for: as what was at work then
                broken: Future[Result] = Future()
                broken.set_exception(error)
                return broken

        try:
            while True:
                waiting += [(job, submit(job)) for job in islice(rest, 2 * workers - len(waiting))]
                if not waiting:
                    return
                job, future = waiting[0]
                while not wait([future], LOOK_SECONDS).done:
                    on_share(share_done(job.spool))
                result: Result | str
                try:
                    result = future.result()
                except (BrokenProcessPool, MemoryError) as error:
                    if isinstance(error, BrokenProcessPool):
                        pool.shutdown()
                    result = _alone(work, job)
                    if isinstance(error, BrokenProcessPool):
                        pool = process_pool(workers)
                        waiting[1:] = [(job, submit(job)) for job, _ in waiting[1:]]
                waiting.pop(0)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _alone(work: Work[Result], job: Job) -> Result | str:
    """Try once more what was at work when a process died: it may have been another file's fault."""
    try:
        result: Result = in_process(work, job)
        return result
    except MemoryError:
        return "memory ran out while it was decoded, with no other file beside it"
    except Died as died:
        if died.signal == signal.SIGKILL:
            raise LabError(
                f"memory ran out on {job.source.path}: the system ended the process that decoded it, though no other "
                "was at work; free some memory, or leave the file out"
            ) from died
        how = signal.Signals(died.signal).name if died.signal else "it ended"
        return f"the decoder crashed on it ({how})"
