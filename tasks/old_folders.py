"""What of a work folder was not touched for long and can be made again: runs, rendered data, reports, copies.

A run or a report stays as long as MLflow keeps its run, and rendered data as long as a run that stays was trained on
it. What people have brought, ingested clips, always stays, and so does a link to somewhere else.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from t2v_models import checkpoint
from t2v_models.config import LabError
from t2v_models.files import stamps, writing
from t2v_models.shards.manifest import MANIFEST, read_manifest
from tasks.mlflow.old_runs import Runs
from tasks.records import read_record

DIGEST = 36
"""Characters of a dataset's digest that MLflow keeps."""
KINDS = ("runs", "data", "report", "compare", "evaluations", "models", "real", "prefect/storage")
"""Folders of a work folder in which every entry is a thing by itself: `models` are copies of MLflow's, `real` is what
any model was judged beside, Prefect's `storage` what its tasks have returned."""


@dataclass(frozen=True)
class Entry:
    """A folder or a file that may go."""

    path: Path
    bytes: int
    touched: datetime
    """When anything in it was written last."""


def folders_before(work: Path, before: datetime, runs: Runs) -> list[Entry]:
    """What was touched last before then and belongs to nothing that stays.

    Args:
        work: the work folder.
        before: a time.
        runs: what MLflow keeps.
    """
    entries = {kind: [_entry(path) for path in _inside(work / kind)] for kind in KINDS}
    young = [entry for entry in entries["runs"] if not _is_old_run(entry, before, runs)]
    used = {newest.run.dataset_digest for entry in young if (newest := _newest(entry.path))}
    digests = runs.datasets | {digest[:DIGEST] for digest in used}
    found = [entry for entry in entries["runs"] if entry not in young]
    for kind in KINDS[1:]:
        for entry in entries[kind]:
            if entry.touched < before and _may_go(entry.path, runs, digests):
                found.append(entry)
    return found


def remove(entries: list[Entry]) -> None:
    """Delete them.

    Raises:
        LabError: one cannot be deleted.
    """
    for entry in entries:
        with writing(entry.path):
            if entry.path.is_dir():
                shutil.rmtree(entry.path)
            else:
                entry.path.unlink(missing_ok=True)


def _is_old_run(entry: Entry, before: datetime, runs: Runs) -> bool:
    newest = _newest(entry.path)
    named = newest is not None and newest.sha256 in runs.weights
    return entry.touched < before and not named and read_record(entry.path).get("run_id") not in runs.kept


def _may_go(path: Path, runs: Runs, digests: frozenset[str]) -> bool:
    """Whether it is of no run that stays, and can be made again."""
    if (path / MANIFEST).exists():
        try:
            data = read_manifest(path)
        except LabError:  # damaged: a person should see it
            return False
        return data.config.command == "render" and data.digest[:DIGEST] not in digests
    if any(path.glob("shard-*.tar")):  # not finished, of what nobody knows
        return False
    return read_record(path).get("run_id") not in runs.kept


def _newest(run: Path) -> checkpoint.Checkpoint | None:
    try:
        return checkpoint.newest(run)
    except LabError:  # of another version
        return None


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []


def _entry(path: Path) -> Entry:
    found = list(stamps(path)) or [(path.stat().st_mtime, 0)]
    return Entry(path, sum(b for _, b in found), datetime.fromtimestamp(max(t for t, _ in found), UTC))
