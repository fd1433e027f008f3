"""The clips of one split as they come, straight into its shards; and its manifest once all have come."""

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal, cast

from t2v_models.files import atomic, remove
from t2v_models.shards.ingested import IngestConfig, IngestOptions
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.windows import Window
from t2v_models.shards.write import (
    PackedClip,
    ShardTar,
    WrittenShard,
    clear_stale,
    clip_key,
    row_schema,
    shard_name,
    sidecar_path,
    write_sidecar,
)

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
        self._clips = self.clips = len(old.captions) if old else 0
        self.captions = dict.fromkeys(old.captions if old else ())
        self._written: list[WrittenShard] = []
        self._file = ExitStack()
        self._shard: ShardTar | None = None
        """At work."""
        kept = [name(folder, index) for index in range(self._first) for name in (_tar, sidecar_path)]
        for stale in (folder / MANIFEST, *folder.glob("shard-*.tar"), *folder.glob("shard-*.parquet")):
            if not old or stale not in (folder / MANIFEST, *kept):
                remove(stale)  # of an ingest that did not finish, or lost files: first what calls them complete
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
        if (self.clips - self._clips) % self.options.clips_per_shard == 0:
            self._end(self._shard)

    def finish(self, split: Subset, digest: str) -> None:
        """Write side-cars and manifest, if any clip came; else the card alone, which names the other split, too."""
        if self.clips == self._clips:
            if self._old:
                finish(self.folder, self._old.config)
            return
        if self._shard:
            self._end(self._shard)
        captions = list(self.captions)
        was = cast(IngestConfig | None, self._old and self._old.config)  # only such are added to
        config = IngestConfig(
            **self.options.model_dump(), split=split, source_sha256=digest, clips=self.clips,
            prompts=tuple(dict.fromkeys(c.split("\n")[0] for c in captions[:: -(-len(captions) // SHOWN_PROMPTS)])),
            before=was.now if was else (),
        )  # fmt: skip
        for index, shard in enumerate(self._written, self._first):
            write_sidecar(self.folder, config, index, shard)
        finish(self.folder, config)

    def _begin(self) -> ShardTar:
        index = self._first + len(self._written)
        stream = self._file.enter_context(atomic(_tar(self.folder, index)))
        return ShardTar(stream, index, self.clips, row_schema(IngestConfig.columns), self.options.codec)

    def _end(self, shard: ShardTar) -> None:
        self._written.append(shard.finish())
        self._file.close()
        self._shard = None


def _tar(folder: Path, index: int) -> Path:
    return folder / shard_name(index)
