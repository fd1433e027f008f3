"""Clips to tar files: the bytes of a shard are a function of (config, index) and of nothing else.

A clip is two members, `KEY.npy.zst` (an .npy file of uint8 `(t, h, w, 3)`, compressed with zstd) and `KEY.json`
(caption and ground truth), so any tar or WebDataset reader opens a shard. Beside `shard-00000.tar` lies
`shard-00000.parquet`, its rows of the manifest: written after the tar, it proves that the tar is whole.
"""

import hashlib
import io
import json
import math
import tarfile
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from t2v_models.clips.dataset import DatasetConfig, draw_clip
from t2v_models.clips.motions import Motion, trace
from t2v_models.clips.render import render
from t2v_models.clips.spec import ClipSpec
from t2v_models.clips.splits import check_no_leak
from t2v_models.config import LabError, flatten
from t2v_models.files import atomic

FRAMES_SUFFIX, META_SUFFIX = ".npy.zst", ".json"
_CODEC = pa.Codec("zstd", compression_level=1)
_WORD = pa.dictionary(pa.int32(), pa.string())
_HASH = pa.binary(32)

ROW_SCHEMA = pa.schema(
    [("key", pa.string()), ("caption", _WORD), ("action", _WORD), ("shape", _WORD), ("colour", _WORD)]
    + [(n, pa.float64()) for n in ("radius", "radius_end", "start_x", "start_y", "speed", "swing", "phase", "rate")]
    + [("shard", _WORD), ("index_in_shard", pa.int32())]
    + [(n, pa.int64()) for n in ("frames_offset", "frames_size", "meta_offset", "meta_size")]
    + [("pixels_sha256", _HASH), ("frames_sha256", _HASH), ("meta_sha256", _HASH)]
)
"""Columns of side-cars and manifest. Offsets and sizes are bytes in the tar; `pixels_sha256` is of the decoded pixels,
the other two of the bytes as stored."""


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"shard-{index:05d}.tar"


def sidecar_path(folder: Path, index: int) -> Path:
    """The rows of shard `index`."""
    return folder / f"shard-{index:05d}.parquet"


def clip_key(index: int) -> str:
    """Name of clip `index` in its shard; WebDataset cuts keys at the first dot, so there is none."""
    return f"{index:09d}"


@cache
def npy_header(spec: ClipSpec) -> bytes:
    """What stands before the pixels in an .npy file of one clip."""
    header = io.BytesIO()
    shape = (spec.frames, spec.size, spec.size, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def decoded(stored: bytes | memoryview, spec: ClipSpec) -> NDArray[np.uint8]:
    """Pixels of one `.npy.zst` member: uint8 `(t, h, w, 3)`, read-only.

    Raises:
        ValueError: the bytes are no clip of this size.
    """
    header, shape = npy_header(spec), (spec.frames, spec.size, spec.size, 3)
    try:
        content = _CODEC.decompress(stored, decompressed_size=len(header) + math.prod(shape))
    except OSError as error:
        raise ValueError(f"no clip of {shape}: {error}") from error
    if content[: len(header)].to_pybytes() != header:
        raise ValueError(f"no clip of {shape}: another header")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def write_shard(folder: Path, config: DatasetConfig, index: int) -> bool:
    """Render shard `index` into `folder`, unless it is already there and whole.

    Returns:
        Whether anything was rendered.

    Raises:
        LabError: the folder holds another dataset; it cannot be written; a caption means something held out.
    """
    assert 0 <= index < config.shards, (index, config.shards)
    name, sidecar = shard_name(index), sidecar_path(folder, index)
    for path in (folder / name, sidecar):
        clear_stale(path)
    if is_whole(folder, config, index):
        return False
    check_no_leak(config.prompts, config.hold_out, config.coverage)
    first = index * config.clips_per_shard
    with atomic(folder / name) as stream:
        tar = _Tar(stream)
        clips = range(first, min(first + config.clips_per_shard, config.clips))
        rows = [_add_clip(tar, config, clip) | {"shard": name, "index_in_shard": clip - first} for clip in clips]
        tar.finish()
    metadata = config_metadata(config) | {"shard_sha256": tar.sha256.hexdigest(), "shard_size": str(tar.size)}
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA.with_metadata(metadata))
    with atomic(sidecar) as stream:
        pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return True


