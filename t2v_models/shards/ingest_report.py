"""The report of an ingest: what became no clip and why, and what became one otherwise than it lies there.

Two tables in the folder of the dataset; thousands of rows are counted by kind.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.files import atomic
from t2v_models.shards.write import clear_stale

REJECTS, NOTICES = "rejects.parquet", "notices.parquet"


@dataclass(frozen=True)
class Reject:
    """Something that does not become a clip, and why."""

    path: str
    frame: int | None
    """First frame of the part that is left out; None for the whole file."""
    reason: str


@dataclass(frozen=True)
class Notice:
    """Something that becomes a clip otherwise than it lies there, or by what was assumed."""

    path: str
    notice: str


@dataclass(frozen=True)
class Kind:
    """All rows with one reason, whatever its names and numbers."""

    count: int
    path: str
    """Of the first of them."""
    text: str
    """What is said of that one."""


def write_report(out: Path, rejects: Iterable[Reject], notices: Iterable[Notice]) -> None:
    """Write both tables.

    Raises:
        LabError: the folder cannot be written.
    """
    text, number = pa.string(), pa.int64()
    rejects, notices = dict.fromkeys(rejects), dict.fromkeys(notices)
    _write(
        out / REJECTS,
        pa.schema([("path", text), ("frame", number), ("reason", text)]),
        map(vars, dict.fromkeys(rejects)),
    )
    _write(out / NOTICES, pa.schema([("path", text), ("notice", text)]), map(vars, notices))


def read_report(out: Path) -> tuple[list[Reject], list[Notice]]:
    """What the tables of a dataset hold; nothing where there are none."""
    rejects, notices = (pq.read_table(out / n).to_pylist() if (out / n).is_file() else [] for n in (REJECTS, NOTICES))
    return [Reject(**row) for row in rejects], [Notice(**row) for row in notices]


def kinds(table: Path) -> list[Kind]:
    """What a table of rejects or notices, if there is one, holds: the most frequent reason first."""
    found: dict[str, list[tuple[str, str]]] = {}
    if not table.is_file():
        return []
    rows = pq.read_table(table)
    for path, text in zip(rows[0].to_pylist(), rows[-1].to_pylist(), strict=True):
        found.setdefault(_kind(text), []).append((path, text))
    return sorted((Kind(len(told), *told[0]) for told in found.values()), key=lambda kind: -kind.count)


def _kind(text: str) -> str:
    """A reason without what stands behind its colon or comma, and without names of files and numbers."""
    words = re.split(r"[:,;]\s", text)[0].split()
    return " ".join("*" if re.search(r"\d|\w\.\w", word) else word for word in words)


def _write(path: Path, schema: pa.Schema, rows: Iterable[dict[str, object]]) -> None:
    ordered = sorted(rows, key=lambda row: (row["path"], row.get("frame") or 0))
    clear_stale(path)
    with atomic(path) as stream:
        pq.write_table(pa.Table.from_pylist(ordered, schema=schema), stream)
