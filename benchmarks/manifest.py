"""Measure what it takes to open a manifest of a million rows: one JSON line per figure.

    python benchmarks/manifest.py                     both, some five minutes, of which making them takes most
    python benchmarks/manifest.py --only ingested     of clips with captions of their own alone

The rows are made up, the shards are empty files of the right size. Each manifest is opened in processes of their own,
of which the median counts: seconds on the wall and of the CPU; memory is that of the whole process, at its highest.
"""

import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from figures import Figure, run

from t2v_models.clips.spec import Bucket, ClipSpec
from t2v_models.shards.ingested import DataConfig, IngestConfig
from t2v_models.shards.manifest import finish
from t2v_models.shards.write import WrittenShard, clip_key, row_schema, shard_name, write_sidecar
from t2v_models.worlds.dataset import DatasetConfig

ROWS, TURNS = 1_000_000, 5
TRUTH = (
    '[{"action":"left","x0":12.345678,"y0":12.345678,"radius":7.123456,"speed":2.123456,"shape":"circle",'
    '"colour":"blue"}]'
)

OPEN = """
import sys, time
from pathlib import Path
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore

def most():
    return next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))

before, wall, cpu = most(), time.perf_counter(), time.process_time()
store = ClipStore(Manifest.load(Path(sys.argv[1])))
store.manifest.caption(0), store.spec_of(0)
wall, cpu, peak = time.perf_counter() - wall, time.process_time() - cpu, most()

from t2v_models.shards.stream import Epochs  # brings torch, which opening does not need
start = time.process_time()
for number in range(len(store.shapes)):
    Epochs(store.manifest, number, 1, 0, store.manifest.block)
print(wall, cpu, before, peak, time.process_time() - start)
"""
"""Opens a dataset: seconds on the wall and of the CPU; MB of the process before and at its highest; CPU seconds of the
orders of the first epoch."""


def rendered(work: Path) -> Iterator[Figure]:
    """Circles: 43 captions."""
    config = DatasetConfig(clips=ROWS)
    yield from opening("rendered", work, config, [ROWS], config.prompts)


def ingested(work: Path) -> Iterator[Figure]:
    """Three shapes, and of every clip a caption of eight words that no other has."""
    shapes, counts = (ClipSpec(height=36, width=64), ClipSpec(height=64, width=36), ClipSpec(size=48)), (2, 1, 1)
    buckets = tuple(Bucket(spec=s, clips=ROWS * c // 4) for s, c in zip(shapes, counts, strict=True))
    config = IngestConfig(
        split="train", source_sha256="0" * 64, clips=ROWS, prompts=("a",), shapes=shapes, buckets=buckets
    )
    said = np.random.default_rng(0).integers(0, 3000, (ROWS, 8)).tolist()
    captions = tuple(f"{' '.join(f'w{word}' for word in words)} {i}" for i, words in enumerate(said))
    yield from opening("ingested", work, config, [bucket.clips for bucket in buckets], captions)


def opening(
    name: str, work: Path, config: DataConfig, counts: list[int], captions: tuple[str, ...]
) -> Iterator[Figure]:
    """Write the rows of a dataset, a bucket after the other, and open it."""
    per, first, index, rng = config.clips_per_shard, 0, 0, np.random.default_rng(0)
    for count, spec in zip(counts, (one.spec for one in config.one_shape), strict=True):
        for start in range(0, count, per):
            rows = range(first + start, first + min(start + per, count))
            write(work, config, index, spec, rows, captions, rng)
            index += 1
        first += count
    start = time.process_time()
    finish(work, config)
    finishing = time.process_time() - start
    found = [opened(work) for _ in range(TURNS)]
    wall, cpu, before, peak, orders = map(statistics.median, zip(*found, strict=True))
    yield {
        "figure": f"a manifest of {config.clips:,} rows opened, {name}", "seconds": wall, "cpu_seconds": cpu, "gate": 2,
        "megabytes": peak, "gate_megabytes": 500, "megabytes_of_an_empty_process": before, "n": TURNS,
        "cpu_seconds_of_orders": orders, "cpu_seconds_of_writing_it": finishing,
    }  # fmt: skip


def write(
    folder: Path, config: DataConfig, index: int, spec: ClipSpec, rows: range, captions: tuple[str, ...],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """A shard of the right size with nothing in it, and its rows."""
    n = len(rows)
    made: dict[str, list[object]] = {
        "key": [clip_key(i) for i in rows], "caption": [captions[i % len(captions)] for i in rows],
        "truth": [TRUTH] * n, "source": [f"films/{i // 4:07d}.mp4" for i in rows],
        "source_frame": [10 * (i % 4) for i in rows], "shard": [shard_name(index)] * n, "index_in_shard": [*range(n)],
        "frames": [spec.frames] * n, "height": [spec.height] * n, "width": [spec.width] * n,
        "frames_offset": [512 + 8192 * i for i in range(n)], "meta_offset": [7168 + 8192 * i for i in range(n)],
        "frames_size": [4000 + i % 97 for i in rows], "meta_size": [200 + i % 17 for i in rows],
        "frames_sha256": [rng.bytes(32) for _ in rows], "meta_sha256": [rng.bytes(32) for _ in rows],
    }  # fmt: skip
    schema, size = row_schema(config.columns), 8192 * n + 1024
    table = pa.table([pa.array(made[field.name], field.type) for field in schema], schema=schema)
    with (folder / shard_name(index)).open("wb") as tar:
        tar.truncate(size)
    write_sidecar(folder, config, index, WrittenShard(table, hashlib.sha256(str(index).encode()).hexdigest(), size))


def opened(folder: Path) -> tuple[float, ...]:
    """What `OPEN` tells in a process of its own."""
    told = subprocess.run([sys.executable, "-c", OPEN, folder], capture_output=True, text=True, check=True).stdout
    return tuple(map(float, told.split()))


if __name__ == "__main__":
    run({"rendered": rendered, "ingested": ingested}, __doc__ or "")
