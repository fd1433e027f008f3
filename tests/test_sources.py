"""Which clips there are and what each is said to show: tables, captions, folders of frames, names."""

import csv
import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips.media import to_webp
from t2v_models.config import LabError
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.sources import list_sources, printable
from tests.tiny import OPTIONS, clips, noise, put, put_frames, rejects


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
