"""Random access to the clips of a dataset, by maps of its shards. Imports no torch."""

import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.codec import decoded, decoded_batch
from t2v_models.shards.manifest import Manifest

OPEN_SHARDS = 256
"""Shards mapped at once; each holds a file descriptor."""


class ClipStore:
    """A dataset as an array of clips: any rows, in any order, exact. Safe to share between threads.

    Keeps no decoded clip: decoding is 50,000 clips/s at 64 px, and a cache was not worth its memory.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._offset, self._length = (manifest.numbers(c) for c in ("frames_offset", "frames_size"))
        self._open = lru_cache(OPEN_SHARDS)(self._map)

    def __len__(self) -> int:
        return len(self.manifest.table)

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Of every clip."""
        return tuple(self.manifest.captions)

    @property
    def spec(self) -> ClipSpec:
        """Of all clips, or of the most."""
        return self.manifest.spec

    @property
    def shapes(self) -> tuple[ClipSpec, ...]:
        """Of its clips: one, or several."""
        return self.manifest.shapes

    def spec_of(self, row: int) -> ClipSpec:
        """Of a clip."""
        shapes = self.manifest.shapes
        return shapes[self.manifest.bucket_of[row]] if len(shapes) > 1 else shapes[0]

    def frames(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The clips of these rows, which are of one shape: uint8 `(n, t, h, w, 3)`, each clip contiguous.

        Raises:
            LabError: a clip cannot be read, naming its shard and key.
        """
        config = self.manifest.config
        places = list(map(int, rows))
        shapes = {self.spec_of(row) for row in places} or {config.spec}
        assert len(shapes) == 1, shapes
        try:
            return decoded_batch([self.stored(row) for row in places], shapes.pop(), config.codec)
        except (ValueError, OSError) as error:
            for row in places:
                self._pixels(row)
            raise AssertionError("clips that can be read one by one can be read together") from error

    def clips(self, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """The clips of these rows one by one, read-only `(t, h, w, 3)`, for as little memory as one takes.

        Raises:
            LabError: a clip cannot be read, naming its shard and key.
        """
        return map(self._pixels, map(int, rows))

    def stored(self, row: int) -> memoryview:
        """The bytes of a clip as they lie in its shard, not copied."""
        offset = int(self._offset[row])
        return self._open(self.manifest.shard_of(row))[offset : offset + int(self._length[row])]

    def _pixels(self, row: int) -> NDArray[np.uint8]:
        try:
            return decoded(self.stored(row), self.spec_of(row), self.manifest.config.codec)
        except (ValueError, OSError) as error:
            shard = self.manifest.shards[self.manifest.shard_of(row)]
            key, path = self.manifest.table["key"][row], self.manifest.folder / shard.name
            verify = f"t2v verify {quote(str(self.manifest.folder))}"
            raise LabError(f"clip {key} of {path} cannot be read: run `{verify}` to see all damage") from error

    def _map(self, shard: int) -> memoryview:
        with self._ready(shard).open("rb") as stream:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))

    def _ready(self, shard: int) -> Path:
        """The file of a shard."""
        return self.manifest.folder / self.manifest.shards[shard].name
