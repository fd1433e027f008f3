"""A tiny dataset, small clips of people's own and what ingesting them left, and the environment of a work folder."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2v_models.clips.media import to_gif, to_mp4, to_webp
from t2v_models.clips.spec import Bucket, ClipSpec
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest_report import REJECTS
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import write_shard
from t2v_models.worlds.dataset import DatasetConfig, draw_clip
from t2v_models.worlds.motions import Motion
from t2v_models.worlds.splits import Coverage, Split

SPEC = ClipSpec(size=16, frames=6)
OPTIONS = IngestOptions(spec=SPEC, validation=0)
TINY = DatasetConfig(clips=90, clips_per_shard=36, spec=ClipSpec(size=16, frames=6))
BUCKET_SHAPES = ClipSpec(size=16, frames=6), ClipSpec(height=16, width=32, frames=4), ClipSpec(size=16, frames=9)
BUCKETS = DatasetConfig(
    clips_per_shard=12,
    buckets=tuple(Bucket(spec=spec, clips=clips) for spec, clips in zip(BUCKET_SHAPES, (20, 40, 14), strict=True)),
)
TO_FILE: dict[str, Callable[..., bytes]] = {"webp": to_webp, "gif": to_gif, "mp4": to_mp4, "npz": to_npz}


def noise(seed: int, frames: int = 6, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def smooth(seed: int, frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    """A ramp that moves: what a film codec is made for."""
    t, y, x = np.ogrid[:frames, :height, :width]
    return np.stack([(seed * 9 + 2 * x + y + 5 * t + 40 * c) % 200 for c in range(3)], -1).astype(np.uint8)


def put(folder: Path, name: str, content: bytes, caption: bytes | None = b"a cat walks") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption)
    return path


def pack(tar: Path, members: dict[str, bytes], mode: str = "w") -> None:
    """A tar of these members."""
    tar.parent.mkdir(exist_ok=True)
    with tarfile.open(tar, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def put_frames(folder: Path, clip: np.ndarray, caption: str = "a dog runs") -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"frame_{i}.png")
    folder.with_name(folder.name + ".txt").write_text(caption)


def rejects(out: Path) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in pq.read_table(out / REJECTS).to_pylist()}


def clips(out: Path) -> np.ndarray:
    store = ClipStore(Manifest.load(out))
    return store.frames(range(len(store)))


def film(pixels: np.ndarray, codec: str, pixel_format: str, suffix: str, times: list[int] | None = None) -> bytes:
    """A film by PyAV, with uneven times if given (in tenths of a second)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=suffix) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], pixel_format
        for i, frame in enumerate(pixels):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format=pixel_format
            )
            picture.pts = times[i] if times else i
            picture.time_base = Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def rendered(folder: Path, config: DatasetConfig) -> Path:
    """The whole dataset of `config`, in this process."""
    for index in range(config.shards):
        write_shard(folder, config, index)
    finish(folder, config)
    return folder


@contextmanager
def prepared(work: Path) -> Iterator[None]:
    """An environment as the commands make it for a work folder, for as long as the block runs."""
    from tasks.servers.runtime import prepare

    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("MLFLOW_", "PREFECT_")):
                patch.delenv(name)
        before = dict(os.environ)
        prepare(work)
        yield
        for name in set(os.environ) - set(before):
            del os.environ[name]


def drawn_clip(config: DatasetConfig, index: int) -> tuple[str, Motion]:
    """Caption and the one object of clip `index`."""
    caption, scene = draw_clip(config, index)
    (motion,) = scene.objects
    assert isinstance(motion, Motion)
    return caption, motion


def split_prompts(
    world: str, split: Split, hold_out: tuple[str, ...], coverage: Coverage | None = None
) -> tuple[str, ...]:
    return DatasetConfig(world=world, hold_out=hold_out, coverage=coverage).asked(split)


def train_prompts(world: str, hold_out: tuple[str, ...], coverage: Coverage | None = None) -> tuple[str, ...]:
    return DatasetConfig(world=world, hold_out=hold_out, coverage=coverage).prompts
