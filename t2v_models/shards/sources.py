"""People's own clips before they are opened: which files there are, and what each is said to show.

A source is a media file, or a folder of images that are the frames of one clip. Its captions stand in a text file
beside it, one a line, or in a table (`tables`).
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from t2v_models.config import LabError
from t2v_models.shards.captions import LONGEST_CAPTION, lines_of, read_caption, read_group, read_part, shortened
from t2v_models.shards.frames import FRAME_SUFFIXES, WEBP, frame_files
from t2v_models.shards.ingest_report import Notice, Reject
from t2v_models.shards.paths import CLIP_SUFFIXES, barred, name_in, printable
from t2v_models.shards.tables import TABLE_SUFFIXES, Row, table_rows

_BESIDE = (".txt", ".json", ".md", *TABLE_SUFFIXES)
"""Suffixes of files that stand beside clips and are none."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a source, and what it is said to show."""

    caption: str
    """One caption a line: each says all of it."""
    start: float = 0
    end: float | None = None
    """Seconds of the film; None for its end."""


@dataclass(frozen=True)
class Source:
    """One clip file or folder of frames."""

    path: str
    """Relative to the folder that was named, with forward slashes."""
    file: Path
    excerpts: tuple[Excerpt, ...]
    """In the order of their times; they may overlap."""
    group: str = ""
    """What it has in common with others, with which it goes to training or to validation; empty for nothing."""


@dataclass
class Listing:
    """What there is to read, by path, and what has to be told of it."""

    sources: list[Source] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def list_sources(
    source: Path, captions: Path | None = None, columns: Mapping[str, str] | None = None, images: bool = False
) -> Listing:
    """Every clip in a folder, every clip that a table names, or the one that is named.

    Args:
        source: a folder, a table whose paths are relative to the folder it lies in, or a clip.
        captions: a table with paths relative to the folder `source`; without it, captions stand beside the clips.
        columns: what the table's columns are called (`tables.COLUMNS`).
        images: take an image with a caption of its own for a clip, not for a frame.

    Raises:
        LabError: there is no such folder, table or clip; the table cannot be read, or lacks a column.
    """
    if source.is_file() and captions is None and source.suffix.lower() not in CLIP_SUFFIXES:
        source, captions = source.parent, source
    if columns and not captions:
        raise LabError("--column names a column of a table, and no table was given: add --captions, or leave it out")
    if not captions and _is_clip(source):
        clip = source.absolute()
        return _Lister(clip.parent).beside([clip])
    if not source.is_dir():
        raise LabError(f"there is no folder, table or clip {source}: name a folder of clips, a table of them or a clip")
    lister = _Lister(source)
    if captions:
        return lister.of_table(captions, columns, images)
    return lister.beside([*_walk(source, images), *_alone(source)])


def source_digest(source: Source) -> str:
    """Hex digest over path, excerpts and every byte of a source.

    Raises:
        OSError: it cannot be read.
    """
    told = [(excerpt.caption, excerpt.start, excerpt.end) for excerpt in source.excerpts]
    said = [source.path, told, source.group] if source.group else [source.path, told]
    digest = hashlib.sha256(json.dumps(said).encode())
    for path in frame_files(source.file) if source.file.is_dir() else [source.file]:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


@dataclass
class _Named:
    """A file that rows of a table name, and what they say of it."""

    name: str
    path: Path
    captions: dict[tuple[float, float], list[str]] = field(default_factory=dict)
    """By start and end."""
    group: str = ""


