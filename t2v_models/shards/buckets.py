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


def clips_by_shape(manifest: "Manifest") -> dict[str, int]:
    """How many clips a dataset has of each shape, by its name."""
    return {spec.name: len(rows) for spec, rows in zip(manifest.shapes, manifest.buckets, strict=True)}


def shares_of(clips: Mapping[str, int], mix: Mapping[str, float]) -> list[float]:
    """How much of the batches each bucket has: what `mix` says by the shapes' names; the rest as their clips are many.

    Args:
        clips: of the dataset, by the names of their shapes.
        mix: shares, of some of them.

    Raises:
        LabError: a shape that the dataset has not, or shares that are none of a whole.
    """
    for name, share in mix.items():
        if name not in clips:
            raise LabError(f"the dataset has no clips of the shape {name}: {near(name, clips)}")
        if not 0 <= share <= 1:
            raise LabError(f"the bucket {name} was given {share:g} of the batches: give a share from 0 to 1")
    rest, left = 1 - sum(mix.values()), sum(count for name, count in clips.items() if name not in mix)
    if rest < -1e-9 or (not left and rest > 1e-9):
        told = ", ".join(f"{name}={share:g}" for name, share in mix.items())
        raise LabError(f"the shares of the buckets ({told}) make {1 - rest:g}: they are parts of 1")
    return [mix.get(name, max(0.0, rest) * count / max(left, 1)) for name, count in clips.items()]


def check_batches(clips: Mapping[str, int], shares: Sequence[float], batch_size: int) -> None:
    """See that each of several buckets that come fills a batch; one alone may come several times in it.

    Raises:
        LabError: which does not.
    """
    for (name, count), share in zip(clips.items(), shares, strict=True):
        if len(clips) > 1 and share and count < batch_size:
            raise LabError(
                f"the bucket {name} has {count} clips, fewer than a batch of {batch_size}: use a smaller batch_size, "
                f"more clips of it, or leave it out with a mix of {name}=0"
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
        LabError: one is not of that form, or a shape comes twice.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, share = text.partition("=")
        if name in found:
            raise LabError(f"--mix gives {name} twice, {found[name]:g} and {share}: give each shape one share")
        try:
            found[name] = float(share)
        except ValueError as error:
            raise LabError(
                f"--mix {text!r} is no share of a bucket: write width, height and frames, and the share, 64x36x1=0.2"
            ) from error
    return found
