"""People's own clips before they are opened: which files there are, and what each is said to show.

A source is a media file, or a folder of images that are the frames of one clip. Its caption stands in a text file
beside it, or in a table (CSV, JSON Lines or Parquet) with the columns `path` and `caption`.
"""

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.config import LabError
from t2v_models.text.split import words

CLIP_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", ".webp", ".npz")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
_BESIDE = (".txt", ".json", ".md", *TABLE_SUFFIXES)
"""Suffixes of files that stand beside clips and are none."""
LONGEST_CAPTION = 2000
"""Characters."""


@dataclass(frozen=True)
class Source:
    """One clip file or folder of frames."""

    path: str
    """Relative to the folder that was named, with forward slashes."""
    file: Path
    caption: str


@dataclass(frozen=True)
class Reject:
    """Something that does not become a clip, and why."""

    path: str
    frame: int | None
    """First frame of the part that is left out; None for the whole file."""
    reason: str


def list_sources(source: Path, captions: Path | None = None) -> tuple[list[Source], list[Reject]]:
    """Every clip in a folder, or every clip that a table names, by path; and what is none.

    Args:
        source: a folder, or a table whose paths are relative to the folder it lies in.
        captions: a table with paths relative to `source`; without it, captions stand beside the clips.

    Raises:
        LabError: there is no such folder or table; the table cannot be read or lacks a column.
    """
    if source.is_file() and captions is None:
        source, captions = source.parent, source
    if not source.is_dir():
        raise LabError(f"there is no folder or table {source}: name a folder of clips or a table of them")
    found = _of_table(source, captions) if captions else _of_folder(source)
    sources = {f.path: f for f in found if isinstance(f, Source)}
    rejects = [f for f in found if isinstance(f, Reject)]
    return [sources[path] for path in sorted(sources)], rejects


def source_digest(source: Source) -> str:
    """Hex digest over path, caption and every byte of a source.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256(json.dumps([source.path, source.caption]).encode())
    for path in frame_files(source.file) if source.file.is_dir() else [source.file]:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names; `frame_2` comes before `frame_10`."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda p: (_number(p.stem), p.name))


def _number(stem: str) -> int:
    """The last digits of a name, so that names without leading zeros count up."""
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits[-18:]) if digits.isascii() and digits else -1


def _of_folder(root: Path) -> list[Source | Reject]:
    found: list[Source | Reject] = []

    def unreadable(error: OSError) -> None:
        found.append(Reject(_name(root, Path(error.filename)), None, f"it cannot be read: {error.strerror}"))

    for parent, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        here = Path(parent)
        links = [here / folder for folder in folders if (here / folder).is_symlink()]
        found += [Reject(_name(root, link), None, "it is a link to a folder, which is not followed") for link in links]
        if here != root and any(n.lower().endswith(FRAME_SUFFIXES) for n in names):
            inside = here / "caption.txt"
            beside = inside if inside.is_file() else here.with_name(here.name + ".txt")
            found.append(_captioned(root, here, beside))
        for name in sorted(n for n in names if not n.startswith(".")):
            path, suffix = here / name, Path(name).suffix.lower()
            if suffix in CLIP_SUFFIXES:
                found.append(_captioned(root, path, path.with_suffix(".txt")))
            elif suffix not in (*_BESIDE, *FRAME_SUFFIXES) or (suffix in FRAME_SUFFIXES and here == root):
                found.append(Reject(_name(root, path), None, f"no clip: its suffix is not {', '.join(CLIP_SUFFIXES)}"))
    return found


def _captioned(root: Path, path: Path, beside: Path) -> Source | Reject:
    name = _name(root, path)
    if not beside.exists():
        return Reject(name, None, f"no caption: there is no {printable(beside.name)} and no table was given")
    if barred := _barred(root, beside):
        return Reject(name, None, f"its caption in {printable(beside.name)}: {barred}")
    try:
        return _source(root, name, path, beside.read_bytes())
    except OSError as error:
        return Reject(name, None, f"its caption cannot be read: {error.strerror}")


def _of_table(root: Path, table: Path) -> list[Source | Reject]:
    found: list[Source | Reject] = []
    seen = set()
    for place, (path, caption) in enumerate(_rows(table), 1):
        row = f"{printable(table.name)} row {place}"
        if not isinstance(path, str) or not path or not path.isprintable():
            found.append(Reject(row, None, "its path is no printable text"))
            continue
        file = root / path
        whole = Path(os.path.realpath(file))
        if barred := _barred(root, file):
            found.append(Reject(path, None, barred))
        elif whole in seen:
            found.append(Reject(path, None, f"listed a second time, in {row}"))
        else:
            seen.add(whole)
            found.append(_source(root, _name(Path(os.path.realpath(root)), whole), file, caption))
    return found


def _source(root: Path, name: str, path: Path, caption: object) -> Source | Reject:
    """A source, or what is wrong with it or its caption."""
    barred = _barred(root, path) or (_bad_frames(root, path) if path.is_dir() else None)
    if barred:
        return Reject(name, None, barred)
    if not isinstance(caption, bytes | str):
        return Reject(name, None, "no caption" if caption is None else "its caption is no text")
    try:
        stored = caption.encode("utf-8", "surrogateescape") if isinstance(caption, str) else caption
        text = " ".join(stored.decode("utf-8-sig").split())
    except UnicodeEncodeError as error:
        return Reject(name, None, f"its caption holds half a character, a lone surrogate, in place {error.start}")
    except UnicodeDecodeError as error:
        return Reject(name, None, f"its caption is not UTF-8: byte {error.start} cannot be read")
    if not words(text):
        return Reject(name, None, "its caption has no word: no letter or digit of any script")
    if len(text) > LONGEST_CAPTION:
        return Reject(name, None, f"its caption has {len(text):,} characters; at most {LONGEST_CAPTION:,} are read")
    return Source(name, path, text)


def _barred(root: Path, path: Path) -> str | None:
    """Why a path must not be opened, if so: it leads elsewhere, or opening it might never end."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        return f"its path leads out of {printable(root.name)}: only files inside are read"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "it is no regular file"


