"""Tables of clips, read strictly: which column says what, and every row with the line it stands in.

A table that is not what its suffix says is refused with the line: read leniently, a caption ends at its first comma and
an open quote swallows the rows below it.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.config import LabError, near
from t2v_models.shards.paths import printable

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "filename", "file", "file_path", "video", "video_path", "clip", "clip_path"),
    "caption": ("caption", "captions", "text", "prompt", "description"),
    "start": ("start", "start_time", "start_s", "start_sec", "start_seconds", "start_timestamp", "begin"),
    "end": ("end", "end_time", "end_s", "end_sec", "end_seconds", "end_timestamp", "stop"),
    "duration": ("duration", "duration_s", "duration_sec", "duration_seconds"),
    "group": ("group",),
}
"""What each column may be called besides its own name, which comes first; in any case, and `startTime` as well."""
NEEDED = ("path", "caption")
SURE = {"start", "begin", "timestamp", "timestamps", "segment", "segments", "trim", "offset", "end", "stop"}
"""Words that say which part of a film is meant wherever they stand in a column's name."""
SPANS = {"interval", "span", "range", "window"}
STARTS = SPANS | {
    "start", "begin", "timestamp", "timestamps", "segment", "segments", "trim", "offset", "first", "from", "in", "at",
    "t", "time", "times", "frame", "onset", "part", "cut",
}  # fmt: skip
ENDS = SPANS | {"end", "stop", "finish", "last", "until", "till", "to", "out"}
LENGTHS = {"duration", "dur", "length", "len", "frames", "count", "num", "n", "seconds"}
"""Without a start they speak of the whole film."""
BESIDE = {
    "video", "clip", "film", "s", "ms", "sec", "secs", "second", "seconds", "msec", "millis", "milliseconds", "us",
    "point", "mark", "index", "idx", "id", "no", "number", "position", "pos", "code",
}  # fmt: skip
"""Words that say nothing else when they stand beside the others."""
LONGEST_CELL = 2**30
"""Characters of a cell: captions are cut later, and told of."""

Values = dict[str, object]
Found = dict[str, str]
"""Which column of a table is the path, the caption, ..."""


@dataclass(frozen=True)
class Row:
    """What a row of a table says of one clip, as it stands there; what is not UTF-8 keeps its bytes."""

    place: str
    """For example `list.csv line 3`."""
    path: object
    caption: object
    """Text, bytes that should be text, or a list of them."""
    start: object
    end: object
    duration: object
    """Of the part, where the table has a start or an end."""
    group: object
    """Files of one group are kept for training, or for validation, together."""


def table_rows(table: Path, columns: Mapping[str, str] | None = None, unread: list[str] | None = None) -> Iterator[Row]:
    """The rows of a table, in order.

    Args:
        table: CSV, JSON Lines or Parquet.
        columns: what its columns are called, for those of `COLUMNS` that have unusual names.
        unread: filled with the names of columns that say nothing here, before the first row is given.

    Raises:
        LabError: there is no such table, it cannot be read, a line of it is broken, it lacks a column, or has one that
            seems to say which part of a film is meant and is not understood.
    """
    suffix = table.suffix.lower()
    if suffix not in TABLE_SUFFIXES or not table.is_file():
        raise LabError(f"there is no table {printable(str(table))}: give a file of {', '.join(TABLE_SUFFIXES)}")
    asked = columns or {}
    for key in asked:
        if key not in COLUMNS:
            raise LabError(f"unknown column {key!r}: {near(key, COLUMNS)}")
    rows = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}[suffix]
    try:
        for place, values in rows(table, asked, [] if unread is None else unread):
            found = (values.get(key) for key in COLUMNS)
            yield Row(f"{printable(table.name)} {place}", *found)
    except (OSError, pa.ArrowException) as error:
        raise LabError(f"{printable(str(table))} cannot be read as a table ({error}): write it again") from error


