"""Folders of images as clips: which files are frames, in which order, and whether any is missing.

The order is told by the number that changes from name to name, wherever it stands. Where the names leave a doubt the
folder is refused: pictures in a wrong order look like motion all the same.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from t2v_models.shards.paths import printable

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
WEBP = ".webp"
"""Frames only where a folder holds no others: alone it is rather an animation."""

Count = int | Fraction
_DIGITS = re.compile(r"(\d+)")
ADVICE = "name them alike, with one number that counts up"


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder in their order.

    Raises:
        OSError: the folder cannot be read.
        ValueError: they are not the frames of one clip: their order cannot be told, or some are missing.
    """
    files = [p for p in folder.iterdir() if not p.name.startswith(".")]
    frames = [p for p in files if p.suffix.lower() in FRAME_SUFFIXES]
    return ordered(frames or [p for p in files if p.suffix.lower() == WEBP])


def ordered(files: Sequence[Path]) -> list[Path]:
    """Frames by the number in their names: `frame (2).png` comes before `frame (10).png`.

    Raises:
        ValueError: names that differ in more than numbers, several numbers that do not agree, two frames of one number,
            or a hole: a step twice the smallest or more.
    """
    if len(files) < 2:
        return list(files)
    files = sorted(files, key=lambda file: file.name)
    counts = _counts(files)
    frames = sorted(files, key=counts.__getitem__)
    steps = [counts[after] - counts[before] for before, after in pairwise(frames)]
    for file, step in zip(frames, steps, strict=False):
        if step == 0:
            raise ValueError(f"two frames have the number of {printable(file.name)}")
        if step >= 2 * min(steps):
            higher = step if isinstance(step, int) else float(step)
            raise ValueError(f"frames are missing after {printable(file.name)}: the next number is {higher} higher")
    return frames


def _counts(files: Sequence[Path]) -> dict[Path, Count]:
    """What the names of several frames say of their places."""
    parts = [_DIGITS.split(file.stem.casefold()) for file in files]  # text, digits, text, digits, ..., text
    columns = [[int(part[i]) for part in parts if i < len(part)] for i in range(1, max(map(len, parts)), 2)]
    varying = [1 + 2 * i for i, column in enumerate(columns) if len(set(column)) > 1]
    texts = [part[::2] for part in parts]
    if not varying and len(set(map(str, texts))) == len(files):
        return _letters(files)
    for file, part, text in zip(files, parts, texts, strict=True):
        if len(part) == 1:
            raise ValueError(f"frame {printable(file.name)} has no number, and others have: {ADVICE}")
        if text != texts[0]:
            both = f"{printable(files[0].name)} and {printable(file.name)}"
            raise ValueError(f"frames {both} differ in more than numbers: {ADVICE}")
    if all(part[0] == "-" for part in parts):
        raise ValueError(f"{printable(files[0].name)} begins with what may be a minus: {ADVICE}")
    if _may_be_decimals(parts, varying):
        raise ValueError(
            f"the numbers of {printable(files[0].name)} and the other frames have one order as decimals and another as "
            f"whole numbers: {ADVICE}"
        )
    natural = [tuple(int(part[i]) for i in varying) for part in parts]
    readings = _readings(parts, varying)
    alike = [counts for counts in readings if _order(counts) == _order(natural)]
    others = [counts for counts in readings if counts not in alike]
    if alike and not any(map(_is_even, others)):  # of two that count, one must not count the other way
        holed = (counts for counts in alike if not _is_even(counts))  # frames that are numbered anew tell no hole
        return dict(zip(files, next(holed, alike[0]), strict=True))
    raise ValueError(
        "the order of its frames cannot be told, for several numbers in their names change, as in "
        f"{printable(files[0].name)} and {printable(files[-1].name)}: {ADVICE}"
    )


def _readings(parts: list[list[str]], varying: list[int]) -> list[Sequence[Count]]:
    """What may count the frames: seconds with a decimal point where only those change, else any number by itself.

    Of several numbers one counts that is never twice the same: the others may be times, but no other clip's.
    """
    if len(varying) == 2 and all(part[varying[0] + 1 : varying[1]] == ["."] for part in parts):
        return [[Fraction(f"{part[varying[0]]}.{part[varying[1]]}") for part in parts]]
    columns: list[Sequence[Count]] = [[int(part[i]) for part in parts] for i in varying or [1]]
    return [column for column in columns if len(columns) == 1 or len(set(column)) == len(column)]


def _may_be_decimals(parts: list[list[str]], varying: list[int]) -> bool:
    """Whether all that changes stands behind a number and a point, as in 0.25 and 0.5, means another order so, and does
    not count 1, 2, 3, ..."""
    if len(varying) != 1 or varying[0] < 3 or any(part[varying[0] - 1] != "." for part in parts):
        return False
    digits = [part[varying[0]] for part in parts]
    whole, decimals = [int(number) for number in digits], [Fraction(f"0.{number}") for number in digits]
    return _order(whole) != _order(decimals) and max(whole) - min(whole) >= len(whole)


def _is_even(counts: Sequence[Count]) -> bool:
    """Whether nothing is missing between numbers."""
    steps = [after - before for before, after in pairwise(sorted(counts))]
    return max(steps) < 2 * min(steps)


def _order(values: Sequence[Count] | Sequence[tuple[int, ...]]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)


def _letters(files: Sequence[Path]) -> dict[Path, Count]:
    """Frames that one letter counts: `walk_a.png`, `walk_b.png`, ..."""
    stems = [file.stem.casefold() for file in files]
    varying = [place for place, letters in enumerate(zip(*stems, strict=False)) if len(set(letters)) > 1]
    letters = [stem[varying[0]] if varying else "" for stem in stems]
    alike = len(set(map(len, stems))) == len(varying) == 1
    if not alike or not all(c.isascii() and c.isalpha() for c in letters):
        raise ValueError(f"the order of frames named as {printable(files[0].name)} cannot be told: {ADVICE}")
    return {file: ord(letter) for file, letter in zip(files, letters, strict=True)}
