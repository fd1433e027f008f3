"""Datasets behind a URL: shards are fetched when first needed, proven by their digest, and kept in a local folder.

`s3://` and `gs://` go through pyarrow, whose URLs take `?endpoint_override=HOST:PORT&scheme=http`; all others, such as
`http://`, through fsspec. Read with `stream.batches(..., block=K)`, only K shards are in use at a time.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import aiohttp
import fsspec
import pyarrow as pa
from pyarrow import fs

from t2v_models.config import LabError
from t2v_models.files import atomic
from t2v_models.shards.manifest import MANIFEST, read_manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import clear_stale, file_sha256, read_metadata

TRIES = 3
"""Times a file is asked for before it counts as unreachable."""
_FAULTS = (OSError, pa.ArrowException, aiohttp.ClientError, ValueError, ImportError)


class _Unreadable(Exception):
    """Why a file at a URL could not be read."""


class RemoteStore(ClipStore):
    """The dataset at a URL as an array of clips; same rows, same order, same pixels as from a local folder.

    The folder `cache` keeps every shard that was fetched; several processes may share it.
    """

    def __init__(self, url: str, cache: Path) -> None:
        """Fetch the manifest.

        Raises:
            LabError: nothing is at the URL or it is no dataset; `cache` cannot be written.
        """
        self._url = url
        before = read_metadata(cache / MANIFEST).get("dataset_digest")
        fetch(url, MANIFEST, cache)
        manifest = read_manifest(cache)
        if before != manifest.digest:
            for stale in cache.glob("shard-*.tar"):
                stale.unlink(missing_ok=True)
        super().__init__(manifest)

    def _ready(self, shard: int) -> Path:
        """The local copy of a shard, fetched if there is none.

        Raises:
            LabError: it cannot be fetched, or its bytes are not those the manifest names.
        """
        expected = self.manifest.shards[shard]
        path = self.manifest.folder / expected.name
        if not path.is_file() or path.stat().st_size != expected.size:
            fetch(self._url, expected.name, self.manifest.folder, expected.sha256)
        return path


def fetch(url: str, name: str, folder: Path, sha256: str | None = None) -> None:
    """Copy the file `name` at `url` into `folder`, whole or not at all.

    Raises:
        LabError: it cannot be read after some tries, has another digest, or cannot be written.
    """
    path = folder / name
    clear_stale(path)
    for attempt in range(1, TRIES + 1):
        try:
            with atomic(path) as target:
                target.writelines(_chunks(url, name))
            break
        except _Unreadable as error:
            if attempt == TRIES or isinstance(error.__cause__, FileNotFoundError | ValueError | ImportError):
                raise LabError(f"cannot read {name} at {url} ({error}): is it the address of a dataset?") from error
            time.sleep(0.2 * 4**attempt)
    if sha256 and file_sha256(path) != sha256:
        path.unlink()
        raise LabError(f"{name} at {url} is damaged: its bytes are not those the manifest names; upload it again")


def _chunks(url: str, name: str) -> Iterator[bytes]:
    try:
        with closing(_opened(url, name)) as stream:
            while chunk := stream.read(1 << 20):
                yield chunk
    except _FAULTS as error:
        raise _Unreadable(str(error).split("\n")[0] or type(error).__name__) from error


def _opened(url: str, name: str) -> IO[bytes]:
    parts = urlsplit(url)
    whole = parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
    if parts.scheme in ("s3", "gs"):
        system, path = fs.FileSystem.from_uri(whole)
        stream: IO[bytes] = system.open_input_stream(path)
        return stream
    opened: IO[bytes] = fsspec.open(whole, "rb").open()
    return opened
