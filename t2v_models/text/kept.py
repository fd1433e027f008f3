"""Vectors of captions that a frozen encoder made once, kept in a file that all ranks map into memory.

The file holds the vectors of all tokens, float32, one caption after the other; then int64 how many tokens each caption
has, and of how many captions; last the sha256 of what decided it and of all before.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2v_models import files

MOST_BYTES = 4 << 30
"""Of vectors in a file. Captions beyond are encoded each time they come."""
BLOCK = 1 << 24
"""Bytes that are hashed at a time."""
_DIGEST_BYTES = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class Kept:
    """The vectors of the first of some captions: of all, where they have room."""

    def __init__(self, captions: Sequence[str], vectors: np.ndarray, lengths: np.ndarray) -> None:
        self._row = {caption: row for row, caption in enumerate(captions[: len(lengths)])}
        self._vectors, self._ends = vectors, np.concatenate([[0], lengths]).cumsum()

    def __contains__(self, caption: str) -> bool:
        return caption in self._row

    def __getitem__(self, caption: str) -> Tensor:
        """`(l, w)`."""
        row = self._row[caption]
        return torch.from_numpy(np.array(self._vectors[self._ends[row] : self._ends[row + 1]]))


def kept(file: Path, encoder: str, captions: Sequence[str], width: int, tokens: Callable[[str], Tensor]) -> Kept:
    """The vectors in a file, made first unless it is whole and of these captions by this encoder.

    Args:
        file: which holds them.
        encoder: digest of the encoder.
        captions: different ones.
        width: w, of each vector.
        tokens: vectors of the tokens of a caption, `(l, w)`.

    Raises:
        LabError: the file cannot be written, or a caption cannot be encoded.
    """
    key = hashlib.sha256("\n".join([encoder, str(MOST_BYTES), *captions]).encode()).digest()
    if file.is_file() and not _is_whole(file, key):
        log.warning("%s is damaged, or of other captions or another encoder: it is made again", file)
        files.remove(file)
    if not file.is_file():
        _make(file, key, captions, tokens)
    size = file.stat().st_size
    count = int(_integers(file, size - _DIGEST_BYTES - 8, 1)[0])
    lengths = _integers(file, size - _DIGEST_BYTES - 8 * (1 + count), count)
    rows = int(lengths.sum())
    vectors = np.memmap(file, np.float32, "r", shape=(rows, width)) if rows else np.empty((0, width), np.float32)
    return Kept(captions, vectors, lengths)


def _make(file: Path, key: bytes, captions: Sequence[str], tokens: Callable[[str], Tensor]) -> None:
    digest, size = hashlib.sha256(key), 0
    lengths: list[int] = []
    with files.atomic(file) as out:
        for caption in captions:
            vectors = tokens(caption).float()
            found = vectors.numpy().tobytes()
            size += len(found)
            if size > MOST_BYTES:
                log.warning(
                    "the vectors of %d captions take more than %s: those of the first %d are kept, the others are made "
                    "each time they come", len(captions), files.bytes_in_words(MOST_BYTES), len(lengths),
                )  # fmt: skip
                break
            lengths.append(len(vectors))
            digest.update(found)
            out.write(found)
        end = np.array([*lengths, len(lengths)], np.int64).tobytes()
        digest.update(end)
        out.write(end + digest.digest())


def _is_whole(file: Path, key: bytes) -> bool:
    left = file.stat().st_size - _DIGEST_BYTES
    digest = hashlib.sha256(key)
    with file.open("rb") as content:
        while left > 0:
            part = content.read(min(left, BLOCK))
            digest.update(part)
            left -= len(part)
        return left == 0 and content.read() == digest.digest()


def _integers(file: Path, start: int, count: int) -> np.ndarray:
    return np.fromfile(file, np.int64, count, offset=start)
