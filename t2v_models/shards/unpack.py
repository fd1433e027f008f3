"""Other people's WebDataset shards as a folder of clips with captions beside them, which `sources` reads.

Members of a tar are one sample if their names agree up to the first dot: `KEY.mp4`, `KEY.txt`, `KEY.json`, as
video2dataset and img2dataset write them; `KEY.0.jpg`, `KEY.1.jpg`, … are the frames of one clip. Members are copied one
after the other, so a shard may be larger than the memory; the folder is gone when the clips are stored.
"""

import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from t2v_models.config import LabError
from t2v_models.shards.frames import FRAME_SUFFIXES
from t2v_models.shards.manifest import MANIFEST
from t2v_models.shards.paths import printable
from t2v_models.shards.sources import CLIP_SUFFIXES
from t2v_models.shards.tables import COLUMNS

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def tars_of(source: Path) -> list[Path]:
    """The tars that are to be ingested: the one that is named, or all in a folder; none where it holds clips.

    Raises:
        LabError: they are the shards of a dataset of ours.
    """
    if source.is_file():
        return [source] if source.name.lower().endswith(TAR_SUFFIXES) else []
    if not source.is_dir():
        return []
    tars = sorted(path for path in source.iterdir() if path.name.lower().endswith(TAR_SUFFIXES) and path.is_file())
    if tars and (source / MANIFEST).is_file():
        raise LabError(f"{source} is a dataset already: train on it, or 't2v export' it to ingest its clips otherwise")
    return tars


@contextmanager
def as_folder(source: Path, out: Path) -> Iterator[Path]:
    """What is to be ingested into `out`: `source` itself, or what is in its tars for as long as the block runs.

    Raises:
        LabError: a tar that is none, or that holds what should lie elsewhere; there is no room.
    """
    tars = tars_of(source)
    if not tars:
        yield source
        return
    beside, start = out.absolute().parent, f".{out.name}-unpacked-"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        for left in beside.glob(f"{start}*"):  # by a process that was killed
            shutil.rmtree(left)
        folder = Path(mkdtemp(prefix=start, dir=beside))
    except OSError as error:
        raise LabError(f"{beside} cannot be written ({error.strerror}): choose another folder") from error
    try:
        for tar in tars:
            unpack(tar, folder / tar.name.split(".")[0])
        yield folder
    finally:
        shutil.rmtree(folder)


def unpack(tar: Path, folder: Path) -> None:
    """The clips, frames and captions of one tar into a folder; what is nothing of these stays where it is.

    Raises:
        LabError: it is no tar or is cut short, a member would lie outside, two have one name, a sample is two clips, or
            there is no room.
    """
    kinds: dict[Path, str] = {}
    try:
        with tarfile.open(tar, "r|*") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                place = _place(folder, member.name) if content else None
                if not content or not place:
                    continue
                _check_alone(place, kinds)
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as stream:
                    shutil.copyfileobj(content, stream)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise LabError(f"{tar} is no tar or is cut short ({error}): fetch it again") from error
    except FileExistsError as error:
        name = printable(Path(error.filename).relative_to(folder).as_posix())
        raise LabError(f"{tar} holds {name} twice: one sample has one clip, so write the tar again") from error
    except ValueError as error:
        raise LabError(f"{tar}: {error}") from error
    except OSError as error:
        raise LabError(
            f"{tar} cannot be unpacked to {folder} ({error.strerror}): make room, or name another OUT"
        ) from error
    for path in sorted(folder.rglob("*.json")):
        if (captions := _captions(path.read_bytes())) and not path.with_suffix(".txt").exists():
            path.with_suffix(".txt").write_text("\n".join(captions), encoding="utf-8", errors="replace")


def _place(folder: Path, name: str) -> Path | None:
    """Where a member goes, if it is part of a sample.

    Raises:
        ValueError: outside the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"its member {printable(name)} would lie outside: write the tar with names relative to it")
    key, _, kind = path.name.partition(".")
    field, _, suffix = kind.lower().rpartition(".")
    if not key or f".{suffix}" not in (*CLIP_SUFFIXES, *FRAME_SUFFIXES, ".txt", ".json"):
        return None
    sample = folder.joinpath(*path.parts[:-1], key)
    return sample / f"{field or 0}.{suffix}" if f".{suffix}" in FRAME_SUFFIXES else sample.with_name(f"{key}.{suffix}")


def _check_alone(place: Path, kinds: dict[Path, str]) -> None:
    """See that a sample is one clip: a film, or frames of one kind. `kinds` are those of the samples so far.

    Raises:
        ValueError: it is two.
    """
    suffix = place.suffix
    if suffix in (".txt", ".json"):
        return
    sample = place.parent if suffix in FRAME_SUFFIXES else place.with_suffix("")
    if (other := kinds.setdefault(sample, suffix)) != suffix:
        raise ValueError(
            f"its sample {printable(sample.name)} is two clips, {other} and {suffix}: leave one of them out of the tar"
        )


def _captions(content: bytes) -> list[str]:
    """What the JSON of a sample says that it shows: as the columns of tables are called, one text or several."""
    try:
        told = json.loads(content)
    except ValueError:
        return []
    named = {str(name).casefold(): value for name, value in told.items()} if isinstance(told, dict) else {}
    found: object = next((named[name] for name in COLUMNS["caption"] if named.get(name)), [])
    texts = found if isinstance(found, list) else [found]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
