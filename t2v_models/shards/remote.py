"""Datasets behind a URL: shards are fetched when first needed, proven by their digest, and kept in a bounded cache.

`s3://` and `gs://` go through pyarrow, which takes keys and endpoint from the environment (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, ...) or from the URL (`?endpoint_override=HOST:PORT&scheme=http`); all others, such as `http://`,
through fsspec. Batches come in the order of the local folder: `Manifest.block` keeps few shards in use at a time.

Plain `webdataset` reads the same shards, but deals whole shards out to ranks and workers: which clip comes when, how
many, and where to go on then depend on their number. Whole shards are fetched here too, and clips are then taken by
position, so one integer resumes any number of ranks and workers.
"""

import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from t2v_models.config import LabError
from t2v_models.files import atomic, remove, writing
from t2v_models.shards.manifest import MANIFEST, Manifest, read_manifest
from t2v_models.shards.store import OPEN_SHARDS, ClipStore
from t2v_models.shards.write import clear_stale, file_sha256

TRIES, FIRST_WAIT = 4, 0.5
"""Times a file is asked for before it counts as unreachable; seconds before the second, and four times more each time.
"""
AT_ONCE = 8
"""Shards fetched at the same time: most of a small shard's time is the way there."""
CACHE_GIB = 10.0
_FINAL = (FileNotFoundError, PermissionError, ValueError, ImportError)
"""Faults that asking again does not mend."""


class _Unreadable(Exception):
    """Why a file at a URL could not be read; the whole predicate of a sentence about the file."""


def is_url(data: Path | str) -> bool:
    """Whether `data` lies elsewhere: `file://` does not.

    Raises:
        LabError: a URL that is none, or a `file://` URL of another machine.
    """
    if "://" not in str(data):
        return False
    try:
        url = urlsplit(str(data))
    except ValueError as error:
        raise LabError(f"{data} is no URL ({error}): write for example https://host/folder") from error
    if url.scheme == "file" and url.netloc not in ("", "localhost"):
        raise LabError(
            f"{data} names the machine {url.netloc!r}: a folder here has three slashes, file:///{url.netloc}…"
        )
    return url.scheme != "file"


def local_folder(data: Path | str) -> Path:
    """The folder that a path or a `file://` URL names."""
    return Path(unquote(urlsplit(str(data)).path) if str(data).startswith("file://") else data)


class RemoteStore(ClipStore):
    """The dataset at a URL as an array of clips; same rows, same order, same pixels as from a local folder.

    The cache keeps whole shards under the names of their digests; those mapped longest ago make room for new ones. A
    map holds a shared lock on its file, so no shard in use is removed, by whichever process; only what is just
    arriving, or is in use at the same time, may stand above the limit.
    """

    def __init__(self, url: str, cache: Path, gib: float = CACHE_GIB) -> None:
        """Fetch the manifest.

        Raises:
            LabError: nothing is at the URL or it is no dataset; the cache is too small or cannot be written.
        """
        super().__init__(manifest_at(url, cache))
        self._url, self._cache, self._limit = url, cache, int(gib * 2**30)
        sizes = sorted((shard.size for shard in self.manifest.shards), reverse=True)
        blocks = 2 * len(self.manifest.shapes)  # of one and the next of each bucket
        in_use = blocks * self.manifest.block if self.manifest.block else len(sizes)
        least = sum(sizes[: in_use + 1])  # a map is let go only after the one that takes its place is made
        if least > self._limit:
            raise LabError(
                f"a cache of {gib:g} GiB is too small for {url}, of which {least / 2**30:.2g} GiB are in use at once: "
                "give a larger --cache-gib"
            )
        self._proven: set[str] = set()
        self._open = lru_cache(min(OPEN_SHARDS, in_use))(self._map)
        self._fetchers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        clear_stale(cache / "shard-*.tar")

    def frames(self, rows: Sequence[int] | NDArray[np.int64], *more: Any, **named: Any) -> NDArray[np.uint8]:
        """As of any store; shards that are not here yet are fetched side by side."""
        wanted = {self.manifest.shard_of(int(row)) for row in rows}
        absent = [shard for shard in sorted(wanted) if not self._path(shard).is_file()]
        fetches = [self._fetchers.submit(self._open, shard) for shard in absent]
        try:
            for fetched in fetches:
                fetched.result()
        finally:  # whoever is told of a fault finds no file that is still being written
            for fetched in fetches:
                fetched.cancel()
            wait(fetches)
        return super().frames(rows, *more, **named)

    def _path(self, shard: int) -> Path:
        return self._cache / f"shard-{self.manifest.shards[shard].sha256}.tar"

    def _map(self, shard: int) -> memoryview:
        """The bytes of a shard from the cache, fetched if they are not there or are damaged.

        Raises:
            LabError: it cannot be fetched, or its bytes are not those the manifest names.
        """
        expected, path = self.manifest.shards[shard], self._path(shard)
        while True:
            with locked(self._cache / f"{expected.sha256[:2]}.lock"):  # one process or thread fetches, the others wait
                if not self._is_here(path, expected.sha256):
                    fetch(self._url, expected.name, path, expected.sha256)
                    self._proven.add(expected.sha256)
            with suppress(FileNotFoundError), path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH)  # the map keeps a copy of the descriptor, and with it the lock
                if os.fstat(stream.fileno()).st_nlink:  # else another process made room just now
                    os.utime(path)
                    content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
                    make_room(self._cache, self._limit)
                    return content

    def _is_here(self, path: Path, sha256: str) -> bool:
        """Whether the cache has the shard; its bytes are proven once a process."""
        with suppress(FileNotFoundError):
            if path.is_file() and (sha256 in self._proven or file_sha256(path) == sha256):
                self._proven.add(sha256)
                return True
        return False