def _csv_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Iterator[tuple[str, Values]]:
    csv.field_size_limit(LONGEST_CELL)
    lines = io.StringIO(_text(table), newline="").readlines()
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    header: list[str] = []
    found: Found | None = None
    line = 1
    try:
        for cells in reader:
            if found is None:
                header, found = cells, _choose(table, cells, asked, unread)
            elif any(map(str.strip, cells)):
                if len(cells) != len(header):
                    raise _broken(table, line, f"has {len(cells)} cells and the header {len(header)}")
                further = lines[line : reader.line_num]
                if hidden := _hidden(table, cells, further, header.index(found["path"])):
                    raise _broken(table, line, f"leaves a quote open, in which the row {hidden[:40]!r} lies")
                for place, (name, cell) in enumerate(zip(header, cells, strict=True)):
                    counted = place == 0 and cell.strip().isdigit()  # pandas writes the numbers of rows so
                    if cell.strip() and not name.strip() and not counted:
                        raise _broken(table, line, f"has {cell[:40]!r} in a column without a name")
                values = dict(zip(header, cells, strict=True))
                yield f"line {line}", {key: values[name] for key, name in found.items()}
            line = reader.line_num + 1
    except csv.Error as error:
        raise _broken(table, line, f"is no row ({error})") from error
    if found is None:
        _choose(table, header, asked, unread)


def _hidden(table: Path, cells: Sequence[str], further: Sequence[str], place: int) -> str | None:
    """Of the further lines that a row goes on in, one that is a row itself, if there is one: where its path would stand
    is something with a suffix like that of the row's; one word, where that has none and no blank follows a comma; or a
    file or folder that is there."""
    suffix = Path(cells[place].strip()).suffix.casefold()
    for row in further:
        others = row.split(",")
        if len(others) < len(cells):
            continue
        dense = not suffix and not any(cell[:1].isspace() for cell in others[1:])
        for path in {others[place].strip(' "\r\n'), others[place - len(cells)].strip(' "\r\n')} - {""}:
            alike = Path(path).suffix.casefold() == suffix and (suffix or (dense and len(path.split()) == 1))
            if alike or _is_there(table.parent / path):
                return row.strip()
    return None


def _is_there(path: Path) -> bool:
    """Of a name that may be a sentence, too long for any file."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _broken(table: Path, line: int, what: str) -> LabError:
    return LabError(
        f"{printable(str(table))} line {line} {what}: put a caption that holds commas or quotes between quotes, and "
        "write each quote in it twice"
    )


def _json_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Iterator[tuple[str, Values]]:
    """Each row has columns of its own: null is none."""
    rows: list[tuple[int, Values]] = []
    for number, line in enumerate(_text(table).split("\n"), 1):
        if line.strip():
            rows.append((number, _json(table, number, line)))
    _find(table, list(dict.fromkeys(name for _, row in rows for name in row)), asked)
    columns: dict[tuple[str, ...], Found] = {}
    for _, row in rows:
        names = _filled(row)
        if names not in columns:
            columns[names] = _chosen(table, names, asked)
    used = {name for found in columns.values() for name in found.values()}
    unread += dict.fromkeys(name for _, row in rows for name in row if name not in used)
    for number, row in rows:
        yield f"line {number}", {key: row[name] for key, name in columns[_filled(row)].items()}


def _filled(row: Values) -> tuple[str, ...]:
    return tuple(name for name, value in row.items() if value is not None)


def _json(table: Path, number: int, line: str) -> Values:
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        why = f"is no JSON ({error})"
    else:
        if isinstance(value, dict):
            return value
        why = f"is no JSON object but {type(value).__name__}"
    raise LabError(f"{printable(str(table))} line {number} {why}: write one object a line, with a path and a caption")


def _once(pairs: list[tuple[str, object]]) -> Values:
    if twice := next((name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])), None):
        raise ValueError(f"it says {twice!r} twice")
    return dict(pairs)


def _text(table: Path) -> str:
    content = table.read_bytes()
    if content.count(b"\0") > len(content) // 4:
        raise LabError(f"{printable(str(table))} is not UTF-8 but, it seems, UTF-16: save it as UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def _parquet_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Iterator[tuple[str, Values]]:
    with table.open("rb") as stream:  # pyarrow opens no file whose name is not UTF-8
        file = pq.ParquetFile(stream)
        found = _choose(table, file.schema_arrow.names, asked, unread)
        number = 0
        for batch in file.iter_batches(columns=list(found.values())):
            columns = {key: _values(batch.column(name)) for key, name in found.items()}
            for values in zip(*columns.values(), strict=True):
                number += 1
                row: Values = dict(zip(columns, values, strict=True))
                if isinstance(path := row["path"], bytes):
                    row["path"] = path.decode("utf-8", "surrogateescape")
                yield f"row {number}", row


def _values(column: pa.Array) -> list[object]:
    """Text as bytes, since Parquet may hold text that is not UTF-8; other values as they are."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(column.type) and _is_text(column.type.value_type):
        column = column.cast(pa.list_(pa.large_binary()))
    values: list[object] = (column.cast(pa.large_binary()) if _is_text(column.type) else column).to_pylist()
    return values


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _choose(table: Path, names: Sequence[str], asked: Mapping[str, str], unread: list[str]) -> Found:
    """Which column of a table is which; those that say nothing are added to `unread`."""
    _find(table, names, asked)
    found = _chosen(table, names, asked)
    unread += [name for name in names if name.strip() and name not in found.values()]
    return found


