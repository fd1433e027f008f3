"""Which clips there are and what each is said to show: tables, captions, folders of frames, names."""

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips.media import to_webp
from t2v_models.config import LabError
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.ingest_report import NOTICES, REJECTS, Kind, Notice, Reject, kinds, write_report
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.paths import printable
from t2v_models.shards.sources import Excerpt, list_sources
from t2v_models.shards.tables import table_rows
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
    captions = ["the café, one", "Two!", *["x"] * 4, "Two!", *["x"] * 2]
    table = source / f"list.{suffix}"
    if suffix == "csv":
        with table.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerows([("caption", "other", "path"), *((c, 1, p) for c, p in zip(captions, paths, strict=True))])
    elif suffix == "jsonl":
        rows = [json.dumps({"path": p, "caption": c}) for p, c in zip(paths, captions, strict=True)]
        table.write_text("\n".join([*rows, "", '{"path": 3, "caption": "x"}']))
    else:
        pq.write_table(pa.table({"path": paths, "caption": captions}), table)
    for named in ((source, table), (table, None)):
        out = tmp_path / f"out-{named[1] is None}"
        result = ingest(named[0], out, OPTIONS, named[1])
        assert Manifest.load(out).captions == ["the café, one", "Two!"]
        found = rejects(out)
        assert result.rejects == (8 if suffix == "jsonl" else 7)
        for path in ("../secret.webp", str(tmp_path / "secret.webp"), "link.webp"):
            assert found[path] == "its path leads out of source: only files inside are read"
        assert found["three.webp"] == "there is no such file"
        place = f"list.{suffix} " + {"csv": "line", "jsonl": "line", "parquet": "row"}[suffix]
        first = 2 if suffix == "csv" else 1
        assert found["two.webp"] == f"listed a second time, in {place} {first + 6}"
        assert found[f"{place} {first + 7}"] == "its path is no printable text"


def test_a_quote_after_a_blank_is_a_quote(tmp_path: Path) -> None:
    table = put(tmp_path, "t.csv", b'path, caption\na.webp, "a cat, big"\nb.webp,  "a dog"\n', None)
    assert [(row.path, row.caption) for row in table_rows(table)] == [("a.webp", "a cat, big"), ("b.webp", "a dog")]


