"""Signs that a film's file is damaged, beside those that decoders give: few coders notice a hole in what they read.

What the container says of itself (`structure`); the index of AVI, which names every picture; zeros, which disks and
broken downloads leave, where coded pictures have none.
"""

import re
from pathlib import Path
from typing import Any

from t2v_models.shards.structure import CUT, avi_held, broken, is_cut, is_of_boxes
from t2v_models.shards.unread import is_layered

HOLE = bytes(32)
NO_ZEROS = ("h264", "hevc", "vp8", "vp9", "av1", "ffv1", "huffyuv", "ffvhuff", "magicyuv", "qtrle")
"""Coders whose pictures never hold so many zeros: arithmetic codes look random, a start code would stand there, or
zeros are the rarest pixels' code."""
ZEROS_LAST = ("mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "mjpeg")
"""Coders that may fill up a picture with zeros."""

TRUSTING = (
    "rawvideo", "v210", "v308", "v408", "v410", "r210", "yuv4", "ayuv", "qtrle", "magicyuv", "cinepak", "cfhd",
)  # fmt: skip
"""Coders to which any bytes, or nearly any, are a picture."""
GUESSED = ("h264", "hevc", "vvc")
"""Coders of which FFmpeg takes each picture in an AVI to be shown one step after it is decoded, mixed up or not."""
UNENDED = ("hevc", "vvc")
"""Coders whose decoders do not notice that a picture ends too early."""

HASH = re.compile(rb"\x50\x01\x84[\x03\x05\x07\x0d\x11\x31]", re.DOTALL)
"""How a digest of the decoded picture begins in HEVC, which its decoder compares: ITU-T H.265, section D.2.19."""

LEADING = ("mmco: unref short failure",)
"""What H.264's decoder says where pictures are to be forgotten that it never had."""

IDR = 5
"""What H.264 calls a part of a picture at which decoding begins anew."""

FFV1_FOOTER = 8
"""Bytes behind a part of FFV1 that has a checksum: three of its size, one unused, four of the sum (RFC 9043, 4.8)."""

BROKEN = "a checksum is wrong or blocks are missing"


class Signs:
    """What the file itself says of its packets, taken in the order in which they are read.

    Raises:
        ValueError: bytes are lost or added somewhere among pictures of a coder that takes any, all of which would be
            shifted from there on.
    """

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self._codec: str = stream.codec_context.codec.name
        kind = container.format.name
        self.checked: bool | None = None
        """Whether the pictures have checksums, so that no wrong bit passes; known from the first packet on."""
        self.layered = self._codec == "hevc" and is_layered(stream.codec_context.extradata or b"")
        """Whether there is a layer of alpha beside the pictures; known likewise."""
        self.expected: tuple[str, ...] = ()
        """What a decoder says until the next key frame, though nothing is damaged; known likewise."""
        self._head: bytes = stream.codec_context.extradata or b""
        self.guessed = kind == "avi" and self._codec in GUESSED
        """Whether FFmpeg guesses when pictures are shown: AVI tells when they are decoded alone."""
        self._stop = 0
        """Of the hole at which the reader is."""
        if self._codec in TRUSTING and "mov" in kind and not is_of_boxes(path):
            raise ValueError(f"bytes are lost or added in it, and {self._codec} does not tell where: make it anew")
        self._holes = broken(path, kind, stream.id)
        self.keyed = not (kind == "avi" and self._holes)
        """Whether packets tell which are key frames: AVI's index, once out of step, says so of all."""
        self.end = CUT if is_cut(path, kind, stream.id) else None
        """Why the last picture may not be whole, if so."""
        if self._codec in UNENDED and kind in ("mpeg", *UNENDED):
            self.end = self.end or f"nothing in {self._codec.upper()} in such a file tells whether it ends whole"
        self.held = float(avi_held(path, stream.index) * stream.time_base) if kind == "avi" else 0.0
        """Until when, in seconds, empty packets or chunks hold the picture before them."""
        chunks = [e.pos for e in stream.index_entries if e.size] if kind == "avi" else []
        self._chunks, self._next = {place: number for number, place in enumerate(chunks)}, 0

    def of(self, packet: Any) -> str | None:
        """Why this packet, or one that should have come before it, is damaged, if so."""
        stored, place = bytes(packet), packet.pos or 0
        if self.checked is None:
            self.checked = self._has_sums(stored)
            self.layered |= self._codec == "hevc" and is_layered(stored)
            self.expected = LEADING if self._codec == "h264" and is_cut_out(stored, self._head) else ()
        elif packet.is_keyframe:
            self.expected = ()
        picture = stored.rstrip(b"\0") if self._codec in ZEROS_LAST else stored
        no_zeros = self._codec in (*NO_ZEROS, *ZEROS_LAST) or (self._codec == "utvideo" and _is_left_predicted(stored))
        if no_zeros and HOLE in picture and not (self._codec == "mjpeg" and _zeros_are_even_blocks(stored)):
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

    def time(self, picture: Any) -> float | None:
        """When a picture is shown, in seconds, if that is told; where it is guessed, when the decoder gives it."""
        told = picture.dts if self.guessed else picture.pts
        return None if told is None else float(told * picture.time_base)

    def length(self, picture: Any) -> float:
        """For how long, likewise; 0 where that is not told."""
        return 0.0 if self.guessed else picture.duration * float(picture.time_base or 0)

    def hold(self, packet: Any) -> None:
        """Take note of an empty packet."""
        if packet.pts is not None:
            self.held = float((packet.pts + packet.duration) * packet.time_base)

    def _has_sums(self, stored: bytes) -> bool:
        """Whether a packet holds a digest of its picture (HEVC), or a checksum of each part (PNG, FFV1)."""
        if self._codec == "hevc":
            return HASH.search(stored) is not None
        if self._codec != "ffv1":
            return self._codec == "png"
        at = len(stored)
        while at >= FFV1_FOOTER:
            at -= FFV1_FOOTER + int.from_bytes(stored[at - FFV1_FOOTER : at - FFV1_FOOTER + 3], "big")
        return at == 0

    def left(self) -> str | None:
        """What should have come before the end, if anything."""
        if self._holes or 0 < self._next < len(self._chunks):
            return "pictures are missing at the end"
        return self.end


def is_cut_out(packet: bytes, head: bytes) -> bool:
    """Whether H.264's first packet is no picture at which decoding may begin anew (IDR), as where a film was cut out of
    another without coding it again: ITU-T H.264, 7.4.1.2.4; `head` is the coder's, ISO/IEC 14496-15 if it begins by 1.
    """
    if head[:1] != b"\1":
        return not re.search(rb"\x00\x00\x01[\x05\x25\x45\x65]", packet)
    at, size = 0, (head[4] & 3) + 1
    while at + size < len(packet):
        if packet[at + size] & 31 == IDR:
            return False
        at += size + int.from_bytes(packet[at : at + size], "big")
    return True


def _is_left_predicted(utvideo: bytes) -> bool:
    """Whether a picture of UT Video tells, in its last four bytes, that each pixel is coded as its difference from the
    one before: zeros are then the rarest difference, else they may be even areas."""
    return len(utvideo) > 3 and utvideo[-3] & 3 == 1


def _zeros_are_even_blocks(jpeg: bytes) -> bool:
    """Whether zeros are the code of even blocks in a JPEG: its own tables give them the shortest codes (ITU-T T.81,
    B.2.4.2), or its parts hold one kind of coefficients each."""
    first, at = [], 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda":
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        table = at + 4 if jpeg[at + 1] == 0xC4 else end
        while table + 17 < end:
            first += [jpeg[table + 17]] if jpeg[table] >> 4 else []  # what the code of zeros stands for: 0 is an end
            table += 17 + sum(jpeg[table + 1 : table + 17])
        at = end
    return jpeg.count(b"\xff\xda") > 1 or (bool(first) and not any(first))
