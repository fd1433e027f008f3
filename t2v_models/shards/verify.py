"""Is a dataset still what was written? Reads every byte and names every damage."""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from t2v_models.config import LabError
from t2v_models.shards.codec import FRAMES_SUFFIX
from t2v_models.shards.manifest import CARD, MANIFEST, SUMS, Manifest, Shard, read_manifest, require_finished
from t2v_models.shards.tar import Header
from t2v_models.shards.write import (
    META_SUFFIX,
    file_sha256,
    is_being_written,
    read_metadata,
    sidecar_path,
)

Rows = list[dict[str, Any]]


def verify(folder: Path, on_shard: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """One sentence per damage; none if every byte is as it was written.

    A shard is one digest over all its bytes; only in a shard where that differs are clips looked at one by one.

    Args:
        folder: a dataset.
        on_shard: called after each shard with the number of shards done and their total.

    Raises:
        LabError: there is no such folder, or it has never been finished.
    """
    require_finished(folder)
    digest_of = cache(_digest)
    if _is_sound(folder, digest_of, on_shard):
        return _strays(folder, {name for name in _sums(folder) if name.endswith(".tar")})
    try:
        manifest = read_manifest(folder)
    except LabError as error:
        told = _faults(folder, [MANIFEST], digest_of) or [str(error)]
        return [*told, *_damage_by_sums(folder, digest_of), *_strays(folder, None)]
    shards = {shard.name for shard in manifest.shards}
    owner = {shard.sha256: shard.name for shard in manifest.shards}
    damage: list[str] = []
    for index in range(len(manifest.shards)):
        damage += _shard_damage(manifest, index, owner, digest_of)
        on_shard(index + 1, len(manifest.shards))
    beside = _beside(folder, len(shards))
    damage += _faults(folder, [*beside, SUMS], digest_of)
    odd = _unproven(folder, beside if damage else [*shards, *beside], digest_of)
    odd += [ascii(name) for name in sorted(set(_sums(folder)) - shards - set(beside))]
    return damage + _apart(odd) + _strays(folder, shards)


def _is_sound(folder: Path, digest_of: Callable[[Path], str], on_shard: Callable[[int, int], None]) -> bool:
    """Whether every file has the digest in `SHA256SUMS`. Decodes nothing: 10,000 rows cost as much as their clips."""
    sums = _sums(folder)
    if digest_of(folder / MANIFEST) != sums.get(MANIFEST):
        return False
    try:
        described = json.loads(read_metadata(folder / MANIFEST).get("shards", "[]"))
        shards = {str(shard["name"]): shard["sha256"] for shard in described}
    except (ValueError, TypeError, KeyError):
        return False
    beside = _beside(folder, len(shards))
    if set(sums) != {*beside, *shards} or any(digest_of(folder / name) != sums[name] for name in beside):
        return False
    for done, (name, sha256) in enumerate(shards.items(), 1):
        if not digest_of(folder / name) == sums[name] == sha256:
            return False
        on_shard(done, len(shards))
    return True


def _beside(folder: Path, shards: int) -> list[str]:
    """The files of a dataset that are no shards, but for `SHA256SUMS`."""
    return [CARD, MANIFEST, *(sidecar_path(folder, index).name for index in range(shards))]


class _Fault(str):
    """Why a file has no digest: the predicate of a sentence about it."""


def _digest(path: Path) -> str:
    """Hex digest of a file's bytes, or why it has none."""
    try:
        if not path.is_file():
            return _Fault("is no file" if os.path.lexists(path) else "is missing")
        return file_sha256(path)
    except OSError as error:
        return _Fault(f"cannot be read: {error.strerror}")


def _faults(folder: Path, names: Iterable[str], digest_of: Callable[[Path], str]) -> list[str]:
    """A sentence for each of these files that cannot be read."""
    found = {name: digest_of(folder / name) for name in names}
    return [f"{name} {fault}" for name, fault in found.items() if isinstance(fault, _Fault)]


def _unproven(folder: Path, names: Iterable[str], digest_of: Callable[[Path], str]) -> list[str]:
    """Those of these files that can be read and have another digest than `SHA256SUMS` names, if there are any sums."""
    sums, digests = _sums(folder), {name: digest_of(folder / name) for name in names}
    return [
        name for name, digest in digests.items() if sums and not isinstance(digest, _Fault) and digest != sums.get(name)
    ]


def _damage_by_sums(folder: Path, digest_of: Callable[[Path], str]) -> list[str]:
    """Without a manifest, damage to the files beside it."""
    names = [name for name in _sums(folder) if name == CARD or re.fullmatch(r"shard-\d+\.(tar|parquet)", name)]
    return _faults(folder, [*names, SUMS], digest_of) + _apart(_unproven(folder, names, digest_of))


def _apart(odd: list[str]) -> list[str]:
    return [f"{SUMS} and {_listed(odd)} do not belong together: one is damaged or of another dataset"] if odd else []


def _sums(folder: Path) -> dict[str, str]:
    """Digests by file name, as far as the file can be read."""
    text = ""
    with suppress(OSError):  # that it cannot be read is said where files are
        text = (folder / SUMS).read_bytes().decode(errors="replace") if (folder / SUMS).is_file() else ""
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in text.split("\n") if line)}


