"""Where a film's container is not what it says of itself: places whose parts do not follow one another, and ends that
come too early. Demuxers read on at the next part that looks right, and seldom say so.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2v_models.shards.asf import broken_packets, is_whole
from t2v_models.shards.matroska import broken_clusters, has_checksums

CUT = "it ends in the middle of its data: it was cut, or is not complete"

UNTOLD = (0, 2**32 - 1)
"""Sizes in the head of an AVI that was written to a pipe."""
CHUNK = re.compile(rb"(?:\d\d[a-z]{2}|ix\d\d|JUNK|LIST|RIFF|idx1|rec )", re.DOTALL)
"""What pieces of an AVI are called behind its head."""
OF_PICTURES = (b"AVIX", b"movi", b"rec ")
"""Lists in which there are such pieces; others tell who made the film."""
TAG = re.compile(rb"[\x08\x09\x12].{7}\0\0\0", re.DOTALL)
"""The head of a piece of FLV: sound, pictures or data."""
TS_PACKETS = {188: 0, 192: 4, 204: 0}
"""Lengths of a transport stream's packets, and where in them its mark, a G, stands."""
TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in the other order."""


def broken(path: Path, container: str, track: int) -> list[range]:
    """The places, in bytes, where a film's parts do not follow one another.

    Args:
        track: what a transport stream calls its pictures, its PID, or what WMV does.
    """
    walks: dict[str, Callable[[mmap], Iterable[range]]] = {
        "matroska,webm": broken_clusters, "avi": _avi, "flv": _flv, "ogg": _ogg,
        "asf": partial(broken_packets, track), "mpegts": partial(_ts, track),
    }  # fmt: skip
    walk = walks.get(container)
    if walk is None:
        return []
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        return list(walk(data))


def is_checked(path: Path, container: str) -> bool:
    """Whether checksums of the container tell of every wrong bit: its reader looks at those of Ogg itself."""
    if container != "matroska,webm":
        return container == "ogg"
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        return has_checksums(data)


def is_cut(path: Path, container: str, track: int) -> bool:
    """Whether a film is shorter, in bytes, than it says, or ends amid a part of it; `track` as in `broken`."""
    ends: dict[str, Callable[[mmap], bool]] = {
        "avi": _avi_ends, "asf": is_whole, "mpegts": partial(_ts_ends, track), "mpeg": _ps_ends, "ogg": _ogg_ends,
        "gif": _gif_ends,
    }  # fmt: skip
    if container not in ends:
        return False
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        return not ends[container](data)


def is_of_boxes(path: Path) -> bool:
    """Whether the boxes of mov or mp4 end where the file does: ISO/IEC 14496-12, section 4.2."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
            at += max(size, 8)
        return at == len(data)


def _avi(data: mmap) -> Iterator[range]:
    """Chunks of an AVI: a name, a size and as many bytes, to an even place."""
    at = data.find(b"movi") + 4
    before, end = at, 8 + int.from_bytes(data[4:8], "little")
    while 4 <= at < len(data) - 8:
        if not CHUNK.match(data, at):
            if at >= end > before:
                return  # what comes behind the film is no part of it
            found = CHUNK.search(data, before + 8)
            while found and not _leads_on(data, found.start()):
                found = CHUNK.search(data, found.start() + 1)
            stop = found.start() if found else len(data)
            yield range(before, stop)
            before = at = stop
            continue
        before, size = at, int.from_bytes(data[at + 4 : at + 8], "little")
        at += 12 if data[at + 8 : at + 12] in OF_PICTURES and data[at : at + 4] in (b"LIST", b"RIFF") else 8 + size
        if at % 2 and not CHUNK.match(data, at):
            at += 1


def _leads_on(data: mmap, at: int) -> bool:
    after = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return after >= len(data) - 8 or bool(CHUNK.match(data, after) or CHUNK.match(data, after + 1))


def is_piped(path: Path) -> bool:
    """Whether a film is an AVI whose writer could not go back to tell how long it became: that is no length."""
    with path.open("rb") as stream:
        start = stream.read(8)
    return start[:4] == b"RIFF" and int.from_bytes(start[4:], "little") in UNTOLD


