"""Colours and layers that no decoder here reads are refused by what the film says: Dolby Vision 5, HEVC's alpha.

No film of these kinds is at hand: their records are written by hand. The `ffprobe` command reads those of Dolby Vision.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from t2v_models.shards.decode import shown
from t2v_models.shards.picture import Shown, Told
from tests.films import bar

REFUSED = "its colours are Dolby Vision's own"


def pictures(path: Path) -> list[Shown]:
    return list(shown(path, 10, Told()))


def hevc(path: Path, before: bytes = b"", after: bytes = b"") -> Path:
    """A film whose pictures have units of the coder's before or behind them."""
    code = b"\0\0\0\1"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=10, options={"x265-params": "log-level=error"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.metadata["title"] = "n" * 40
        frames = [av.VideoFrame.from_ndarray(bar(i / 3), format="rgb24") for i in range(4)]
        for coded in [*(p for frame in frames for p in stream.encode(frame)), *stream.encode(None)]:
            packet = av.Packet((code + before if before else b"") + bytes(coded) + (code + after if after else b""))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, coded.pts, coded.dts, coded.time_base
            packet.is_keyframe = coded.is_keyframe
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_dolby_vision_without_other_colours_is_refused(tmp_path: Path, suffix: str) -> None:
    """Pictures that have its data behind them, a unit of kind 62, and no tags."""
    path = hevc(tmp_path / f"a.{suffix}", after=b"\x7c\x01" + bytes(range(25, 90)))
    with pytest.raises(ValueError, match=REFUSED):
        pictures(path)


def in_box(content: bytes, record: bytes) -> bytes:
    """A film whose coder's box ends with one of Dolby Vision's; those around it are longer by that."""
    box, out = struct.pack(">I", 32) + b"dvcC" + record + bytes(19), bytearray(content)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1"):
        place = out.index(name, out.index(b"moov")) - 4
        end = place + int.from_bytes(out[place : place + 4], "big")
        out[place : place + 4] = struct.pack(">I", end - place + 32)
    return bytes(out[:end] + box + out[end:])


def in_track(content: bytes, record: bytes) -> bytes:
    """What a track adds to each block, in the place of its name."""
    added = b"\x41\xe7\x84dvcC\x41\xed\x9e" + record + bytes(25)
    assert content.count(b"\x53\x6e\xa8" + b"n" * 40) == 1
    return content.replace(b"\x53\x6e\xa8" + b"n" * 40, b"\x41\xe4\xa8" + added)


def in_program(content: bytes, record: bytes) -> bytes:
    """A descriptor of a stream in the table of its program, with the table's sum: ISO/IEC 13818-1, table 2-33."""
    at = content.index(b"\0\x02\xb0") + 1
    length, info = content[at + 2], content[at + 11]
    stream = at + 12 + info
    old = content[stream + 4]
    table = bytearray(content[at : at + length - 1] + b"\xb0\x05" + record)  # without its sum of four bytes
    table[2] += 7
    table[stream + 4 - at] = old + 7
    rest = 0xFFFFFFFF
    for byte in table:
        rest ^= byte << 24
        for _ in range(8):
            rest = rest << 1 ^ (0x104C11DB7 if rest >> 31 else 0)
    table += rest.to_bytes(4, "big")
    return content[:at] + bytes(table) + content[at + len(table) :]


@pytest.mark.parametrize(("profile", "refused"), [(5, True), (7, False), (8, False)])
@pytest.mark.parametrize(("suffix", "with_record"), [("mp4", in_box), ("mkv", in_track), ("ts", in_program)])
def test_dolby_vision_of_profile_5_is_refused(
    tmp_path: Path, suffix: str, with_record: Callable[[bytes, bytes], bytes], profile: int, refused: bool
) -> None:
    """Which the header tells: by a box, an addition to blocks or a descriptor. Others have colours of all."""
    path = hevc(tmp_path / f"a.{suffix}")
    path.write_bytes(with_record(path.read_bytes(), bytes([1, 0, profile << 1, 0x35, 0x10])))
    if refused:
        with pytest.raises(ValueError, match=REFUSED):
            pictures(path)
    else:
        assert [picture.damage for picture in pictures(path)] == [None] * 4


def test_dolby_vision_that_is_called_so_is_refused(tmp_path: Path) -> None:
    path = hevc(tmp_path / "a.mp4")
    assert path.read_bytes().count(b"hev1") == 1
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvhe"))
    with pytest.raises(ValueError, match=REFUSED):
        pictures(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_layer_of_alpha_that_is_not_decoded_is_refused(tmp_path: Path, suffix: str) -> None:
    """HEVC tells of it in a message; the layer itself is missing here. The first message says that it ends."""
    assert len(pictures(hevc(tmp_path / f"a.{suffix}", b"\x4e\x01\xa5\x04\xff\x7f\x90\x80\x80"))) == 4
    path = hevc(tmp_path / f"b.{suffix}", b"\x4e\x01\xa5\x04\x00\x7f\x90\x80\x80")
    with pytest.raises(ValueError, match="its transparency cannot be read: no decoder of hevc here does"):
        pictures(path)