def _find(table: Path, names: Sequence[str], asked: Mapping[str, str]) -> None:
    """See that a table has the columns that are needed."""
    there = ", ".join(map(printable, names)) or "none"
    for key in COLUMNS:
        if (key in NEEDED or key in asked) and not _candidates(key, names, asked):
            raise LabError(
                f"{printable(str(table))} has no column {asked.get(key, key)!r} but {there}: "
                f"name its columns path and caption, or say which it is with --column {key}=NAME"
            )


def _candidates(key: str, names: Sequence[str], asked: Mapping[str, str]) -> list[str]:
    """As asked, else its own name, else all common names that are there."""
    if key in asked:
        return [name for name in names if name == asked[key]]
    common = {name.replace("_", "") for name in COLUMNS[key]}
    return [name for name in names if name == key] or [n for n in names if "".join(_words(n)) in common]


def _chosen(table: Path, names: Sequence[str], asked: Mapping[str, str]) -> Found:
    """Which column is which.

    Raises:
        LabError: several may be one, or one seems to say which part of a film is meant and is not understood.
    """
    found: Found = {}
    for key in COLUMNS:
        candidates = _candidates(key, names, asked)
        if len(candidates) > 1:
            raise LabError(
                f"{printable(str(table))} has several columns that may be the {key}, "
                f"{', '.join(map(printable, candidates))}: say which with --column {key}=NAME"
            )
        if candidates:
            found[key] = candidates[0]
    if "duration" not in asked and not found.keys() & {"start", "end"}:
        found.pop("duration", None)  # of the whole film
    others = [name for name in names if name not in found.values()]
    if "start" not in found:
        _see_no_part(table, "start", STARTS, others)
    if not found.keys() & {"end", "duration"}:
        _see_no_part(table, "end", ENDS, others)
        if "start" in found:
            _see_no_part(table, "duration", LENGTHS, others)
    return found


def _see_no_part(table: Path, key: str, telling: set[str], names: Sequence[str]) -> None:
    """See that no column seems to be the `key` of a part, in units or words that are not understood."""
    for name in names:
        words = set(_pieces(name))
        if words & telling & SURE or (words & telling and words <= STARTS | ENDS | BESIDE | telling):
            raise LabError(
                f"{printable(str(table))} has the column {printable(name)}, which seems to say what part of a film is "
                "meant: give start and end in seconds or h:mm:ss, say which is the "
                f"{key} with --column {key}=NAME, or leave it out"
            )


def _words(name: str) -> list[str]:
    """Of a column's name: `Start time`, `start_time` and `startTime` are the same two."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[^\W_A-Z])(?=[A-Z])", " ", name).casefold())


def _pieces(name: str) -> Iterator[str]:
    """Its words without numbers, and what words written as one, as `startframe`, are made of if all is about parts."""
    known = sorted((w for w in STARTS | ENDS | LENGTHS | BESIDE if len(w) > 1), key=len, reverse=True)
    one = "|".join(known)
    for word in _words(name):
        letters = word.strip("0123456789")
        yield from re.findall(one, letters) if re.fullmatch(f"(?:{one})+", letters) else [letters] if letters else []
