"""Tables of clips, read strictly: which column says what, and every row with the line it stands in.

A table that is not what its suffix says is refused with the line: read leniently, a caption ends at its first comma and
an open quote swallows the rows below it. Where another quote happens to close it, the rows are one cell of several
lines: such a cell is refused if it names another clip, and told if not.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.config import LabError, near
from t2v_models.shards.columns import COLUMNS, NAMELESS, Columns, choose, chosen, require
from t2v_models.shards.paths import CLIP_SUFFIXES, printable

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
LONGEST_CELL = 2**30
"""Characters of a cell: captions are cut later, and told of."""
SHOWN = 3
"""Of rows that are told of together."""

Rows = Iterator[tuple[str, int, dict[str, object]]]
"""The place of each row, how many lines it takes, and what it says by `COLUMNS`."""


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


def table_rows(
    table: Path,
    columns: Mapping[str, str] | None = None,
    told: list[str] | None = None,
    root: Path | None = None,
) -> Iterator[Row]:
    """The rows of a table, in order.

    Args:
        table: CSV, JSON Lines or Parquet.
        columns: what its columns are called, for those of `COLUMNS` that have unusual names.
        told: filled, after the last row, with what has to be told of the table.
        root: the folder that its paths are relative to; its own, unless given.

    Raises:
        LabError: there is no such table, it cannot be read, a line of it is broken, it lacks a column, or has one that
            seems to say which part of a film is meant and is not understood.
    """
    suffix = table.suffix.lower()
    if suffix not in TABLE_SUFFIXES or not table.is_file():
        films = f"; clips end in {', '.join(CLIP_SUFFIXES)}, others a table may name" if table.is_file() else ""
        raise LabError(f"there is no table {printable(str(table))}: give a file of {', '.join(TABLE_SUFFIXES)}{films}")
    asked = columns or {}
    for key in asked:
        if key not in COLUMNS:
            raise LabError(f"unknown column {key!r}: {near(key, COLUMNS)}")
    unread: list[str] = []
    long: list[str] = []
    kinds: dict[str, Callable[[Path, Mapping[str, str], list[str]], Rows]] = {
        ".csv": partial(_csv_rows, root or table.parent), ".jsonl": _json_rows, ".parquet": _parquet_rows,
    }  # fmt: skip
    try:
        for place, lines, values in kinds[suffix](table, asked, unread):
            long += [f"{place} ({lines} lines)"] if lines > 1 else []
            found = (values.get(key) for key in COLUMNS)
            yield Row(f"{printable(table.name)} {place}", *found)
    except (OSError, pa.ArrowException) as error:
        raise LabError(f"{printable(str(table))} cannot be read as a table ({error}): write it again") from error
    if told is not None and unread:
        told.append(f"columns of it that say nothing here: {', '.join(map(printable, unread))}")
    if told is not None and long:
        first = ", ".join(long[:SHOWN]) + (", …" if long[SHOWN:] else "")
        told.append(
            f"rows that take several lines, between quotes: {len(long):,} ({first}); where that is not meant, "
            "a quote is left open, and they hold the rows below them"
        )


def _csv_rows(root: Path, table: Path, asked: Mapping[str, str], unread: list[str]) -> Rows:
    csv.field_size_limit(LONGEST_CELL)
    lines = io.StringIO(_text(table), newline="").readlines()
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    header: list[str] = []
    columns: Columns | None = None
    line = 1
    try:
        for cells in reader:
            row = lines[line - 1 : reader.line_num]
            if "".join(row).count('"') % 2:
                raise _broken(table, line, "has a quote that nothing opens or closes")
            if columns is None:
                if len(row) > 1:
                    raise _broken(table, line, f"is a header of {len(row)} lines")
                header, columns = cells, choose(table, cells, asked, unread)
            elif any(map(str.strip, cells)):
                if len(cells) != len(header):
                    raise _broken(table, line, f"has {len(cells)} cells and the header {len(header)}")
                if len(row) > 1 and (hidden := _hidden(root, cells, header.index(columns.names["path"]))):
                    raise _broken(table, line, f"leaves a quote open, in which the row {hidden[:40]!r} lies")
                if surplus := _surplus(row, header, cells, columns):
                    raise _broken(table, line, surplus)
                yield f"line {line}", len(row), columns.of(table, dict(zip(header, cells, strict=True)))
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


def _hidden(root: Path, cells: Sequence[str], place: int) -> str | None:
    """Of the lines in a cell of several, one that is a row, if there is one: where its path would stand is that of
    something that is there and of the kind that the row's own is, file or folder, or a name with the suffix of a clip
    or of the row's own. Of the cell's first and last line that is the one which is a row's part with the path."""
    own = Path(cells[place].strip())
    suffixes, folder = {*CLIP_SUFFIXES, own.suffix.casefold()} - {""}, _is_there(root / own, folder=True)
    for at, cell in enumerate(cells):
        lines = re.split(r"\r\n?|\n", cell)
        for line in lines[1:] if place < at else lines[:-1]:
            pieces = line.split(",")
            if -len(pieces) <= (piece := place if place < at else place - len(cells)) < len(pieces):
                name = pieces[piece].strip(' "')
                if Path(name).suffix.casefold() in suffixes or (name and _is_there(root / name, folder)):
                    return line.strip()
    return None


def _is_there(path: Path, folder: bool) -> bool:
    """Whether there is such a file, or folder; the name may be a sentence, too long for any."""
    try:
        return path.is_dir() if folder else path.is_file()
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
        yield f"line {number}", 1, columns[_filled(row)].of(table, row)


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
                yield f"row {number}", 1, row


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
