"""People's own clips: whatever lies in the folder becomes clips or a reason, and lossless files keep every pixel."""

import csv
import io
import json
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.media import to_gif, to_mp4, to_webp
from t2v_models.shards.decode import fitted, resampled, shown
from t2v_models.shards.export import KINDS, export, to_npz
from t2v_models.shards.ingest import REJECTS, Ingested, Source, Windows, ingest, isolated
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.sources import list_sources, printable
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.shards.write import write_shard

SPEC = ClipSpec(size=16, frames=6)
OPTIONS = IngestOptions(spec=SPEC, validation=0)
TO_FILE: dict[str, Callable[..., bytes]] = {"webp": to_webp, "gif": to_gif, "mp4": to_mp4, "npz": to_npz}


def noise(seed: int, frames: int = 6, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def smooth(seed: int, frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    """A ramp that moves: what a film codec is made for."""
    t, y, x = np.ogrid[:frames, :height, :width]
    return np.stack([(seed * 9 + 2 * x + y + 5 * t + 40 * c) % 200 for c in range(3)], -1).astype(np.uint8)


def put(folder: Path, name: str, content: bytes, caption: bytes | None = b"a cat walks") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption)
    return path


def put_frames(folder: Path, clip: np.ndarray, caption: str = "a dog runs") -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"frame_{i}.png")
    folder.with_name(folder.name + ".txt").write_text(caption)


def rejects(out: Path) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in pq.read_table(out / REJECTS).to_pylist()}


