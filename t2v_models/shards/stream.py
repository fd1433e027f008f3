"""Clips in motion: batches in an order that is a function of (seed, position).

The state of a stream is one integer, the number of batches taken: nothing else need be saved to go on.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2v_models.batch import Batch, cut
from t2v_models.distributed.collectives import ALONE, Share
from t2v_models.shards.augment import NOTHING, AugmentConfig, Varied
from t2v_models.shards.buckets import Turns, check_batches, clips_by_shape, shares_of
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.tokens import TokenStore

log = logging.getLogger(__name__)

AHEAD = 2
"""Batches made ready before they are asked for."""


def order(captions: Sequence[str] | NDArray[np.int32], group: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The clips of one epoch as runs of `group` clips of one caption, int64; a pure function of its arguments.

    Within each caption clips are permuted and cut into runs; round r holds run r of every caption that has one, in
    random order. So a batch of (captions x group) clips holds every caption equally often. A caption whose clips do
    not fill its last run repeats some in it: every clip comes once an epoch, and fewer than `group` of a caption twice
    (more often only where a caption has fewer clips than that). With group 1 the result is a permutation.
    """
    caption = pa.array(captions).dictionary_encode().indices.to_numpy()  # numbered as they come
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


def blocked_order(
    captions: Sequence[str] | NDArray[np.int32], starts: Sequence[int], block: int, group: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """An epoch that goes through `block` shards at a time: blocks in random order, each in an `order` of its own.

    For shards that come from afar: only those of one block, and of the next, are in use at once. `starts` are the
    first clip of every shard.
    """
    starts = starts[::block]
    ends = [*starts[1:], len(captions)]
    turns = np.random.default_rng([seed, epoch]).permutation(len(starts))
    parts = [starts[b] + order(captions[starts[b] : ends[b]], group, seed, epoch) for b in turns]
    return np.concatenate(parts)


class DeviceClips:
    """All clips of a store in the memory of a device, for sets that fit: the same batches without reading."""

    def __init__(self, store: ClipStore, device: torch.device) -> None:
        self.manifest = store.manifest
        self._buckets = [
            torch.empty((len(rows), *spec.shape), dtype=torch.uint8, device=device)
            for spec, rows in zip(self.manifest.shapes, self.manifest.buckets, strict=True)
        ]
        self._place = np.empty(len(store), np.int64)
        for clips, rows in zip(self._buckets, self.manifest.buckets, strict=True):
            self._place[rows] = np.arange(len(rows))
            for start in range(0, len(rows), 256):
                here = rows[start : start + 256]
                clips[start : start + len(here)] = torch.from_numpy(store.frames(here)).to(device)

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """The clips of these rows, which are of one shape: uint8 `(b, t, h, w, 3)` on the device."""
        clips: Tensor = self._buckets[self.manifest.bucket_of[rows[0]]]
        return clips[torch.from_numpy(self._place[rows]).to(clips.device)]


class Epochs:
    """The orders of the epochs of one bucket, laid end to end."""

    def __init__(self, manifest: Manifest, number: int, group: int, seed: int, block: int | None) -> None:
        self._rows = manifest.buckets[number]
        captions = manifest.caption_codes[self._rows]
        starts = np.searchsorted(self._rows, [row for row in manifest.starts[:-1] if manifest.bucket_of[row] == number])

        @lru_cache(maxsize=2)
        def one(epoch: int) -> NDArray[np.int64]:
            if block:
                return blocked_order(captions, starts.tolist(), block, group, seed, epoch)
            return order(captions, group, seed, epoch)

        self._one, self._length = one, len(one(0))

    def batch(self, number: int, size: int) -> NDArray[np.int64]:
        """The clips of the batch of this number, by their rows."""
        positions = number * size + np.arange(size)
        epochs = positions // self._length
        parts = [self._one(int(epoch))[positions[epochs == epoch] % self._length] for epoch in np.unique(epochs)]
        return np.asarray(self._rows[np.concatenate(parts)])


def resident(store: ClipStore, device: torch.device) -> ClipStore | DeviceClips:
    """The clips in the memory of a GPU where they take less than half of it; a CPU decodes faster than it trains."""
    if device.type == "cpu":
        return store
    manifest = store.manifest
    size = sum(len(rows) * math.prod(s.shape) for s, rows in zip(manifest.shapes, manifest.buckets, strict=True))
    return DeviceClips(store, device) if size < torch.cuda.mem_get_info(device)[0] / 2 else store


def batches(
    store: ClipStore | DeviceClips | TokenStore,
    batch_size: int,
    group: int,
    seed: int,
    start: int = 0,
    share: Share = ALONE,
    workers: int = 1,
    block: int | None = None,
    mix: Mapping[str, float] | None = None,
    augment: AugmentConfig = NOTHING,
) -> Generator[Batch]:
    """Batches `start`, `start + 1`, ... without end, made ready in threads ahead of their use.

    Batch k is the j-th of a bucket (`buckets.Turns`; of one alone, the k-th) and holds positions
    `[j * batch_size, (j + 1) * batch_size)` of the epochs' orders of that bucket laid end to end, so it is a function
    of (seed, k) and of whole runs; a dataset smaller than a batch comes several times in it. The parts of all ranks,
    in order, are the batch of one process: the same clips for any world size. Of several captions of a clip one is
    drawn each time it comes.

    Args:
        store: the clips, or their tokens: the same ones in the same order.
        batch_size: clips per batch, over all ranks.
        group: clips of one caption that stand together.
        seed: of the order.
        start: batches taken before: all there is to resume.
        share: the part of every batch that this process takes.
        workers: threads that read; 0 reads when asked. They change the time, not the batches.
        block: shards to go through at a time (`blocked_order`); by default an epoch is shuffled as a whole.
        mix: shares of the batches by the names of shapes (`buckets.shares_of`).
        augment: how clips are varied.

    Raises:
        LabError: a batch is not made of whole runs, or of fewer than there are ranks; a bucket that fills none; a clip
            cannot be read.
    """
    assert 0 <= share.rank < share.world, share
    first, end = cut(batch_size, group, share.world)[share.rank : share.rank + 2]
    if share.rank == 0:
        _warn_of_short_runs(store.manifest, group)

    manifest = store.manifest
    shares = shares_of(clips_by_shape(manifest), mix or {})
    check_batches(clips_by_shape(manifest), shares, batch_size)
    turns = Turns(shares, seed, manifest.shapes.index(manifest.spec))
    epochs = [Epochs(manifest, number, group, seed, block) for number in range(len(shares))]
    varied = None
    if augment.on and not isinstance(store, TokenStore):
        varied = Varied(augment, manifest, store.frames, seed)

    def make(k: int) -> Batch:
        bucket, number = turns.of(k)
        rows = epochs[bucket].batch(number, batch_size)
        captions = _picked([manifest.caption(row) for row in rows], group, seed, k)
        frames, tokens = (varied.frames(rows, k, first, end), None) if varied else _shown(store, rows[first:end])
        meaning = manifest.config.meaning
        return Batch(frames, captions[first:end], captions[:first], captions[end:], meaning, tokens=tokens)

    return _ahead(make, start, workers) if workers else (make(k) for k in count(start))


def _shown(store: ClipStore | DeviceClips | TokenStore, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Frames, or none and tokens."""
    if isinstance(store, TokenStore):
        _, *sizes = store.manifest.spec.shape
        return torch.empty(len(rows), 0, *sizes, dtype=torch.uint8), torch.from_numpy(store.tokens(rows))
    return torch.as_tensor(store.frames(rows)), None


def _picked(captions: Sequence[str], group: int, seed: int, k: int) -> tuple[str, ...]:
    """One of the lines of each clip's caption, alike for all clips of a run: a function of (seed, k)."""
    lines = [caption.split("\n") for caption in captions]
    if max(map(len, lines)) == 1:
        return tuple(captions)
    chance = np.random.default_rng([seed, k, len(captions)]).random(-(-len(captions) // group)).repeat(group)
    return tuple(choice[int(u * len(choice))] for choice, u in zip(lines, chance, strict=False))


def _warn_of_short_runs(manifest: Manifest, group: int) -> None:
    """Clips that stand twice in a run of one caption look like a lack of variety, which a model would learn."""
    clips = np.bincount(manifest.caption_codes)
    clips = clips[clips > 0]
    if few := np.count_nonzero(clips < group):
        log.warning(
            "%d of %d captions have fewer than %d clips, which therefore stand more than once in a run of one caption: "
            "bring more clips of each, or train with --set group=1", few, len(clips), group,
        )  # fmt: skip


def _ahead(make: Callable[[int], Batch], start: int, workers: int) -> Generator[Batch]:
    """`make(start)`, `make(start + 1)`, ...; the threads end when the iterator is closed."""
    executor = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    ahead = max(AHEAD, workers)
    waiting: deque[Future[Batch]] = deque(executor.submit(make, start + i) for i in range(ahead))
    following = start + ahead
    try:
        while True:
            batch = waiting.popleft().result()
            waiting.append(executor.submit(make, following))
            following += 1
            yield batch
    finally:
        executor.shutdown(cancel_futures=True)
