"""The one file that says what a dataset is: a row per clip, written last, so that its presence means completeness."""

import hashlib
import json
import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import atomic, write
from t2v_models.shards.codec import FRAMES_SUFFIX
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.rows import read_rows, rows_digest
from t2v_models.shards.write import (
    clear_stale,
    config_metadata,
    file_sha256,
    holds_clips,
    read_metadata,
    require_config,
    row_schema,
    shape_facts,
    shard_name,
    sidecar_path,
)
from t2v_models.worlds.dataset import shape_columns

VALIDATION = "validation"
"""Folder of the clips kept for validation, a dataset of its own, in that of those to train on."""
MANIFEST, SUMS, CARD = "manifest.parquet", "SHA256SUMS", "README.md"
"""The second is for `sha256sum --check` and for `verify`: digests of all other files."""
BLOCK_BYTES = 2**30
"""Larger datasets are shuffled this much at a time, so that whoever reads them from afar need not hold them whole."""
ROW_GROUP = 65_536
"""Rows of the manifest that are read at a time: a group for each shard took four times as long."""
_CONFIG: TypeAdapter[DataConfig] = TypeAdapter(DataConfig)


@dataclass(frozen=True)
class Shard:
    """One tar file as it was written."""

    name: str
    sha256: str
    size: int
    """Bytes."""
    clips: int
    captions: int
    """Different ones."""
    pixel_bytes: int
    """As stored, of all clips."""