def is_whole(folder: Path, config: DatasetConfig, index: int) -> bool:
    """Whether shard `index` is there with the bytes that its side-car names.

    Raises:
        LabError: it is a shard of another dataset.
    """
    metadata = read_metadata(sidecar_path(folder, index))
    if "shard_sha256" not in metadata:
        return False
    require_config(folder, metadata, config)
    tar = folder / shard_name(index)
    return tar.is_file() and file_sha256(tar) == metadata["shard_sha256"]


def config_metadata(config: DatasetConfig) -> dict[str, str]:
    """What side-cars and manifest say of the dataset they belong to."""
    return {"config": config.model_dump_json(), "config_digest": config.digest}


def read_metadata(path: Path) -> dict[str, str]:
    """Schema metadata of a Parquet file; empty if the file is missing, damaged or has none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return {k.decode(): v.decode() for k, v in metadata.items()}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return {}


def require_config(folder: Path, metadata: dict[str, str], config: DatasetConfig) -> None:
    """Refuse a folder that holds clips of another configuration.

    Raises:
        LabError: naming every key that differs with the old and the new value.
    """
    if metadata.get("config_digest") == config.digest:
        return
    old, new = flatten(json.loads(metadata.get("config", "{}"))), flatten(config.model_dump(mode="json"))
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
    """Remove the temporary files that killed writers of `path` left beside it."""
    for temporary in path.parent.glob(f"{path.name}.*.tmp"):
        if not is_being_written(temporary):
            temporary.unlink(missing_ok=True)


def is_being_written(temporary: Path) -> bool:
    """Whether the process named in `NAME.PID.tmp` lives and is old enough to have written the file."""
    pid = temporary.name.split(".")[-2]
    try:
        return pid.isdecimal() and psutil.Process(int(pid)).create_time() <= temporary.stat().st_mtime
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


class _Tar:
    """A tar file in the making: plain USTAR headers with nothing of this machine or day in them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self._stream = stream

    def add(self, name: str, payload: bytes) -> int:
        """Append a member.

        Returns:
            The offset of its payload.
        """
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.uname, header.gname = len(payload), 0o444, "t2v", "t2v"
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.size
        self._write(payload + bytes(-len(payload) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> None:
        """Append the end mark: two empty blocks, and zeros up to a whole record."""
        end = self.size + 2 * tarfile.BLOCKSIZE
        self._write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self.sha256.update(content)
        self.size += len(content)


def _add_clip(tar: _Tar, config: DatasetConfig, index: int) -> dict[str, Any]:
    """Draw, render, store: the row of clip `index`."""
    caption, motion = draw_clip(config, index)
    pixels = render(motion, config.spec)
    frames, meta, key = _packed(pixels, config.spec), _described(caption, motion, config.spec, index), clip_key(index)
    row = motion.model_dump(exclude={"start"}) | {"start_x": motion.start[0], "start_y": motion.start[1]}
    return row | {
        "key": key,
        "caption": caption,
        "frames_offset": tar.add(key + FRAMES_SUFFIX, frames),
        "frames_size": len(frames),
        "meta_offset": tar.add(key + META_SUFFIX, meta),
        "meta_size": len(meta),
        "pixels_sha256": hashlib.sha256(pixels.tobytes()).digest(),
        "frames_sha256": hashlib.sha256(frames).digest(),
        "meta_sha256": hashlib.sha256(meta).digest(),
    }


def _packed(pixels: NDArray[np.uint8], spec: ClipSpec) -> bytes:
    packed: bytes = _CODEC.compress(npy_header(spec) + pixels.tobytes(), asbytes=True)
    return packed


def _described(caption: str, motion: Motion, spec: ClipSpec, index: int) -> bytes:
    path = trace(motion, spec)
    numbers = {axis: np.round(getattr(path, axis), 4).tolist() for axis in ("x", "y", "radius")}
    meta = {"key": clip_key(index), "caption": caption, "fps": spec.fps, "motion": motion.model_dump()}
    return json.dumps(meta | {"trace": numbers}, sort_keys=True).encode()