def manifest_at(url: str, cache: Path) -> Manifest:
    """The manifest of the dataset at a URL, by way of a folder of its own in `cache`.

    Raises:
        LabError: it cannot be fetched, is none, or the cache cannot be written.
    """
    folder = cache / f"manifest-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    with locked(folder / "lock"):
        fetch(url, MANIFEST, folder / MANIFEST)
        try:
            return read_manifest(folder)
        except LabError as error:
            remove(folder / MANIFEST)
            raise LabError(f"{MANIFEST} at {url} is damaged or is none: upload it again") from error


def verify_at(url: str, cache: Path, on_shard: Callable[[int, int], None]) -> list[str]:
    """One sentence per shard at a URL that is missing or has other bytes than the manifest names; keeps no shard.

    Raises:
        LabError: there is no manifest, or it is damaged.
    """
    shards = manifest_at(url, cache).shards
    damage = []
    for done, shard in enumerate(shards, 1):
        try:
            with Path(os.devnull).open("wb") as nowhere:
                _with_patience(lambda s=shard: _copy(url, s.name, nowhere, s.sha256))  # type: ignore[misc]
        except _Unreadable as error:
            damage.append(f"{shard.name} at {url} {error}")
        on_shard(done, len(shards))
    return damage


def fetch(url: str, name: str, path: Path, sha256: str | None = None) -> None:
    """Copy the file `name` at `url` to `path`, whole and with this digest or not at all.

    Raises:
        LabError: it cannot be read after some tries, has another digest, or cannot be written.
    """
    clear_stale(path)

    def once() -> None:
        with atomic(path) as target:
            _copy(url, name, target, sha256)

    try:
        _with_patience(once)
    except _Unreadable as error:
        raise LabError(f"{name} at {url} {error}") from error


def fetch_file(url: str, path: Path) -> None:
    """`fetch` of a file by its whole URL."""
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    fetch(parts._replace(path=folder).geturl(), name, path)


def make_room(cache: Path, limit: int) -> None:
    """Remove the shards that were mapped longest ago, and that nobody uses, until at most `limit` bytes are left."""
    with locked(cache / "room.lock"):
        facts = [(path, path.stat()) for path in cache.glob("shard-*.tar")]
        left = sum(fact.st_size for _, fact in facts)
        for path, fact in sorted(facts, key=lambda entry: entry[1].st_mtime_ns):
            if left <= limit:
                return
            with path.open("rb") as stream, suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
                left -= fact.st_size


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all threads and processes of this machine that lock the same path; a killed one lets go.

    Raises:
        LabError: the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _with_patience(work: Callable[[], None]) -> None:
    """Do it, and again after a while if it fails for a reason that may pass."""
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except _Unreadable as error:
            if attempt == TRIES or isinstance(error.__cause__, _FINAL):
                raise
            time.sleep(FIRST_WAIT * 4 ** (attempt - 1))


def _copy(url: str, name: str, target: IO[bytes], sha256: str | None) -> None:
    digest = hashlib.sha256()
    for chunk in _chunks(url, name):
        target.write(chunk)
        digest.update(chunk)
    if sha256 and digest.hexdigest() != sha256:
        raise _Unreadable("is damaged: its bytes are not those the manifest names; upload it again")


def _chunks(url: str, name: str) -> Iterator[bytes]:
    import aiohttp  # here: it takes long, and most read no URL

    try:
        with closing(_opened(url, name)) as stream:
            while chunk := stream.read(1 << 20):
                yield chunk
    except (OSError, pa.ArrowException, aiohttp.ClientError, ValueError, ImportError) as error:
        hidden = error.__cause__ if isinstance(error, FileNotFoundError) else None
        fault = hidden or error  # fsspec calls every fault that it meets while it asks for the size "not found"
        reason = str(fault).split("\n")[0] or type(fault).__name__
        absent = isinstance(fault, FileNotFoundError) or getattr(fault, "status", None) == 404
        found = "is not there" if absent else f"cannot be read ({reason})"
        raise _Unreadable(f"{found}: is this its address?") from (error if absent else fault)


def _opened(url: str, name: str) -> IO[bytes]:
    parts = urlsplit(url)
    whole = parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
    if parts.scheme in ("s3", "gs"):
        system, path = fs.FileSystem.from_uri(whole)
        stream: IO[bytes] = system.open_input_stream(path)
        return stream
    options: dict[str, Any] = {}
    if parts.scheme in ("http", "https"):
        import aiohttp

        # one request for all; by default it would have to be done in five minutes
        patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"block_size": 0, "client_kwargs": {"timeout": patience}}
    opened: IO[bytes] = fsspec.open(whole, "rb", **options).open()
    return opened