class _Lister:
    """Makes sources of the files in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.found = root, Listing()

    def beside(self, clips: Iterable["Path | Reject"]) -> Listing:
        """Clips whose captions stand beside them."""
        for path in clips:
            if isinstance(path, Reject):
                self.found.rejects.append(path)
                continue
            name = name_in(self.root, path)
            try:
                captions = self._texts(name, self._lines(path))
                self._check(path)
            except ValueError as error:
                self._reject(name, str(error))
            else:
                self.found.sources.append(Source(name, path, (Excerpt("\n".join(captions)),)))
        return self._sorted()

    def of_table(self, table: Path, columns: Mapping[str, str] | None, images: bool) -> Listing:
        """Clips that a table names; rows of one file and the same times are captions of one clip."""
        files: dict[str, _Named | None] = {}  # by where they really lie; None for what must not be opened
        told: list[str] = []
        for row in table_rows(table, columns, told, self.root):
            if not isinstance(row.path, str) or not row.path or not row.path.isprintable():
                self._reject(row.place, "it has no path" if row.path is None else "its path is no printable text")
                continue
            path = self.root / row.path
            whole = os.path.realpath(path)
            if not files.get(whole):
                why = self._bars(path)
                files[whole] = None if why else _Named(self._name(whole, row.path), path)
                if why:
                    self._reject(row.path, why)
            if named := files[whole]:
                self._read(row, named)
        self.found.notices += [Notice(printable(table.name), text) for text in told]
        for named in filter(None, files.values()):
            excerpts = [
                Excerpt("\n".join(captions), start, None if end == math.inf else end)
                for (start, end), captions in sorted(named.captions.items())
            ]
            if excerpts:
                self.found.sources.append(Source(named.name, named.path, tuple(excerpts), named.group))
        for clip in _walk(self.root, images):
            if (
                isinstance(clip, Path)
                and os.path.realpath(clip) not in files
                and not files.get(os.path.realpath(clip.parent))
            ):
                self._reject(name_in(self.root, clip), f"no row of {printable(table.name)} names it")
        return self._sorted()

    def _read(self, row: Row, named: _Named) -> None:
        """What a row says of its file."""
        try:
            start, end = read_part(row.start, row.end, row.duration)
            group = read_group(row.group)
            if named.captions and group != named.group:
                raise ValueError(f"its group is {group!r}, and another row says {named.group!r}")
            told = self._texts(named.name, row.caption if isinstance(row.caption, list) else [row.caption])
        except ValueError as error:
            self._reject(named.name, f"{error}, in {row.place}")
            return
        named.group = group
        known = named.captions.setdefault((start, math.inf if end is None else end), [])
        if set(told) <= set(known):
            self._reject(named.name, f"listed a second time, in {row.place}")
        known += [caption for caption in told if caption not in known]

    def _name(self, whole: str, path: str) -> str:
        """How a file is called wherever it is linked from; one outside, in a cache, as it was named."""
        root = Path(os.path.realpath(self.root))
        return name_in(root, Path(whole)) if Path(whole).is_relative_to(root) else printable(os.path.normpath(path))

    def _texts(self, name: str, captions: list[object]) -> list[str]:
        """Captions as they are kept, each once.

        Raises:
            ValueError: what is wrong with one.
        """
        texts = [read_caption(caption) for caption in captions] or [read_caption(None)]
        for text in texts:
            if len(text) > LONGEST_CAPTION:
                notice = f"its caption of {len(text):,} characters is cut to {LONGEST_CAPTION:,}"
                self.found.notices.append(Notice(name, notice))
        return list(dict.fromkeys(map(shortened, texts)))

    def _lines(self, path: Path) -> list[object]:
        """The captions in the text file beside a clip.

        Raises:
            ValueError: why there are none.
        """
        beside = _caption_file(path)
        if not beside.exists():
            raise ValueError(f"no caption: there is no {printable(beside.name)} and no table was given")
        if why := barred(self.root, beside):
            raise ValueError(f"its caption in {printable(beside.name)}: {why}")
        try:
            return list(lines_of(beside.read_bytes()))
        except OSError as error:
            raise ValueError(f"its caption cannot be read: {error.strerror}") from error

    def _check(self, path: Path) -> None:
        if why := self._bars(path):
            raise ValueError(why)

    def _bars(self, path: Path) -> str | None:
        """Why a file, or the frames of a folder, must not or cannot be opened as one clip, if so."""
        if why := barred(self.root, path):
            return why
        if not path.is_dir():
            return None
        try:
            frames = frame_files(path)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        except ValueError as error:
            return str(error)
        if not frames:
            return f"it is a folder without images ({', '.join(FRAME_SUFFIXES)}, {WEBP})"
        for frame in frames:
            if why := barred(self.root, frame):
                return f"frame {printable(frame.name)}: {why}"
        return None

    def _reject(self, path: str, reason: str) -> None:
        self.found.rejects.append(Reject(path, None, reason))

    def _sorted(self) -> Listing:
        self.found.sources.sort(key=lambda source: source.path)
        return self.found


def _walk(root: Path, images: bool) -> Iterator[Path | Reject]:
    """The clips in a folder and below it, and what is none and why; images with captions of their own among them."""
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(root, onerror=unreadable.append):
        here = Path(parent)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for link in (here / folder for folder in folders):
            if link.is_symlink():
                yield Reject(name_in(root, link), None, "it is a link to a folder, which is not followed")
        alone = [n for n in names if images and n.lower().endswith(FRAME_SUFFIXES) and Path(n).stem + ".txt" in names]
        yield from (here / name for name in sorted(alone))
        names = [name for name in names if name not in alone]
        frames = _frames_in(here, names)
        if frames and here != root:
            yield here
        for name in sorted(n for n in names if not n.startswith(".")):
            path, suffix = here / name, Path(name).suffix.lower()
            if suffix in CLIP_SUFFIXES and suffix not in frames:
                yield path
            elif suffix not in (*CLIP_SUFFIXES, *_BESIDE, *FRAME_SUFFIXES) or (
                suffix in FRAME_SUFFIXES and here == root
            ):
                yield Reject(name_in(root, path), None, f"no clip: its suffix is not {', '.join(CLIP_SUFFIXES)}")
    for error in unreadable:
        yield Reject(name_in(root, Path(error.filename)), None, f"it cannot be read: {error.strerror}")


def _alone(root: Path) -> Iterator[Reject]:
    """The captions in a folder and below it that have no clip beside them."""
    for parent, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        beside = {Path(name).stem for name in names if not name.lower().endswith(_BESIDE)} | set(folders)
        for name in sorted(names):
            frames = name == "caption.txt" and Path(parent) != root
            if name.endswith(".txt") and not name.startswith(".") and not frames and Path(name).stem not in beside:
                yield Reject(name_in(root, Path(parent, name)), None, "a caption without a clip of its name beside it")


def _is_clip(path: Path) -> bool:
    """Whether a path that was named is one clip: a film, or a folder of frames with a caption and no clip in it."""
    if path.is_file():
        return path.suffix.lower() in CLIP_SUFFIXES
    if not path.is_dir() or not _caption_file(path.absolute()).is_file():
        return False
    names = os.listdir(path)
    frames = _frames_in(path.absolute(), names)
    return bool(frames) and not any(n.lower().endswith(CLIP_SUFFIXES) and not n.lower().endswith(frames) for n in names)


def _frames_in(folder: Path, names: list[str]) -> tuple[str, ...]:
    """The suffixes of files that are frames of the folder's clip; a .webp may be a clip with a caption of its own."""
    if any(name.lower().endswith(FRAME_SUFFIXES) for name in names):
        return FRAME_SUFFIXES
    webp = [name for name in names if name.lower().endswith(WEBP)]
    alone = webp and not {Path(name).with_suffix(".txt").name for name in webp} & set(names)
    return (WEBP,) if alone and _caption_file(folder).is_file() else ()


def _caption_file(path: Path) -> Path:
    """Where the caption of a clip stands; that of a folder of frames may lie inside."""
    if not path.is_dir():
        return path.with_suffix(".txt")
    inside = path / "caption.txt"
    return inside if inside.is_file() else path.with_name(path.name + ".txt")
