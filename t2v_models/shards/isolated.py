"""Sources through several processes, in which a decoder that crashes takes only its own file with it."""

import signal
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from t2v_models.config import LabError
from t2v_models.processes import Died, in_process, process_pool
from t2v_models.shards.spool import share_done
from t2v_models.shards.windows import Job, Windows

LOOK_SECONDS = 0.5
"""How often it is looked how far the film is that is waited for."""

Work = Callable[[Job], Windows]
Mapper = Callable[[Work, list[Job], Callable[[float], None]], Generator[Windows, None, None]]
"""Gives what becomes of each job, in their order; meanwhile calls with the share of the next that is done, 0–1."""


def in_turn(work: Work, jobs: list[Job], on_share: Callable[[float], None]) -> Generator[Windows, None, None]:
    """In this process."""
    yield from map(work, jobs)


def isolated(workers: int) -> Mapper:
    """In `workers` processes.

    The mapper raises LabError if the system ends a process although nothing else is at work: it does so when memory
    runs out, and a film must not be lost for that.
    """

    def run(work: Work, jobs: list[Job], on_share: Callable[[float], None]) -> Generator[Windows, None, None]:
        rest = iter(jobs)
        pool = process_pool(workers)
        waiting: list[tuple[Job, Future[Windows]]] = []

        def submit(job: Job) -> Future[Windows]:
            try:
                return pool.submit(work, job)
            except BrokenProcessPool as error:  # since the last result was asked for: as what was at work then
                broken: Future[Windows] = Future()
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


def _alone(work: Work, job: Job) -> Windows:
    """Try once more what was at work when a process died: it may have been another file's fault."""
    try:
        result: Windows = in_process(work, job)
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
