"""People's own captioned clips to the same shards as rendered ones: decode, resample, fit, cut into windows, store.

What becomes no clip is listed with the reason (`told`). Source files kept for validation become a dataset
of their own in the folder `validation` of the first. Clips are a function of the files, their names and the options.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.config import LabError, flatten
from t2v_models.files import remove
from t2v_models.processes import process_pool
from t2v_models.shards.ingested import IngestConfig, IngestOptions, config_digest
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.sources import Listing, Source, list_sources, source_digest
from t2v_models.shards.told import REJECTS, Reject, write_told
from t2v_models.shards.windows import Window, Windows, windows
from t2v_models.shards.write import (
    PackedClip,
    WrittenShard,
    clear_stale,
    clip_key,
    read_metadata,
    row_schema,
    write_sidecar,
    write_tar,
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


Mapper = Callable[[Callable[[Source], Windows], list[Source]], Iterable[Windows]]


def ingest(
    source: Path,
    out: Path,
    options: IngestOptions,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    mapper: Mapper = map,
    on_source: Callable[[int, int], None] = lambda done, total: None,
) -> Ingested:
    """Make a dataset in `out` from a folder or a table of clips, or leave a complete one of the same clips alone.

    Args:
        source: a folder, or a table with the columns path and caption.
        out: folder of the dataset.
        options: how files become clips.
        captions: a table for a folder; without it, captions stand in text files beside the clips.
        columns: what the table's columns are called, where they have unusual names.
        mapper: `map`, or `isolated(workers)` for several processes that may crash.
        on_source: called with the number of sources done and their total.

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
    write_told(out, listing.rejects, listing.notices)  # it also says whose the tar files beside it are
    writers = {name: _SplitWriter(folder, options) for name, folder in _folders(out).items()}
    splits = _split(sources, options.validation)
    owner: dict[bytes, str] = {}
    work = partial(windows, options)
    for number, (item, found) in enumerate(zip(sources, mapper(work, sources), strict=True), 1):
        if isinstance(found, str):
            rejects.append(Reject(item.path, None, found))
            found = []
        for window in found:
            if isinstance(window, Reject):
                rejects.append(window)
                continue
            if window.sha256 in owner:
                reason = f"the same frames are in another clip: in {owner[window.sha256]}"
                rejects.append(Reject(item.path, window.first, reason))
                continue
            owner[window.sha256] = item.path
            writers[splits[item.path]].add(item, window)
        on_source(number, len(sources))
    write_told(out, listing.rejects, listing.notices)
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


def isolated(workers: int) -> Mapper:
    """A mapper over processes, in which a decoder that crashes takes only its own file with it."""

    def run(work: Callable[[Source], Windows], sources: list[Source]) -> Iterator[Windows]:
        rest = iter(sources)
        pool = process_pool(workers)
        waiting: list[tuple[Source, Future[Windows]]] = []

        def submit(item: Source) -> Future[Windows]:
            try:
                return pool.submit(work, item)
            except BrokenProcessPool as error:  # since the last result was asked for: as what was at work then
                broken: Future[Windows] = Future()
                broken.set_exception(error)
                return broken

        try:
            while True:
                waiting += [(item, submit(item)) for item in islice(rest, 2 * workers - len(waiting))]
                if not waiting:
                    return
                try:
                    result = waiting[0][1].result()
                except BrokenProcessPool:
                    result = _alone(work, waiting[0][0])
                    pool.shutdown()
                    pool = process_pool(workers)
                    waiting[1:] = [(item, submit(item)) for item, _ in waiting[1:]]
                waiting.pop(0)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _alone(work: Callable[[Source], Windows], source: Source) -> Windows:
    """Try once more what was at work when a process died: it may have been another file's fault."""
    with process_pool(1) as pool:
        try:
            return pool.submit(work, source).result()
        except BrokenProcessPool:
            return "the decoder crashed on it"


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


class _SplitWriter:
    """Clips of one split, written a shard at a time. Side-cars wait until it is known how many clips there are."""

    def __init__(self, folder: Path, options: IngestOptions) -> None:
        self.folder, self.options = folder, options
        self.clips = 0
        self.captions: dict[str, None] = {}
        self._shards: list[WrittenShard] = []
        self._waiting: list[PackedClip] = []
        for stale in (folder / MANIFEST, *folder.glob("shard-*.tar"), *folder.glob("shard-*.parquet")):
            remove(stale)  # of an ingest that did not finish, or whose files were lost: first what calls them complete
        for name in ("shard-*.tar", "shard-*.parquet"):
            clear_stale(folder / name)

    def add(self, source: Source, window: Window) -> None:
        """Store a clip."""
        facts = {"source": source.path, "source_frame": window.first}
        meta = {"key": clip_key(self.clips), "caption": window.caption, "fps": self.options.spec.fps} | facts
        content = json.dumps(meta, sort_keys=True).encode()
        self._waiting.append(PackedClip(window.caption, window.frames, content, tuple(facts.values())))
        self.captions.setdefault(window.caption)
        self.clips += 1
        if len(self._waiting) == self.options.clips_per_shard:
            self._flush()

    def finish(self, split: Split, digest: str) -> None:
        """Write side-cars and manifest, if there is any clip."""
        if not self.clips:
            return
        if self._waiting:
            self._flush()
        captions = list(self.captions)
        config = IngestConfig(
            **self.options.model_dump(), split=split, source_sha256=digest, clips=self.clips,
            prompts=tuple(dict.fromkeys(c.split("\n")[0] for c in captions[:: -(-len(captions) // SHOWN_PROMPTS)])),
        )  # fmt: skip
        for index, shard in enumerate(self._shards):
            write_sidecar(self.folder, config, index, shard)
        finish(self.folder, config)

    def _flush(self) -> None:
        first, schema = len(self._shards) * self.options.clips_per_shard, row_schema(IngestConfig.columns)
        self._shards.append(write_tar(self.folder, len(self._shards), self._waiting, first, schema, self.options.codec))
        self._waiting = []


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
