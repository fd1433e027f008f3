"""Clips to tar files: the bytes of a shard are a function of (config, index) and of nothing else.

A clip is two members, its pixels (`codec`) and `KEY.json` (caption and ground truth), so any tar or WebDataset reader
opens a shard. Beside `shard-00000.tar` lies `shard-00000.parquet`, its rows of the manifest: written after the tar, it
proves that the tar is whole.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import IO

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from t2v_models.clips.spec import ClipSpec, Codec, sides_alike
from t2v_models.config import LabError, flatten
from t2v_models.files import HOST, atomic, remove
from t2v_models.shards.codec import FRAMES_SUFFIX, Packer
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.tar import TarWriter
from t2v_models.worlds.dataset import DatasetConfig, draw_clips

META_SUFFIX = ".json"
DRAWN_CLIPS, DRAWN_PIXELS = 1000, 25_000_000
"""Most clips, and pixels of clips, that are drawn together: many are cheaper each, fewer need less memory."""
FOREIGN_SECONDS = 3600
"""After which a file that a process on another machine was writing counts as left behind."""
_WRITER = re.compile(r"\.([0-9]+)(?:@([^.]*))?\.tmp$")
"""Without a host in names of earlier versions."""
_WORD = pa.dictionary(pa.int32(), pa.string())
_HASH = pa.binary(32)

_LABELS = [("key", pa.string()), ("caption", _WORD)]
_PLACE = [
    ("shard", _WORD), ("index_in_shard", pa.int32()),
    *((n, pa.int64()) for n in ("frames_offset", "frames_size", "meta_offset", "meta_size")),
    ("frames_sha256", _HASH), ("meta_sha256", _HASH),
]  # fmt: skip
_KINDS = {"word": _WORD, "text": pa.string(), "count": pa.int64()}
"""Of the columns that a configuration names."""


@dataclass(frozen=True)
class PackedClip:
    """A clip ready to be stored."""

    caption: str
    frames: bytes
    meta: bytes
    facts: tuple[object, ...]
    """Its values for the columns between caption and shard."""


@dataclass(frozen=True)
class WrittenShard:
    """A tar file that is under its final name, and its rows."""

    table: pa.Table
    sha256: str
    size: int


def row_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The columns of side-cars and manifest, given those of the configuration.

    Offsets and sizes are bytes in the tar, digests are of the bytes as stored.
    """
    return pa.schema([*_LABELS, *((name, _KINDS[kind]) for name, kind in columns.items()), *_PLACE])


def holds_clips(schema: pa.Schema) -> bool:
    """Whether a manifest says where its clips are. What else is known of them is not the same in every version."""
    return all(field in schema for field in row_schema({}))


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"shard-{index:05d}.tar"


def sidecar_path(folder: Path, index: int) -> Path:
    """The rows of shard `index`."""
    return folder / f"shard-{index:05d}.parquet"


def shape_facts(spec: ClipSpec) -> tuple[int, int, int]:
    """The values of `shape_columns`."""
    return spec.frames, spec.height, spec.width


def clip_key(index: int) -> str:
    """Name of clip `index` in its shard; WebDataset cuts keys at the first dot, so there is none."""
    return f"{index:09d}"


def write_shard(folder: Path, config: DatasetConfig, index: int) -> bool:
    """Render shard `index` into `folder`, unless it is already there and whole.

    Returns:
        Whether anything was rendered.

    Raises:
        LabError: the folder holds another dataset; it cannot be written; a caption means something held out.
    """
    assert 0 <= index < config.shards, (index, config.shards)
    for path in (folder / shard_name(index), sidecar_path(folder, index)):
        clear_stale(path)
    if is_whole(folder, config, index):
        return False
    one, indices = config.in_shard(index)
    _check_no_leak(one)
    clips = _rendered(one, indices, shape_facts(one.spec) if config.buckets else ())
    first = one.first + indices.start
    write_sidecar(
        folder, config, index, write_tar(folder, index, clips, first, row_schema(config.columns), config.codec)
    )
    return True


def write_tar(
    folder: Path, index: int, clips: Iterable[PackedClip], first: int, schema: pa.Schema, codec: Codec
) -> WrittenShard:
    """Write shard `index` from clips `first`, `first + 1`, ...; without its side-car it still counts as unfinished.

    Raises:
        LabError: it cannot be written.
    """
    with atomic(folder / shard_name(index)) as stream:
        tar = ShardTar(stream, index, schema, codec)
        for number, clip in enumerate(clips, first):
            tar.add(clip, number)
        return tar.finish()


