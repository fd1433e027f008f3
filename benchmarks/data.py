"""Measure the data engine: one JSON line per figure, each beside its baseline measured in the same run.

    python benchmarks/data.py                 every figure, about two minutes
    python benchmarks/data.py --only read     figures whose name contains "read"

Times are CPU seconds of this process on one thread, measured in turns (ours, baseline, ours, ...), of which the median
counts: other work on the machine slows both alike. Only the figure of two workers is by the clock on the wall.
"""

import hashlib
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import psutil
import pyarrow as pa
import torch
import webdataset
from figures import Figure, in_turns, run
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, Dataset

from t2v_models.batch import to_video
from t2v_models.clips.spec import Bucket, ClipSpec
from t2v_models.processes import process_pool
from t2v_models.shards.codec import decoded, packed
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.shards.verify import verify
from t2v_models.shards.write import shard_name, write_shard
from t2v_models.worlds.dataset import DatasetConfig, draw_clips
from t2v_models.worlds.motions import traces
from t2v_models.worlds.reader import read
from t2v_models.worlds.render import render, sprites

CONFIG = DatasetConfig()
"""What `t2v render` makes by default: 10,000 clips of 64 x 64 pixels and 10 frames, 500 a shard."""
SPEC = CONFIG.spec
PROMPTS = CONFIG.prompts


def article_frame(prompt: str, frame: int) -> Image.Image:
    """One frame as the article draws it: a new picture, a table of all motions, one entry of it used."""
    size, step = SPEC.size, frame * 3
    centre = size // 2
    turn = 2 * np.pi * frame / SPEC.frames
    positions = {
        "circle moving down": (centre, step), "circle moving left": (size - step, centre),
        "circle moving right": (step, centre), "circle moving diagonally up-right": (step, size - step),
        "circle moving diagonally down-left": (size - step, step),
        "circle moving diagonally up-left": (size - step, size - step),
        "circle moving diagonally down-right": (step, step),
        "circle rotating clockwise": (int(centre + 10 * np.cos(turn)), int(centre + 10 * np.sin(turn))),
        "circle rotating counter-clockwise": (int(centre + 10 * np.cos(turn)), int(centre - 10 * np.sin(turn))),
        "circle shrinking": (centre, centre), "circle expanding": (centre, centre),
        "circle bouncing vertically": (centre, abs(step % (2 * size) - size)),
        "circle bouncing horizontally": (abs(step % (2 * size) - size), centre),
        "circle zigzagging vertically": (centre + (step % 20), step),
        "circle zigzagging horizontally": (step, step % 20),
        "circle moving up-left": (size - step,) * 2, "circle moving down-right": (step, step),
        "circle moving down-left": (size - step, step), "circle moving up": (centre, size - step),
    }  # fmt: skip
    picture = Image.new("RGB", (size, size), (255, 255, 255))
    x, y = positions.get(prompt, (centre, centre))
    ImageDraw.Draw(picture).ellipse([x - 10, y - 10, x + 10, y + 10], fill=(0, 0, 255))
    return picture


def article_write(folder: Path, clips: range) -> None:
    """A folder a clip with a PNG a frame and the prompt in a text file."""
    for clip in clips:
        here, prompt = folder / f"video_{clip}", PROMPTS[clip % len(PROMPTS)]
        here.mkdir(parents=True, exist_ok=True)
        (here / "text.txt").write_text(prompt)
        for frame in range(SPEC.frames):
            article_frame(prompt, frame).save(here / f"frame_{frame}.png")


class ArticleClips(Dataset[tuple[torch.Tensor, str]]):
    """The article's loader: list the folder, open every frame with PIL, make it a tensor in [-1, 1], stack."""

    def __init__(self, folder: Path) -> None:
        self.folders = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        here = self.folders[index]
        frames = []
        for name in sorted(name for name in os.listdir(here) if name.endswith(".png")):
            picture = Image.open(here / name).convert("RGB")
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
            frames.append(pixels.sub(0.5).div(0.5))
        return torch.stack(frames), (here / "text.txt").read_text()


Pixels = np.ndarray[Any, np.dtype[np.uint8]]
LZ4 = pa.Codec("lz4")


