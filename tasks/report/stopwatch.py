"""Time spent on real work, so that what the orchestration costs can be told apart from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stopwatch:
    """Seconds spent inside its `with` blocks, added up: of the wall, and of the CPU in all threads of the process."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def around(self, work: Callable[P, R]) -> Callable[P, R]:
        """The same function; its time is counted."""

        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return work(*args, **kwargs)

        return counted


_spans: list[tuple[str, float, float]] = []


@contextmanager
def working(stage: str) -> Iterator[None]:
    """Count the block as work of `stage`; blocks may overlap, in threads."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _spans.append((stage, start, time.perf_counter()))


def stages(since: float) -> dict[str, float]:
    """Seconds during which each stage was at work after `since` (a `time.perf_counter()`), in order of first start."""
    names = dict.fromkeys(name for name, start, _ in sorted(_spans, key=lambda span: span[1]) if start >= since)
    return {name: _covered([(a, b) for n, a, b in _spans if n == name and a >= since]) for name in names}


def busy(since: float) -> float:
    """Seconds during which any stage was at work after `since`."""
    return _covered([(a, b) for _, a, b in _spans if a >= since])


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, end = 0.0, float("-inf")
    for a, b in sorted(spans):
        total += max(0.0, b - max(a, end))
        end = max(end, b)
    return total
