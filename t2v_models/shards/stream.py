"""Clips in motion: batches in an order that is a function of (seed, position).

The state of a stream is one integer, the number of batches taken: nothing else need be saved to go on.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.config import LabError
from t2v_models.model import Batch, to_video
from t2v_models.shards.store import ClipStore

AHEAD = 2
"""Batches made ready before they are asked for."""


def order(captions: Sequence[str], group: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The clips of one epoch as runs of `group` clips of one caption, int64; a pure function of its arguments.

    Within each caption clips are permuted and cut into runs; round r holds run r of every caption that has one, in
    random order. So a batch of (captions x group) clips holds every caption equally often. A caption whose clips do
    not fill its last run repeats some in it: every clip comes once an epoch, and fewer than `group` of a caption twice
    (more often only where a caption has fewer clips than that). With group 1 the result is a permutation.
    """
    number = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    caption = np.fromiter(map(number.__getitem__, captions), np.int64, len(captions))
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(caption))
    by_caption = shuffled[np.argsort(caption[shuffled], kind="stable")]
    count = np.bincount(caption)
    runs = -(-count // group)
    first = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(count)), runs)  # the caption of each run
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(runs) - runs, runs)  # the round of each run
    chosen = np.lexsort((rng.random(len(owner)), turn))
    owner, turn = owner[chosen, None], turn[chosen, None]
    place = (turn * group + np.arange(group)) % count[owner]
    return by_caption[first[owner] + place].reshape(-1)


def batches(store: ClipStore, batch_size: int, group: int, seed: int, start: int = 0) -> Generator[Batch]:
    """Batches `start`, `start + 1`, ... without end, made ready in one thread ahead of their use.

    Batch k holds positions `[k * batch_size, (k + 1) * batch_size)` of the epochs' orders laid end to end, so it is
    a function of (seed, k) and of whole runs; a dataset smaller than a batch comes several times in it.

    Raises:
        LabError: the batch is not made of whole runs; a clip cannot be read.
    """
    if batch_size % group:
        raise LabError(f"batch_size {batch_size} is not a multiple of group {group}: change one of them")

    @lru_cache(maxsize=2)
    def epoch_order(epoch: int) -> NDArray[np.int64]:
        return order(store.captions, group, seed, epoch)

    length = len(epoch_order(0))

    def make(k: int) -> Batch:
        positions = np.arange(k * batch_size, (k + 1) * batch_size)
        epochs = positions // length
        parts = [epoch_order(int(e))[positions[epochs == e] % length] for e in np.unique(epochs)]
        rows = np.concatenate(parts)
        return Batch(to_video(store.frames(rows)), tuple(store.captions[row] for row in rows))

    return _ahead(make, start)


def _ahead(make: Callable[[int], Batch], start: int) -> Generator[Batch]:
    """`make(start)`, `make(start + 1)`, ...; the thread ends when the iterator is closed."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="batches")
    waiting: deque[Future[Batch]] = deque(executor.submit(make, start + i) for i in range(AHEAD))
    following = start + AHEAD
    try:
        while True:
            batch = waiting.popleft().result()
            waiting.append(executor.submit(make, following))
            following += 1
            yield batch
    finally:
        executor.shutdown(cancel_futures=True)
