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
from t2v_models.shards.columns import COLUMNS, NAMELESS, Columns, choose, chosen, require
from t2v_models.shards.paths import printable

ENDING = re.compile(r"\.(?=[0-9]?[a-z])[a-z0-9]{2,5}")
"""Of a file's name, but none of a number or of a sentence."""
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
LONGEST_CELL = 2**30
"""Characters of a cell: captions are cut later, and told of."""

Rows = Iterator[tuple[str, dict[str, object]]]
"""The place of each row, and what it says by `COLUMNS`."""


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


def _csv_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Rows:
    csv.field_size_limit(LONGEST_CELL)
    lines = io.StringIO(_text(table), newline="").readlines()
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    header: list[str] = []
    columns: Columns | None = None
    line = 1
    try:
        for cells in reader:
            if columns is None:
                header, columns = cells, choose(table, cells, asked, unread)
            elif any(map(str.strip, cells)):
                if len(cells) != len(header):
                    raise _broken(table, line, f"has {len(cells)} cells and the header {len(header)}")
                further = lines[line : reader.line_num]
                if hidden := _hidden(table, cells, further, header.index(columns.names["path"])):
                    raise _broken(table, line, f"leaves a quote open, in which the row {hidden[:40]!r} lies")
                if surplus := _surplus(lines[line - 1 : reader.line_num], header, cells, columns):
                    raise _broken(table, line, surplus)
                yield f"line {line}", columns.of(table, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise _broken(table, line, f"is no row ({error})") from error
    if columns is None:
        choose(table, header, asked, unread)


def _surplus(row: Sequence[str], header: Sequence[str], cells: Sequence[str], columns: Columns) -> str | None:
    """What a row has too much, though it has as many cells as the header: something in a column without a name, or the
    end of a caption that holds a comma in one that says nothing here, which a blank alone gives away."""
    for place, (name, cell) in enumerate(zip(header, cells, strict=True)):
        counted = place == 0 and cell.strip().isdigit()  # pandas writes the numbers of rows so
        if cell.strip() and NAMELESS.fullmatch(name) and not counted:
            return f"has {cell[:40]!r} in a column without a name"
    behind = header.index(columns.names["caption"]) + 1
    blanks = [cell[:1] == " " for cell in "".join(row).split(",")[1:]]
    spaced = blanks[behind - 2] if behind > 1 else all(blanks)
    said = [name for key, name in columns.names.items() if key != "group"]
    unsaid = behind < len(header) and header[behind] not in said
    if unsaid and '"' not in "".join(row) and blanks[behind - 1] and not spaced:
        return f"has {cells[behind][:40]!r} behind a blank, as if it were the end of its caption"
    return None


def _hidden(table: Path, cells: Sequence[str], further: Sequence[str], place: int) -> str | None:
    """Of the further lines that a row goes on in, one that is a row itself, if there is one: where its path would stand
    is something with a suffix like that of the row's, or one word with any; one word, where that has none and no blank
    follows a comma; or a file or folder that is there."""
    suffix = Path(cells[place].strip()).suffix.casefold()
    for row in further:
        others = row.split(",")
        if len(others) < len(cells):
            continue
        dense = not suffix and not any(cell[:1].isspace() for cell in others[1:])
        for path in {others[place].strip(' "\r\n'), others[place - len(cells)].strip(' "\r\n')} - {""}:
            ending, one_word = Path(path).suffix.casefold(), len(path.split()) == 1
            alike = ending == suffix and (suffix or (dense and one_word))
            if alike or (one_word and ENDING.fullmatch(ending)) or _is_there(table.parent / path):
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


def _json_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Rows:
    """Each row has columns of its own: null is none."""
    rows: list[tuple[int, dict[str, object]]] = []
    for number, line in enumerate(_text(table).split("\n"), 1):
        if line.strip():
            rows.append((number, _json(table, number, line)))
    require(table, list(dict.fromkeys(name for _, row in rows for name in row)), asked)
    columns: dict[tuple[str, ...], Columns] = {}
    for _, row in rows:
        names = _filled(row)
        if names not in columns:
            columns[names] = chosen(table, names, asked)
    used = {name for found in columns.values() for name in found.names.values()}
    unread += dict.fromkeys(name for _, row in rows for name in _filled(row) if name not in used)
    for number, row in rows:
        yield f"line {number}", columns[_filled(row)].of(table, row)


def _filled(row: dict[str, object]) -> tuple[str, ...]:
    return tuple(name for name, value in row.items() if value is not None)


def _json(table: Path, number: int, line: str) -> dict[str, object]:
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        why = f"is no JSON ({error})"
    else:
        if isinstance(value, dict):
            return value
        why = f"is no JSON object but {type(value).__name__}"
    raise LabError(f"{printable(str(table))} line {number} {why}: write one object a line, with a path and a caption")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if twice := next((name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])), None):
        raise ValueError(f"it says {twice!r} twice")
    return dict(pairs)


def _text(table: Path) -> str:
    content = table.read_bytes()
    if content.count(b"\0") > len(content) // 4:
        raise LabError(f"{printable(str(table))} is not UTF-8 but, it seems, UTF-16: save it as UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def _parquet_rows(table: Path, asked: Mapping[str, str], unread: list[str]) -> Rows:
    with table.open("rb") as stream:  # pyarrow opens no file whose name is not UTF-8
        file = pq.ParquetFile(stream)
        columns = choose(table, file.schema_arrow.names, asked, unread)
        number = 0
        for batch in file.iter_batches(columns=[*columns.names.values(), *columns.lengths]):
            for values in zip(*map(_values, batch.columns), strict=True):
                number += 1
                row = columns.of(table, dict(zip(batch.schema.names, values, strict=True)))
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
