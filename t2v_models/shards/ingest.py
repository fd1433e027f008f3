"""People's own captioned clips to the same shards as rendered ones: decode, resample, fit, cut into windows, store.

What becomes no clip is listed with the reason (`told`). Source files kept for validation become a dataset
of their own in the folder `validation` of the first. Clips are a function of the files, their names and the options.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.config import LabError, flatten
from t2v_models.files import atomic, remove
from t2v_models.shards.ingested import IngestConfig, IngestOptions, config_digest
from t2v_models.shards.isolated import Mapper, in_turn
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.sources import Listing, Source, list_sources, source_digest
from t2v_models.shards.spool import SPOOLS, spool_path
from t2v_models.shards.told import REJECTS, Reject, write_told
from t2v_models.shards.windows import Job, Window, windows
from t2v_models.shards.write import (
    PackedClip,
    ShardTar,
    WrittenShard,
    clear_stale,
    clip_key,
    read_metadata,
    row_schema,
    shard_name,
    write_sidecar,
)

SHOWN_PROMPTS = 16
"""Captions that a model is sampled with while it trains."""

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class Ingested:
    """How an ingest ended."""

    sources: int
    train: int
    validation: int
    rejects: int
    """Files, and parts of files."""


def ingest(
    source: Path,
    out: Path,
    options: IngestOptions,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    mapper: Mapper = in_turn,
    on_source: Callable[[float, int], None] = lambda done, total: None,
) -> Ingested:
    """Make a dataset in `out` from a folder or a table of clips, or leave a complete one of the same clips alone.

    Args:
        source: a folder, or a table with the columns path and caption.
        out: folder of the dataset.
        options: how files become clips.
        captions: a table for a folder; without it, captions stand in text files beside the clips.
        columns: what the table's columns are called, where they have unusual names.
        mapper: `in_turn`, or `isolated(workers)` for several processes that may crash.
        on_source: called with the number of sources done and their total; a part of a source counts as a part.

    Raises:
        LabError: nothing to read; a table that is none; no usable clip; `out` holds something else, or cannot be
            written.
    """
    listing = look(source, out, captions, columns)
    rejects = listing.rejects
    sources, digest = _digested(listing.sources, rejects)
    if not sources:
        raise _nothing(source, rejects)
    wanted = options.model_dump() | {"source_fps": options.source_fps, "world": "ingested", "source_sha256": digest}
    done = _finished(out, wanted, len(sources))
    if done:
        return done
    write_told(out, rejects, listing.notices)  # it also says whose the tar files beside it are
    clear_stale(out / SPOOLS)
    jobs = [Job(item, spool_path(out, number)) for number, item in enumerate(sources)]
    with ExitStack() as stack:
        stack.callback(_remove_spools, jobs)
        writers = {name: stack.enter_context(_SplitWriter(folder, options)) for name, folder in _folders(out).items()}
        found = mapper(partial(windows, options), jobs, lambda share: on_source(ended + share, len(jobs)))
        stack.callback(found.close)  # first of all, so that nothing writes what is removed
        splits, owner, ended = _split(sources, options.validation), dict[bytes, str](), 0
        for ended, (job, result) in enumerate(zip(jobs, found, strict=True), 1):
            path = job.source.path
            for item in [Reject(path, None, result)] if isinstance(result, str) else result:
                if isinstance(item, Window) and item.sha256 in owner:
                    rejects.append(
                        Reject(path, item.first, f"the same frames are in another clip: in {owner[item.sha256]}")
                    )
                elif isinstance(item, Window):
                    owner[item.sha256] = path
                    writers[splits[path]].add(path, item, job.spool)
                elif isinstance(item, Reject):
                    rejects.append(item)
                else:
                    listing.notices.append(item)
            remove(job.spool)
            on_source(ended, len(jobs))
        write_told(out, rejects, listing.notices)
        if not writers["train"].clips:
            raise LabError(f"no clip of {source} can be used{_reasons(rejects)}: the reasons are in {out / REJECTS}")
        for name in ("validation", "train"):  # the manifest in `out` comes last: with it, all is complete
            writers[name].finish(name, digest)
    return Ingested(len(sources), writers["train"].clips, writers["validation"].clips, len(rejects))


def look(source: Path, out: Path, captions: Path | None = None, columns: Mapping[str, str] | None = None) -> Listing:
    """What there is to ingest: opens no clip, so that a mistake is told before any work.

    Raises:
        LabError: nothing to read; a table that is none; `out` lies in the folder that is read.
    """
    if source.is_dir() and captions is None and out.resolve().is_relative_to(source.resolve()):
        raise LabError(f"{out} lies inside {source}, which is to be read: choose a folder outside it")
    listing = list_sources(source, captions, columns)
    if not listing.sources:
        raise _nothing(source, listing.rejects)
    return listing


def _nothing(source: Path, rejects: list[Reject]) -> LabError:
    return LabError(f"{source} holds no clip with a caption{_reasons(rejects)}: see `t2v ingest --help`")


def _split(sources: list[Source], share: float) -> dict[str, Split]:
    """Which source goes where: the given share, rounded, in an order that only names decide; one stays to train on."""
    ranked = sorted((hashlib.sha256(item.path.encode()).digest(), item.path) for item in sources)
    count = min(round(share * len(sources)), len(sources) - 1)
    return {path: "validation" if rank < count else "train" for rank, (_, path) in enumerate(ranked)}


def _folders(out: Path) -> dict[Split, Path]:
    return {"train": out, "validation": out / "validation"}


def _digested(sources: list[Source], rejects: list[Reject]) -> tuple[list[Source], str]:
    """The sources that can be read, and one digest of them all."""
    readable, digest = [], hashlib.sha256()
    for item in sources:
        try:
            digest.update(source_digest(item).encode())
            readable.append(item)
        except OSError as error:
            rejects.append(Reject(item.path, None, f"it cannot be read: {error.strerror}"))
    return readable, digest.hexdigest()


def _remove_spools(jobs: list[Job]) -> None:
    for job in jobs:
        remove(job.spool)


class _SplitWriter(AbstractContextManager["_SplitWriter"]):
    """Clips of one split, written as they come. Side-cars wait until it is known how many clips there are."""

    def __init__(self, folder: Path, options: IngestOptions) -> None:
        self.folder, self.options = folder, options
        self.clips = 0
        self.captions: dict[str, None] = {}
        self._written: list[WrittenShard] = []
        self._file = ExitStack()
        self._shard: ShardTar | None = None
        """At work."""
        for stale in (folder / MANIFEST, *folder.glob("shard-*.tar"), *folder.glob("shard-*.parquet")):
            remove(stale)  # of an ingest that did not finish, or whose files were lost: first what calls them complete
        for name in ("shard-*.tar", "shard-*.parquet"):
            clear_stale(folder / name)

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def add(self, path: str, window: Window, spool: Path) -> None:
        """Store a clip of the source `path`, whose bytes lie in `spool`."""
        with spool.open("rb") as stored:
            stored.seek(window.place)
            frames = stored.read(window.size)
        facts = {"source": path, "source_frame": window.first}
        meta = {"key": clip_key(self.clips), "caption": window.caption, "fps": self.options.spec.fps} | facts
        content = json.dumps(meta, sort_keys=True).encode()
        self._shard = self._shard or self._begin()
        self._shard.add(PackedClip(window.caption, frames, content, tuple(facts.values())))
        self.captions.setdefault(window.caption)
        self.clips += 1
        if self.clips % self.options.clips_per_shard == 0:
            self._end(self._shard)

    def finish(self, split: Split, digest: str) -> None:
        """Write side-cars and manifest, if there is any clip."""
        if not self.clips:
            return
        if self._shard:
            self._end(self._shard)
        captions = list(self.captions)
        config = IngestConfig(
            **self.options.model_dump(), split=split, source_sha256=digest, clips=self.clips,
            prompts=tuple(dict.fromkeys(c.split("\n")[0] for c in captions[:: -(-len(captions) // SHOWN_PROMPTS)])),
        )  # fmt: skip
        for index, shard in enumerate(self._written):
            write_sidecar(self.folder, config, index, shard)
        finish(self.folder, config)

    def _begin(self) -> ShardTar:
        stream = self._file.enter_context(atomic(self.folder / shard_name(len(self._written))))
        return ShardTar(stream, len(self._written), self.clips, row_schema(IngestConfig.columns), self.options.codec)

    def _end(self, shard: ShardTar) -> None:
        self._written.append(shard.finish())
        self._file.close()
        self._shard = None


def _finished(out: Path, wanted: dict[str, object], sources: int) -> Ingested | None:
    """The counts of a complete ingest of the same clips with the same options.

    Raises:
        LabError: the folder holds another dataset, complete or not: naming what differs.
    """
    for folder in _folders(out).values():
        for path in (folder / MANIFEST, *sorted(folder.glob("shard-*.parquet"))[:1]):
            metadata = read_metadata(path)
            if "config" not in metadata:
                continue
            old, new = flatten(json.loads(metadata["config"])), flatten(wanted)
            keys = [key for key in new if old.get(key) != new[key]]
            changes = ", ".join(f"{key} is {old.get(key)!r} there and {new[key]!r} now" for key in keys)
            if not keys and metadata.get("config_digest") != config_digest(metadata["config"]):
                changes = "another version of the ingest made it"
            if changes:
                raise LabError(f"{folder} holds another dataset ({changes}): choose another folder or delete it")
        if any((*folder.glob("shard-*"), *folder.glob(MANIFEST))) and not (out / REJECTS).is_file():
            raise LabError(f"{folder} holds shards or a manifest of something else: choose another folder")
    try:
        train = len(Manifest.load(out).captions)
        folder = out / "validation"
        validation = len(Manifest.load(folder).captions) if (folder / MANIFEST).is_file() else 0
        return Ingested(sources, train, validation, pq.read_metadata(out / REJECTS).num_rows)
    except (LabError, OSError, pa.ArrowException):
        return None


def _reasons(rejects: list[Reject]) -> str:
    return f" ({len(rejects)} rejected; the first, {rejects[0].path}: {rejects[0].reason})" if rejects else ""
