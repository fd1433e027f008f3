"""Shards behind a URL, from real servers on this machine: the order and pixels of the folder, or one sentence."""

import functools
import gc
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import torch

from flows.cli.main import main
from t2v_models.config import LabError
from t2v_models.distributed.collectives import Share
from t2v_models.shards import manifest as manifests
from t2v_models.shards import remote
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.opened import open_data
from t2v_models.shards.remote import RemoteStore, make_room, verify_at
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, quiet, run_of, tensors
from tests.tiny import TINY, rendered

GIB = 2**30


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files over plain HTTP, whole; the next answers for a path may be spoilt as its `faults` say."""

    protocol_version = "HTTP/1.1"
    faults: dict[str, list[str]]
    asked: list[str]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        if self.faults[urlsplit(self.path).path][:1] == ["hang up"]:
            self.close_connection = True
            return
        super().do_HEAD()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(path)
        fault = self.faults[path].pop(0) if self.faults[path] else None
        content = Path(self.translate_path(path)).read_bytes() if fault else b""
        if fault == "hang up":
            self.close_connection = True
        elif fault == "500":
            self.send_error(500)
        elif fault == "slow":
            time.sleep(0.5)
            self.answer(content, len(content))
        elif fault == "cut":
            self.answer(content[: len(content) // 2], len(content))
        elif fault == "short":  # a proxy that believes that half is all
            self.answer(content[: len(content) // 2], len(content) // 2)
        elif fault == "wrong":
            self.answer(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:], len(content))
        else:
            super().do_GET()

    def answer(self, content: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


@dataclass
class Served:
    """A dataset at a URL."""

    url: str
    folder: Path | None = None
    bucket: Any = None
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)

    def put(self, name: str, content: bytes | None) -> None:
        """Replace what is there, or take it away."""
        if self.folder and content is None:
            (self.folder / name).unlink()
        elif self.folder:
            (self.folder / name).write_bytes(content or b"")
        elif content is None:
            self.bucket.delete_objects(Delete={"Objects": [{"Key": f"sets/tiny/{name}"}]})
        else:
            self.bucket.put_object(Key=f"sets/tiny/{name}", Body=content)


def serve(data: Path, folder: Path) -> Iterator[Served]:
    shutil.copytree(data, folder / "sets" / "tiny")
    faults: dict[str, list[str]] = defaultdict(list)
    asked: list[str] = []
    handler = type("Spoilt", (Handler,), {"faults": faults, "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/sets/tiny"
    yield Served(url, folder / "sets" / "tiny", faults=faults, asked=asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A server of the S3 protocol in a process of its own."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr is not None
        found = (re.search(r"http://127.0.0.1:\d+", line) for line in server.stderr)
        url = next(match.group() for match in found if match)
        drain = threading.Thread(target=server.stderr.read)  # its log would fill the pipe
        drain.start()
        yield url
        server.terminate()
        drain.join()


@pytest.fixture
def s3(s3_endpoint: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The dataset in a bucket; endpoint and keys stand where S3's own tools look for them."""
    values = {"ENDPOINT_URL": s3_endpoint, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret",
              "DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = re.sub(r"[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")[-60:]
    bucket = boto3.resource("s3").Bucket(name)
    bucket.create()
    for path in data.iterdir():
        bucket.upload_file(str(path), f"sets/tiny/{path.name}")
    return Served(f"s3://{name}/sets/tiny", bucket=bucket)


@pytest.fixture
def web(data: Path, tmp_path: Path) -> Iterator[Served]:
    yield from serve(data, tmp_path / "served")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 90 clips in nine shards."""
    return rendered(tmp_path_factory.mktemp("many"), TINY.model_copy(update={"clips_per_shard": 10}))


@pytest.fixture
def larger(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, int, float]]:
    """A dataset of nine shards, the bytes of a block of one shard, and the GiB of a cache that holds three."""
    most = max(shard.size for shard in Manifest.load(many).shards)
    monkeypatch.setattr(manifests, "BLOCK_BYTES", most // 2)
    for served in serve(many, tmp_path / "served"):
        yield served, most // 2, 3 * most / GIB


@pytest.fixture(params=["http", "s3"])
def served(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> Iterator[Served]:
    """The dataset behind every kind of URL."""
    if request.param == "s3":
        yield request.getfixturevalue("s3")
    else:
        yield from serve(data, tmp_path / "served")


def kept(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.glob("shard-*.tar")}


@pytest.mark.parametrize("block", [None, 1])
def test_batches_are_those_of_the_folder_for_any_ranks_workers_and_start(
    served: Served, data: Path, tmp_path: Path, block: int | None
) -> None:
    here = ClipStore(Manifest.load(data))
    stream = batches(here, 12, 1, 7, block=block)
    expected = list(islice(stream, 17))
    stream.close()
    epoch = [caption for batch in expected[:15] for caption in batch.captions]
    assert sorted(epoch) == sorted(list(here.captions) * 2)  # 15 batches of 12 are two epochs of 90
    for world in (1, 2, 4):
        stores = [RemoteStore(served.url, tmp_path / "cache") for _ in range(world)]
        for workers, start in ((0, 0), (1, 5), (2, 7), (4, 14)):
            ranks = [
                batches(store, 12, 1, 7, start, Share(rank, world), workers, block) for rank, store in enumerate(stores)
            ]
            for batch in expected[start : start + 3]:
                parts = [next(rank) for rank in ranks]
                assert sum((part.captions for part in parts), ()) == batch.captions
                assert torch.equal(torch.cat([part.frames for part in parts]), batch.frames)
            for rank in ranks:
                rank.close()
    tars = [path for path in served.asked if path.endswith(".tar")]
    assert len(tars) == len(set(tars))  # the ranks share what one of them fetched
    assert sorted(kept(tmp_path / "cache").values()) == sorted(path.read_bytes() for path in data.glob("*.tar"))


def test_only_the_shards_in_use_are_fetched(served: Served, data: Path, tmp_path: Path) -> None:
    open_data(served.url, tmp_path / "cache").frames([36, 40])
    assert list(kept(tmp_path / "cache").values()) == [(data / "shard-00001.tar").read_bytes()]


@pytest.mark.parametrize("fault", ["hang up", "500", "cut", "short", "wrong"])
def test_a_spoilt_answer_is_asked_again_and_then_said(web: Served, data: Path, tmp_path: Path, fault: str) -> None:
    web.faults["/sets/tiny/shard-00000.tar"] = [fault]
    web.faults["/sets/tiny/manifest.parquet"] = ["500"]
    store = RemoteStore(web.url, tmp_path / "cache")
    assert (store.frames([0]) == ClipStore(Manifest.load(data)).frames([0])).all()
    web.faults["/sets/tiny/shard-00001.tar"] = [fault] * 20
    with pytest.raises(LabError, match=r"^shard-00001.tar at .* (cannot be read \(.+\)|is damaged)[^\n]*$"):
        store.frames([40])
    assert len(kept(tmp_path / "cache")) == 1
    assert not list((tmp_path / "cache").glob("*.tmp"))
    web.faults.clear()
    assert (store.frames([40]) == ClipStore(Manifest.load(data)).frames([40])).all()


def test_nothing_is_still_arriving_when_a_fault_is_told(web: Served, tmp_path: Path) -> None:
    """Another thread's half-written file would be taken for a leftover, or keep a folder from being removed."""
    store = RemoteStore(web.url, tmp_path / "cache")
    web.put("shard-00000.tar", None)
    web.faults["/sets/tiny/shard-00001.tar"] = ["slow"]
    with pytest.raises(LabError, match=r"^shard-00000.tar at .* is not there"):
        store.frames([0, 40, 80])
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_what_is_damaged_missing_or_changed_there_is_said(served: Served, data: Path, tmp_path: Path) -> None:
    store = RemoteStore(served.url, tmp_path / "cache")
    progress: list[tuple[int, int]] = []
    assert verify_at(served.url, tmp_path / "cache", lambda done, total: progress.append((done, total))) == []
    assert progress == [(1, 3), (2, 3), (3, 3)]
    content = bytearray((data / "shard-00000.tar").read_bytes())
    content[3000] ^= 1
    served.put("shard-00000.tar", bytes(content))
    with pytest.raises(LabError, match="shard-00000.tar at .* is damaged: its bytes are not those the manifest names"):
        store.frames([0])
    served.put("shard-00001.tar", None)
    with pytest.raises(LabError, match="shard-00001.tar at .* is not there: is this its address"):
        store.frames([40])
    damage = verify_at(served.url, tmp_path / "cache", lambda done, total: None)
    assert [sentence.split(" at ")[0] for sentence in damage] == ["shard-00000.tar", "shard-00001.tar"]
    assert not kept(tmp_path / "cache")
    served.put("manifest.parquet", b"<html>404</html>")
    with pytest.raises(LabError, match="manifest.parquet at .* is damaged or is none: upload it again"):
        RemoteStore(served.url, tmp_path / "cache")
    with pytest.raises(LabError, match="manifest.parquet at .* is not there: is this its address"):
        RemoteStore(served.url.replace("tiny", "none"), tmp_path / "cache")
    for url in ("what://ever", "http://127.0.0.1:1/nothing/listens"):
        with pytest.raises(LabError, match=r"manifest.parquet at .* cannot be read \(.*\): is this"):
            RemoteStore(url, tmp_path / "cache")


def test_a_cached_shard_that_was_damaged_here_is_fetched_again(web: Served, data: Path, tmp_path: Path) -> None:
    RemoteStore(web.url, tmp_path / "cache").frames([0])
    path = next((tmp_path / "cache").glob("shard-*.tar"))
    path.write_bytes(bytes(path.stat().st_size))
    again = RemoteStore(web.url, tmp_path / "cache")
    assert (again.frames([0]) == ClipStore(Manifest.load(data)).frames([0])).all()
    assert list(kept(tmp_path / "cache").values()) == [(data / "shard-00000.tar").read_bytes()]


def test_a_dataset_larger_than_the_cache_goes_through_it(
    larger: tuple[Served, int, float], many: Path, tmp_path: Path
) -> None:
    (web, _, gib), cache = larger, tmp_path / "cache"
    store, here = RemoteStore(web.url, cache, gib), ClipStore(Manifest.load(many))
    assert store.manifest.block == here.manifest.block == 1  # one order, wherever the shards lie
    streams = [batches(each, 6, 1, 3, block=1) for each in (store, here)]
    for batch, expected in islice(zip(*streams, strict=False), 60):
        assert torch.equal(batch.frames, expected.frames)
        assert sum(map(len, kept(cache).values())) <= gib * GIB * 4 / 3  # with one that is arriving
    for stream in streams:
        stream.close()
    assert len([path for path in web.asked if path.endswith(".tar")]) > 20
    with pytest.raises(LabError, match=r"a cache of .* GiB is too small for .*: give a larger --cache-gib"):
        RemoteStore(web.url, cache, 2 / 3 * gib)


def test_room_is_made_by_what_was_used_longest_ago_and_never_by_what_is_in_use(web: Served, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = RemoteStore(web.url, cache)
    for row in (0, 40, 80):
        store.frames([row])
    make_room(cache, 0)
    assert len(kept(cache)) == 3  # all are mapped
    del store
    gc.collect()
    other = RemoteStore(web.url, cache)
    other.frames([40])
    sizes = {len(content) for content in kept(cache).values()}
    make_room(cache, max(sizes))
    assert list(kept(cache)) == [f"shard-{other.manifest.shards[1].sha256}.tar"]


READ = """
import json, sys
import numpy as np
from pathlib import Path
from t2v_models.shards import manifest
from t2v_models.shards.remote import RemoteStore
url, cache, gib, seed, block = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
manifest.BLOCK_BYTES = block
store = RemoteStore(url, cache, gib)
found = []
for rows in np.random.default_rng(seed).integers(0, 90, (40, 5)):
    found.append([rows.tolist(), store.frames(rows).astype(int).sum((1, 2, 3, 4)).tolist()])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_several_processes_share_a_cache_that_is_too_small_for_them(
    larger: tuple[Served, int, float], many: Path, tmp_path: Path
) -> None:
    """They fetch, map and evict each other's shards all the time; every clip stays right."""
    web, block, gib = larger
    command = [sys.executable, "-c", READ, web.url, str(tmp_path / "cache"), str(gib)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    readers = [
        subprocess.Popen([*command, str(seed), str(block)], stdout=subprocess.PIPE, text=True, env=environment)
        for seed in range(3)
    ]
    here = ClipStore(Manifest.load(many))
    for reader in readers:
        output, _ = reader.communicate()
        assert reader.returncode == 0
        for rows, sums in json.loads(output):
            assert sums == here.frames(rows).astype(int).sum((1, 2, 3, 4)).tolist()
    assert not list((tmp_path / "cache").glob("*.tmp"))
    assert len([path for path in web.asked if path.endswith(".tar")]) > 30


def test_file_urls_are_folders_and_memory_is_a_url(data: Path, tmp_path: Path) -> None:
    import fsspec

    expected = ClipStore(Manifest.load(data)).frames([3, 50])
    assert (open_data(f"file://{data}", tmp_path / "cache").frames([3, 50]) == expected).all()
    assert not (tmp_path / "cache").exists()
    for url, words in (("file://data/c64", "names the machine 'data'"), ("http://[::1/data", "is no URL")):
        with pytest.raises(LabError, match=words):
            open_data(url, tmp_path / "cache")
    fsspec.filesystem("memory").put(str(data), "/tiny", recursive=True)
    assert (open_data("memory://tiny", tmp_path / "cache").frames([3, 50]) == expected).all()


def test_a_cache_that_cannot_be_written_is_said(web: Served, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"cannot write .*file.*: .*choose a folder you may write to"):
        RemoteStore(web.url, tmp_path / "file" / "cache")


def test_plain_webdataset_streams_the_same_clips_from_the_url(web: Served, data: Path) -> None:
    """Whoever does not use our reader: the shards are plain WebDataset, behind a URL as in a folder."""
    import fsspec
    import webdataset

    names = [shard.name for shard in Manifest.load(data).shards]
    keys = []
    for name in names:
        with fsspec.open(f"{web.url}/{name}", "rb") as stream:
            keys += [s["__key__"] for s in webdataset.tariterators.group_by_keys(
                webdataset.tariterators.tar_file_expander([{"stream": stream, "url": name}]))]  # fmt: skip
    assert keys == Manifest.load(data).table["key"].to_pylist()


@pytest.mark.slow
def test_training_from_a_url_is_training_from_the_folder(
    larger: tuple[Served, int, float], many: Path, tmp_path: Path
) -> None:
    """Also where the dataset is larger than the cache, and when a run begun at one place is resumed at the other."""
    web, _, gib = larger
    there, here = RemoteStore(web.url, tmp_path / "cache", gib), ClipStore(Manifest.load(many))
    run = run_of(many, SMALL["gan"])
    for name, stores in (("folder", (here, here)), ("url", (there, there)), ("both", (there, here))):
        for steps, store in zip((3, 6), stores, strict=True):
            fit(run, store, TrainConfig(steps=steps, probe_seconds=0), tmp_path / name, quiet)
    weights = [tensors(tmp_path / name) for name in ("folder", "url", "both")]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])


def test_commands_take_urls(
    served: Served, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def t2v(*arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments), "--work", str(tmp_path / "work")])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    assert t2v("verify", served.url) == 0
    assert f"{served.url} is sound" in capsys.readouterr().out
    assert t2v("export", served.url, tmp_path / "files", "--kind", "npz") == 0
    assert len(list((tmp_path / "files").glob("*.npz"))) == 90
    served.put("shard-00002.tar", (data / "shard-00001.tar").read_bytes())
    assert t2v("verify", served.url) == 1
    assert "shard-00002.tar at" in capsys.readouterr().out
    assert t2v("train", served.url + "/none", "--out", tmp_path / "run", "--steps", 1) == 2
    assert "is this its address?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["render", "ingest", "export", "verify"])
def test_help_teaches_by_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["t2v", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert len(re.findall(rf"^ *t2v {command} \S+", capsys.readouterr().out, re.MULTILINE)) >= 2
