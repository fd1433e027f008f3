"""Other people's WebDataset tars that can be learnt from where they lie: clips of one shape as .npy or WebP.

They are read once, for a manifest in the cache; it is made anew when a tar changes. Films, clips of several shapes and
what has no caption are ingested first (`t2v ingest`), which copies them.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from t2v_models.clips.media import decode
from t2v_models.clips.spec import ClipSpec, Codec
from t2v_models.config import LabError, in_words
from t2v_models.files import atomic
from t2v_models.shards.captions import lines_of, read_caption, shortened
from t2v_models.shards.codec import FRAMES_SUFFIX, decoded
from t2v_models.shards.ingested import IngestConfig
from t2v_models.shards.manifest import MANIFEST, Manifest, Shard, dataset_digest, read_manifest
from t2v_models.shards.paths import printable
from t2v_models.shards.remote import is_url, local_folder, locked
from t2v_models.shards.rows import rows_digest
from t2v_models.shards.split_writer import SHOWN_PROMPTS
from t2v_models.shards.tar import Header
from t2v_models.shards.unpack import TAR_SUFFIXES, captions_in, tars_of
from t2v_models.shards.write import config_metadata, file_sha256, row_schema

CODECS: dict[str, Codec] = {suffix: codec for codec, suffix in FRAMES_SUFFIX.items()}
USUAL_RATE = 10
"""Frames per second of arrays, whose tars tell none."""


@dataclass(frozen=True)
class _Member:
    offset: int
    size: int


_Sample = dict[str, _Member]
"""By what stands behind the first dot of the names."""


def tars_in_place(data: str) -> list[str]:
    """The tars that `data` names: one, several by braces, or all in a folder that holds no shards of ours.

    Raises:
        LabError: they lie behind a URL, one is missing, or the braces do not match.
    """
    if not is_url(data) and (folder := local_folder(data)).is_dir():
        ours = (folder / MANIFEST).exists() or any(folder.glob("shard-*"))
        return [] if ours else tars_of(data)
    if not urlsplit(data).path.lower().endswith(TAR_SUFFIXES):
        return []
    if is_url(data):
        raise LabError(f"{data} lies elsewhere, and tars are learnt from on this machine: 't2v ingest' them from there")
    return tars_of(data)


def manifest_of(tars: Sequence[str], cache: Path) -> Manifest:
    """The manifest of tars, read from the cache if they are as they were.

    Args:
        tars: files of one folder.
        cache: folder for manifests.

    Raises:
        LabError: they do not fit: which and why; the cache cannot be written.
    """
    paths = [local_folder(tar) for tar in tars]
    home = paths[0].absolute().parent
    if any(path.absolute().parent != home for path in paths):
        raise LabError(f"{tars[0]} and {tars[-1]} lie in two folders: lay them in one, or 't2v ingest' them")
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    folder = cache / f"tars-{hashlib.sha256(json.dumps([str(home), facts]).encode()).hexdigest()[:16]}"
    with locked(folder / "lock"):
        if not (folder / MANIFEST).is_file():
            _write(paths, folder)
        return replace(read_manifest(folder), folder=home)


def _write(paths: Sequence[Path], folder: Path) -> None:
    """Read every tar, and write their manifest."""
    found, shards = _Found(), []
    every: list[tuple[Any, ...]] = []
    for path in paths:
        rows = list(found.rows(path))
        if not rows:
            raise LabError(f"{path} holds no sample: leave it out")
        different, pixels = len({row[1] for row in rows}), sum(row[7] for row in rows)
        shards.append(Shard(path.name, file_sha256(path), path.stat().st_size, len(rows), different, pixels))
        every += rows
    assert found.spec and found.codec
    captions = [row[1] for row in every]
    digest = dataset_digest(tuple(shards))
    config = IngestConfig(
        spec=found.spec, codec=found.codec, validation=0, split="train", source_sha256=digest, clips=len(every),
        prompts=tuple(dict.fromkeys(c.split("\n")[0] for c in captions[:: -(-len(captions) // SHOWN_PROMPTS)])),
        tars=tuple(shard.clips for shard in shards),
    )  # fmt: skip
    schema = row_schema(config.columns)
    columns = [pa.array(values, field.type) for values, field in zip(zip(*every, strict=True), schema, strict=True)]
    table = pa.table(columns, schema=schema).combine_chunks()
    metadata = config_metadata(config) | {
        "rows_sha256": rows_digest(table), "spec": config.spec.model_dump_json(),
        "shards": json.dumps([shard.__dict__ for shard in shards]), "dataset_digest": digest,
        "versions": json.dumps({name: version(name) for name in ("numpy", "pyarrow")}),
    }  # fmt: skip
    with atomic(folder / MANIFEST) as stream:
        pq.write_table(table.replace_schema_metadata(metadata), stream, compression="zstd", write_page_checksum=True)


class _Found:
    """What the samples of all tars have in common, from the first on."""

    def __init__(self) -> None:
        self.spec: ClipSpec | None = None
        self.codec: Codec | None = None

    def rows(self, path: Path) -> Iterator[tuple[Any, ...]]:
        """The rows of one tar (`write.row_schema`)."""
        with path.open("rb") as stream:
            for index, (key, sample) in enumerate(_samples(path, stream).items()):
                place = f"{path}: its sample {printable(key)}"
                suffixes = [suffix for suffix in sample if suffix.endswith(tuple(CODECS))]
                others = [suffix for suffix in sample if suffix not in (*CODECS, ".txt", ".json")]
                if len(suffixes) != 1 or suffixes[0] not in CODECS:
                    what = f"has {' and '.join(suffixes) or ', '.join(others) or 'no clip'}"
                    raise LabError(f"{place} {what}, where .npy or .webp is learnt from as it lies: 't2v ingest' it")
                pixels, suffix = sample[suffixes[0]], suffixes[0]
                stored = _read(stream, pixels)
                self._check(place, CODECS[suffix], stored)
                text = next((sample[kind] for kind in (".txt", ".json") if kind in sample), None)
                told = _read(stream, text) if text else b""
                captions = _captions(place, told, ".txt" in sample)
                at = path.name, index, pixels.offset, pixels.size, text.offset if text else 0, len(told)
                digests = hashlib.sha256(stored).digest(), hashlib.sha256(told).digest()
                yield (key, captions, f"{path.name}/{key}{suffix}", 0, *at, *digests)

    def _check(self, place: str, codec: Codec, stored: bytes) -> None:
        """See that a clip is as all others, the first of which says how.

        Raises:
            LabError: it is not.
        """
        try:
            if self.spec is None or self.codec is None:
                self.spec, self.codec = _spec_of(stored, codec), codec
            if codec != self.codec:
                raise ValueError(f"it is stored as {codec} and those before it as {self.codec}")
            decoded(stored, self.spec, codec)
        except (ValueError, OSError, UnidentifiedImageError, ValidationError) as error:
            why = in_words(error) if isinstance(error, ValidationError) else str(error)
            of = f", where those before it are {self.spec.name}" if self.spec else ""
            raise LabError(
                f"{place} does not fit{of} ({why}): 't2v ingest' the tars, which takes all shapes"
            ) from error


def _spec_of(stored: bytes, codec: Codec) -> ClipSpec:
    """The shape of a clip.

    Raises:
        ValueError: it is none.
    """
    rate = USUAL_RATE
    if codec == "webp":
        with Image.open(io.BytesIO(stored)) as image:
            rate = max(1, round(1000 / (image.info.get("duration") or 1000 / USUAL_RATE)))
        shape = decode(stored, rate).shape
    else:
        array = np.load(io.BytesIO(stored), allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise ValueError(f"an array of {array.dtype} {array.shape}; allowed is uint8 (t, h, w, 3)")
        shape = array.shape
    return ClipSpec(frames=shape[0], height=shape[1], width=shape[2], fps=rate)


def _captions(place: str, told: bytes, is_text: bool) -> str:
    """The captions of a sample, one a line."""
    try:
        lines: list[object] = list(lines_of(told) if is_text else captions_in(told)) or [None]
        return "\n".join(dict.fromkeys(shortened(read_caption(line)) for line in lines))
    except ValueError as error:
        raise LabError(
            f"{place} cannot be learnt from ({error}): 't2v ingest' the tars, which leaves it out"
        ) from error


def _read(stream: IO[bytes], member: _Member) -> bytes:
    stream.seek(member.offset)
    return stream.read(member.size)


def _samples(path: Path, stream: IO[bytes]) -> dict[str, _Sample]:
    """The samples of a tar in their order, by their keys: folder and name up to the first dot."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                stem, _, suffix = place.name.partition(".")
                if not member.isreg() or not stem:
                    continue
                if member.offset_data + member.size > path.stat().st_size:
                    raise LabError(f"{path} is cut short: fetch it again")
                sample = samples.setdefault(str(place.with_name(stem)), {})
                if sample.setdefault(f".{suffix.lower()}", _Member(member.offset_data, member.size)).offset != (
                    member.offset_data
                ):
                    raise LabError(f"{path} holds {printable(member.name)} twice: write the tar again")
    except (tarfile.TarError, EOFError) as error:
        raise LabError(
            f"{path} is no tar that can be learnt from as it lies ({error}): fetch it again; 't2v ingest' takes "
            "packed ones"
        ) from error
    return samples