def _shard_damage(manifest: Manifest, index: int, owner: dict[str, str], digest_of: Callable[[Path], str]) -> list[str]:
    shard = manifest.shards[index]
    path = manifest.folder / shard.name
    found = digest_of(path)
    if found == shard.sha256:
        return []
    if faults := _faults(manifest.folder, [shard.name], digest_of):
        return faults
    rows: Rows = manifest.table.slice(manifest.starts[index], shard.clips).to_pylist()
    if found in owner:
        return [f"{shard.name} holds the bytes of {owner[found]}"]
    if found == read_metadata(sidecar_path(manifest.folder, index)).get("shard_sha256"):
        return [
            f"{shard.name} is whole but is not the shard that the manifest describes: one of them is of another dataset"
        ]
    size = path.stat().st_size
    damage = [f"{shard.name} has {size:,} bytes instead of {shard.size:,}"] if size != shard.size else []
    damage += _member_damage(path, shard, rows, FRAMES_SUFFIX[manifest.config.codec]) + _clip_damage(path, shard, rows)
    return damage or [f"{shard.name} has changed bytes outside its clips"]


def _member_damage(path: Path, shard: Shard, rows: Rows, frames_suffix: str) -> list[str]:
    """Members that are missing from the tar file, or should not be there."""
    expected = {row["key"] + suffix for row in rows for suffix in (frames_suffix, META_SUFFIX)}
    found: set[str] = set()
    damage = []
    try:
        with tarfile.open(path, "r:", tarinfo=Header) as tar:
            for member in tar:
                found.add(member.name)
    except (tarfile.TarError, OSError) as error:
        damage = [f"{shard.name} cannot be read as a tar file to its end: {error}"]
    for name, members in (("extra", found - expected), ("missing", expected - found)):
        if members:
            damage.append(f"{shard.name} has {name} members: {_listed(sorted(members))}")
    return damage


def _clip_damage(path: Path, shard: Shard, rows: Rows) -> list[str]:
    """Clips whose stored bytes are not those of the manifest's row."""
    content = path.read_bytes()
    damaged: dict[str, list[str]] = {}
    for row in rows:
        frames, meta = (
            content[row[f"{part}_offset"] : row[f"{part}_offset"] + row[f"{part}_size"]] for part in ("frames", "meta")
        )
        if hashlib.sha256(frames).digest() != row["frames_sha256"]:
            damaged.setdefault("changed pixels", []).append(row["key"])
        if hashlib.sha256(meta).digest() != row["meta_sha256"]:
            damaged.setdefault("changed caption or ground truth", []).append(row["key"])
    return [f"{shard.name} has {what} in clips {_listed(keys)}" for what, keys in damaged.items()]


def _listed(names: list[str]) -> str:
    """The first few names, so that a cut file is one sentence and not a thousand."""
    more = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _strays(folder: Path, known: set[str] | None) -> list[str]:
    """Files that no writer left on purpose; `known` are the shards, if that is known."""
    extra = [p.name for p in sorted(folder.glob("shard-*.tar")) if known is not None and p.name not in known]
    temporary = [p.name for p in sorted(folder.glob("*.tmp")) if not is_being_written(p)]
    return [f"{name} is no shard of this dataset" for name in extra] + [
        f"{name} is left over from a writer that was killed" for name in temporary
    ]
