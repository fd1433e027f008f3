"""Other people's WebDataset shards as a folder of clips with captions beside them, which `sources` reads.

Members of a tar are one sample if their names agree up to the first dot: `KEY.mp4`, `KEY.txt`, `KEY.json`, as
video2dataset and img2dataset write them; `KEY.0.jpg`, `KEY.1.jpg`, … are the frames of one clip. Members are copied one
after the other, so a shard may be larger than the memory; the folder is gone when the clips are stored. A shard behind
a URL is fetched whole before it is unpacked, and removed after.
"""

import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from urllib.parse import urlsplit

from braceexpand import braceexpand
from PIL import Image

from t2v_models.config import LabError
from t2v_models.shards.columns import COLUMNS
from t2v_models.shards.frames import FRAME_SUFFIXES
from t2v_models.shards.manifest import MANIFEST
from t2v_models.shards.paths import CLIP_SUFFIXES, printable
from t2v_models.shards.remote import fetch_file, is_url, local_folder
from t2v_models.shards.tar import Header

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def tars_of(source: str) -> list[str]:
    """The tars that are to be ingested: those that are named, or all in a folder; none where it holds clips.

    Args:
        source: a path or a URL; braces stand for several, as `webdataset` has it: `shards/{00000..00099}.tar`.

    Raises:
        LabError: a tar that is not there, a URL of something else, or the shards of a dataset of ours.
    """
    here = local_folder(source)
    if not is_url(source) and here.exists():
        return _tars_here(here)
    names = _expanded(source)
    if not is_url(source) and len(names) == 1:
        return []  # nothing: who reads it says so
    for name in names:
        if not urlsplit(name).path.lower().endswith(TAR_SUFFIXES):
            raise LabError(
                f"{name} is no tar: by URL or by braces WebDataset tars are ingested, as https://host/{{000..003}}.tar"
            )
        if not is_url(name) and not local_folder(name).is_file():
            raise LabError(f"there is no tar {name}: of {len(names)} that {source} names it is the first")
    return names


def _tars_here(source: Path) -> list[str]:
    if source.is_file():
        return [str(source)] if source.name.lower().endswith(TAR_SUFFIXES) else []
    tars = sorted(path for path in source.iterdir() if path.name.lower().endswith(TAR_SUFFIXES) and path.is_file())
    if tars and (source / MANIFEST).is_file():
        raise LabError(f"{source} is a dataset already: train on it, or 't2v export' it to ingest its clips otherwise")
    return list(map(str, tars))


def _expanded(source: str) -> list[str]:
    try:
        return list(braceexpand(source, escape=False))
    except ValueError as error:
        raise LabError(f"the braces of {source} do not match: write them as in shards/{{000..003}}.tar") from error


@contextmanager
def as_folder(source: str, out: Path) -> Iterator[Path]:
    """What is to be ingested into `out`: `source` itself, or what is in its tars for as long as the block runs.

    Raises:
        LabError: a tar that is none, that cannot be fetched, or that holds what should lie elsewhere; there is no room.
    """
    tars = tars_of(source)
    if not tars:
        yield local_folder(source)
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
        for tar, name in zip(tars, _names(tars), strict=True):
            if is_url(tar):
                fetched = folder / ".fetched"
                fetch_file(tar, fetched)
                unpack(fetched, folder / name, tar)
                fetched.unlink()
            else:
                unpack(local_folder(tar), folder / name)
        yield folder
    except LabError as error:  # in the words of who asked: the folder is gone when it is read
        raise LabError(str(error).replace(str(folder), source)) from error
    finally:
        shutil.rmtree(folder)


def _names(tars: list[str]) -> list[str]:
    """What the folders of tars are called: as these up to the first dot, or with that of their folder before it."""
    paths = [PurePosixPath(urlsplit(tar).path) for tar in tars]
    names = [path.name.split(".")[0] for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}-{name}" for path, name in zip(paths, names, strict=True)]
    return names


def unpack(tar: Path, folder: Path, called: str = "") -> None:
    """The clips, frames and captions of one tar into a folder; what is nothing of these stays where it is. In sentences
    it is `called` by its URL, where it came from one.

    Raises:
        LabError: it is no tar or is cut short, a member would lie outside, two have one name, a sample is two clips or
            has frames of two sizes, or there is no room.
    """
    kinds: dict[Path, str] = {}
    called = called or str(tar)
    try:
        with tarfile.open(tar, "r|*", tarinfo=Header) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                place = _place(folder, member.name) if content else None
                if not content or not place:
                    continue
                _check_alone(place, kinds)
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as stream:
                    shutil.copyfileobj(content, stream)
        for sample in (sample for sample, suffix in kinds.items() if suffix in FRAME_SUFFIXES):
            _check_one_size(sample)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise LabError(f"{called} is no tar or is cut short ({error}): fetch it again") from error
    except FileExistsError as error:
        name = printable(Path(error.filename).relative_to(folder).as_posix())
        raise LabError(f"{called} holds {name} twice: one sample has one clip, so write the tar again") from error
    except ValueError as error:
        raise LabError(f"{called}: {error}") from error
    except OSError as error:
        raise LabError(
            f"{called} cannot be unpacked to {folder} ({error.strerror}): make room, or name another OUT"
        ) from error
    for path in sorted(folder.rglob("*.json")):
        if (captions := captions_in(path.read_bytes())) and not path.with_suffix(".txt").exists():
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


def _check_one_size(sample: Path) -> None:
    """See that the frames of a sample are of one size. Those that cannot be opened are told of when they are read.

    Raises:
        ValueError: they are of two.
    """
    sizes: dict[str, str] = {}
    for path in sorted(sample.iterdir()) if sample.is_dir() else ():
        with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as picture:
            sizes.setdefault("{} x {}".format(*picture.size), path.name)
    if len(sizes) > 1:
        (one, first), (other, second) = list(sizes.items())[:2]
        raise ValueError(
            f"its sample {printable(sample.name)} has frames of two sizes, {one} in {printable(first)} and {other} in "
            f"{printable(second)}: write the tar again with frames of one"
        )


def captions_in(content: bytes) -> list[str]:
    """What the JSON of a sample says that it shows: as the columns of tables are called, one text or several."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):  # no JSON, or nested too deeply
        return []
    named = {str(name).casefold(): value for name, value in told.items()} if isinstance(told, dict) else {}
    found: object = next((named[name] for name in COLUMNS["caption"] if named.get(name)), [])
    texts = found if isinstance(found, list) else [found]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