def avi_held(path: Path, track: int) -> int:
    """Chunks of pictures that the index at an AVI's end names, if the last are empty: each holds the picture before it.
    Else 0."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        at = data.rfind(b"idx1")
        index = data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")] if at >= 0 else b""
    named = [index[i : i + 16] for i in range(0, len(index), 16) if index[i : i + 2] == b"%02d" % track]
    return len(named) if named and not any(named[-1][12:]) else 0


def _avi_ends(data: mmap) -> bool:
    size = int.from_bytes(data[4:8], "little")
    return size in UNTOLD or 8 + size <= len(data)


def _flv(data: mmap) -> Iterator[range]:
    """Tags of an FLV: each is followed by its own size."""
    at = int.from_bytes(data[5:9], "big") + 4
    if _flv_next(data, at) is None:
        return  # some writers count otherwise
    while at < len(data) - 15:
        after = _flv_next(data, at)
        if after is None:
            tags = (found.start() for found in TAG.finditer(data, at + 1))
            stop = next((tag for tag in tags if _flv_next(data, tag)), len(data))
            yield range(at, stop)
            after = stop
        at = after


def _flv_next(data: mmap, at: int) -> int | None:
    """Where the tag behind this one begins; None where this is none."""
    size = int.from_bytes(data[at + 1 : at + 4], "big")
    after = at + 11 + size
    whole = TAG.match(data, at) and int.from_bytes(data[after : after + 4], "big") == 11 + size
    return after + 4 if whole else None


def _ts(track: int, data: mmap) -> Iterator[range]:
    """Packets of a transport stream are counted, modulo 16: ISO/IEC 13818-1, section 2.4.3."""
    length, mark = _ts_packets(data)
    at, count, start, before = 0, -1, 0, 0
    while length and at + length <= len(data):
        rows = np.frombuffer(data, np.uint8, (len(data) - at) // length * length, at).reshape(-1, length)[:, mark:]
        lost = np.flatnonzero(rows[:, 0] != 0x47)
        rows = rows[: lost[0] if len(lost) else None]
        own = np.flatnonzero((rows[:, 1] & 0x1F).astype(int) << 8 | rows[:, 2] == track)
        for i, (_, flags, _, control, extra, told, *_) in zip(own.tolist(), rows[own, :6].tolist(), strict=True):
            place, new = at + i * length, (count + bool(control & 0x10)) % 16
            start = place if flags & 0x40 else start
            jumps = control & 0x20 and extra and told & 0x80  # allowed, and told
            skips = count >= 0 and not jumps and control & 15 not in (new, count)
            if flags & 0x80 or skips or (flags & 0x40 and not _begins(rows[i])):
                yield range(before, place + 1)
            count, before = control & 15, start
        if not len(lost):
            return
        hole = at + len(rows) * length
        at = _ts_sync(data, hole, length, mark)
        yield range(start, at + 1)


def _begins(packet: NDArray[np.uint8]) -> bool:
    """Whether what a packet of a transport stream holds begins as a picture's data must: 2.4.3.7."""
    start = 5 + int(packet[4]) if packet[3] & 0x20 else 4
    return bool((packet[start : start + 3] == (0, 0, 1)).all())


def _ts_sync(data: mmap, at: int, length: int, mark: int) -> int:
    """Where, from here on, packets follow one another again."""
    while (at := data.find(b"G", at)) >= 0:
        if all(place >= len(data) or data[place] == 0x47 for place in range(at, at + 4 * length, length)):
            return at - mark
        at += 1
    return len(data)


def _ts_packets(data: mmap) -> tuple[int, int]:
    """The length of its packets, and where in them their mark stands; 0 if it is no transport stream."""
    for length, mark in TS_PACKETS.items():
        if len(data) > 8 * length and all(data[mark + i * length] == 0x47 for i in range(8)):
            return length, mark
    return 0, 0


def _ts_ends(track: int, data: mmap) -> bool:
    """Packets of a transport stream have one length. A picture begins in a packet of its own, so that the one in which
    it ends is stuffed, but for one in 184 by chance; else what holds it may tell its length: ISO/IEC 13818-1, 2.4.3."""
    length, mark = _ts_packets(data)
    if not length or len(data) % length:
        return not length
    held = 0
    for at in range(len(data) - length + mark, 0, -length):
        packet = data[at : at + 188]
        if not packet[3] & 0x10 or (packet[1] & 0x1F) << 8 | packet[2] != track:
            continue
        if not held and _is_stuffed(packet):
            return True
        start = 5 + packet[4] if packet[3] & 0x20 else 4
        held += len(packet) - start
        if packet[1] & 0x40:
            return 0 < int.from_bytes(packet[start + 4 : start + 6], "big") <= held - 6
    return True


