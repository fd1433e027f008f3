"""The clips of one split as they come, straight into its shards; and its manifest once all have come."""

import json
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from t2v_models.clips.spec import Bucket, most_common
from t2v_models.files import atomic, remove
from t2v_models.shards.ingested import IngestConfig, IngestOptions, ingested_columns
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.windows import Window
from t2v_models.shards.write import (
    PackedClip,
    ShardTar,
    WrittenShard,
    clear_stale,
    clip_key,
    row_schema,
    shape_facts,
    shard_name,
    sidecar_path,
    write_sidecar,
)
from t2v_models.worlds.dataset import SHAPE_COLUMNS

SHOWN_PROMPTS = 16
"""Captions that a model is sampled with while it trains."""

Subset = Literal["train", "validation"]


class SplitWriter(AbstractContextManager["SplitWriter"]):
    """Clips of one split, written as they come. Side-cars wait until it is known how many clips there are.

    Args:
        folder: of the dataset.
        options: how files become clips.
        old: the dataset that is there and to which they are added; without it, what lies in the folder is removed.
    """

    def __init__(self, folder: Path, options: IngestOptions, old: Manifest | None = None) -> None:
        self.folder, self.options, self._old = folder, options, old
        self._first = len(old.shards) if old else 0
        self._clips = self.clips = old.config.clips if old else 0
        self._counts = (
            [bucket.clips for bucket in was] if old and (was := old.config.buckets) else [0] * len(options.shapes)
        )
        """Of each shape, where there are several."""
        self.captions = dict.fromkeys(old.captions if old else ())
        self._begun = self._first
        self._written: dict[int, WrittenShard] = {}
        self._open: dict[int, _Open] = {}
        """Shards at work, one a shape."""
        kept = [name(folder, index) for index in range(self._first) for name in (_tar, sidecar_path)]
        for stale in (folder / MANIFEST, *folder.glob("shard-*.tar"), *folder.glob("shard-*.parquet")):
            if not old or stale not in (folder / MANIFEST, *kept):
                remove(stale)  # of an ingest that did not finish, or lost files: first what calls them complete
        for name in ("shard-*.tar", "shard-*.parquet"):
            clear_stale(folder / name)

    def __exit__(self, *error: Any) -> None:
        for shard in self._open.values():
            shard.file.__exit__(*error)

    def add(self, path: str, window: Window, spool: Path) -> None:
        """Store a clip of the source `path`, whose bytes lie in `spool`."""
        with spool.open("rb") as stored:
            stored.seek(window.place)
            frames = stored.read(window.size)
        facts: dict[str, object] = {"source": path, "source_frame": window.first}
        if self._counts:
            self._counts[window.shape] += 1
            facts = dict(zip(SHAPE_COLUMNS, shape_facts(self.options.shapes[window.shape]), strict=True)) | facts
        meta = {"key": clip_key(self.clips), "caption": window.caption, "fps": self.options.spec.fps} | facts
        content = json.dumps(meta, sort_keys=True).encode()
        shard = self._open.get(window.shape) or self._begin(window.shape)
        shard.tar.add(PackedClip(window.caption, frames, content, tuple(facts.values())), self.clips)
        self.captions.setdefault(window.caption)
        self.clips += 1
        if shard.tar.clips == self.options.clips_per_shard:
            self._end(window.shape)

    def finish(self, split: Subset, digest: str) -> None:
        """Write side-cars and manifest, if any clip came; else the card alone, which names the other split, too."""
        if self.clips == self._clips:
            if self._old:
                finish(self.folder, self._old.config)
            return
        for shape in list(self._open):
            self._end(shape)
        captions = list(self.captions)
        was = cast(IngestConfig | None, self._old and self._old.config)  # only such are added to
        buckets = tuple(
            Bucket(spec=spec, clips=count) for spec, count in zip(self.options.shapes, self._counts, strict=True)
        )
        spec = was.spec if was else most_common(buckets) if buckets else self.options.spec
        config = IngestConfig(
            **self.options.model_dump() | {"spec": spec}, split=split, source_sha256=digest, clips=self.clips,
            buckets=buckets,
            prompts=tuple(dict.fromkeys(c.split("\n")[0] for c in captions[:: -(-len(captions) // SHOWN_PROMPTS)])),
            before=was.now if was else (),
        )  # fmt: skip
        for index, shard in sorted(self._written.items()):
            write_sidecar(self.folder, config, index, shard)
        finish(self.folder, config)

    def _begin(self, shape: int) -> "_Open":
        index, file = self._begun, ExitStack()
        self._begun += 1
        stream = file.enter_context(atomic(_tar(self.folder, index)))
        columns = row_schema(ingested_columns(self.options.shapes))
        self._open[shape] = _Open(index, file, ShardTar(stream, index, columns, self.options.codec))
        return self._open[shape]

    def _end(self, shape: int) -> None:
        shard = self._open[shape]
        self._written[shard.index] = shard.tar.finish()
        shard.file.close()
        del self._open[shape]


@dataclass(frozen=True)
class _Open:
    """A shard that is being written."""

    index: int
    file: ExitStack
    tar: ShardTar


def _tar(folder: Path, index: int) -> Path:
    return folder / shard_name(index)
