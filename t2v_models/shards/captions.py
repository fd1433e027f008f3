"""What people write about a clip, as it is kept: its captions, one a line, the times of the part they speak of, and its
group."""

import math
import unicodedata

from t2v_models.text.split import words

LONGEST_CAPTION = 2000
"""Characters; longer ones are cut."""
ROUNDED = 0.151
"""Seconds that an end and a duration may differ by: three times with one decimal each do."""
NO_CAPTION = ("nan", "none", "null", "n/a")
"""What programs write where they have no text."""


def lines_of(content: bytes) -> list[bytes]:
    """The captions in a text file: its lines, but for empty ones. A file without any has one empty caption."""
    return [line for line in content.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()] or [b""]


def read_caption(caption: object) -> str:
    """One caption in one line: text, or bytes that are UTF-8; a cell of a table may hold anything.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(caption, bytes | str):
        raise ValueError("no caption" if caption is None else "its caption is no text")
    try:
        stored = caption.encode("utf-8", "surrogateescape") if isinstance(caption, str) else caption
        text = " ".join(stored.decode("utf-8-sig").split())
    except UnicodeEncodeError as error:
        raise ValueError(f"its caption holds half a character, a lone surrogate, in place {error.start}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"its caption is not UTF-8: byte {error.start} cannot be read") from error
    if control := next((c for c in text if unicodedata.category(c) == "Cc"), None):
        raise ValueError(f"its caption holds the control character U+{ord(control):04X}, which is no text")
    if not words(shortened(text)):
        raise ValueError("its caption has no word: no letter or digit of any script")
    if text.casefold() in NO_CAPTION:
        raise ValueError(f"its caption is {text!r}, which stands for none")
    return text


def shortened(caption: str) -> str:
    """At most `LONGEST_CAPTION` characters of a caption, cut between words where it has any."""
    if len(caption) <= LONGEST_CAPTION:
        return caption
    head, blank, _ = caption[: LONGEST_CAPTION + 1].rpartition(" ")
    return head if blank else caption[:LONGEST_CAPTION]


def read_seconds(value: object, what: str) -> float | None:
    """A time in a table, in seconds or as h:mm:ss; None where there is none.

    Raises:
        ValueError: it is none.
    """
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if value is None or text.strip().casefold() in ("", "nan"):
        return None
    try:
        parts = [float(part) for part in text.split(":")] if "_" not in text else []  # Python reads 1_0 as 10
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= part < math.inf for part in parts) or max(parts[1:], default=0) >= 60:
        raise ValueError(f"its {what} {text[:40]!r} is no time: give seconds or h:mm:ss")
    return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))


def read_part(start: object, end: object, duration: object) -> tuple[float, float | None]:
    """When a part of a film begins and ends, in seconds; None for the film's end.

    Raises:
        ValueError: one is no time, the part ends before it begins, or its end and its duration say different things.
    """
    begin, stop, length = (
        read_seconds(start, "start") or 0.0,
        read_seconds(end, "end"),
        read_seconds(duration, "duration"),
    )
    if length is not None and stop is not None and abs(stop - begin - length) > ROUNDED:
        raise ValueError(f"it ends at {stop:g} s and starts at {begin:g} s, and its duration is {length:g} s")
    if stop is None and length is not None:
        stop = begin + length
    if stop is not None and stop <= begin:
        raise ValueError(f"it ends at {stop:g} s, and starts at {begin:g} s")
    return begin, stop


def read_group(value: object) -> str:
    """What a file has in common with others, any text or number in a table; empty where there is nothing.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        stored = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        text = " ".join(stored.decode("utf-8").split())
    except UnicodeError as error:
        raise ValueError("its group is not UTF-8") from error
    return "" if value is None or text.casefold() in NO_CAPTION else text
