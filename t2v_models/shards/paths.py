"""Names of people's own files, and which of them may be opened: only those inside the folder that was named."""

import os
import stat
from pathlib import Path

CLIP_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp",
    ".gif", ".webp", ".npz",
)  # fmt: skip
_CACHED = ("datasets--", "models--", "spaces--")
"""What the folders of repositories in Hugging Face's cache are called."""


def printable(name: str) -> str:
    """A file name as text that no other name has: odd bytes, which are not UTF-8, and backslashes are escaped."""
    return name.replace("\\", r"\\").encode("utf-8", "backslashreplace").decode()


def name_in(root: Path, path: Path) -> str:
    """How a file inside a folder is called in a dataset: relative to it, with forward slashes."""
    return printable(path.relative_to(root).as_posix())


def barred(root: Path, path: Path) -> str | None:
    """Why a path must not be opened, if so: it leads elsewhere, or opening it might never end."""
    whole = Path(os.path.realpath(path))
    if not any(whole.is_relative_to(place) for place in _places(root)):
        return f"its path leads out of {printable(root.name)}: only files inside are read"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "it is no regular file"


def _places(root: Path) -> list[Path]:
    """Where files of a folder may lie: in it, and for a snapshot in Hugging Face's cache among its blobs."""
    whole = Path(os.path.realpath(root))
    caches = (parent.parent for parent in whole.parents if parent.name == "snapshots")
    blobs = [repository / "blobs" for repository in caches if repository.name.startswith(_CACHED)]
    return [whole, *(folder for folder in blobs if folder.is_dir())]
