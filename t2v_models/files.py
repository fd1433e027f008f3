"""Writing files so that one under its final name is whole, whatever kills the writer."""

import errno
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from t2v_models.config import LabError

BUFFER = 1 << 20
"""Bytes that are written at once: thousands of small writes cost more than making what is written."""

FULL = errno.ENOSPC, errno.EDQUOT
"""What a system says where there is no space left, on the disk or of a user's share."""

HOST = socket.gethostname().replace(".", "-") or "here"
"""Stands in the names of temporary files: in a folder that several machines share, a process number says too little."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The block writes `path`, or beside it.

    Raises:
        LabError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        advice = "free some space or choose a folder" if error.errno in FULL else "choose a folder"
        raise LabError(f"cannot write {path}: {error.strerror or error}; {advice} you may write to") from error


def check_writable(folder: Path, what: str) -> None:
    """See that files may be put into a folder, which need not be there yet, before hours of work are lost.

    Args:
        folder: the folder.
        what: the option that names it.

    Raises:
        LabError: it, or what it would be made in, is no folder or may not be written.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(p))
    if not place.is_dir() or not _takes_files(place):
        raise LabError(f"{what} {folder}: {place} is no folder you may write to; name another one")


def _takes_files(folder: Path) -> bool:
    """Whether a file can be made there, by making one without a name: rights alone promise root too much, as in /proc.

    That a disk is full is told when something is written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        return error.errno in FULL


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears as `path` only when the block ends well: temporary name, fsync, rename.

    Raises:
        LabError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}@{HOST}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb", buffering=BUFFER) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # what could not be written cannot always be removed either
            temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes | str) -> Path:
    """Write `content` whole or not at all."""
    with atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def remove(path: Path) -> None:
    """Delete a file, if it is there.

    Raises:
        LabError: the folder cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LabError(f"cannot remove {path}: {error.strerror}; choose a folder you may write to") from error


def rotate(log: Path, most: int) -> None:
    """Move what a log holds to `<name>.1` once that is more than `most` bytes; who appends to it goes on in it.

    A line that is written in that moment may be lost.
    """
    if log.is_file() and log.stat().st_size > most:
        with writing(log):
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


@contextmanager
def locked(path: Path, wait: float, what: str) -> Iterator[None]:
    """The block has the lock file `path` to itself; the system frees it however this process ends.

    Raises:
        LabError: another process, which does `what`, still has it after `wait` seconds; it cannot be made.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise LabError(f"another process {what} in {path.parent}: wait for it, or stop it") from None
                time.sleep(0.1)
        yield


def stamps(place: Path) -> Iterator[tuple[float, int]]:
    """Time of the last change and bytes of every file; of those that vanish meanwhile nothing."""
    for path in (place, *place.rglob("*")):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if not path.is_dir():
            yield found.st_mtime, found.st_size


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(bytes for _, bytes in stamps(folder))


def bytes_in_words(bytes: float) -> str:
    """`3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes < 1000:
            return f"{bytes:.3g} {unit}"
        bytes /= 1000
    return f"{bytes:,.3g} TB"
