"""Packets of ASF, the container of WMV: whether their parts lie within them, and pictures are whole and in their order.

Demuxers leave out what does not fit without a word (Advanced Systems Format, revision 1.20, section 5.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

HEAD = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
FACTS = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
SIZES = (0, 1, 2, 4)
"""Bytes of a number, by the two bits that tell of it."""
COMPRESSED = 1
"""In place of the bytes of what is repeated with each part: the part is several objects, of which each is small."""


@dataclass
class _Part:
    """A part of an object, which is a picture or a piece of sound."""

    track: int
    number: int
    """Of the object, modulo 256."""
    offset: int
    """Where in the object it lies, in bytes."""
    size: int
    """Of the object."""
    end: int
    """Offset behind it."""


def broken_packets(track: int, data: mmap) -> Iterator[range]:
    """The places, in bytes, where parts do not lie within their packet, or objects of a track are not whole.

    Args:
        track: what the file calls the pictures.
    """
    _, start, size = _facts(data)
    if not size or not data[start] & 0x80:
        return
    stop = start - 50 + int.from_bytes(data[start - 34 : start - 26], "little")
    begun, before = start, None  # where the latest object begins, and its latest part
    for at in range(start, min(stop, len(data) - size + 1), size):
        parts = _parts(data[at : at + size]) if data[at : at + 3] == data[start : start + 3] else None
        if parts is None:
            yield range(at, at + size)
        for part in parts or ():
            if part.track == track:
                if before and not _follows(part, before):
                    yield range(begun, at + 1)
                begun, before = at if part.offset == 0 else begun, part


def is_whole(data: mmap) -> bool:
    """Whether a file is as long as it says."""
    length, _, _ = _facts(data)
    return length <= len(data)


def _facts(data: mmap) -> tuple[int, int, int]:
    """Bytes of the file, where its packets begin and their size; all 0 where it does not tell."""
    facts = data.find(FACTS, 0, 1 << 20)
    if data[:16] != HEAD or facts < 0:
        return 0, 0, 0

    def number(at: int, count: int) -> int:
        return int.from_bytes(data[at : at + count], "little")

    live, least, most = (number(facts + place, 4) for place in (88, 92, 96))
    if live & 1:
        return 0, 0, 0
    return number(facts + 40, 8), number(16, 8) + 50, least if least == most else 0


def _follows(part: _Part, before: _Part) -> bool:
    if part.offset:
        return (part.number, part.offset, part.size) == (before.number, before.end, before.size)
    return before.end == before.size and part.number == (before.number + 1) % 256


def _parts(packet: bytes) -> list[_Part] | None:
    """The parts of a packet; None if they reach beyond it. They may leave room: some writers take tracks away."""
    at = 1 + (packet[0] & 15)  # behind what corrects errors

    def number(count: int) -> int:
        nonlocal at
        at += count
        return int.from_bytes(packet[at - count : at], "little")

    lengths, kinds = number(1), number(1)
    length = number(SIZES[lengths >> 5 & 3]) or len(packet)
    number(SIZES[lengths >> 1 & 3])  # a number that nobody uses
    end = length - number(SIZES[lengths >> 3 & 3])
    number(6)  # when it is sent
    several = number(1) if lengths & 1 else 1
    parts = []
    for _ in range(several & 63):
        track = number(1) & 127
        counted, offset, repeated = [number(SIZES[kinds >> bits & 3]) for bits in (4, 2, 0)]
        size = int.from_bytes(packet[at : at + 4], "little")
        at += repeated
        count = number(SIZES[several >> 6]) if lengths & 1 else end - at
        at += count
        if count < 0 or at > end:
            return None
        if repeated == COMPRESSED:
            return []  # of pictures nobody makes such
        parts.append(_Part(track, counted % 256, offset, size, offset + count))
    return parts if at <= length <= len(packet) else None
