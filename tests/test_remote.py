"""Shards behind a URL, from servers on this machine: the same order and pixels as from the folder."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from email.utils import formatdate
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from t2v_models.config import LabError
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.remote import RemoteStore
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches

HANG_UP: set[str] = set()
"""Paths whose next answer breaks off in the middle."""
ASKED: list[str] = []


class Whole(http.server.SimpleHTTPRequestHandler):
    """Files over plain HTTP, always whole."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        ASKED.append(path)
        if path in HANG_UP:
            HANG_UP.remove(path)
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(bytes(1000))
            self.close_connection = True
            return
        super().do_GET()


class Ranges(Whole):
    """The part of the S3 protocol that reading needs: HEAD and GET of `/bucket/key`, with ranges and ETags."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        ASKED.append(urlsplit(self.path).path)
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = Path(self.translate_path(urlsplit(self.path).path))
        if not path.is_file():
            error = b"<Error><Code>NoSuchKey</Code></Error>" if body else b""
            self.send_response(404)
            self.send_header("Content-Length", str(len(error)))
            self.end_headers()
            self.wfile.write(error)
            return
        content, asked = path.read_bytes(), self.headers.get("Range")
        size = len(content)
        self.send_response(206 if asked else 200)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or size - 1), size - 1)
            content = content[int(first) : end + 1]
            self.send_header("Content-Range", f"bytes {first}-{end}/{size}")
        for name, value in (("Content-Length", str(len(content))), ("ETag", '"x"'), ("Accept-Ranges", "bytes"),
                            ("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture(params=["http", "http with ranges", "s3"])
def url(request: pytest.FixtureRequest, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The dataset at a URL; the folder behind it is `served`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shutil.copytree(data, tmp_path / "served" / "bucket" / "tiny")
    handler = Whole if request.param == "http" else Ranges
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path / "served"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    ASKED.clear()
    host = f"127.0.0.1:{server.server_port}"
    yield (
        f"s3://bucket/tiny?endpoint_override={host}&scheme=http"
        if request.param == "s3"
        else f"http://{host}/bucket/tiny"
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("block", [None, 1])
def test_batches_are_those_of_the_folder(url: str, data: Path, tmp_path: Path, block: int | None) -> None:
    here = ClipStore(Manifest.load(data))
    for _ in range(2):  # the second time from the cache
        there = RemoteStore(url, tmp_path / "cache")
        streams = [batches(store, 12, 2, 7, block=block) for store in (here, there)]
        for a, b in islice(zip(*streams, strict=False), 20):
            assert a.captions == b.captions
            assert torch.equal(a.video, b.video)
        for stream in streams:
            stream.close()
    tars = [path for path in ASKED if path.endswith(".tar")]
    assert len(set(tars)) == 3
    for path in (tmp_path / "cache").iterdir():
        assert path.read_bytes() == (data / path.name).read_bytes()


def test_only_the_shards_in_use_are_fetched(url: str, tmp_path: Path) -> None:
    store = RemoteStore(url, tmp_path / "cache")
    store.frames([36, 40])
    assert {path for path in ASKED if path.endswith(".tar")} == {"/bucket/tiny/shard-00001.tar"}


def test_a_broken_answer_is_asked_again(url: str, data: Path, tmp_path: Path) -> None:
    HANG_UP.add("/bucket/tiny/shard-00000.tar")
    store = RemoteStore(url, tmp_path / "cache")
    assert (store.frames([0]) == ClipStore(Manifest.load(data)).frames([0])).all()
    HANG_UP.clear()


def test_what_is_damaged_missing_or_changed_there_is_said(url: str, data: Path, tmp_path: Path) -> None:
    served = tmp_path / "served" / "bucket" / "tiny"
    store = RemoteStore(url, tmp_path / "cache")
    content = bytearray((served / "shard-00000.tar").read_bytes())
    content[3000] ^= 1
    (served / "shard-00000.tar").write_bytes(content)
    with pytest.raises(LabError, match="shard-00000.tar at .* is damaged: its bytes are not those the manifest names"):
        store.frames([0])
    (served / "shard-00001.tar").unlink()
    with pytest.raises(LabError, match="cannot read shard-00001.tar at .*: is it the address of a dataset"):
        store.frames([40])
    with pytest.raises(LabError, match="cannot read manifest.parquet at"):
        RemoteStore(url.replace("tiny", "none"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.tmp"))
    with pytest.raises(LabError, match="cannot read manifest.parquet at what://"):
        RemoteStore("what://ever", tmp_path / "cache")