@dataclass(frozen=True)
class Manifest:
    """A dataset that is complete."""

    folder: Path
    config: DataConfig
    digest: str
    """16 hex digits that change with any byte of any shard."""
    shards: tuple[Shard, ...]
    table: pa.Table
    """`write.row_schema`, one row per clip; row i is clip i. Each column is one piece."""

    @property
    def spec(self) -> ClipSpec:
        return self.config.spec

    def caption(self, row: int) -> str:
        """Of a clip; of one with several, each is a line of it."""
        caption: str = self._caption[row].as_py()
        return caption

    @cached_property
    def captions(self) -> list[str]:
        """Of every clip. Equal ones are one object; a million different ones take 100 MB."""
        words = np.array(self._caption.dictionary.to_pylist(), object)
        captions: list[str] = words[self.caption_codes].tolist()
        return captions

    @cached_property
    def caption_codes(self) -> NDArray[np.int32]:
        """Of every clip a number, equal for equal captions."""
        codes: NDArray[np.int32] = np.from_dlpack(self._caption.indices)  # type: ignore[assignment]  # of any dtype
        return codes

    def numbers(self, column: str) -> NDArray[np.int64]:
        """A column of numbers, not copied."""
        numbers: NDArray[np.int64] = np.from_dlpack(self.table[column].chunk(0))  # type: ignore[assignment]  # of any
        return numbers

    @property
    def _caption(self) -> pa.DictionaryArray:
        return self.table["caption"].chunk(0)

    @cached_property
    def shapes(self) -> tuple[ClipSpec, ...]:
        """Of its buckets: one, or several."""
        return tuple(one.spec for one in self.config.one_shape)

    @cached_property
    def bucket_of(self) -> NDArray[np.int64]:
        """Of every clip the number of its shape in `shapes`."""
        if len(self.shapes) == 1:
            return np.zeros(len(self.table), np.int64)
        facts = np.stack([self.numbers(name) for name in shape_columns(self.config.buckets)], 1)
        numbers = np.full(len(facts), -1)
        for number, spec in enumerate(self.shapes):
            numbers[(facts == shape_facts(spec)).all(1)] = number
        return numbers

    @cached_property
    def buckets(self) -> tuple[NDArray[np.int64], ...]:
        """The clips of every shape."""
        return tuple(np.flatnonzero(self.bucket_of == number) for number in range(len(self.shapes)))

    @cached_property
    def starts(self) -> list[int]:
        """The first clip of every shard, and behind the last one the number of clips."""
        return [0, *accumulate(shard.clips for shard in self.shards)]

    def shard_of(self, row: int) -> int:
        """The shard in which a clip lies."""
        return bisect_right(self.starts, row) - 1

    @property
    def block(self) -> int | None:
        """Shards that an epoch of a bucket goes through at a time (`stream.blocked_order`), wherever they lie; None for
        all."""
        total = sum(shard.size for shard in self.shards) * len(self.shapes)
        return max(1, BLOCK_BYTES * len(self.shards) // total) if total > BLOCK_BYTES else None

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the manifest and see that every shard is there with its size.

        Raises:
            LabError: no such folder, no manifest, not a manifest, or a shard that is missing or cut.
        """
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            path = folder / shard.name
            if not path.is_file():
                raise LabError(f"{path} is missing: {_again(manifest.config)} to make it anew")
            if path.stat().st_size != shard.size:
                raise LabError(
                    f"{path} has {path.stat().st_size:,} bytes instead of {shard.size:,}: "
                    f"{_again(manifest.config)} to make it anew"
                )
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest alone; the shards may be missing or damaged.

    Raises:
        LabError: no such folder, no manifest, or not a manifest.
    """
    require_finished(folder)
    path = folder / MANIFEST
    metadata = read_metadata(path)
    try:
        config = _CONFIG.validate_json(metadata["config"])
        shards = tuple(Shard(**shard) for shard in json.loads(metadata["shards"]))
        table = read_rows(path)
    except (KeyError, TypeError, ValueError, ValidationError, OSError, pa.ArrowException) as error:
        raise _not_a_manifest(path) from error
    found = dataset_digest(shards), table.num_rows, len(shards)
    if found != (metadata.get("dataset_digest"), config.clips, config.shards) or not holds_clips(table.schema):
        raise _not_a_manifest(path)
    if rows_digest(table) != metadata.get("rows_sha256"):
        raise _not_a_manifest(path)
    pa.default_memory_pool().release_unused()  # a fifth of what a million rows took while they were read
    return Manifest(folder, config, metadata["dataset_digest"], shards, table)


def require_finished(folder: Path) -> None:
    """See that a folder has a manifest, damaged or not.

    Raises:
        LabError: no such folder, or no manifest.
    """
    if not os.path.isdir(folder):
        raise LabError(f"there is no folder {folder}: name the folder of a dataset, or make one with `t2v render`")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise LabError(f"{folder} may not be read: change its permissions, or choose another folder")
    if not os.path.lexists(folder / MANIFEST):
        if any(folder.glob("shard-*.tar*")):
            raise LabError(f"{folder} is half-written: run `t2v render` again with the same options to finish it")
        if any(folder.glob("*.tar*")):
            raise LabError(
                f"{folder} holds tars of others and no {MANIFEST}: make a dataset of them by `t2v ingest` and name it"
            )
        what = "is a run" if (folder / "checkpoints").is_dir() else f"holds no {MANIFEST}"
        raise LabError(f"{folder} {what}: name the folder of a dataset, or make one with `t2v render`")


def finish(folder: Path, config: DataConfig) -> Manifest:
    """Join the side-cars of all shards into the manifest, once every shard is written.

    Side-cars stay: each goes on proving its shard, so a shard that is lost later is drawn again without the others.

    Raises:
        LabError: a shard is not finished; the folder holds another dataset; it cannot be written.
    """
    check_folder(folder, config)
    side_cars = [sidecar_path(folder, index) for index in range(config.shards)]
    found = [read_metadata(path) for path in side_cars]
    for index, metadata in enumerate(found):
        tar = folder / shard_name(index)
        if "shard_size" not in metadata or not tar.is_file() or tar.stat().st_size != int(metadata["shard_size"]):
            raise LabError(f"{tar} is not finished: {_again(config)} to finish it")
        require_config(folder, metadata, config.of_shard(index))
    tables = [pq.read_table(path, page_checksum_verification=True) for path in side_cars]
    shards = tuple(
        Shard(shard_name(i), m["shard_sha256"], int(m["shard_size"]), *_statistics(table))
        for i, (m, table) in enumerate(zip(found, tables, strict=True))
    )
    metadata = config_metadata(config) | {
        "rows_sha256": rows_digest(pa.concat_tables(table.replace_schema_metadata() for table in tables)),
        "spec": config.spec.model_dump_json(),
        "shards": json.dumps([shard.__dict__ for shard in shards]),
        "dataset_digest": dataset_digest(shards),
        "versions": json.dumps({name: version(name) for name in ("numpy", "pyarrow")}),
    }
    for path in (folder / CARD, folder / SUMS, folder / MANIFEST):
        clear_stale(path)
    card = write(folder / CARD, _card(config, shards, (folder / VALIDATION / MANIFEST).is_file()))
    schema = row_schema(config.columns).with_metadata(metadata)
    options = {"compression": "zstd", "write_page_checksum": True, "write_page_index": True}
    with atomic(folder / MANIFEST) as stream:
        with pq.ParquetWriter(stream, schema, **options) as writer:
            rows = pa.concat_tables(table.replace_schema_metadata(metadata) for table in tables)
            for first in range(0, rows.num_rows, ROW_GROUP):  # each with its own words, not with those of all
                writer.write_table(rows.slice(first, ROW_GROUP).unify_dictionaries(), row_group_size=ROW_GROUP)
        stream.flush()
        proven = [(shard.sha256, shard.name) for shard in shards]
        proven += [(file_sha256(path), path.name) for path in (*side_cars, card)]
        proven.append((file_sha256(Path(stream.name)), MANIFEST))
        write(folder / SUMS, "".join(f"{sha256}  {name}\n" for sha256, name in proven))
    return Manifest.load(folder)


def check_folder(folder: Path, config: DataConfig) -> None:
    """Refuse a folder that holds a dataset of another configuration, complete or not.

    Raises:
        LabError: naming every key that differs with the old and the new value.
    """
    for path in (folder / MANIFEST, *sorted(folder.glob("shard-*.parquet"))[:1]):
        metadata = read_metadata(path)
        if "config_digest" in metadata and metadata["config_digest"] not in [state.digest for state in config.states]:
            require_config(folder, metadata, config)


def is_complete(folder: Path, config: DataConfig) -> bool:
    """Whether nothing is left to render: a manifest, and every shard with its size. Cheap: reads no shard.

    Raises:
        LabError: the folder holds another dataset.
    """
    check_folder(folder, config)
    try:
        Manifest.load(folder)
    except LabError:
        return False
    return True


def dataset_digest(shards: tuple[Shard, ...]) -> str:
    """16 hex digits over the names and digests of the shards, in order."""
    text = "".join(f"{shard.name} {shard.sha256}\n" for shard in shards)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _statistics(table: pa.Table) -> tuple[int, int, int]:
    """Clips of a shard, their different captions, and the bytes of their pixels."""
    return len(table), len(table["caption"].unique()), sum(table["frames_size"].to_pylist())


def _again(config: DataConfig) -> str:
    return f"run `t2v {config.command}` again with the same options"


def _not_a_manifest(path: Path) -> LabError:
    return LabError(
        f"{path} is damaged or is no manifest: delete it and run again what made the dataset, `t2v render` or "
        "`t2v ingest`, with the same options"
    )


def _card(config: DataConfig, shards: tuple[Shard, ...], validated: bool) -> str:
    """The dataset card, with the front matter the Hugging Face hub reads; it names both splits, if there are two."""
    beside = f'\n  - split: validation\n    path: "{VALIDATION}/shard-*.tar"' if validated else ""
    spec, bound = config.spec, next(size for size in (1, 10, 100, 1000, 10_000) if config.clips <= size * 1000)
    category = {1: "n<1K", 10: "1K<n<10K", 100: "10K<n<100K", 1000: "100K<n<1M", 10_000: "1M<n<10M"}[bound]
    captions = "\n".join(f"- {prompt}" for prompt in config.prompts)
    shapes = f"Each clip has {spec.frames} frames of {spec.width}x{spec.height} pixels"
    if config.buckets:
        each = [f"{b.clips:,} of {b.spec.frames} x {b.spec.width}x{b.spec.height}" for b in config.buckets]
        shapes = f"Clips of several shapes, frames x pixels: {', '.join(each)};"
    pixels = {
        "lz4": "an .npy file of uint8 `(frames, height, width, 3)` in an LZ4 frame",
        "npy": "an .npy file of uint8 `(frames, height, width, 3)`",
        "webp": "a lossless animation",
    }[config.codec]
    return f"""---
pretty_name: {config.world}, {config.clips} captioned clips
task_categories: [text-to-video]
size_categories: ["{category}"]
tags: [webdataset, video{", synthetic" if config.truth else ""}]
configs:
- config_name: default
  data_files:
  - split: {config.split}
    path: "shard-*.tar"{beside}
---
# {config.world}: {config.clips:,} captioned clips

{shapes} at {spec.fps} frames per second.
{len(shards):,} shards of up to {config.clips_per_shard:,} clips, {sum(s.size for s in shards) / 1e6:,.1f} MB in all;
the pixels of a clip take {sum(s.pixel_bytes for s in shards) / config.clips:,.0f} bytes as stored.
Digest `{dataset_digest(shards)}`; configuration `{config.digest}`.

`shard-*.tar` are WebDataset shards with two members a clip:

- `KEY{FRAMES_SUFFIX[config.codec]}`, {pixels};
- `KEY.json` with the {config.known}.

`{MANIFEST}` has one row per clip with all of this, its place and checksums.

{config.about}:

{captions}
"""