@pytest.mark.parametrize(("name", "content", "found"), [
    ("t.csv", b"url,text\na,b", r"has no column 'path' but url, text: .*--column path=NAME"),
    ("t.csv", b"a.webp,a cat\n", "has no column 'path' but a.webp, a cat"),
    ("t.csv", b"", "has no column 'path' but none"),
    ("t.csv", b"path;caption\na.webp;a cat, big\n", "one column, path;caption: .* between semicolons; save"),
    ("t.csv", b"path\tcaption\na.webp\ta cat\n", "its cells seem to stand between tabs"),
    ("t.csv", b"sep=;\npath;caption\na.webp;a cat\n", "its cells seem to stand between semicolons"),
    ("t.csv", b"path,text,prompt\na,b,c", r"several columns that may be the caption, text, prompt: .*caption=NAME"),
    ("t.csv", b"path,path,text\na,b,c", r"several columns that may be the path, path, path"),
    ("t.csv", b"path,caption\na.webp,a red ball, moving left\n", r"t.csv line 2 has 3 cells and the header 2"),
    ("t.csv", b"path,caption\n\na.webp,a cat\nb.webp\n", r"t.csv line 4 has 1 cells and the header 2"),
    ("t.csv", b'path,caption\na.webp,a cat\na.webp,"a dog\nb.webp,b\n', r"t.csv line 3 is no row \(unexpected end"),
    ("t.csv", b'path,caption\na.webp,"a dog\nb.webp,"a bird"\n', r"t.csv line 2 is no row \(',' expected after"),
    ("t.csv", b'path,caption\na.webp,"a dog\nb.webp,a cat"\n', r"t.csv line 2 leaves a quote open, in which .*b.webp"),
    ("t.csv", b'path,caption\na.npz,"a dog\nzz.mp4,a cat\nyy.mp4,a bird"\n', r"line 2 leaves a quote open, .*zz.mp4"),
    ("t.csv", b'path,caption\na.m2ts,"a dog\nb.3gp,a cat"\n', r"line 2 leaves a quote open, .*b.3gp"),
    ("t.csv", b'path,caption,start\na.webp,"a dog,0\nb.webp,a cat",0\n', r"line 2 leaves a quote open, .*b.webp"),
    ("t.csv", b'caption,path\n"a dog,a.webp\na cat",b.webp\n', r"line 2 leaves a quote open, .*a dog,a.webp"),
    ("t.csv", b'path,caption\na.webp,"a dog\nb c?.webp,a cat"\n', r"line 2 leaves a quote open, .*b c\?.webp,a cat"),
    ("t.csv", b'path,caption\na.webp,a cat\na.webp,a dog"\n', "line 3 has a quote that nothing opens or closes"),
    ("t.csv", b'path,caption,"note\na.webp,a cat,"\n', "line 1 is a header of 2 lines"),
    ("t.csv", b"path,caption,start_frame,end_frame\na.webp,x,0,9\n", "column start_frame, which seems .* in seconds"),
    ("t.csv", b"path,caption,start,end_frame\na.webp,x,0,9\n", r"column end_frame, .* is the end with --column end="),
    ("t.jsonl", b'{"path": "a.webp", "text": "x", "timestamp": [0, 2]}\n', "has the column timestamp, which seems to"),
    ("t.csv", b"path,caption,\na.webp,a cat,\na.webp,a ball, left\n", "t.csv line 3 has 'left' in a column without a"),
    ("t.csv", b"path,caption,Unnamed: 2\na.webp,a ball,left\n", "t.csv line 2 has 'left' in a column without a name"),
    ("t.csv", b"path,caption,note\na.webp,a cat,b\na.webp,a ball, left\n", "line 3 has 'left' behind a blank, as if"),
    ("t.csv", b"caption,group,path\na ball, left,a.webp\n", "line 2 has 'left' behind a blank, as if it were the end"),
    ("t.csv", b"path,caption,frames\na.webp,x,9\na.webp,x,5-15\n", r"column frames .5-15., which seems .*start="),
    ("t.jsonl", b'{"path": "a", "text": "x", "clip_frames": [5, 15]}\n', r"column clip_frames ..5, 15.., which seems"),
    ("t.csv", b",caption,path\na ball, left,a.webp\n", "t.csv line 2 has 'a ball' in a column without a name"),
    ("t.jsonl", b'{"path": "a", "text": "x", "end": 1}\n{"path": "a", "text": "x", "to": 1}\n', "has the column to"),
    ("t.csv", "path,caption\na.webp,a cat\n".encode("utf-16"), "t.csv is not UTF-8 but, it seems, UTF-16: save it"),
    ("t.jsonl", b'{"path": "a.webp", "text": "x", "text": "y"}\n', "t.jsonl line 1 is no JSON .it says 'text' twice."),
    ("t.jsonl", b'{"path": "a.webp", "text": "x"}\n{"path": "b.webp", \n', r"t.jsonl line 2 is no JSON"),
    ("t.jsonl", b'\n["a.webp", "x"]\n', r"t.jsonl line 2 is no JSON object but list"),
    ("t.jsonl", b'{"id": 1, "label": "x"}\n{"url": "x"}', r"has no column 'path' but id, label, url"),
    ("t.parquet", b"PAR1 no", "cannot be read as a table"), ("t.tsv", b"path\tcaption", "; clips end in .mp4"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused_with_its_line(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    put(tmp_path / "source", "a.webp", to_webp(noise(0), 10), None)
    table = put(tmp_path / "source", name, content, None)
    with pytest.raises(LabError, match=found):
        ingest(table, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(("columns", "asked"), [
    (("file_name", "text"), {}), (("video", "prompt"), {}), (("Video Path", " Caption "), {}),
    (("FILE", "Text"), {}),
    (("path", "caption"), {}), (("clip", "long"), {"caption": "long"}),
    (("id", "long"), {"path": "id", "caption": "long"}),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_columns_of_common_names_are_understood_and_others_named(
    tmp_path: Path, suffix: str, columns: tuple[str, str], asked: dict[str, str]
) -> None:
    put(tmp_path, "a.webp", b"film", None)
    rows = {columns[0]: ["a.webp"], columns[1]: ["a cat"], "score": [0.5]}
    table = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(rows), table)
    else:
        row = {name: values[0] for name, values in rows.items()}
        text = json.dumps(row) if suffix == "jsonl" else ",".join(row) + "\n" + ",".join(map(str, row.values()))
        table.write_text(text)
    (source,) = list_sources(table, columns=asked).sources
    assert (source.path, source.excerpts) == ("a.webp", (Excerpt("a cat"),))
    assert list_sources(table, columns=asked).notices == [
        Notice(f"t.{suffix}", "columns of it that say nothing here: score")
    ]
    with pytest.raises(LabError, match=r"has no column 'nothing' but"):
        list_sources(table, columns=asked | {"caption": "nothing"})
    with pytest.raises(LabError, match=r"unknown column 'captoin': did you mean 'caption'"):
        list_sources(table, columns={"captoin": "text"})


@pytest.mark.parametrize(("header", "row", "part", "unread"), [
    ("start,duration", "1:30,2.5", (90, 92.5), ""), ("duration", "2.5", (0, None), "duration"),
    ("start,end,duration", "1,2,1.1", (1, 2), ""), ("start,duration,score", "1,,", (1, None), "score"),
    ("start,end,duration", "1,,0.5", (1, 1.5), ""), ("start,end,duration", ",,0.5", (0, 0.5), ""),
    ("startTime,endTime", "1,2", (1, 2), ""), ("Start Sec,END-SEC", "1,2", (1, 2), ""),
    ("length", "2", (0, None), "length"),
    ("duration_ms,frame_count,created_time", "1,2,3", (0, None), "duration_ms, frame_count, created_time"),
    ("trend,into_the_wild,num_frames", "1,2,3", (0, None), "trend, into_the_wild, num_frames"),
    ("position,video_id,count", "left,7-8,2", (0, None), "position, video_id, count"),
    ("start,end,start_frame,timestamp", "1,2,7,8", (1, 2), "start_frame, timestamp"),
])  # fmt: skip
def test_how_long_a_part_is_counts_where_it_has_a_start_and_no_end(
    tmp_path: Path, header: str, row: str, part: tuple[float, float | None], unread: str
) -> None:
    put(tmp_path, "a.webp", b"film", None)
    table = put(tmp_path, "t.csv", f"path,caption,{header}\na.webp,a cat,{row}\n".encode(), None)
    found = list_sources(table)
    assert found.sources[0].excerpts == (Excerpt("a cat", *part),)
    assert [told.notice.partition(": ")[2] for told in found.notices] == ([unread] if unread else [])


@pytest.mark.parametrize(("names", "key"), [
    ("startFrame endFrame from,to in,out in_point t0,t1 frame_range interval span time timeMs", "start"),
    ("startMS startframe frame_idx clipStart Timestamp1 START_FRAME first_frame,last_frame", "start"),
    ("ts seek moment clip_ts debut,fin tstart,tend beginning,ending", "start"),
    ("start,finish start,last start,to start,endFrame start,end_ms start,out_point start,time_span", "end"),
    ("start,tend start,ending", "end"),
    ("start,length start,len start,dur start,durationMs start,nframes start,num_frames", "duration"),
])  # fmt: skip
def test_columns_that_say_a_part_in_a_way_that_is_not_understood_are_refused(
    tmp_path: Path, names: str, key: str
) -> None:
    for header in names.split():
        told = header.split(",")[-1] if key != "start" else header.split(",")[0]
        table = put(tmp_path, "t.csv", f"path,caption,{header}\na.webp,a cat,1,2\n".encode(), None)
        with pytest.raises(
            LabError, match=f"has the column {told}, which seems .* which is the {key} with --column {key}"
        ):
            list_sources(table)


def test_rows_whose_end_and_duration_differ_are_rejected_and_null_is_no_column(tmp_path: Path) -> None:
    put(tmp_path, "a.webp", b"film", None)
    table = put(tmp_path, "t.csv", b"path,caption,start,end,duration\na.webp,a,1,2,9\na.webp,b,1_0,,\n", None)
    assert [reject.reason for reject in list_sources(table).rejects] == [
        "it ends at 2 s and starts at 1 s, and its duration is 9 s, in t.csv line 2",
        "its start '1_0' is no time: give seconds or h:mm:ss, in t.csv line 3",
    ]
    rows = b"""{"path": "a.webp", "caption": "a", "start": 0.5, "duration": "0:01"}
{"Path": "a.webp", "text": "b", "start": 0.5, "end": null, "duration": 0.5}
{"path": "a.webp", "caption": "c", "start": 0.5, "end": 3, "note": null}"""
    found = list_sources(put(tmp_path, "t.jsonl", rows, None))
    assert found.sources[0].excerpts == (Excerpt("b", 0.5, 1), Excerpt("a", 0.5, 1.5), Excerpt("c", 0.5, 3))
    assert found.notices == []


def test_the_numbers_that_pandas_writes_before_rows_are_no_surplus(tmp_path: Path) -> None:
    for header, further in (("", ""), ("Unnamed: 0", ""), ("id", " a note"), ("", '"so, it is"')):
        rows = f"0,a.webp, a cat,{further}\n1, b.webp, a dog, {further}\n"
        head = f"{header},path,caption,{'note' if further else ''}\n"
        found = table_rows(put(tmp_path, "t.csv", (head + rows).encode(), None))
        assert [(row.path, row.caption) for row in found] == [("a.webp", "a cat"), ("b.webp", "a dog")]


def test_rows_give_several_captions_and_parts_of_a_film(tmp_path: Path) -> None:
    """Films at 10 frames a second whose frame i is all of value i: 60 frames, 6 s."""
    frames = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 16, 16, 3))
    for name in ("a", "b"):
        put(tmp_path / "source", f"{name}.npz", to_npz(frames + (100 if name == "b" else 0), 10), None)
    put(tmp_path / "source", "c.webp", to_webp(noise(0), 10), None)
    table = put(tmp_path / "source", "t.csv", b"""path,caption,start_time,End
a.npz,a cat,1,1.6
a.npz,a pet,1.0,0:01.6
a.npz,a dog,00:00:03,4.7
a.npz,late,5.9,
a.npz,never,90,91
a.npz,backwards,3,2
a.npz,when,soon,2
b.npz,all of it,,
""", None)  # fmt: skip
    assert ingest(table, tmp_path / "out", OPTIONS) == Ingested(2, 13, 0, 5)
    rows = Manifest.load(tmp_path / "out").table.to_pylist()
    found = [(row["source"], row["source_frame"], row["caption"]) for row in rows[:4]]
    a, b = ("a.npz", "a cat\na pet"), ("b.npz", "all of it")
    assert found == [("a.npz", 10, a[1]), ("a.npz", 30, "a dog"), ("a.npz", 36, "a dog"), ("b.npz", 0, b[1])]
    first = clips(tmp_path / "out")[:, :, 0, 0, 0]
    assert first[:4, 0].tolist() == [10, 30, 36, 100]
    assert [row["reason"] for row in pq.read_table(tmp_path / "out" / REJECTS).to_pylist()] == [
        "it ends at 2 s, and starts at 3 s, in t.csv line 7",
        "its start 'soon' is no time: give seconds or h:mm:ss, in t.csv line 8",
        "its excerpt has 1 frames at 10 frames per second; a clip needs 6",
        "its excerpt has 0 frames at 10 frames per second; a clip needs 6",
        "no row of t.csv names it",
    ]


def test_long_and_broken_lines_in_quotes_are_captions_and_words_for_none_are_not(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path, f"{name}.webp", to_webp(noise(ord(name)), 10), None)
    content = f'path,caption\na.webp,"a dog,\nruns"\nb.webp,{"w " * 100_000}\nc.webp,NaN\n,x\n'
    found = list_sources(put(tmp_path, "list.csv", content.encode(), None))
    captions = {source.path: source.excerpts[0].caption for source in found.sources}
    assert captions == {"a.webp": "a dog, runs", "b.webp": ("w " * 1000).strip()}
    reasons = {reject.path: reject.reason for reject in found.rejects}
    assert reasons["c.webp"] == "its caption is 'NaN', which stands for none, in list.csv line 5"


@pytest.mark.parametrize(("content", "told"), [
    ('path,caption\na,"a dog,\nruns"\nb,a cat\nb,"a\n\npet"', "2 (line 2 (2 lines), line 5 (3 lines))"),
    ('caption,path\n"a dog,\nruns, far",a\n', "1 (line 2 (2 lines))"),
    ('path,caption\na,"a dog\na dog, far"\n', "1 (line 2 (2 lines))"),
    ('caption,path\n"a, far\ndog",a', "1 (line 2 (2 lines))"),
    ('path,caption\na,"a dog\nnot there,a cat"\nb,a bird\n', "1 (line 2 (2 lines))"),
    ("path,caption\n" + 'a,"a\ndog"\n' * 2000, "2,000 (line 2 (2 lines), line 4 (2 lines), line 6 (2 lines), …)"),
])  # fmt: skip
def test_every_row_of_several_lines_is_told_and_none_refused_for_words_that_look_like_a_row(
    tmp_path: Path, content: str, told: str
) -> None:
    """Each may be a quote that is left open over rows whose clips are not there."""
    for name in "ab":
        put_frames(tmp_path / name, noise(0))
    found = list_sources(put(tmp_path, "t.csv", content.encode(), None)).notices
    assert [notice.notice.partition("; ")[0] for notice in found] == [
        f"rows that take several lines, between quotes: {told}"
    ]


def test_a_row_in_an_open_quote_is_looked_for_where_the_paths_of_its_table_lead(tmp_path: Path) -> None:
    for name in ("a", "b c"):
        put(tmp_path / "source", name, b"film", None)
    table = put(tmp_path, "t.csv", b'path,caption\na,"a dog\nb c,a cat"\n', None)
    with pytest.raises(LabError, match="line 2 leaves a quote open, in which the row 'b c,a cat' lies"):
        list_sources(tmp_path / "source", table)
    assert [told.notice[:30] for told in list_sources(table).notices] == ["rows that take several lines, "]


NAMES = st.sampled_from(["a.webp", "b c.webp", "d?", "e", "f/g.npz", "no.webp", "not there", "no/where?"])
TEXTS = st.text(st.sampled_from('xy ,.?"\n'), max_size=9)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(NAMES, TEXTS, TEXTS), min_size=1, max_size=3),
    order=st.permutations(range(3)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    data=st.data(),
)
def test_a_quote_that_is_lost_is_never_silent(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], order: list[int], quoting: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    """Captions and notes hold commas, quotes and lines; of the clips some are there. One lost quote ends in an error,
    whichever it is; of two each line is a row, or told to be part of one."""
    folder = tmp_path_factory.mktemp("table")
    for name in ("a.webp", "b c.webp", "d?", "f/g.npz"):
        put(folder, name, b"film", None)
    stream = io.StringIO()
    header = ("path", "caption", "note")
    csv.writer(stream, quoting=quoting).writerows([[row[i] for i in order] for row in (header, *rows)])
    text = stream.getvalue()
    quotes = [i for i, letter in enumerate(text) if letter == '"']
    assert len(listed(folder, text)) in (0, len(rows))
    if quotes:
        one, other = data.draw(st.sampled_from(quotes)), data.draw(st.sampled_from(quotes))
        without = "".join(letter for i, letter in enumerate(text) if i not in (one, other))
        assert not (listed(folder, without) and one == other)


def listed(folder: Path, text: str) -> list[str]:
    """The captions of a table whose every line is a row or told to be part of one; none if it is refused."""
    told: list[str] = []
    try:
        captions = [str(row.caption) for row in table_rows(put(folder, "t.csv", text.encode(), None), None, told)]
    except LabError as error:
        if not re.search(r"t\.csv line \d+ ", str(error)):
            raise
        return []
    further = [int(count) - 1 for count in re.findall(r"\((\d+) lines\)", " ".join(told))]
    lines = io.StringIO(text, newline="").readlines()
    assert 1 + len(captions) + sum(further) + sum(not line.strip() for line in lines) >= len(lines)
    return captions


def test_captions_that_are_none_are_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i, caption in enumerate(
        (
            b"\xff\xfe\x00cat",
            b"",
            b"  \n",
            "😀 !".encode(),
            b"x" * 3000,
            None,
            b"\xef\xbb\xbffine",
            b"a \0 cat",
            b"\x1b[1m",
        )
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
    assert reasons["7.webp"] == "its caption holds the control character U+0000, which is no text"
    assert reasons["8.webp"] == "its caption holds the control character U+001B, which is no text"
    notices = [row for row in pq.read_table(tmp_path / "out" / NOTICES).to_pylist() if "caption" in row["notice"]]
    assert notices == [{"path": "4.webp", "notice": "its caption of 3,000 characters is cut to 2,000"}]
    assert reasons["5.webp"] == "no caption: there is no 5.txt and no table was given"
    assert Manifest.load(tmp_path / "out").captions == ["x" * 2000, "fine"]
    with pytest.raises(LabError, match="holds no clip with a caption .9 rejected"):
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
        "loop.webp": "Too many levels", "inside.webp": "the same frames are in another clip: in good.webp",
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name], (name, found[name])


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
    for path in (source / os.fsdecode(b"broken\xff")).iterdir():
        path.rename(path.with_name(path.name.replace("frame", "\udcff")))
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
    assert ingest(table, tmp_path / "listed", OPTIONS) == Ingested(1, 1, 0, 6)
    assert rejects(tmp_path / "listed") == {
        "../out": r"its path leads out of source\udcff: only files inside are read",
        rf"list\udcff.{kind} "
        + {"csv": "line 4", "jsonl": "line 3"}.get(kind, "row 3"): "its path is no printable text",
    } | dict.fromkeys((r"broken\udcff", *names[1:]), rf"no row of list\udcff.{kind} names it")


def test_no_table_stops_an_ingest(tmp_path: Path) -> None:
    """Paths too long or looping, captions that are half a character; tables cut and with bytes changed."""
    source, chance = tmp_path / "source", random.Random(0)
    put(source, "good.webp", to_webp(noise(1), 10), None)
    (source / "loop").symlink_to(source / "loop")
    rows = [("good.webp", "fine"), ("x" * 5000, "x"), ("loop", "x"), ("good.webp/..", "x"), (".", "x"), ("\ud800", "x")]
    table = source / "list.jsonl"
    table.write_text("\n".join(json.dumps({"path": path, "caption": caption}) for path, caption in rows))
    assert ingest(table, tmp_path / "out", OPTIONS) == Ingested(2, 1, 0, 5)
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
                found = list_sources(source / f"t.{kind}")
            except LabError:
                continue
            assert all(reject.reason for reject in found.rejects)
            assert {item.path for item in found.sources} <= {"good.webp"}


def test_what_is_told_is_counted_by_reason_whatever_its_names_and_numbers(tmp_path: Path) -> None:
    reasons = [f"the same frames are in another clip: in {name}" for name in ("a b.mp4", "c.mp4")]
    reasons += [f"it has {count:,} frames at 10 frames per second; a clip needs 16" for count in (3, 1000, 4)]
    write_report(tmp_path, [Reject(f"{i}.mp4", None, reason) for i, reason in enumerate(reasons)], [])
    assert kinds(tmp_path / REJECTS) == [Kind(3, "2.mp4", reasons[2]), Kind(2, "0.mp4", reasons[0])]
    assert kinds(tmp_path / NOTICES) == kinds(tmp_path / "missing.parquet") == []


def test_folders_of_webp_one_clip_and_a_snapshot_of_a_cache_are_read(tmp_path: Path) -> None:
    """Frame i of a folder of stills is seen for 1 / source_fps seconds."""
    source = tmp_path / "source"
    for i, frame in enumerate(noise(0, 12)):
        put(source, f"walk/{i}.webp", webp(frame), b"a walk" if i == 0 else None)
    (source / "walk" / "0.txt").rename(source / "walk.txt")
    for name in ("m4v", "mpg", "ts", "wmv", "flv", "ogv", "3gp"):
        put(source, f"films/{name}.{name.upper()}", to_webp(noise(len(name) + ord(name[0])), 10))
    half = OPTIONS.model_copy(update={"source_fps": 5})
    assert ingest(source, tmp_path / "out", half).sources == 8
    rows = Manifest.load(tmp_path / "out").table.to_pylist()
    walk = [i for i, row in enumerate(rows) if row["source"] == "walk"]
    np.testing.assert_array_equal(clips(tmp_path / "out")[walk].reshape(-1, 16, 16, 3), noise(0, 12).repeat(2, 0))
    with pytest.raises(LabError, match="source_fps is 5 there and None now"):
        ingest(source, tmp_path / "out", OPTIONS)
    assert ingest(source / "walk", tmp_path / "walk", OPTIONS) == Ingested(1, 2, 0, 0)
    assert ingest(source / "films" / "ts.TS", tmp_path / "one", OPTIONS) == Ingested(1, 1, 0, 0)
    cache = tmp_path / "datasets--me--films"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name, content in (("a.webp", to_webp(noise(1), 10)), ("a.txt", b"a cat")):
        put(cache, f"blobs/{name[0]}{len(content)}", content, None)
        (snapshot / name).symlink_to(cache / "blobs" / f"{name[0]}{len(content)}")
    (snapshot / "b.webp").symlink_to(source / "walk" / "0.webp")
    (snapshot / "b.txt").write_text("from elsewhere")
    assert ingest(snapshot, tmp_path / "cached", OPTIONS) == Ingested(1, 1, 0, 1)
    assert rejects(tmp_path / "cached") == {"b.webp": "its path leads out of abc: only files inside are read"}
    put(snapshot, "t.csv", b"file_name,text\na.webp,a dog\n", None)
    assert ingest(snapshot / "t.csv", tmp_path / "listed", OPTIONS) == Ingested(1, 1, 0, 1)
    assert Manifest.load(tmp_path / "listed").table.to_pylist()[0]["source"] == "a.webp"


def webp(frame: np.ndarray) -> bytes:
    """One still picture."""
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "WEBP", lossless=True)
    return content.getvalue()


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("nothing", "OUT"), "t2v: there is no folder, table or clip nothing: name a folder"),
    (("t.csv", "OUT"), "t2v: t.csv line 2 has 3 cells and the header 2: put a caption"),
    (("good.csv", "OUT", "--column", "caption"), "t2v: --column 'caption' names no column: write KEY=NAME"),
    (("good.csv", "OUT", "--fit", "croop"), "t2v: fit: should be 'crop' or 'letterbox' (found 'croop')"),
    ((".", "inside"), "t2v: inside lies inside ., which is to be read: choose a folder outside it"),
    (("good.csv", "made", "--size", "32"), "t2v: made holds another dataset (spec.frames is 6 there and 10 now"),
    (("good.csv", "made", "--add", "--fps", "5"), "t2v: made was made with spec.fps 10 and not 5: leave that out"),
    (("good.csv", "OUT", "--add"), "t2v: OUT holds no dataset to add to: leave --add out to make one"),
    ((".", "OUT", "--column", "caption=text"), "t2v: --column names a column of a table, and no table was given"),
]  # fmt: skip
"""What `t2v ingest` is given, and what it says."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, bool]]:
    """Of each: its exit code, what it said, and whether it wrote anything; one process, whose start takes a second."""
    folder = tmp_path_factory.mktemp("mistakes")
    put(folder, "t.csv", b"path,caption\na.webp,a cat, black\n", None)
    put(folder, "good.csv", b"path,caption\na.webp,a cat\n", None)
    put(folder, "a.webp", to_webp(noise(0), 10), None)
    ingest(folder / "good.csv", folder / "made", OPTIONS)
    code = """
import contextlib, io, json, os, sys
sys.modules["prefect"] = sys.modules["mlflow"] = sys.modules["torch"] = None  # importing them fails
from flows.cli.main import main
for words in json.loads(sys.argv[1]):
    sys.argv, said = ["t2v", "ingest", *words], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(said):
        try:
            main()
        finally:
            print(json.dumps([sys.exc_info()[1].code, said.getvalue(), os.path.exists("../out")]))
"""
    given = [["../out" if word == "OUT" else word for word in arguments] for arguments, _ in MISTAKES]
    command = [sys.executable, "-c", code, json.dumps(given)]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_told_before_any_server_is_loaded(answers: list[tuple[int, str, bool]], number: int) -> None:
    code, said, wrote = answers[number]
    assert (code, wrote) == (2, False)
    assert said.startswith(MISTAKES[number][1].replace("OUT", "../out"))
    assert len(said.splitlines()) == 1
