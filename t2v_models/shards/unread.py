"""What headers say of colours and layers that no decoder here reads: Dolby Vision of profile 5, HEVC with alpha.

Found by the records that their standards describe; PyAV shows neither.
"""

import re
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

HEAD = 1 << 20
"""Bytes in which Matroska and transport streams say what their tracks are."""
PROFILE_5 = {
    "mov,mp4,m4a,3gp,3g2,mj2": re.compile(rb"dv[cvw]C\x01.[\x0a\x0b]", re.DOTALL),
    "matroska,webm": re.compile(rb"dv[cvw]C(?:\x41\xf0\x81.)?\x41\xed[\x85-\xbf]\x01.[\x0a\x0b]", re.DOTALL),
    "mpegts": re.compile(rb"\xb0[\x05-\x1f]\x01.[\x0a\x0b]", re.DOTALL),
}
"""Dolby Vision's record, by container: version, 7 bits of the profile and one of the level. Its maker's "Streams within
the ISO base media file format" and "... the MPEG-2 transport stream format"; RFC 9559, section 5.1.4.1.17."""
ALPHA = re.compile(rb"\0[\0-\x7f]\x4e[\x01\x09]\xa5.[\0-\x7f]", re.DOTALL)
"""How parameter sets or a packet say that a layer is alpha: behind a length or a start code a message in front of the
picture, of kind 165, whose first bit tells that it is not the end of such a layer (ITU-T H.265, F.14.2.8)."""


def is_profile_5(path: Path, container: str) -> bool:
    """Whether a film's header says that its colours are Dolby Vision's own."""
    pattern = PROFILE_5.get(container)
    if pattern is None:
        return False
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        parts = {"mpegts": _programs, "mov,mp4,m4a,3gp,3g2,mj2": _movie}.get(container, _head)
        return any(pattern.search(part) for part in parts(data))


def is_layered(content: bytes) -> bool:
    """Whether parameter sets or a packet of HEVC speak of a layer of alpha."""
    return ALPHA.search(content) is not None


def _head(data: mmap) -> Iterator[bytes]:
    yield data[:HEAD]


def _movie(data: mmap) -> Iterator[bytes]:
    """The box `moov`, which says what the tracks are: ISO/IEC 14496-12, section 4.2."""
    at = 0
    while at + 16 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        if name == b"moov":
            yield data[at : at + size]
        if size < 8:
            return
        at += size


def _programs(data: mmap) -> Iterator[bytes]:
    """Packets of a transport stream that begin a table of a program: table 2, ISO/IEC 13818-1, section 2.4.4.8."""
    for found in re.finditer(rb"G[\x40-\x5f].[\x10-\x1f]\0\x02[\xb0-\xbf]", data[:HEAD], re.DOTALL):
        yield data[found.start() : found.start() + 188]