def clips(out: Path) -> np.ndarray:
    store = ClipStore(Manifest.load(out))
    return store.frames(range(len(store)))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 clips."""
    folder = tmp_path_factory.mktemp("rendered")
    config = DatasetConfig(clips=20, spec=SPEC)
    write_shard(folder, config, 0)
    finish(folder, config)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_comes_back(rendered: Path, tmp_path: Path, kind: str) -> None:
    manifest = Manifest.load(rendered)
    assert export(ClipStore(manifest), tmp_path / "files", kind) == 20
    assert ingest(tmp_path / "files", tmp_path / "back", OPTIONS) == Ingested(20, 20, 0, 0)
    assert verify(tmp_path / "back") == []
    assert Manifest.load(tmp_path / "back").captions == manifest.captions
    difference = np.abs(clips(tmp_path / "back").astype(int) - clips(rendered))
    assert difference.max() == 0 if kind in ("webp", "npz", "png") else difference.mean() < 3


@pytest.mark.parametrize("fps", [10, 24, 30, 60])
def test_long_lossless_films_keep_every_frame_at_every_rate(tmp_path: Path, fps: int) -> None:
    clip = noise(0, frames=130)
    for kind in ("webp", "npz"):
        path = put(tmp_path, f"clip.{kind}", TO_FILE[kind](clip, fps))
        seen = np.stack([np.asarray(picture) for picture in resampled(shown(path, 7), fps)])
        np.testing.assert_array_equal(seen, clip)
    path = put(tmp_path, "clip.mp4", to_mp4(smooth(0, 130), fps))
    assert len(list(resampled(shown(path, 7), fps))) == 130


def test_rates_are_changed_by_what_is_seen_at_the_middle_of_each_frame() -> None:
    pictures = [Image.new("RGB", (1, 1), (i, i, i)) for i in range(4)]
    film = [(0.1, pictures[0]), (0.3, pictures[1]), (0.0, pictures[2]), (0.2, pictures[3])]
    seen = lambda fps: [picture.getpixel((0, 0))[0] for picture in resampled(iter(film), fps)]  # type: ignore[index]  # noqa: E731
    assert seen(10) == [0, 1, 1, 1, 3, 3]
    assert seen(5) == [1, 1, 3]
    assert seen(20) == [0, 0, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3]


def test_crop_keeps_the_middle_and_letterbox_keeps_all() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = noise(0, 1, 8, 8)[0]
    picture = Image.fromarray(pixels)
    np.testing.assert_array_equal(fitted(picture, ClipSpec.model_construct(size=8), "crop"), pixels[:, 8:16])
    boxed = fitted(Image.new("RGB", (48, 16), (200, 100, 50)), SPEC, "letterbox")
    assert boxed.shape == (16, 16, 3)
    assert (boxed[5:10] == (200, 100, 50)).all()
    assert not boxed[:5].any()
    assert not boxed[10:].any()
    for width, height in ((1, 1), (7, 300), (301, 3), (17, 16)):
        for fit in ("crop", "letterbox"):
            assert fitted(Image.new("RGB", (width, height)), SPEC, fit).shape == (16, 16, 3)


def test_every_kind_of_source_becomes_clips_whatever_its_suffix_says(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i, kind in enumerate(TO_FILE):
        put(source, f"sub/{kind}.{kind}", TO_FILE[kind](smooth(i), 10), f"clip number {i}".encode())
    put(source, "wrong.mp4", to_webp(noise(7), 10), b"a wrong suffix")
    put_frames(source / "frames", noise(8, 12))
    result = ingest(source, tmp_path / "out", OPTIONS)
    assert result == Ingested(6, 7, 0, 0)
    manifest = Manifest.load(tmp_path / "out")
    rows = manifest.table.to_pylist()
    assert [(r["source"], r["source_frame"]) for r in rows] == [
        ("frames", 0), ("frames", 6), ("sub/gif.gif", 0), ("sub/mp4.mp4", 0), ("sub/npz.npz", 0),
        ("sub/webp.webp", 0), ("wrong.mp4", 0),
    ]  # fmt: skip
    assert rows[0]["caption"] == "a dog runs"
    assert set(manifest.config.prompts) == set(manifest.captions)
    np.testing.assert_array_equal(clips(tmp_path / "out")[[0, 1]], noise(8, 12).reshape(2, 6, 16, 16, 3))
    again = ingest(source, tmp_path / "out", OPTIONS)
    assert again == result
    put(source, "one_more.webp", to_webp(noise(9), 10))
    with pytest.raises(LabError, match=r"holds another dataset \(source_sha256 is .* there and .* now\)"):
        ingest(source, tmp_path / "out", OPTIONS)


def test_the_bytes_do_not_depend_on_the_folder_or_the_number_of_processes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(7):
        put(source, f"{i}.webp", to_webp(noise(i, 9), 10), f"clip {i}".encode())
    options = OPTIONS.model_copy(update={"stride": 3, "validation": 0.3, "clips_per_shard": 4})
    ingest(source, tmp_path / "one", options)
    ingest(Path(shutil.copytree(source, tmp_path / "copy")), tmp_path / "two", options, mapper=isolated(2))
    for path in (p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_files_are_split_whole_and_equal_clips_are_kept_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(10):
        put(source, f"{i}.webp", to_webp(noise(i, 18), 10), f"clip {i}".encode())
    put(source, "9_again.npz", to_npz(noise(9, 18)[6:], 10), b"other words")
    result = ingest(source, tmp_path / "out", OPTIONS.model_copy(update={"validation": 0.25}))
    assert (result.sources, result.train + result.validation, result.rejects) == (11, 30, 2)
    owners = [set(Manifest.load(tmp_path / "out" / part).table["source"].to_pylist()) for part in ("", "validation")]
    assert not owners[0] & owners[1]
    assert sum(map(len, owners)) == 10
    assert 2 <= len(owners[1]) <= 3
    assert rejects(tmp_path / "out")["9_again.npz"] == "the same frames are in 9.webp"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tables_name_clips_and_captions_and_lead_nowhere_else(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "source"
    put(source, "a/one.webp", to_webp(noise(0), 10), None)
    put(source, "two.webp", to_webp(noise(1), 10), None)
    put(tmp_path, "secret.webp", to_webp(noise(2), 10), None)
    (source / "link.webp").symlink_to(tmp_path / "secret.webp")
    paths = [
        "a/one.webp", "a/../two.webp", "../secret.webp", str(tmp_path / "secret.webp"), "link.webp", "three.webp",
        "two.webp", "nul\0.webp", "",
    ]  # fmt: skip
    captions = ["the café, one", "Two!", *["x"] * 7]
    table = source / f"list.{suffix}"
    if suffix == "csv":
        with table.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerows([("caption", "other", "path"), *((c, 1, p) for c, p in zip(captions, paths, strict=True))])
    elif suffix == "jsonl":
        rows = [json.dumps({"path": p, "caption": c}) for p, c in zip(paths, captions, strict=True)]
        table.write_text("\n".join([*rows, "not json", "[1]", '{"path": 3, "caption": "x"}']))
    else:
        pq.write_table(pa.table({"path": paths, "caption": captions}), table)
    for named in ((source, table), (table, None)):
        out = tmp_path / f"out-{named[1] is None}"
        result = ingest(named[0], out, OPTIONS, named[1])
        assert Manifest.load(out).captions == ["the café, one", "Two!"]
        found = rejects(out)
        assert result.rejects == (10 if suffix == "jsonl" else 7)
        for path in ("../secret.webp", str(tmp_path / "secret.webp"), "link.webp"):
            assert found[path] == "its path leads out of source: only files inside are read"
        assert found["three.webp"] == "there is no such file"
        assert found["two.webp"].startswith("listed a second time")
        assert found[f"list.{suffix} row 8"] == "its path is no printable text"


@pytest.mark.parametrize(("name", "content", "found"), [
    ("t.csv", b"file,text\na,b", "has no column 'path' and 'caption' but file, text"), ("t.csv", b"", "has no column"),
    ("t.parquet", b"PAR1 no", "cannot be read as a table"), ("t.tsv", b"path\tcaption", "give a file of .csv"),
])  # fmt: skip
def test_what_is_no_table_is_said(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    table = put(tmp_path / "source", name, content, None)
    with pytest.raises(LabError, match=found):
        ingest(table, tmp_path / "out", OPTIONS)


def test_captions_that_are_none_are_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i, caption in enumerate(
        (b"\xff\xfe\x00cat", b"", b"  \n", "😀 !".encode(), b"x" * 3000, None, b"\xef\xbb\xbffine")
    ):
        put(source, f"{i}.webp", to_webp(noise(i), 10), caption)
    pq.write_table(
        pa.table({"path": pa.array([b"6.webp", b"5.webp"]), "caption": pa.array([b"\xff", None])}),
        tmp_path / "t.parquet",
    )
    ingest(source, tmp_path / "out", OPTIONS)
    reasons = rejects(tmp_path / "out")
    assert reasons["0.webp"] == "its caption is not UTF-8: byte 0 cannot be read"
    assert all("no word" in reasons[f"{i}.webp"] for i in (1, 2, 3))
    assert "3,000 characters" in reasons["4.webp"]
    assert reasons["5.webp"] == "no caption: there is no 5.txt and no table was given"
    assert Manifest.load(tmp_path / "out").captions == ["fine"]
    with pytest.raises(LabError, match="holds no clip with a caption .2 rejected"):
        ingest(source, tmp_path / "other", OPTIONS, tmp_path / "t.parquet")


def test_captions_of_any_script_train_a_model(tmp_path: Path) -> None:
    """Chinese, Hindi, Cyrillic, accents in either form, emoji beside words: through ingest, one step and a sample."""
    import torch  # here, so that the processes of other tests need not import it

    from t2v_models import training
    from t2v_models.checkpoint import RunConfig
    from t2v_models.generate import load_run, sample_frames
    from t2v_models.text import bag_of_words, vocabulary_of
    from tests.test_training import SMALL, quiet

    texts = ("一只猫在走", "बिल्ली चलती है", "Кошка идёт", "un café", "🐱 cat")
    for i, text in enumerate(texts):
        put(tmp_path / "source", f"{i}.webp", to_webp(noise(i), 10), text.encode())
    assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(5, 5, 0, 0)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.captions == list(texts)
    vocabulary = vocabulary_of(manifest.captions)
    assert {"猫", "走", "बिल्ली", "кошка", "café", "cat"} < set(vocabulary)
    assert "🐱" not in vocabulary
    bags = bag_of_words([*texts, "猫 走 在 只 一", "CAFE\u0301 un"], vocabulary)
    assert torch.equal(bags[0], bags[5])
    assert torch.equal(bags[3], bags[6])
    assert len({tuple(bag.tolist()) for bag in bags[:5]}) == 5
    run = RunConfig(
        model=SMALL["gan"], dataset=manifest.config, dataset_digest=manifest.digest, vocabulary=vocabulary, seed=0
    )
    training.fit(run, ClipStore(manifest), training.TrainConfig(steps=1), tmp_path / "run", quiet)
    assert sample_frames(load_run(tmp_path / "run"), ["猫在走"], [0]).shape == (1, 6, 16, 16, 3)
    with pytest.raises(LabError, match="was not trained on the word '狗'"):
        sample_frames(load_run(tmp_path / "run"), ["一只狗"], [0])


def test_what_is_no_plain_file_inside_the_folder_is_never_opened(tmp_path: Path) -> None:
    """Links out of the folder, to themselves and to folders; pipes, which would be waited for without end."""
    source, secret = tmp_path / "source", tmp_path / "secret"
    put(secret, "clip.webp", to_webp(noise(0), 10))
    put(source, "good.webp", to_webp(noise(1), 10))
    (source / "inside.webp").symlink_to(source / "good.webp")
    (source / "inside.txt").write_text("the same again")
    for name, target in (("out.webp", secret / "clip.webp"), ("loop.webp", source / "loop.webp"), ("folder", secret)):
        (source / name).symlink_to(target)
    put(source, "words.webp", to_webp(noise(2), 10), None)
    (source / "words.txt").symlink_to(secret / "clip.txt")
    os.mkfifo(source / "pipe.mp4")
    put(source, "waits.webp", to_webp(noise(3), 10), None)
    os.mkfifo(source / "waits.txt")
    put_frames(source / "frames", noise(4))
    (source / "frames" / "frame_3.png").unlink()
    (source / "frames" / "frame_3.png").symlink_to(secret / "clip.webp")
    for name in ("out", "loop", "pipe"):
        (source / f"{name}.txt").write_text("x")
    ingest(source, tmp_path / "out", OPTIONS)
    found, leads_out = rejects(tmp_path / "out"), "leads out of source: only files inside are read"
    assert Manifest.load(tmp_path / "out").table["source"].to_pylist() == ["good.webp"]
    expected = {
        "out.webp": leads_out, "words.webp": f"its caption in words.txt: its path {leads_out}",
        "frames": f"frame frame_3.png: its path {leads_out}", "folder": "a link to a folder",
        "pipe.mp4": "no regular", "waits.webp": "its caption in waits.txt: it is no regular file",
        "loop.webp": "Too many levels", "inside.webp": "the same frames are in good.webp",
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name], (name, found[name])


@pytest.mark.parametrize(("names", "reason"), [
    (("1", "2", "4", "5", "6", "7"), "frames are missing after 2.png: the next number is 2 higher"),
    (("a0", "a10", "a20", "a40", "a50", "a60"), "frames are missing after a20.png: the next number is 20 higher"),
    (("left1", "right1", "left2", "right2", "left3", "right3"), "two frames have the number of left1.png"),
    (("cover", "1", "2", "3", "4", "5"), "frame cover.png has no number, and others have"),
    (("0", "10", "20", "30", "40", "50"), None), (("a", "b", "c", "d", "e", "f"), None),
    (("t1033", "t1066", "t1100", "t1133", "t1166", "t1200"), None), (("1", "2", "3"), "it has 3 frames"),
    ((), "it is a folder without images"),
])  # fmt: skip
def test_folders_of_frames_with_holes_are_told(tmp_path: Path, names: tuple[str, ...], reason: str | None) -> None:
    folder = tmp_path / "source" / "clip"
    folder.mkdir(parents=True)
    for name, frame in zip(names, noise(0), strict=False):
        Image.fromarray(frame).save(folder / f"{name}.png")
    (tmp_path / "source" / "list.csv").write_text("path,caption\nclip,a cat\nother.webp,a dog\n")
    put(tmp_path / "source", "other.webp", to_webp(noise(1), 10), None)
    ingest(tmp_path / "source" / "list.csv", tmp_path / "out", OPTIONS)
    assert rejects(tmp_path / "out").get("clip", "")[: len(reason or "")] == (reason or "")
    if reason is None:
        np.testing.assert_array_equal(clips(tmp_path / "out")[0], noise(0))


PIECES = st.sampled_from(["\\", "udcff", "\udcff", "\udcfe", "?", "é", "/"])
"""Of names that could be written alike; a lone surrogate stands for a byte that is not UTF-8."""


@given(st.sets(st.lists(PIECES, min_size=1, max_size=4).map("".join), min_size=10), st.binary(min_size=1))
def test_names_that_differ_are_written_differently(names: set[str], stored: bytes) -> None:
    names |= {os.fsdecode(stored)}
    written = {name: printable(name) for name in names}
    assert len(set(written.values())) == len(names)
    assert all(text.encode() for text in written.values())
    assert all(text == name for name, text in written.items() if re.fullmatch("[^\\\\\ud800-\udfff]*", name))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_names_that_are_not_utf_8_are_read_and_kept_apart(tmp_path: Path, kind: str) -> None:
    source = tmp_path / os.fsdecode(b"source\xff")
    for i, name in enumerate((b"a\xff", b"a\xfe", b"a\\udcff", b"a?")):
        put(source, os.fsdecode(name + b".webp"), to_webp(noise(i), 10))
    put_frames(source / os.fsdecode(b"broken\xff"), noise(5))
    (source / os.fsdecode(b"broken\xff") / "frame_3.png").unlink()
    (source / os.fsdecode(b"broken\xff") / os.fsdecode(b"\xff_3.png")).write_bytes(b"no picture")
    assert ingest(source, tmp_path / "out", OPTIONS) == Ingested(5, 4, 0, 1)
    manifest = Manifest.load(tmp_path / "out")
    names = ["a?.webp", r"a\\udcff.webp", r"a\udcfe.webp", r"a\udcff.webp"]
    assert manifest.table["source"].to_pylist() == names
    np.testing.assert_array_equal(clips(tmp_path / "out"), [noise(i) for i in (3, 2, 1, 0)])
    assert rejects(tmp_path / "out")[r"broken\udcff"].startswith(r"frame \udcff_3.png cannot be read")
    table = source / os.fsdecode(b"list\xff." + kind.encode())
    rows = [("a?.webp", "a cat"), ("../out", "a dog"), ("", "a cow")]
    if kind == "parquet":
        with table.open("wb") as stream:
            pq.write_table(
                pa.table({"path": [path for path, _ in rows], "caption": [text for _, text in rows]}), stream
            )
    elif kind == "csv":
        table.write_text("".join(f"{path},{text}\n" for path, text in [("path", "caption"), *rows]))
    else:
        table.write_text("".join(json.dumps({"path": path, "caption": text}) + "\n" for path, text in rows))
    assert ingest(table, tmp_path / "listed", OPTIONS) == Ingested(1, 1, 0, 2)
    assert rejects(tmp_path / "listed") == {
        "../out": r"its path leads out of source\udcff: only files inside are read",
        rf"list\udcff.{kind} row 3": "its path is no printable text",
    }


def test_no_table_stops_an_ingest(tmp_path: Path) -> None:
    """Paths too long or looping, captions that are half a character; tables cut and with bytes changed."""
    source, chance = tmp_path / "source", random.Random(0)
    put(source, "good.webp", to_webp(noise(1), 10), None)
    (source / "loop").symlink_to(source / "loop")
    rows = [("good.webp", "fine"), ("x" * 5000, "x"), ("loop", "x"), ("good.webp/..", "x"), (".", "x"), ("\ud800", "x")]
    table = source / "list.jsonl"
    table.write_text("\n".join(json.dumps({"path": path, "caption": caption}) for path, caption in rows))
    assert ingest(table, tmp_path / "out", OPTIONS) == Ingested(1, 1, 0, 5)
    table.write_text(json.dumps({"path": "good.webp", "caption": "\ud800 cat"}))
    with pytest.raises(LabError, match="1 rejected; the first, good.webp: its caption holds half a character"):
        ingest(table, tmp_path / "none", OPTIONS)
    pq.write_table(pa.table({"path": ["good.webp"] * 50, "caption": ["a cat"] * 50}), source / "whole.parquet")
    whole = {"parquet": (source / "whole.parquet").read_bytes(),
             "csv": b"path,caption\n" + b'good.webp,"a ""cat"""\n' * 9,
             "jsonl": json.dumps({"path": "good.webp", "caption": "a cat"}).encode() * 2}  # fmt: skip
    for kind, content in whole.items():
        for i in range(40):
            damaged = bytearray(content[: chance.randrange(len(content))] if i % 2 else content)
            for _ in range(chance.choice((1, 8)) if damaged else 0):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            (source / f"t.{kind}").write_bytes(damaged)
            try:
                sources, bad = list_sources(source / f"t.{kind}")
            except LabError:
                continue
            assert all(reject.reason for reject in bad)
            assert {item.path for item in sources} <= {"good.webp"}


