"""How fast a run is and what falls due when: clips, waiting, arithmetic, share of the machine's matrix rate."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from t2v_models.distributed import collectives

P = ParamSpec("P")
T = TypeVar("T")

COUNTED_STEPS = 8
"""Steps whose arithmetic is counted: enough for penalties that come every 2, 4 or 8 steps."""
WATCH_SHARE = 0.03
"""Most of a run's planned time that validation may take; where it is dear there is less of it."""


class Clock:
    """Seconds trained, seconds waited for data, arithmetic done, and what falls due when."""

    def __init__(self, step: int, before: float, matrix_gflops: float) -> None:
        self._before = before
        self._start = time.perf_counter() - before
        self._watched = self._last_validation = 0.0
        self._last: dict[str, float] = {}
        self._waited = 0.0
        self._mark = (self.seconds, 0.0, step)  # seconds, waited, step at the last log
        self._flops = 0
        self._counted = 0
        self._matrix_gflops = matrix_gflops

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

    def counting(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Makes a step; counts the arithmetic of the first few, forward and backward, to compare with the machine's.

        A counted step takes two to three times as long: Python sees each operation.
        """
        if not self._matrix_gflops or self._counted == COUNTED_STEPS:
            return work(*args, **kwargs)
        with CountFlops() as counter:
            result = work(*args, **kwargs)
        self._flops += counter.flops
        self._counted += 1
        return result

    def due(self, what: str, every: float) -> bool:
        """Whether `every` seconds have passed since the last time, or since the start."""
        now = self.seconds
        if now - self._last.setdefault(what, now) < every:
            return False
        self._last[what] = now
        return True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Counts the block as time spent on validation."""
        since = time.perf_counter()
        yield
        spent = time.perf_counter() - since
        self._last_validation = (
            spent if self._watched else 0.0
        )  # the first also makes what all share: it foretells nothing
        self._watched += spent

    @property
    def watch_share(self) -> float:
        """Share of this process's time that was spent on validation."""
        return self._watched / (self.seconds - self._before)

    def may_watch(self, every: float, progress: float) -> bool:
        """Whether validation is due, and `WATCH_SHARE` leaves time for it and for the one at the end.

        Both are taken to be as long as the last one; how long the first two take nobody knows. What may be spent grows
        as the root of the time, because scores change fastest at the start.
        """
        passed, planned = self.seconds - self._before, self.seconds / progress - self._before
        room = WATCH_SHARE * math.sqrt(passed * planned) - self._watched
        return 2 * self._last_validation <= room and self.due("watch", every)

    def speed(self, step: int, batch_size: int) -> dict[str, float]:
        """Clips and arithmetic per second, over all ranks, and the share of waiting for data, since the last call: all
        ranks must ask."""
        seconds, waited, since = self._mark
        now = self.seconds
        self._mark = (now, self._waited, step)
        passed, steps = now - seconds, step - since
        figures = {
            "speed/clips_per_second": steps * batch_size / passed,
            "speed/data_wait_share": (self._waited - waited) / passed,
        }
        if rate := self._matrix_gflops:
            gflops = collectives.all_reduce_sum(self._flops) / self._counted * steps / passed / 1e9
            figures |= {"speed/gflops": gflops, "speed/matrix_gflops": rate, "speed/matrix_share": gflops / rate}
        return figures


class CountFlops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of matrix products and convolutions within it, by torch's own formulas.

    torch's `FlopCounterMode` follows modules as well, and its hooks fail under `autograd.grad`, which R1 and R2 need.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result