def rendering(work: Path) -> Iterator[Figure]:
    """Draw, encode and write."""
    clips, baseline = 500, 100
    long = CONFIG.model_copy(update={"clips": clips * 6})
    motions = [scene.objects[0] for _, scene in draw_clips(long, range(clips))]
    objects = [(motion.shape, motion.colour) for motion in motions]
    drawn = sprites(objects, traces(motions, SPEC), SPEC)
    pixels = [render(motion, SPEC) for motion in motions[:50]]
    stored = [packed(clip, SPEC, "lz4") for clip in pixels]
    target = np.empty_like(pixels[0])

    def limit(turn: int) -> None:
        for _ in range(clips // len(pixels)):
            for clip, content in zip(pixels, stored, strict=True):
                target.fill(255)
                LZ4.compress(clip.data, asbytes=True)
                hashlib.sha256(content)

    def paint(turn: int) -> None:
        for sprite in drawn:
            sprite.paint(target)

    def numbers(turn: int) -> None:
        traces([scene.objects[0] for _, scene in draw_clips(long, range(clips))], SPEC)

    found = in_turns(
        9, ours=lambda turn: write_shard(work / "rendered", long, turn % 6) and forget(work / "rendered", turn % 6),
        article=lambda turn: article_write(work / "article", range(turn * baseline, (turn + 1) * baseline)),
        limit=limit, numbers=numbers, windows=lambda turn: sprites(objects, traces(motions, SPEC), SPEC), paint=paint,
    )  # fmt: skip
    ours, article, floor = found["ours"] / clips, found["article"] / baseline, found["limit"] / clips
    parts = {name: 1e6 * found[name] / clips for name in ("numbers", "windows", "paint", "limit")}
    yield {
        "figure": "render, encode and write, one core", "clips_per_second": 1 / ours,
        "baseline": "article-style renderer",
        "baseline_clips_per_second": 1 / article, "ratio": article / ours, "gate": 15, "target": 30,
        "limit": "filling, compressing and hashing the same pixels", "limit_clips_per_second": 1 / floor,
        "of_limit": floor / ours, "microseconds": parts | {"all": 1e6 * ours},
    }  # fmt: skip


def forget(folder: Path, shard: int) -> None:
    """Let a shard be written again."""
    (folder / shard_name(shard)).unlink()


def codecs(work: Path) -> Iterator[Figure]:
    """Every way to keep all pixels that was considered: bytes, and microseconds to pack and unpack a clip."""
    clips = [render(scene.objects[0], SPEC) for _, scene in draw_clips(CONFIG, range(57))]

    def animated(suffix: str, *options: int) -> tuple[Callable[[Pixels], bytes], Callable[[bytes], object]]:
        def pack(clip: Pixels) -> bytes:
            film = cv2.Animation()
            film.frames, film.durations = list(clip[..., ::-1]), [100] * len(clip)
            return cv2.imencodeanimation(suffix, film, options)[1].tobytes()

        return pack, lambda content: cv2.imdecodeanimation(np.frombuffer(content, np.uint8))

    def strip(suffix: str, *options: int) -> tuple[Callable[[Pixels], bytes], Callable[[bytes], object]]:
        return (
            lambda clip: cv2.imencode(suffix, clip.reshape(-1, SPEC.size, 3), options)[1].tobytes(),
            lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR),
        )

    def stream(name: str, level: int | None) -> tuple[Callable[[Pixels], bytes], Callable[[bytes], object]]:
        codec = pa.Codec(name, compression_level=level)
        return lambda clip: codec.compress(clip.data, asbytes=True), lambda content: codec.decompress(
            content, clips[0].size
        )

    ways = {
        "lz4 (ours)": (lambda c: packed(c, SPEC, "lz4"), lambda b: decoded(b, SPEC, "lz4")),
        "webp (ours)": (lambda c: packed(c, SPEC, "webp"), lambda b: decoded(b, SPEC, "webp")),
        "zstd -20": stream("zstd", -20), "zstd -1": stream("zstd", -1), "zstd 3": stream("zstd", 3),
        "snappy": stream("snappy", None), "PNG strip": strip(".png", cv2.IMWRITE_PNG_COMPRESSION, 1),
        "WebP strip": strip(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
        "animated PNG": animated(".png", cv2.IMWRITE_PNG_COMPRESSION, 1),
        "animated WebP by OpenCV": animated(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    }  # fmt: skip
    contents = {name: [pack(clip) for clip in clips] for name, (pack, _) in ways.items()}
    work_of: dict[str, Callable[[int], object]] = {}
    for name, (pack, unpack) in ways.items():
        work_of["pack " + name] = lambda turn, pack=pack: [pack(clip) for clip in clips]
        work_of["unpack " + name] = lambda turn, unpack=unpack, name=name: [unpack(b) for b in contents[name]]
    found = in_turns(3, **work_of)
    for name in ways:
        yield {
            "figure": f"codec {name}", "bytes": statistics.mean(map(len, contents[name])),
            "pack_microseconds": 1e6 * found["pack " + name] / len(clips),
            "unpack_microseconds": 1e6 * found["unpack " + name] / len(clips),
        }  # fmt: skip


def workers(work: Path) -> Iterator[Figure]:
    """Two processes against one, by the wall clock, after both have started."""
    config = CONFIG.model_copy(update={"clips": 20_000})

    def seconds(count: int, turn: int) -> float:
        with process_pool(count) as pool:
            list(pool.map(write_shard, [work / f"warm-{count}-{turn}"] * count, [config] * count, range(count)))
            start = time.perf_counter()
            list(pool.map(write_shard, [work / f"{count}-{turn}"] * 40, [config] * 40, range(40)))
            return time.perf_counter() - start

    times = [(seconds(1, turn), seconds(2, turn)) for turn in range(3)]
    yield {
        "figure": "two workers against one", "ratio": statistics.median(a / b for a, b in times), "gate": 1.7,
        "target": 1.9, "limit": "two cores", "of_limit": statistics.median(a / b for a, b in times) / 2,
        "load_of_the_machine": psutil.getloadavg()[0], "cores": os.cpu_count(),
    }  # fmt: skip


def reading(work: Path) -> Iterator[Figure]:
    """Clips out of shards, decoded and not."""
    folder = work / "data"
    manifest = dataset(folder)
    store = ClipStore(manifest)
    article_write(work / "png", range(160))
    loader = DataLoader(ArticleClips(work / "png"), batch_size=16, shuffle=True)
    rows = np.random.default_rng(0).permutation(len(store))
    contents = [bytes(store.stored(int(row))) for row in rows]
    tars = [str(folder / shard_name(i)) for i in range(CONFIG.shards)]

    def ours(turn: int) -> None:
        for start in range(0, len(rows), 16):
            store.frames(rows[start : start + 16])

    def tensors(turn: int) -> None:
        for start in range(0, len(rows) // 4, 16):
            to_video(store.frames(rows[start : start + 16]))

    def one_by_one(turn: int) -> None:
        for _ in store.clips(rows):
            pass

    def decode_only(turn: int) -> None:
        for content in contents:
            decoded(content, SPEC, "lz4")

    def before_decode(turn: int) -> None:
        for row in rows.tolist():
            bytes(store.stored(row))

    def bare_tar(turn: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in webdataset.WebDataset(tars, shardshuffle=False):
                pass

    found = in_turns(
        7, ours=ours, one_by_one=one_by_one, article=lambda turn: [None for _ in loader], decode_only=decode_only,
        before=before_decode, webdataset=bare_tar, tensors=tensors,
    )  # fmt: skip
    n = len(rows)
    rate = {name: n / seconds for name, seconds in found.items()} | {"article": 160 / found["article"]}
    rate["tensors"] /= 4
    yield {
        "figure": "reading decoded clips, one process", "clips_per_second": rate["ours"],
        "baseline": "article-style loader, batch 16", "baseline_clips_per_second": rate["article"],
        "ratio": rate["ours"] / rate["article"], "gate": 20, "target": 60, "limit": "decoding the same bytes",
        "limit_clips_per_second": rate["decode_only"], "of_limit": rate["ours"] / rate["decode_only"],
        "ratio_as_float_tensors": rate["tensors"] / rate["article"],
    }  # fmt: skip
    yield {
        "figure": "reading before decode", "clips_per_second": rate["before"],
        "baseline": "webdataset on the same tars",
        "baseline_clips_per_second": rate["webdataset"], "ratio": rate["before"] / rate["webdataset"], "gate": 5,
        "target": 20, "limit": "memory bandwidth, some 10 GB/s",
        "gigabytes_per_second": sum(map(len, contents)) / found["before"] / 1e9,
    }  # fmt: skip
    yield {
        "figure": "reader against decode-only", "clips_per_second": rate["ours"],
        "baseline": "decoding the same bytes clip by clip", "baseline_clips_per_second": rate["decode_only"],
        "ratio": rate["ours"] / rate["decode_only"], "gate": 0.8, "target": 0.95,
        "ratio_one_by_one": rate["one_by_one"] / rate["decode_only"],
        "limit": "1: a batch unpacked as one stream saves what each clip costs on its own",
    }  # fmt: skip


def mixing(work: Path) -> Iterator[Figure]:
    """Batches of three shapes in turns against batches of one, of as many pixels."""
    sizes = (ClipSpec(size=64), ClipSpec(height=32, width=128), ClipSpec(height=128, width=32))
    one = CONFIG.model_copy(update={"clips": 3000})
    mixed = DatasetConfig(buckets=tuple(Bucket(spec=spec, clips=1000) for spec in sizes))
    stores = {}
    for name, config in (("one", one), ("mixed", mixed)):
        for index in range(config.shards):
            write_shard(work / name, config, index)
        stores[name] = ClipStore(finish(work / name, config))

    def read_all(name: str) -> None:
        for _ in islice(batches(stores[name], 16, 1, 0, workers=0), 3000 // 16):
            pass

    found = in_turns(9, mixed=lambda turn: read_all("mixed"), one=lambda turn: read_all("one"))
    yield {
        "figure": "mixed buckets against one shape, CPU seconds", "ratio": found["mixed"] / found["one"], "gate": 1.1,
        "target": 1.02, "limit": "the baseline", "clips_per_second": 3000 / found["mixed"],
        "baseline_clips_per_second": 3000 / found["one"],
    }  # fmt: skip


def verifying(work: Path) -> Iterator[Figure]:
    """`verify` against sha256 of the same files."""
    folder = work / "data"
    manifest = dataset(folder)

    def raw(turn: int) -> None:
        for shard in manifest.shards:
            with (folder / shard.name).open("rb") as stream:
                hashlib.file_digest(stream, "sha256")

    found = in_turns(15, ours=lambda turn: verify(folder), raw=raw)
    size = sum(shard.size for shard in manifest.shards)
    yield {
        "figure": "verify", "megabytes_per_second": size / found["ours"] / 1e6, "baseline": "sha256 of the files",
        "baseline_megabytes_per_second": size / found["raw"] / 1e6, "ratio": found["raw"] / found["ours"], "gate": 0.6,
        "target": 0.9, "limit": "the baseline",
    }  # fmt: skip


def truth(work: Path) -> Iterator[Figure]:
    """What the reader sees against what was drawn."""
    motions = [scene.objects[0] for _, scene in draw_clips(CONFIG, range(1000))]
    found = read(np.stack([render(motion, SPEC) for motion in motions]), [motion.colour for motion in motions])
    paths = traces(motions, SPEC)
    error = np.hypot(found.x - paths.x, found.y - paths.y)
    yield {
        "figure": "truth read back, mean centroid error", "px": float(error.mean()), "px_worst": float(error.max()),
        "gate": 0.03, "target": 0.015, "limit": "8 bits a colour and edges one pixel wide",
    }  # fmt: skip


def memory(work: Path, clips: int = 100_000) -> Iterator[Figure]:
    """Growth of resident memory, each in a process of its own."""
    dataset(work / "data")
    for figure, do in (("rendering", render_many), ("reading", read_many)):
        with process_pool(1) as pool:
            growth = pool.submit(do, work, clips).result()
        yield {
            "figure": f"memory of {figure} {clips:,} clips", "megabytes": growth / 1e6, "gate": 200, "target": 50,
            "limit": "one shard, or one batch and the maps of the shards, in memory",
        }  # fmt: skip


def render_many(work: Path, clips: int) -> int:
    """Bytes by which memory grew at most while `clips` clips were rendered."""
    config, process = CONFIG.model_copy(update={"clips": clips}), psutil.Process()
    write_shard(work / "many", config, 0)
    before = most = process.memory_info().rss
    for index in range(1, config.shards):
        write_shard(work / "many", config, index)
        (work / "many" / shard_name(index)).unlink()
        most = max(most, process.memory_info().rss)
    return most - before


def read_many(work: Path, clips: int) -> int:
    """Bytes by which memory grew at most while `clips` clips were read in batches of 16."""
    process, store = psutil.Process(), ClipStore(Manifest.load(work / "data"))
    store.frames(range(16))
    before = most = process.memory_info().rss
    rng = np.random.default_rng(0)
    for _ in range(clips // 16):
        store.frames(rng.integers(0, len(store), 16))
        most = max(most, process.memory_info().rss)
    return most - before


def dataset(folder: Path) -> Manifest:
    """The dataset that is read and verified, rendered once."""
    for index in range(CONFIG.shards):
        write_shard(folder, CONFIG, index)
    return finish(folder, CONFIG)


GROUPS = {
    "render": rendering,
    "codecs": codecs,
    "workers": workers,
    "read": reading,
    "mix": mixing,
    "verify": verifying,
    "truth": truth,
    "memory": memory,
}


if __name__ == "__main__":
    run(GROUPS, __doc__ or "")