def _is_stuffed(packet: bytes) -> bool:
    """Whether what lies before a packet's content is longer than what it tells: 2.4.3.4."""
    if not packet[3] & 0x20:
        return False
    length, told = packet[4], packet[5]
    return not length or not told or length > 1 + 6 * (told >> 4 & 1) + 6 * (told >> 3 & 1) + (told >> 2 & 1)


def _ps_ends(data: mmap) -> bool:
    """Packets of a program stream tell their length, from the last pack on."""
    at = data.rfind(b"\0\0\1\xba")
    if at < 0 or at + 14 > len(data):
        return at < 0
    at += 14 + (data[at + 13] & 7) if data[at + 4] >> 6 == 1 else 12
    while at + 6 <= len(data) and data[at : at + 3] == b"\0\0\1" and data[at + 3] > 0xBA:
        at += 6 + int.from_bytes(data[at + 4 : at + 6], "big")
    return at <= len(data) and (at == len(data) or not any(data[at:]) or data[at : at + 4] == b"\0\0\1\xb9")


def _ogg(data: mmap) -> Iterator[range]:
    """Pages of Ogg and their checksums: RFC 3533, section 6. FFmpeg looks at them, but may have done so on opening."""
    at = max(0, data.find(b"OggS"))
    while at < len(data):
        after = _ogg_next(data, at)
        if after is None:
            pages = (found.start() for found in re.finditer(b"OggS", data[at + 1 :]))
            after = next((at + 1 + page for page in pages if _ogg_next(data, at + 1 + page)), len(data))
            yield range(at, after)
        at = after


def _ogg_next(data: mmap, at: int) -> int | None:
    """Where the page behind this one begins; None where this is none or has a wrong checksum."""
    lengths = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
    after = at + 27 + len(lengths) + sum(lengths)
    if data[at : at + 4] != b"OggS" or after > len(data):
        return None
    page = data[at : at + 22] + bytes(4) + data[at + 26 : after]
    turned = ~zlib.crc32(page.translate(TURNED), 0xFFFFFFFF) & 0xFFFFFFFF  # Ogg counts bits from the other side
    return after if int(f"{turned:032b}"[::-1], 2) == int.from_bytes(data[at + 22 : at + 26], "little") else None


def _ogg_ends(data: mmap) -> bool:
    """The last page of a stream is marked."""
    last = data.rfind(b"OggS")
    return last + 6 <= len(data) and bool(data[last + 5] & 4)


def gif_controls(path: Path) -> list[int | None]:
    """What is done with each picture of a GIF before the next is drawn, 0 to 7; None where nothing is said of it.

    Raises:
        ValueError: another GIF follows in the same file, which decoders take for a part of it.
    """
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        controls, end = _gif_blocks(data)
        if max(data.find(b"GIF87a", end), data.find(b"GIF89a", end)) >= 0:
            raise ValueError("another GIF lies behind it in the same file: cut it in two")
        return controls


def see_one_webp(path: Path) -> None:
    """See that a file holds one WebP.

    Raises:
        ValueError: another follows, of which decoders say nothing.
    """
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        if data.find(b"WEBPVP8", 8 + int.from_bytes(data[4:8], "little")) >= 0:
            raise ValueError("another WebP lies behind it in the same file: cut it in two")


def _gif_ends(data: mmap) -> bool:
    end = _gif_blocks(data)[1]
    return end < len(data) and data[end] == 0x3B


def _gif_blocks(data: mmap) -> tuple[list[int | None], int]:
    """What controls its pictures, and where its blocks, which lead from one to the next, end: GIF89a, appendix B."""
    controls: list[int | None] = []
    control: int | None = None
    at = 13 + _gif_colours(data[10]) if len(data) > 13 else len(data)
    while at + 9 < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            controls.append(control)
            control = None
        elif data[at + 1] == 0xF9:
            control = data[at + 3] >> 2 & 7
        at += 2 if data[at] == 0x21 else 11 + _gif_colours(data[at + 9])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return controls, at


def _gif_colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 6 << (flags & 7) if flags & 0x80 else 0