class ShardTar:
    """A shard that is written clip by clip.

    Args:
        stream: the tar file.
        index: which shard it is.
        schema: the columns of its rows.
        codec: how its pixels are stored.
    """

    def __init__(self, stream: IO[bytes], index: int, schema: pa.Schema, codec: Codec) -> None:
        self._tar, self._rows = TarWriter(stream), list[tuple[object, ...]]()
        self._index, self._schema, self._codec = index, schema, codec

    @property
    def clips(self) -> int:
        """So far."""
        return len(self._rows)

    def add(self, clip: PackedClip, number: int) -> None:
        """Write a clip's two members under its number in the dataset."""
        place, name = len(self._rows), shard_name(self._index)
        key = clip_key(number)
        offsets = self._tar.add((key + FRAMES_SUFFIX[self._codec], clip.frames), (key + META_SUFFIX, clip.meta))
        digests = hashlib.sha256(clip.frames).digest(), hashlib.sha256(clip.meta).digest()
        sizes = len(clip.frames), len(clip.meta)
        at = name, place, offsets[0], sizes[0], offsets[1], sizes[1]
        self._rows.append((key, clip.caption, *clip.facts, *at, *digests))

    def finish(self) -> WrittenShard:
        """End the file."""
        self._tar.finish()
        columns = [
            pa.array(values, field.type)
            for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        table = pa.table(columns, schema=self._schema)
        return WrittenShard(table, self._tar.sha256.hexdigest(), self._tar.size)


def write_sidecar(folder: Path, config: DataConfig, index: int, shard: WrittenShard) -> None:
    """Write the rows of a shard: from now on it counts as finished."""
    metadata = config_metadata(config) | {"shard_sha256": shard.sha256, "shard_size": str(shard.size)}
    with atomic(sidecar_path(folder, index)) as stream:
        table = shard.table.replace_schema_metadata(metadata)
        words = [field.name for field in table.schema if field.type == _WORD]
        pq.write_table(table, stream, compression="zstd", write_page_checksum=True, use_dictionary=words)


def is_whole(folder: Path, config: DataConfig, index: int) -> bool:
    """Whether shard `index` is there with the bytes that its side-car names.

    Raises:
        LabError: it is a shard of another dataset.
    """
    metadata = read_metadata(sidecar_path(folder, index))
    if "shard_sha256" not in metadata:
        return False
    require_config(folder, metadata, config)
    if pq.read_schema(sidecar_path(folder, index)).remove_metadata() != row_schema(config.columns):
        return False  # of an earlier version
    tar = folder / shard_name(index)
    return tar.is_file() and file_sha256(tar) == metadata["shard_sha256"]


def config_metadata(config: DataConfig) -> dict[str, str]:
    """What side-cars and manifest say of the dataset they belong to."""
    return {"config": config.model_dump_json(), "config_digest": config.digest}


def read_metadata(path: Path) -> dict[str, str]:
    """Schema metadata of a Parquet file; empty if the file is missing, damaged or has none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return {k.decode(): v.decode() for k, v in metadata.items()}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return {}


def require_config(folder: Path, metadata: dict[str, str], config: DataConfig) -> None:
    """Refuse a folder that holds clips of another configuration.

    Raises:
        LabError: naming every key that differs with the old and the new value.
    """
    if metadata.get("config_digest") == config.digest:
        return
    there, asked = flatten(json.loads(metadata.get("config", "{}"))), flatten(config.model_dump(mode="json"))
    old, new = sides_alike(there, asked)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    changes = ", ".join(f"{key} is {old.get(key)!r} there and {new.get(key)!r} asked" for key in keys)
    raise LabError(
        f"{folder} holds another dataset ({changes or 'another version of the renderer drew it'}): "
        "choose another folder, give the same options, or delete it"
    )


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def clear_stale(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left beside it.

    Those of this machine go at once. Whether a writer on another machine lives cannot be asked: its file goes when
    nothing has been written to it for an hour.
    """
    for temporary in path.parent.glob(f"{path.name}.*.tmp"):
        if _WRITER.search(temporary.name) and not is_being_written(temporary):
            remove(temporary)


def is_being_written(temporary: Path) -> bool:
    """Whether the process named in `NAME.PID@HOST.tmp` lives and is old enough to have written the file."""
    writer = _WRITER.search(temporary.name)
    if not writer:
        return False
    pid, host = writer.groups()
    try:
        written = temporary.lstat().st_mtime
        if host not in (None, HOST):
            return time.time() - written < FOREIGN_SECONDS
        process = psutil.Process(int(pid))
        lives = process.status() != psutil.STATUS_ZOMBIE  # dead, but nobody has asked how
        return lives and process.create_time() <= written
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


@lru_cache(8)
def _check_no_leak(config: DatasetConfig) -> None:
    """Once a process: a world of thousands of captions takes as long for it as for a tenth of a shard.

    Raises:
        LabError: a caption means something held out.
    """
    config.rules.check_no_leak(config, config.prompts)


def _rendered(config: DatasetConfig, indices: range, shape: tuple[int, ...]) -> Iterator[PackedClip]:
    """Draw, render and pack clips, many at a time and step by step: small steps taken in turns cost twice as much.
    `shape` is what their rows say of it."""
    spec = config.spec
    packer = Packer(spec, config.codec)
    step = max(1, min(DRAWN_CLIPS, DRAWN_PIXELS // (spec.frames * spec.height * spec.width)))
    for start in range(indices.start, indices.stop, step):
        here = range(start, min(start + step, indices.stop))
        captions, scenes = zip(*draw_clips(config, here), strict=True)
        pixels = [packer.packed() for _ in config.rules.render(scenes, spec, repeat(packer.frames))]
        stored = config.rules.stored(scenes, spec)
        metas = [
            to_json({"caption": caption, "fps": spec.fps, "key": clip_key(config.first + i)} | truth)
            for i, caption, truth in zip(here, captions, stored, strict=True)
        ]
        facts = [(*shape, to_json(scene.objects).decode()) for scene in scenes]
        yield from map(PackedClip, captions, pixels, metas, facts)
