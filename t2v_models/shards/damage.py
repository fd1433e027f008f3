"""Signs that a film's file is damaged, beside those that decoders give: few coders notice a hole in what they read.

Checksums of Matroska's clusters, which no demuxer checks; the index of AVI, which names every picture; zeros, which
disks and broken downloads leave, where coded pictures have none.
"""

import zlib
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

HOLE = bytes(32)
NO_ZEROS = ("h264", "hevc", "vp8", "vp9", "av1")
"""Coders whose pictures never hold so many zeros: arithmetic codes look random, and a start code would stand there."""
ZEROS_LAST = ("mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "mjpeg")
"""Coders that may fill up a picture with zeros."""

BROKEN = "a checksum is wrong or blocks are missing"

SEGMENT, CLUSTER, CHECKSUM = 0x18538067, 0x1F43B675, 0xBF
IN_CLUSTER = {CHECKSUM, 0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0x5854, 0xEC}
BESIDE = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770, 0xEC, CHECKSUM}
"""Elements of Matroska: RFC 9559, section 27.1."""


class Signs:
    """What the file itself says of its packets, taken in the order in which they are read."""

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self._codec = stream.codec_context.codec.name
        self._stop = 0
        """Of the hole at which the reader is."""
        self._holes = list(broken_clusters(path)) if container.format.name == "matroska,webm" else []
        chunks = [e.pos for e in stream.index_entries if e.size] if container.format.name == "avi" else []
        self._chunks, self._next = {place: number for number, place in enumerate(chunks)}, 0

    def of(self, packet: Any) -> str | None:
        """Why this packet, or one that should have come before it, is damaged, if so."""
        stored, place = bytes(packet), packet.pos or 0
        if HOLE in (stored.rstrip(b"\0") if self._codec in ZEROS_LAST else stored if self._codec in NO_ZEROS else b""):
            return "there are zeros in a picture's code"
        if stored and not any(stored) and self._codec in ZEROS_LAST:
            return "a picture's code is nothing but zeros"
        found = None
        while self._holes and place >= self._holes[0].start:
            self._stop = self._holes.pop(0).stop
            found = BROKEN
        if place < self._stop:
            found = BROKEN
        number = self._chunks.get(place - 8)  # after the name and the size of the chunk
        if number is not None:
            if number > self._next:
                found = "pictures are missing that the index names"
            self._next = number + 1
        return found

    def left(self) -> str | None:
        """What should have come before the end, if anything."""
        if self._holes or 0 < self._next < len(self._chunks):
            return "pictures are missing at the end"
        return None


def broken_clusters(path: Path) -> Iterator[range]:
    """The places in a Matroska file where clusters have a wrong checksum or no structure, in bytes."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        _, _, at = _element(data, 0)
        kind, at, _ = _element(data, at)
        while kind == SEGMENT and at < len(data):
            kind, first, stop = _element(data, at)
            if kind == CLUSTER and stop < 0:
                return  # of a live stream, which does not know its size beforehand
            whole = first <= stop <= len(data) and (kind in BESIDE or (kind == CLUSTER and _is_whole(data[first:stop])))
            if not whole:
                if kind != CLUSTER or stop > len(data):
                    stop = data.find(CLUSTER.to_bytes(4, "big"), at + 1)
                    stop = len(data) if stop < 0 else stop
                yield range(at, stop)
            kind, at = SEGMENT, stop


def _is_whole(cluster: bytes) -> bool:
    kind, first, stop = _element(cluster, 0)
    if kind == CHECKSUM:
        return int.from_bytes(cluster[first:stop], "little") == zlib.crc32(cluster[stop:])
    at = 0
    while at < len(cluster):
        kind, first, at = _element(cluster, at)
        if kind not in IN_CLUSTER or at < first:
            return False
    return at == len(cluster)


def _element(data: bytes | mmap, at: int) -> tuple[int, int, int]:
    """Name of the element at a place, where its content starts and where it ends; the end is -1 if it is not known.

    A number of n bytes begins with n - 1 zero bits and a one: RFC 8794, section 4. Where there is none, all is 0.
    """
    numbers = []
    for keep in (True, False):
        length = 9 - data[at].bit_length() if at < len(data) else 9
        if length > 8 or at + length > len(data):
            return 0, 0, 0
        number, marker = int.from_bytes(data[at : at + length], "big"), 1 << 7 * length
        numbers.append(number if keep else number ^ marker)
        at += length
    return numbers[0], at, -1 if numbers[1] == marker - 1 else at + numbers[1]