def _bad_frames(root: Path, folder: Path) -> str | None:
    """Why the images of a folder are not the frames of one clip, if so: with a hole in it, motion would be wrong."""
    try:
        files = frame_files(folder)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not files:
        return f"it is a folder without images ({', '.join(FRAME_SUFFIXES)})"
    for file in files:
        if barred := _barred(root, file):
            return f"frame {printable(file.name)}: {barred}"
    numbers = [_number(file.stem) for file in files]
    if numbers[0] < 0:
        return None if numbers[-1] < 0 else f"frame {printable(files[0].name)} has no number, and others have"
    steps = [after - before for before, after in pairwise(numbers)]
    for file, step in zip(files, steps, strict=False):
        if step == 0:
            return f"two frames have the number of {printable(file.name)}"
        if step >= 2 * min(steps):
            return f"frames are missing after {printable(file.name)}: the next number is {step} higher"
    return None


def _rows(table: Path) -> Iterator[tuple[object, object]]:
    """Path and caption of every row, as they stand; what is not UTF-8 keeps its bytes.

    Raises:
        LabError: there is no such table, it cannot be read, or it lacks a column.
    """
    if table.suffix.lower() not in TABLE_SUFFIXES or not table.is_file():
        raise LabError(f"there is no table {table}: give a file of {', '.join(TABLE_SUFFIXES)}")
    try:
        if table.suffix.lower() == ".parquet":
            yield from _parquet_rows(table)
            return
        text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
        if table.suffix.lower() == ".csv":
            rows = csv.DictReader(io.StringIO(text, newline=""))
            _check_columns(table, rows.fieldnames or ())
            yield from ((row["path"], row["caption"]) for row in rows)
            return
        for line in filter(str.strip, text.split("\n")):
            value = _json(line)
            yield (value.get("path"), value.get("caption")) if isinstance(value, dict) else (None, None)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise LabError(f"{table} cannot be read as a table ({error}): write it again") from error


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parquet_rows(table: Path) -> Iterator[tuple[object, object]]:
    with table.open("rb") as stream:  # pyarrow opens no file whose name is not UTF-8
        file = pq.ParquetFile(stream)
        _check_columns(table, file.schema_arrow.names)
        for batch in file.iter_batches(columns=["path", "caption"]):
            path, caption = (_bytes(batch.column(name)) for name in ("path", "caption"))
            for p, c in zip(path, caption, strict=True):
                yield p.decode("utf-8", "surrogateescape") if isinstance(p, bytes) else p, c


def _bytes(column: pa.Array) -> list[object]:
    """Text as bytes, since Parquet may hold text that is not UTF-8; other values as they are."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    values: list[object] = (column.cast(pa.large_binary()) if is_text else column).to_pylist()
    return values


def _check_columns(table: Path, found: list[str] | tuple[str, ...] | object) -> None:
    names = [str(name) for name in found] if isinstance(found, list | tuple) else []
    missing = [name for name in ("path", "caption") if name not in names]
    if missing:
        raise LabError(
            f"{table} has no column {' and '.join(map(repr, missing))} but {', '.join(names) or 'none'}: "
            "name its columns path and caption"
        )


def _name(root: Path, path: Path) -> str:
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A file name as text that no other name has: odd bytes, which are not UTF-8, and backslashes are escaped."""
    return name.replace("\\", r"\\").encode("utf-8", "backslashreplace").decode()
