"""Clusters of Matroska: their checksums, which no demuxer checks, and their structure."""

import zlib
from collections.abc import Iterator
from mmap import mmap

SEGMENT, CLUSTER, CHECKSUM = 0x18538067, 0x1F43B675, 0xBF
IN_CLUSTER = {CHECKSUM, 0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0x5854, 0xEC}
BESIDE = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770, 0xEC, CHECKSUM}
"""Elements of Matroska: RFC 9559, section 27.1."""


def broken_clusters(data: mmap) -> Iterator[range]:
    """The places, in bytes, where clusters of a Matroska file have a wrong checksum or no structure."""
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


def has_checksums(data: mmap) -> bool:
    """Whether the first cluster begins with a checksum: mkv by FFmpeg has them, WebM and other writers' mkv none."""
    _, _, at = _element(data, 0)
    kind, at, _ = _element(data, at)
    while kind == SEGMENT and at < len(data):
        kind, first, stop = _element(data, at)
        if kind == CLUSTER:
            return _element(data, first)[0] == CHECKSUM
        kind, at = SEGMENT if stop > at else 0, stop
    return False


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