def test_a_film_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v_models.shards.ingest.MOST_FRAMES", 100)
    put(tmp_path / "source", "long.webp", to_webp(noise(0, 101), 10))
    put(tmp_path / "source", "right.webp", to_webp(noise(1, 100), 10))
    assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(2, 16, 0, 1)
    assert rejects(tmp_path / "out") == {"long.webp": "it has more than 100 frames: cut it into several files"}


def png_16_bit(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG with 16 bits a channel, whose every value is 0x80FF."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = b"".join(b"\0" + b"\x80\xff" * width * channels for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def film(pixels: np.ndarray, codec: str, pixel_format: str, suffix: str, times: list[int] | None = None) -> bytes:
    """A film by PyAV, with uneven times if given (in tenths of a second)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=suffix) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], pixel_format
        for i, frame in enumerate(pixels):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format=pixel_format
            )
            picture.pts = times[i] if times else i
            picture.time_base = Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_odd_sizes_alpha_16_bits_and_uneven_times_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    put(source, "odd.webm", film(smooth(1, 8, 33, 47), "libvpx-vp9", "yuv420p", "webm"))
    put(source, "deep.mkv", film(smooth(2, 8, 34, 48), "ffv1", "yuv420p10le", "matroska"))
    put(source, "uneven.mkv", film(smooth(3, 4, 34, 48), "libx264", "yuv420p", "matroska", [0, 1, 5, 7]))
    for folder, colour in (("gray16", 0), ("rgb16", 2), ("rgba16", 6)):
        for i in range(6):
            put(source, f"{folder}/{i}.png", png_16_bit(20 + i, 20, colour), None)
        (source / f"{folder}.txt").write_text("sixteen bits")
    clear = [Image.new("RGBA", (16, 16), (10 * i, 0, 0, 128 if i else 0)) for i in range(6)]
    buffer = io.BytesIO()
    clear[0].save(buffer, "WEBP", save_all=True, append_images=clear[1:], lossless=True, exact=True, duration=100)
    put(source, "alpha.webp", buffer.getvalue())
    assert ingest(source, tmp_path / "out", OPTIONS).rejects == 1  # two folders of one grey: one is kept
    names = Manifest.load(tmp_path / "out").table["source"].to_pylist()
    assert names == ["alpha.webp", "deep.mkv", "gray16", "odd.webm", "rgba16", "uneven.mkv"]
    seen = dict(zip(names, clips(tmp_path / "out"), strict=True))
    assert (seen["alpha.webp"][0] == 255).all()
    assert (seen["alpha.webp"][5, ..., 1] == 127).all()
    assert (seen["gray16"] == 128).all()
    assert (seen["rgba16"] == 191).all()
    uneven = seen["uneven.mkv"]
    assert np.abs(uneven[1].astype(int) - uneven[4]).max() < 8  # one frame is shown from 0.1 s to 0.5 s
    assert np.abs(uneven[0].astype(int) - uneven[1]).max() > 8


def test_bad_media_are_listed_with_the_reason_and_skipped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    put(source, "good.webp", to_webp(noise(0), 10))
    put(source, "empty.mp4", b"")
    put(source, "text.mp4", b"this is no film\n" * 40)
    put(source, "cut.mp4", to_mp4(smooth(0, 20), 10)[:700])
    put(source, "cut.webp", to_webp(noise(1), 10)[:900])
    put(source, "short.gif", to_gif(noise(2)[:3], 10))
    put(source, "zero.npz", to_npz(noise(3)[:0], 10))
    put(source, "floats.npz", to_npz(noise(3) / 255, 10))
    put(source, "other.npz", to_npz(noise(3)[..., :2], 10))
    put(source, "stranger.npz", (lambda b: (np.savez(b, video=noise(3)), b.getvalue())[1])(io.BytesIO()))
    put(source, "huge.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0" + b"," + bytes(40))
    put(source, "sound.mp4", sound())
    put(source, "paper.pdf", b"%PDF")
    huge = np.lib.format.header_data_from_array_1_0(noise(0)) | {"shape": (10**9, 10**5, 10**5, 3)}
    buffer, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, huge)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("frames.npy", header.getvalue())
    put(source, "huge.npz", buffer.getvalue())
    put_frames(source / "broken_frames", noise(5))
    (source / "broken_frames" / "frame_3.png").write_bytes(b"\x89PNG\r\n\x1a\n what")
    (source / "no_frames").mkdir()
    result = ingest(source, tmp_path / "out", OPTIONS, mapper=isolated(1))
    reasons = rejects(tmp_path / "out")
    assert Manifest.load(tmp_path / "out").table["source"].to_pylist() == ["good.webp"]
    assert (result.train, result.rejects) == (1, len(reasons))
    expected = {
        "empty.mp4": "the file is empty", "text.mp4": "Invalid data", "cut.mp4": "End of file", "cut.webp": "cannot be",
        "short.gif": "it has 3 frames at 10 frames per second; a clip needs 6", "zero.npz": "it has 0 frames",
        "floats.npz": "float64 of shape", "other.npz": "allowed is uint8", "stranger.npz": "no array `frames`",
        "huge.gif": "exceeds limit", "huge.npz": "too large", "sound.mp4": "no video", "paper.pdf": "its suffix is not",
        "broken_frames": "frame frame_3.png cannot be read",
    }  # fmt: skip
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], (name, reasons[name])


def npy(shape: tuple[int, ...], kind: str, values: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": kind})
    return stream.getvalue() + values


def npz(method: int = zipfile.ZIP_DEFLATED, **arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


MANY = 2**27
FRAMES = npy((6, 16, 16, 3), "|u1", bytes(6 * 16 * 16 * 3))
HEADER = b"\x93NUMPY\x02\0" + struct.pack("<I", MANY)
"""Of an array whose description would be as long."""
LARGE = (1, 5000, 5000, 3)


@pytest.mark.parametrize(("bomb", "found"), [
    (lambda: npz(frames=FRAMES, fps=npy((MANY // 8,), "<f8", bytes(MANY))), "its fps is float64 of shape"),
    (lambda: npz(frames=FRAMES, fps=npy((2**40,), "<f8", b"")), "allowed is one number"),
    (lambda: npz(frames=FRAMES, fps=npy((), f"|S{MANY}", bytes(MANY))), f"its fps is |S{MANY} of shape ()"),
    (lambda: npz(frames=FRAMES, fps=HEADER + bytes(MANY)), "write it with numpy.savez"),
    (lambda: npz(frames=HEADER + bytes(MANY)), "write it with numpy.savez"),
    (lambda: npz(frames=npy((6, 10**5, 10**5, 3), "|u1", bytes(MANY))), "frames of 100000 x 100000 pixels"),
    (lambda: npz(zipfile.ZIP_LZMA, frames=npy(LARGE, "|u1", bytes(math.prod(LARGE)))), "packed in a way"),
    (lambda: npz(zipfile.ZIP_BZIP2, frames=npy(LARGE, "|u1", bytes(math.prod(LARGE)))), "packed in a way"),
], ids=["rates", "no-rates", "word", "header-of-rate", "header-of-frames", "large-frame", "lzma", "bzip2"])  # fmt: skip
def test_no_archive_fills_the_memory(tmp_path: Path, bomb: Callable[[], bytes], found: str) -> None:
    """Files of a few kB that would unpack to 75 MB and more."""
    put(tmp_path / "source", "bomb.npz", bomb())
    put(tmp_path / "source", "good.npz", to_npz(noise(0), 10))
    tracemalloc.start()
    try:
        assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(2, 1, 0, 1)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert found in rejects(tmp_path / "out")["bomb.npz"]


def test_rates_of_archives_are_any_one_number(tmp_path: Path) -> None:
    for kind in ("<f8", "<f4", ">i4", "|u1"):
        for shape in ((), (1,), (1, 1)):
            rate = npy(shape, kind, np.array(20).astype(kind).tobytes())
            path = put(tmp_path, "rate.npz", npz(frames=FRAMES, fps=rate))
            assert [seconds for seconds, _ in shown(path, 7)] == [0.05] * 6


def test_no_picture_fills_the_memory(tmp_path: Path) -> None:
    """Pictures of a few bytes that say that they are huge."""
    source = tmp_path / "source"
    put(source, "good.npz", to_npz(noise(0), 10))
    for side in (8001, 9500, 20_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = struct.pack(">I", 13) + header + struct.pack(">II", zlib.crc32(header), 8) + b"IDAT" + bytes(20)
        put_frames(source / f"png-{side}", noise(1))
        (source / f"png-{side}" / "frame_4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    frames = [b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0" for side in (1, 9000)]
    put(source, "grows.gif", b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + b"".join(frames) + b";")
    assert ingest(source, tmp_path / "out", OPTIONS) == Ingested(5, 1, 0, 4)
    found = rejects(tmp_path / "out")
    assert found["grows.gif"] == "its frames of 9000 x 9000 pixels are too large: at most 64,000,000 are decoded"
    for side in (8001, 9500):
        assert found[f"png-{side}"].startswith(
            f"frame frame_4.png cannot be read: its frames of {side} x {side} pixels"
        )
    assert found["png-20000"].startswith(
        "frame frame_4.png cannot be read: Image size (400000000 pixels) exceeds limit"
    )


def sound() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_no_damage_to_a_media_file_stops_an_ingest(tmp_path: Path) -> None:
    """Every kind, cut and with bytes changed, 25 times each: clips or a reason, never an error."""
    chance = random.Random(0)
    source = tmp_path / "source"
    put(source, "sound.webp", to_webp(noise(0), 10))
    whole = {kind: encode(smooth(1, 12), 10) for kind, encode in TO_FILE.items()}
    whole["webm"] = film(smooth(2, 12), "libvpx-vp9", "yuv420p", "webm")
    for kind, content in whole.items():
        for i in range(25):
            damaged = bytearray(content[: chance.randrange(len(content))] if i % 2 else content)
            for _ in range(chance.choice((1, 20)) if damaged else 0):
                damaged[chance.randrange(len(damaged)) if i % 3 else chance.randrange(min(64, len(damaged)))] = (
                    chance.randrange(256)
                )
            put(source, f"{kind}-{i}.{kind}", bytes(damaged))
    result = ingest(source, tmp_path / "out", OPTIONS)
    table = pq.read_table(tmp_path / "out" / REJECTS).to_pylist()
    assert all(row["reason"] for row in table)
    sources = {row["path"] for row in table} | set(Manifest.load(tmp_path / "out").table["source"].to_pylist())
    assert len(sources) == result.sources == 5 * 25 + 1
    assert verify(tmp_path / "out") == []


def dies_at_three(source: Source) -> Windows:
    if source.path == "3.webp":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"seen {source.path}"


@pytest.mark.slow
def test_a_decoder_that_crashes_takes_only_its_own_file_with_it() -> None:
    sources = [Source(f"{i}.webp", Path(f"{i}.webp"), "x") for i in range(6)]
    expected = [f"seen {i}.webp" if i != 3 else "the decoder crashed on it" for i in range(6)]
    assert list(isolated(2)(dies_at_three, sources)) == expected
    found = []
    for result in isolated(2)(dies_at_three, sources):
        found.append(result)
        time.sleep(1 if len(found) == 1 else 0)  # the pool breaks before the next file is given to it
    assert found == expected


KILLED_INGEST = """
import os, signal, sys
from pathlib import Path
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
left, replace = int(sys.argv[4]), os.replace
def counted(*paths):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = counted
ingest(Path(sys.argv[1]), Path(sys.argv[2]), IngestOptions.model_validate_json(sys.argv[3]))
"""
"""Killed while it writes its file number `argv[4]`, which lies there under its temporary name."""


@pytest.mark.slow
def test_a_killed_ingest_is_done_again_with_the_same_bytes(tmp_path: Path) -> None:
    """At its first file, between shards, while the validation set is finished, and before the last manifest."""
    source = tmp_path / "source"
    for i in range(12):
        put(source, f"{i}.webp", to_webp(noise(i, 24), 10), f"clip {i}".encode())
    options = OPTIONS.model_copy(update={"clips_per_shard": 5, "validation": 0.2})
    ingest(source, tmp_path / "whole", options)
    whole = files_in(tmp_path / "whole")
    shards = sum(path.suffix == ".tar" for path in whole)
    last = len(whole)  # the rejects are written twice
    for done in (0, shards // 2, shards + 4, last):
        out = tmp_path / f"killed-{done}"
        command = [sys.executable, "-c", KILLED_INGEST, str(source), str(out), options.model_dump_json(), str(done)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        left = files_in(out)
        assert any(path.suffix == ".tmp" for path in left), "it was not at work"
        assert Path(MANIFEST) not in left
        ingest(source, out, options)
        assert files_in(out) == whole


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_that_cannot_be_used_are_said(tmp_path: Path, data: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(LabError, match="there is no folder or table"):
        ingest(source, tmp_path / "out", OPTIONS)
    put(source, "bad.mp4", b"no film")
    with pytest.raises(LabError, match=r"no clip of .* can be used \(1 rejected; the first, bad.mp4: "):
        ingest(source, tmp_path / "out", OPTIONS)
    assert list(rejects(tmp_path / "out")) == ["bad.mp4"]
    with pytest.raises(LabError, match="lies inside"):
        ingest(source, source / "out", OPTIONS)
    with pytest.raises(LabError, match="holds another dataset"):
        ingest(source, data, OPTIONS)
    stranger = tmp_path / "stranger"
    put(stranger, "shard-00000.tar", b"mine", None)
    for name in ("shard-00000.tar", "manifest.parquet"):
        with pytest.raises(LabError, match="holds shards or a manifest of something else"):
            ingest(source, stranger, OPTIONS)
        assert (stranger / name).read_bytes() == b"mine"
        (stranger / name).rename(stranger / "manifest.parquet")
    beside = tmp_path / "beside"
    shutil.copytree(data, beside / "validation")
    with pytest.raises(LabError, match="validation holds another dataset"):
        ingest(source, beside, OPTIONS)
    assert Manifest.load(beside / "validation").digest == Manifest.load(data).digest
    with pytest.raises(LabError, match="unknown kind 'mov'"):
        export(ClipStore(Manifest.load(data)), tmp_path / "files", "mov")
    put(source, "2024-thesis.backup.tmp", b"mine", None)
    with pytest.raises(LabError, match="holds other files"):
        export(ClipStore(Manifest.load(data)), source, "mp4")
    assert (source / "2024-thesis.backup.tmp").exists()


def test_an_ingest_that_fails_leaves_no_manifest_of_an_earlier_one(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for i in range(4):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    options = OPTIONS.model_copy(update={"validation": 0.25, "clips_per_shard": 2})
    assert ingest(source, out, options) == Ingested(4, 3, 1, 0)
    kept = {item["source"] for item in Manifest.load(out / "validation").table.to_pylist()}
    whole = {path: path.read_bytes() for path in out.rglob("*.*")}

    def crash(work: Callable[[Source], Windows], sources: Iterable[Source]) -> Iterator[Windows]:
        yield from ("the decoder crashed on it" if source.path in kept else work(source) for source in sources)

    def stop(work: Callable[[Source], Windows], sources: Iterable[Source]) -> Iterator[Windows]:
        yield from islice(map(work, sources), 3)
        raise KeyboardInterrupt

    def lose_a_shard() -> None:
        assert ingest(source, out, options) == Ingested(4, 3, 1, 0)
        assert {path: path.read_bytes() for path in out.rglob("*.*")} == whole
        (out / "shard-00000.tar").unlink()

    lose_a_shard()
    assert ingest(source, out, options, mapper=crash) == Ingested(4, 3, 0, 1)
    assert not (out / "validation" / "manifest.parquet").exists()
    (out / "shard-00000.tar").unlink()
    lose_a_shard()
    with pytest.raises(KeyboardInterrupt):
        ingest(source, out, options, mapper=stop)
    assert not list(out.rglob("manifest.parquet"))
    lose_a_shard()
    with pytest.raises(LabError, match="no clip of .* can be used"):
        ingest(source, out, options, mapper=lambda work, sources: ["the decoder crashed on it"] * 4)
    assert not list(out.rglob("manifest.parquet"))
    lose_a_shard()


def test_a_dataset_that_another_version_of_the_ingest_made_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for i in range(4):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    options = OPTIONS.model_copy(update={"validation": 0.25})
    monkeypatch.setattr("t2v_models.shards.ingested.INGEST_VERSION", "1")
    made = ingest(source, out, options)
    assert ingest(source, out, options) == made
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    found = r"out holds another dataset \(another version of the ingest made it\): choose another folder or delete it"
    with pytest.raises(LabError, match=found):
        ingest(source, out, options)
    (out / "manifest.parquet").unlink()  # its side-cars say the same
    with pytest.raises(LabError, match=found):
        ingest(source, out, options)
    for path in out.glob("*.*"):
        path.unlink()
    with pytest.raises(LabError, match=r"out/validation holds another dataset \(another version"):
        ingest(source, out, options)
    assert all(path.read_bytes() == before[path] for path in out.rglob("*.*"))


def test_ingesting_never_imports_torch() -> None:
    check = "import sys, t2v_models.shards.ingest, t2v_models.shards.export; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_every_model_trains_on_ingested_clips_and_cannot_be_judged(rendered: Path, tmp_path: Path) -> None:
    from t2v_models import training  # here, so that the processes of other tests need not import torch
    from t2v_models.checkpoint import RunConfig, load
    from tasks.subjects import subject
    from tests.test_model_contract import FAMILIES

    export(ClipStore(Manifest.load(rendered)), tmp_path / "files", "npz")
    ingest(tmp_path / "files", tmp_path / "data", OPTIONS)
    manifest = Manifest.load(tmp_path / "data")
    for model in FAMILIES:
        folder, run = tmp_path / model.name, RunConfig.of(manifest, model, seed=0)
        training.fit(run, ClipStore(manifest), training.TrainConfig(steps=1), folder, log=lambda step, figures: None)
        assert load(folder)[1].run == run
        with pytest.raises(LabError, match="ingested clips, whose ground truth is unknown"):
            subject(folder)
