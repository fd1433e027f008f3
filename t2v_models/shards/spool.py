"""Bytes of clips on their way from the process that decodes to the one that stores: in a file, since a long film's
clips fill no memory there, and a process that dies takes only its own with it."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from t2v_models.files import HOST, writing

SPOOLS = "windows-*"
"""Names of such files begin so."""
_SHARE = struct.Struct("<d")


class Spool:
    """Writes clips one after another; how much of their source is done stands at the beginning.

    Raises:
        LabError: it cannot be written.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file, self._end = path, file, 0
        self._write(_SHARE.pack(0))

    def add(self, content: bytes, done: float) -> int:
        """Store a clip.

        Args:
            content: its bytes.
            done: share of its source that is read, 0–1.

        Returns:
            Where it begins.
        """
        self._write(content)
        os.pwrite(self._file.fileno(), _SHARE.pack(done), 0)
        return self._end - len(content)

    def _write(self, content: bytes) -> None:
        with writing(self._path):
            self._file.write(content)
            self._file.flush()
        self._end += len(content)


def spool_path(folder: Path, number: int) -> Path:
    """Where the clips of source `number` lie in the meantime: under the name of a temporary file of this process."""
    return folder / f"windows-{number}.{os.getpid()}@{HOST}.tmp"


@contextmanager
def spooling(path: Path) -> Iterator[Spool]:
    """A file to write clips to.

    Raises:
        LabError: it cannot be written.
    """
    with writing(path), path.open("wb") as file:
        yield Spool(path, file)


def share_done(path: Path) -> float:
    """How much of the source is read, as far as it is known, 0–1."""
    try:
        with path.open("rb") as file:
            return float(_SHARE.unpack(file.read(_SHARE.size))[0])
    except (FileNotFoundError, struct.error):
        return 0.0
