"""Which bucket the k-th batch comes from: a batch is of one shape, and each shape comes as often as its share.

A function of (seed, k) alone, so ranks, workers and a resumed run agree. One bucket: the k-th batch is its k-th.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2v_models.config import LabError, near

if TYPE_CHECKING:  # a served model reads no dataset
    from t2v_models.shards.manifest import Manifest

CYCLE = 1000
"""Batches in which every bucket has its share, to the next whole batch."""


class Turns:
    """The buckets' turns.

    Args:
        shares: of the buckets, in any unit; some above 0.
        seed: of the order within a cycle.
        first: the bucket that is to come first of all.
    """

    def __init__(self, shares: Sequence[float], seed: int, first: int = 0) -> None:
        self._seed, self._first = seed, first
        self._counts = _whole(np.asarray(shares, np.float64), CYCLE)
        self._cycle = lru_cache(2)(self._order)

    def of(self, k: int) -> tuple[int, int]:
        """The bucket of the k-th batch, and the number of the batch among those of its bucket."""
        cycle, place = divmod(k, CYCLE)
        order = self._cycle(cycle)
        bucket = int(order[place])
        return bucket, int(cycle * self._counts[bucket] + np.count_nonzero(order[:place] == bucket))

    def _order(self, cycle: int) -> NDArray[np.int64]:
        """The buckets of a cycle: the j-th batch of each falls anywhere in the j-th of its equal parts."""
        counts = self._counts
        place = np.random.default_rng([self._seed, cycle, len(counts)]).random(CYCLE)
        bucket = np.repeat(np.arange(len(counts)), counts)
        turn = np.concatenate([np.arange(count) for count in counts])
        order = bucket[np.argsort((turn + place) / counts[bucket], kind="stable")]
        if cycle == 0 and counts[self._first]:
            at = int(np.argmax(order == self._first))
            order[0], order[at] = order[at], order[0]
        return order


def shares_of(manifest: "Manifest", mix: Mapping[str, float]) -> list[float]:
    """How much of the batches each bucket has: what `mix` says by the shapes' names; the rest as their clips are many.

    Raises:
        LabError: a shape that the dataset has not, or shares that are none of a whole.
    """
    names, sizes = [spec.name for spec in manifest.shapes], [len(rows) for rows in manifest.buckets]
    for name, share in mix.items():
        if name not in names:
            raise LabError(f"{manifest.folder} has no clips of the shape {name}: {near(name, names)}")
        if not 0 <= share <= 1:
            raise LabError(f"the bucket {name} was given {share:g} of the batches: give a share from 0 to 1")
    rest, left = 1 - sum(mix.values()), sum(size for name, size in zip(names, sizes, strict=True) if name not in mix)
    if rest < -1e-9 or (not left and rest > 1e-9):
        told = ", ".join(f"{name}={share:g}" for name, share in mix.items())
        raise LabError(f"the shares of the buckets ({told}) make {1 - rest:g}: they are parts of 1")
    return [mix.get(name, max(0.0, rest) * size / max(left, 1)) for name, size in zip(names, sizes, strict=True)]


def check_batches(manifest: "Manifest", shares: Sequence[float], batch_size: int) -> None:
    """See that each of several buckets that come fills a batch; one alone may come several times in it.

    Raises:
        LabError: which does not.
    """
    for spec, rows, share in zip(manifest.shapes, manifest.buckets, shares, strict=True):
        if len(manifest.shapes) > 1 and share and len(rows) < batch_size:
            raise LabError(
                f"the bucket {spec.name} has {len(rows)} clips, fewer than a batch of {batch_size}: use a smaller "
                f"--set batch_size, more clips of it, or leave it out with --mix {spec.name}=0"
            )


def _whole(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers of this total in proportion to shares, the largest rests rounded up; 1 or more where any is."""
    wanted = shares / shares.sum() * total
    counts: NDArray[np.int64] = np.maximum(np.floor(wanted), shares > 0).astype(np.int64)
    rest = total - int(counts.sum())
    order = np.argsort(-(wanted - counts), kind="stable")
    for number in order[:rest] if rest > 0 else ():
        counts[number] += 1
    for _ in range(-rest):
        counts[np.argmax(counts)] -= 1
    return counts


def mix_of(given: Sequence[str]) -> dict[str, float]:
    """Of `64x36x1=0.2` and so on, as they are given on the command line.

    Raises:
        LabError: one is not of that form.
    """
    found = {}
    for text in given:
        name, _, share = text.partition("=")
        try:
            found[name] = float(share)
        except ValueError as error:
            raise LabError(
                f"--mix {text!r} is no share of a bucket: write width, height and frames, and the share, 64x36x1=0.2"
            ) from error
    return found
