"""Films as players show them: order and length of pictures, their shape, the way up, transparency and colour."""

import io
import math
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.decode import fitted, shown
from t2v_models.shards.ingest import ingest
from t2v_models.shards.picture import Shown, Told
from tests.films import bar, of_jpegs, place, write
from tests.tiny import OPTIONS, put, rejects

FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here")
Turn = Callable[[np.ndarray], np.ndarray]
few = settings(max_examples=15)

KINDS = [
    ("libx264", "yuv420p", "mp4"), ("libx264", "yuv420p", "mkv"), ("libx264", "yuv420p", "avi"),
    ("libx264", "yuv420p", "ts"), ("libx264", "yuv420p", "flv"), ("libx265", "yuv420p", "mp4"),
    ("mpeg4", "yuv420p", "avi"), ("mpeg4", "yuv420p", "3gp"), ("mpeg4", "yuv420p", "m4v"),
    ("mpeg2video", "yuv420p", "mpg"), ("mpeg2video", "yuv420p", "ts"), ("mjpeg", "yuvj420p", "avi"),
    ("libvpx", "yuv420p", "webm"), ("libvpx-vp9", "yuv420p", "webm"), ("libsvtav1", "yuv420p", "mp4"),
    ("wmv2", "yuv420p", "wmv"), ("flv", "yuv420p", "flv"), ("ffv1", "yuv420p", "mkv"), ("ffv1", "yuv444p", "avi"),
    ("prores_ks", "yuv422p10le", "mov"), ("libvpx", "yuv420p", "ogv"),
]  # fmt: skip
"""Coder, pixels and container: every container that people have and PyAV writes."""


def pictures(path: Path) -> list[Shown]:
    return list(shown(path, 10, Told()))


def noticed(path: Path) -> list[str]:
    """What is told of a film, but that it has no checksums."""
    for picture in shown(path, 10, told := Told()):
        picture.pixels()
    return [notice for notice in told.notices if "checksum" not in notice]


def seen(path: Path) -> np.ndarray:
    """All pictures, `(t, h, w, 3)`."""
    return np.stack([np.asarray(picture.pixels()) for picture in pictures(path)])


def by_ffmpeg(path: Path, height: int, width: int, *filters: str) -> np.ndarray:
    """The same by the `ffmpeg` command, whose code is older than the library's."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vsync", "passthrough", "-vf", ",".join(filters or ["null"])]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize(("codec", "pixels", "suffix"), KINDS)
def test_every_picture_of_every_container_is_shown_once_in_order(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", [bar(i / 23) for i in range(24)], codec, pixels, reorder=True)
    steps = np.diff([place(frame) for frame in seen(path)])
    assert len(steps) == 23
    assert (steps > 0.02).all() and (steps < 0.07).all()
    assert [picture.seconds for picture in pictures(path)] == pytest.approx([0.1] * 24, abs=0.0011)
    told = Told()
    assert not any(picture.damage for picture in shown(path, 10, told))
    assert told.lost is None
    assert noticed(path) == []
    if shutil.which("ffmpeg"):
        assert np.abs(seen(path).astype(int) - by_ffmpeg(path, 64, 64)).mean() < 1


@few
@given(st.lists(st.integers(0, 6), min_size=12, max_size=24), st.sampled_from(["mp4", "mkv", "mov"]))
def test_times_in_another_order_than_the_pictures_are_sorted(moves: list[int], suffix: str) -> None:
    """As old AVI files and copied streams have them: the coder's order is right, the times are mixed up."""
    count = len(moves)
    mixed = sorted(range(count), key=lambda i: (i + moves[i], i))
    with tempfile.TemporaryDirectory() as folder:
        path = write(
            Path(folder, f"a.{suffix}"), [bar(i / (count - 1)) for i in range(count)],
            times=mixed, codings=[i - 8 for i in range(count)],
        )  # fmt: skip
        assert [picture.seconds for picture in pictures(path)] == pytest.approx([0.1] * count, abs=0.002)
        assert (np.diff([place(frame) for frame in seen(path)]) > 0).all()


@pytest.mark.parametrize("times", [[*range(30, 60), *range(30)], [*range(30), 900, *range(31, 60)]])
def test_times_in_no_order_are_refused(tmp_path: Path, times: list[int]) -> None:
    """Two films one after the other, and one time that is wrong."""
    write(tmp_path / "source" / "a.mkv", [bar(i / 59) for i in range(60)], times=times, codings=range(-60, 0))
    put(tmp_path / "source", "a.txt", b"a bar", None)
    with pytest.raises(LabError, match="can be used"):
        ingest(tmp_path / "source", tmp_path / "out", OPTIONS)
    reason = rejects(tmp_path / "out")["a.mkv"]
    assert (
        reason
        == f"its times are in no order: {min(times[30:]) / 10:.3f} s comes after {max(times) / 10:.3f} s; convert it"
    )


@pytest.mark.parametrize("kind", ["mkv", "ts", "flv", "mp4"])
def test_a_film_whose_first_coded_picture_is_not_the_first_shown_is_taken_from_its_first(tmp_path: Path, kind: str):
    """Such a file says that it begins later than it does."""
    times = [3, 2, 1, 0, *range(4, 24)]
    write(tmp_path / "source" / f"a.{kind}", [bar(t / 23) for t in times], times=times, codings=range(-24, 0))
    put(tmp_path / "source", "a.txt", b"a bar", None)
    found = ingest(tmp_path / "source", tmp_path / "out", OPTIONS)
    assert (found.train + found.validation, found.rejects) == (4, 0)


@pytest.mark.parametrize(("mixed", "begins"), [("0", 0), ("1", 0.1), ("3", 0.2)])
def test_an_avi_of_h264_begins_when_its_first_picture_is_shown(tmp_path: Path, mixed: str, begins: float) -> None:
    """AVI tells when pictures are decoded; they are shown as much later as the coder mixes them. Parts count so."""
    path = write(tmp_path / "a.avi", [bar(i / 23) for i in range(24)], reorder=mixed != "0", bf=mixed)
    assert len(list(shown(path, 10, told := Told()))) == 24
    assert told.before == pytest.approx(begins)
    if shutil.which("ffmpeg"):
        part = by_ffmpeg(path, 64, 64, "trim=start=1")
        assert place(part[0]) == pytest.approx(place(seen(path)[round((1 - begins) * 10)]), abs=0.01)


def test_an_avi_whose_header_says_twice_the_rate_is_shown_at_its_own(tmp_path: Path) -> None:
    """As copies of H.264 do, of which AVI tells no time but that of decoding."""
    places = [bar(i / 23) for i in range(24)]
    path = write(tmp_path / "a.avi", places, rate=20, times=range(0, 48, 2), reorder=True, bf="3")
    assert [picture.seconds for picture in pictures(path)] == pytest.approx([0.1] * 24)
    assert (np.diff([place(frame) for frame in seen(path)]) > 0.02).all()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("lost", [None, 5])
def test_a_film_cut_out_where_pictures_refer_to_earlier_ones_is_whole(
    tmp_path: Path, suffix: str, lost: int | None
) -> None:
    """x264 with open groups of pictures, from the second key frame on. Its decoder then has nothing to forget; where a
    packet of a film is lost that is a sign of it."""
    groups = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=3:b-pyramid=normal"}
    whole = write(tmp_path / "whole.mkv", [bar(i / 35) for i in range(36)], reorder=True, **groups)
    path = tmp_path / f"a.{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        second = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        for i, packet in enumerate(packets[second if lost is None else 0 :]):
            if i != lost:
                packet.stream = stream
                out.mux(packet)
    found = list(shown(path, 10, told := Told()))
    right = seen(whole)[-len(found) :]
    assert len(found) >= 24
    assert any(picture.damage for picture in found) is (lost is not None)
    if lost is None:
        assert told.lost is None
        np.testing.assert_array_equal([np.asarray(picture.pixels()) for picture in found], right)


@pytest.mark.parametrize("suffix", ["mpg", "ts"])
@pytest.mark.parametrize("counts", [(3, 20), (16, 16)])
def test_short_films_laid_one_behind_the_other_are_not_mixed(
    tmp_path: Path, suffix: str, counts: tuple[int, int]
) -> None:
    """Their clocks begin anew, so that the times of both lie over one another."""
    parts = [write(tmp_path / f"{n}.{suffix}", [bar(0.5)] * n, "mpeg2video", rate=25).read_bytes() for n in counts]
    path = put(tmp_path, f"a.{suffix}", b"".join(parts), None)
    with pytest.raises(ValueError, match=r"its clock starts again, at \d\.\d+ s after \d\.\d+ s: join its parts anew"):
        pictures(path)


def with_empty_chunks(avi: bytes, empty: Sequence[int]) -> bytes:
    """An AVI of key frames without some of them, as programs that record a screen write where nothing changes."""
    at = first = avi.index(b"movi") + 4
    chunks, index = b"", b""
    while avi[at : at + 4] == b"00dc":
        size = struct.unpack_from("<I", avi, at + 4)[0]
        code = b"" if len(index) // 16 in empty else avi[at + 8 : at + 8 + size]
        index += struct.pack("<4s3I", b"00dc", 16, 4 + len(chunks), len(code))
        chunks += b"00dc" + struct.pack("<I", len(code)) + code + bytes(len(code) % 2)
        at += 8 + size + size % 2
    body = avi[8 : first - 8] + struct.pack("<I", 4 + len(chunks)) + b"movi" + chunks
    body += b"idx1" + struct.pack("<I", len(index)) + index
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_empty_chunks_of_an_avi_hold_the_picture_before_them(tmp_path: Path) -> None:
    """At its end, too."""
    whole = write(tmp_path / "whole.avi", [bar(i / 17) for i in range(18)], "mjpeg", "yuvj420p").read_bytes()
    assert with_empty_chunks(whole, []) == whole
    path, told = put(tmp_path, "a.avi", with_empty_chunks(whole, [3, 4, 15, 16, 17]), None), Told()
    seconds = [picture.seconds for picture in shown(path, 10, told)]
    assert seconds == pytest.approx([0.1, 0.1, 0.3] + [0.1] * 9 + [0.4])
    assert told.lost is None


@FFMPEG
def test_empty_packets_of_theora_hold_the_picture_before_them(tmp_path: Path) -> None:
    raw, path = np.repeat([bar(0), bar(0.4), bar(0.9)], 12, 0).tobytes(), tmp_path / "a.ogv"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-r", "10", "-i", "-"]
    subprocess.run([*command, "-c:v", "libtheora", "-pix_fmt", "yuv420p", str(path)], input=raw, check=True)
    found = list(shown(path, 10, told := Told()))
    assert [picture.seconds for picture in found] == pytest.approx([1.2, 1.2, 1.1])  # the command drops the last
    assert [picture.damage for picture in found] == [None] * 3
    assert told.lost is None


@few
@given(st.lists(st.integers(1, 9), min_size=4, max_size=12), st.sampled_from(["mp4", "mov", "mkv", "webm"]))
def test_every_picture_is_shown_as_long_as_the_film_says_the_last_too(durations: list[int], suffix: str) -> None:
    times = np.cumsum([0, *durations[:-1]]).tolist()
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    with tempfile.TemporaryDirectory() as folder:
        frames = [bar(i / len(times)) for i in range(len(times))]
        path = write(Path(folder, f"a.{suffix}"), frames, codec, times=times, durations=durations)
        seconds = [picture.seconds for picture in pictures(path)]
    assert seconds == pytest.approx([d / 10 for d in durations], abs=0.002)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "mkv"), ("libx264", "mp4"), ("libx264", "mov"), ("wmv2", "wmv")]
)
def test_sound_that_goes_on_does_not_hold_the_last_picture(tmp_path: Path, codec: str, suffix: str) -> None:
    """Of H.264 in Matroska and of WMV FFmpeg takes the length of the whole film for that of its pictures."""
    path, told = tmp_path / f"a.{suffix}", Told()
    silent = write(tmp_path / f"silent.{suffix}", [bar(i / 5) for i in range(6)], codec)
    with av.open(str(silent)) as source, av.open(str(path), "w") as out:
        pictured, sound = out.add_stream_from_template(source.streams.video[0]), out.add_stream("aac", rate=48000)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = pictured
                out.mux(packet)
        for _ in range(94):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 48000
            out.mux(sound.encode(frame))
    assert [picture.seconds for picture in shown(path, 10, told)] == pytest.approx([0.1] * 6, abs=0.002)
    assert told.lost is None


@pytest.mark.parametrize(("count", "rate"), [(2, 5), (9, 100)])
def test_the_last_picture_of_a_film_that_tells_no_rate_is_as_long_as_the_shortest(
    tmp_path: Path, count: int, rate: int
) -> None:
    path = write(tmp_path / "a.wmv", [bar(i / 9) for i in range(count)], "wmv2", rate=rate)
    for picture in shown(path, 10, told := Told()):
        assert picture.seconds == pytest.approx(1 / rate, abs=0.0011)
    assert told.lost is None


@pytest.mark.parametrize("seconds", [0, 0.01, 0.02, 0.5])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_hasty_pictures_are_shown_as_browsers_show_them(tmp_path: Path, kind: str, seconds: float) -> None:
    """10 ms or less mean 100 ms, for each picture by itself."""
    frames = [Image.fromarray(bar(i / 9)) for i in range(10)]
    delays = [round(seconds * 1000), 70] * 5
    path = tmp_path / f"a.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, lossless=True)
    expected = 0.1 if seconds <= 0.01 else seconds
    assert [picture.seconds for picture in pictures(path)] == pytest.approx([expected, 0.07] * 5)


@pytest.mark.parametrize("kind", ["GIF", "WebP"])
def test_two_animations_in_one_file_are_refused_and_other_bytes_behind_one_are_not(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("L", (16, 16)).save(path, save_all=True, append_images=[Image.new("L", (16, 16), 9)], duration=100)
    one = path.read_bytes()
    assert len(seen(put(tmp_path, "b.gif", one + b"more", None))) == 2
    for between in (b"", b"\0\0", b"\r\n" * 9):
        with pytest.raises(ValueError, match=f"another {kind} lies behind it"):
            seen(put(tmp_path, "c.gif", one + between + one, None))


def test_what_is_taken_away_from_a_gif_shows_what_lay_there_before(tmp_path: Path) -> None:
    """A whole picture that is restored after a dot, or taken away itself; Pillow 12 lays the next one wrong."""
    path, red, blue, green = (tmp_path / "a.gif", *(Image.new("RGBA", (32, 24)) for _ in range(3)))
    for image, colour, stop in ((red, "red", 24), (blue, "blue", 12), (green, "lime", 8)):
        image.paste(colour, (24 - stop if stop < 24 else 0, 0, 32, stop))
    order = [blue, red, green, blue]
    blue.save(path, save_all=True, append_images=order[1:], duration=50, disposal=[3, 3, 2, 1], optimize=False)
    for frame, image in zip(seen(path), order, strict=True):
        white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        np.testing.assert_array_equal(frame, np.asarray(white))


@pytest.mark.parametrize("duration", [{}, {"duration": [0, 100, 0, 100]}])
def test_pictures_of_a_gif_of_which_nothing_is_said_are_pictures(
    tmp_path: Path, duration: dict[str, list[int]]
) -> None:
    """As programs write them that give no times."""
    images = [Image.fromarray(bar(i / 3)) for i in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], **duration)
    assert [picture.seconds for picture in pictures(tmp_path / "a.gif")] == pytest.approx([0.1] * 4)
    assert (np.diff([place(frame) for frame in seen(tmp_path / "a.gif")]) > 0).all()


def square(height: int, width: int, aspect: float) -> list[np.ndarray]:
    """Pictures in whose middle stands a square, as shown, half as high as the shorter side."""
    side = min(height, width * aspect) / 2
    frame = np.full((height, width, 3), 20, np.uint8)
    y, x = (np.abs(np.arange(n) + 0.5 - n / 2) for n in (height, width))
    frame[np.ix_(y <= side / 2, x <= side / aspect / 2)] = 230
    return [frame] * 3


WITH_ASPECT = [
    ("libx264", "mp4"), ("libx264", "mkv"), ("mpeg4", "avi"), ("libx264", "ts"), ("libx264", "avi"),
    ("prores_ks", "mov"), ("mpeg4", "mp4"),
]  # fmt: skip
ASPECTS = st.builds(Fraction, st.integers(1, 24), st.integers(1, 24)).filter(lambda f: Fraction(1, 4) < f < 4)


@few
@given(ASPECTS, st.sampled_from(WITH_ASPECT))
def test_a_square_is_as_wide_as_high_whatever_the_shape_of_pixels(aspect: Fraction, kind: tuple[str, str]) -> None:
    codec, suffix = kind
    with tempfile.TemporaryDirectory() as folder:
        pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        frames = square(96, 128, float(aspect))
        shows_a_square(write(Path(folder, f"a.{suffix}"), frames, codec, pixels, aspect=aspect), 96, 128 * aspect)


@FFMPEG
@pytest.mark.parametrize("aspect", [Fraction(5, 2), Fraction(16, 15), Fraction(3, 8)])
@pytest.mark.parametrize(("codec", "suffix"), [
    ("ffv1", "mkv"), ("libvpx-vp9", "webm"), ("libvpx", "webm"), ("mjpeg", "mov"), ("libx264", "mkv"), ("ffv1", "avi"),
])  # fmt: skip
def test_the_shape_of_pixels_may_be_told_by_the_container(
    tmp_path: Path, codec: str, suffix: str, aspect: Fraction
) -> None:
    """Also against what the stream inside says, as after a change of aspect without coding again."""
    pixels, shape = "yuvj420p" if codec == "mjpeg" else "yuv420p", aspect * Fraction(128, 96)
    path = write(tmp_path / f"a.{suffix}", square(96, 128, float(aspect)), codec, pixels)
    command = ["ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-aspect", f"{shape.numerator}:{shape.denominator}"]
    subprocess.run([*command, path.with_stem("b")], check=True)
    shows_a_square(path.with_stem("b"), 96, 128 * aspect)


def shows_a_square(path: Path, height: int, width: Fraction) -> None:
    """Of the right size, in a film that is shown in these proportions."""
    first, shorter, longer = pictures(path)[0], min(height, width), max(height, width)
    for fit, side in (("crop", 32.0), ("letterbox", float(32 * shorter / longer))):
        light = (fitted(first, ClipSpec(size=64), fit)[..., 1].astype(float) - 20).clip(0) / 210
        assert [light[32].sum(), light[:, 32].sum()] == pytest.approx([side] * 2, abs=2)


def test_television_and_a_gif_with_an_aspect_byte(tmp_path: Path) -> None:
    """PAL in MPEG-2, whose aspect is that of the screen; GIF's byte is shown by nobody."""
    path = write(tmp_path / "pal.mpg", square(576, 720, 64 / 45), "mpeg2video", aspect=Fraction(64, 45))
    light = fitted(pictures(path)[0], ClipSpec(size=64), "crop")[..., 1] > 125
    assert [light[32].sum(), light[:, 32].sum()] == pytest.approx([32, 32], abs=1)
    frames = [Image.fromarray(frame) for frame in square(64, 64, 1)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    content = bytearray((tmp_path / "a.gif").read_bytes())
    content[12] = 113  # (113 + 15) / 64 = 2
    (tmp_path / "a.gif").write_bytes(content)
    assert [picture.aspect for picture in pictures(tmp_path / "a.gif")] == [1]


def corners() -> np.ndarray:
    """Red, green, blue and grey, in this order of reading: no two of its eight symmetries look alike."""
    frame = np.full((64, 96, 3), 128, np.uint8)
    frame[:32, :48], frame[:32, 48:], frame[32:, :48] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return frame


MATRICES = {
    (1, 0, 0, 1): lambda f: f, (-1, 0, 0, 1): lambda f: f[:, ::-1], (1, 0, 0, -1): lambda f: f[::-1],
    (-1, 0, 0, -1): lambda f: f[::-1, ::-1], (0, 1, 1, 0): lambda f: f.swapaxes(0, 1),
    (0, 1, -1, 0): lambda f: f.swapaxes(0, 1)[:, ::-1], (0, -1, 1, 0): lambda f: f.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda f: f.swapaxes(0, 1)[::-1, ::-1],
}  # fmt: skip
"""a, b, c, d: the pixel (x, y) is shown at (a x + c y, b x + d y)."""


@pytest.mark.parametrize("aspect", [1, 2])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("libx264", "mov"), ("libvpx-vp9", "mp4")])
def test_films_are_the_way_up_they_are_shown(
    tmp_path: Path, matrix: tuple[int, int, int, int], codec: str, suffix: str, aspect: int
) -> None:
    path = write(tmp_path / f"a.{suffix}", [corners()] * 3, codec, aspect=Fraction(aspect))
    content = bytearray(path.read_bytes())
    start, (a, b, c, d) = content.index(b"tkhd") + 44, (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    right = MATRICES[matrix](corners())
    difference = np.abs(seen(path)[0].astype(int) - right)
    assert difference.mean() < 6
    assert pictures(path)[0].aspect == (aspect if matrix[0] else 1 / aspect)
    if shutil.which("ffmpeg"):
        assert np.abs(seen(path).astype(int) - by_ffmpeg(path, *right.shape[:2])).mean() < 2


def test_a_matroska_film_that_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv444p"
        stream.set_display_rotation(90)  # counter-clockwise
        for frame in [av.VideoFrame.from_ndarray(corners(), format="rgb24")] * 2:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert np.abs(seen(path)[0].astype(int) - np.rot90(corners())).max() < 4


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [
    ("png", "rgba", "mov"), ("qtrle", "argb", "mov"), ("prores_ks", "yuva444p10le", "mov"), ("ffv1", "yuva420p", "mkv"),
    ("ffv1", "bgra", "avi"), ("libvpx", "yuva420p", "webm"), ("libvpx-vp9", "yuva420p", "webm"),
    ("libvpx-vp9", "yuva420p", "mkv"), ("utvideo", "gbrap", "avi"), (None, None, "gif"), (None, None, "webp"),
    (None, None, "png"),
])  # fmt: skip
def test_what_is_transparent_lies_on_white_in_every_format(
    tmp_path: Path, codec: str | None, pixels: str | None, suffix: str
) -> None:
    sprite = np.zeros((6, 48, 64, 4), np.uint8)
    for i, frame in enumerate(sprite):
        frame[8:40, 4 * i : 4 * i + 24] = (220, 40, 40, 255)
        frame[8:24, 4 * i : 4 * i + 24, 3] = 255 if suffix == "gif" else 128
    images, path = [Image.fromarray(frame) for frame in sprite], tmp_path / f"a.{suffix}"
    if codec:
        write(path, list(sprite), codec, pixels, **({"b": "4M", "auto-alt-ref": "0"} if "vpx" in codec else {}))
    elif suffix == "png":
        path.with_suffix("").mkdir()
        for i, image in enumerate(images):
            image.save(path.with_suffix("") / f"{i}.png")
        path = path.with_suffix("")
    else:
        images[0].save(path, save_all=True, append_images=images[1:], duration=100, disposal=2, lossless=True)
    for i, frame in enumerate(seen(path).astype(int)):
        half = (220, 40, 40) if suffix == "gif" else (238, 148, 148)
        for rows, columns, colour in (
            (slice(0, 6), slice(None), (255, 255, 255)), (slice(10, 38), slice(4 * i + 28, None), (255, 255, 255)),
            (slice(28, 38), slice(4 * i + 4, 4 * i + 20), (220, 40, 40)),
            (slice(10, 20), slice(4 * i + 4, 4 * i + 20), half),
        ):  # fmt: skip
            assert np.abs(frame[rows, columns] - colour).mean() < 6, (i, frame[rows, columns].mean((0, 1)), colour)


def tagged(
    path: Path, planes: Sequence[float], size: int, kind: str, transfer: int, primaries: int, matrix: int
) -> Path:
    """An even film of one colour: `planes` are Y, Cb, Cr as coded, 0–1 and twice -0.5–0.5; tags as in ITU-T H.273."""
    depth = 10 if "10" in kind else 8
    y, cb, cr = planes
    values = [16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr]
    with av.open(str(path), "w") as container:
        codec = {".webm": "libvpx-vp9", ".mov": "prores_ks"}.get(path.suffix, "libx264")
        stream = container.add_stream(codec, rate=10, options={"crf": "1"} if codec == "libx264" else {"b": "4M"})
        stream.height, stream.width, stream.pix_fmt = size, size * 2, kind
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            primaries,
            matrix,
            1,
        )
        for _ in range(3):
            frame = av.VideoFrame(size * 2, size, kind)
            for plane, value in zip(frame.planes, values, strict=True):
                unit = np.dtype("<u2" if depth == 10 else "u1")
                plane.update(
                    np.full(plane.buffer_size // unit.itemsize, round(value * 2 ** (depth - 8)), unit).tobytes()
                )
            frame.colorspace, frame.color_range = matrix, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


PQ, HLG, BT2020, BT709, NO_TAG = 16, 18, 9, 1, 2


def pq(light: float) -> float:
    """The code of a light in cd/m²: ITU-R BT.2100, table 4."""
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: float) -> float:
    """The same on a screen of 1000 cd/m²: BT.2100, table 5."""
    scene = (light / 1000) ** (1 / 1.2)
    return math.sqrt(3 * scene) if scene <= 1 / 12 else 0.17883277 * math.log(12 * scene - 0.28466892) + 0.55991073


@pytest.mark.parametrize(("transfer", "luma", "grey"), [
    (PQ, 0.58, 255), (PQ, pq(203), 255), (PQ, pq(1000), 255), (PQ, 0, 0), (PQ, pq(0.18 * 203), 255 * 0.18 ** (1 / 2.4)),
    (PQ, pq(0.5 * 203), 255 * 0.5 ** (1 / 2.4)), (HLG, 0.75, 255), (HLG, 1, 255), (HLG, 0, 0),
    (HLG, hlg(0.5 * 203), 255 * 0.5 ** (1 / 2.4)), (HLG, hlg(10), 255 * (10 / 203) ** (1 / 2.4)),
])  # fmt: skip
def test_diffuse_white_of_hdr_is_white(tmp_path: Path, transfer: int, luma: float, grey: float) -> None:
    path = tagged(tmp_path / "a.mp4", (luma, 0, 0), 64, "yuv420p10le", transfer, BT2020, BT2020)
    assert seen(path).astype(int) == pytest.approx(grey, abs=3)
    assert noticed(path) == ["it is HDR: mapped so that diffuse white is white"]


def test_hdr_in_webm(tmp_path: Path) -> None:
    """VP9 does not tell the transfer, its container does; 8 and 10 bits have decoders of their own."""
    for transfer, white in ((PQ, pq(203)), (HLG, 0.75)):
        path = tagged(tmp_path / f"{transfer}.webm", (white, 0, 0), 64, "yuv420p", transfer, BT2020, BT2020)
        assert seen(path).astype(int) == pytest.approx(255, abs=12)  # codes are 8 apart here
        if shutil.which("ffmpeg"):
            path = tagged(tmp_path / f"{transfer}.mp4", (white, 0, 0), 64, "yuv420p10le", transfer, BT2020, BT2020)
            deep = tmp_path / f"{transfer}-deep.webm"
            coder = ["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-b:v", "4M"]
            subprocess.run(["ffmpeg", "-v", "error", "-i", path, *coder, deep], check=True)
            assert seen(deep).astype(int) == pytest.approx(255, abs=3)


def test_hdr_that_only_the_container_tells_of(tmp_path: Path) -> None:
    """Pictures of ProRes say that they do not know; as do those of HEVC and H.264 by some cameras."""
    for transfer, white in ((PQ, pq(203)), (HLG, 0.75)):
        path = tagged(tmp_path / f"{transfer}.mov", (white, 0, 0), 64, "yuv422p10le", transfer, BT2020, BT2020)
        assert seen(path).astype(int) == pytest.approx(255, abs=3)
        assert noticed(path) == ["it is HDR: mapped so that diffuse white is white"]


def test_a_wide_gamut_is_mapped(tmp_path: Path) -> None:
    """BT.709's red, coded in BT.2020 light, in HDR and in SDR."""
    light = np.linalg.inv([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])[:, 0]
    for transfer, code in ((PQ, [pq(203 * x) for x in light]), (14, [x ** (1 / 2.4) for x in light])):
        r, g, b = code
        y = 0.2627 * r + 0.6780 * g + 0.0593 * b
        planes = (y, (b - y) / 1.8814, (r - y) / 1.4746)
        path = tagged(tmp_path / f"{transfer}.mp4", planes, 64, "yuv420p10le", transfer, BT2020, BT2020)
        middle = seen(path)[0, 32, 64].astype(int)
        assert middle == pytest.approx([255, 0, 0], abs=45)  # codes near zero are steep: 10 bits are few there
        assert middle[0] > 250


@pytest.mark.parametrize(("size", "tag", "matrix"), [
    (64, NO_TAG, 601), (720, NO_TAG, 709), (64, BT709, 709), (720, 6, 601), (720, BT709, 709),
])  # fmt: skip
def test_colours_without_a_tag_are_read_as_players_do(tmp_path: Path, size: int, tag: int, matrix: int) -> None:
    """HD is BT.709, smaller films are BT.601; a tag is believed in any size."""
    red, green, blue = 200 / 255, 60 / 255, 90 / 255
    kr, kb = (0.299, 0.114) if matrix == 601 else (0.2126, 0.0722)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    planes = (y, (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr))
    path = tagged(tmp_path / "a.mp4", planes, size, "yuv420p", tag, tag, tag)
    assert seen(path)[0, size // 2, size].astype(int) == pytest.approx([200, 60, 90], abs=3)
    assert bool(noticed(path)) == (size == 720 and tag == NO_TAG)


def test_display_p3_is_mapped(tmp_path: Path) -> None:
    """BT.709's colours, coded in Display P3's light, are themselves again; white is white."""
    of_p3 = np.linalg.inv([[1.2249, -0.2249, 0], [-0.0421, 1.0421, 0], [-0.0196, -0.0786, 1.0983]])
    for colour in ((255, 255, 255), (200, 60, 90), (40, 180, 80)):
        r, g, b = (of_p3 @ (np.array(colour) / 255) ** 2.4) ** (1 / 2.4)
        y = 0.2126 * r + 0.7152 * g + 0.0722 * b
        planes = (y, (b - y) / 1.8556, (r - y) / 1.5748)
        path = tagged(tmp_path / "a.mp4", planes, 64, "yuv420p10le", BT709, 12, BT709)
        assert seen(path)[0, 32, 64].astype(int) == pytest.approx(colour, abs=4)


@pytest.mark.parametrize(("transfer", "matrix", "reason"), [
    (PQ, 14, "its colours are coded by matrix 14 of H.273, which is not read: convert it"),
    (BT709, 8, "its colours are coded by matrix 8 of H.273, which is not read: convert it"),
    (8, BT709, "its colours are coded as linear light: convert it to BT.709"),
])  # fmt: skip
def test_colours_that_cannot_be_read_are_refused(tmp_path: Path, transfer: int, matrix: int, reason: str) -> None:
    path = tagged(tmp_path / "a.mp4", (0.5, 0, 0), 64, "yuv420p10le", transfer, BT709, matrix)
    with pytest.raises(ValueError, match=reason):
        pictures(path)


@pytest.mark.parametrize(("orientation", "right"), [
    (1, lambda f: f), (2, lambda f: f[:, ::-1]), (6, lambda f: np.rot90(f, -1)),
])  # fmt: skip
def test_exif_in_the_pictures_of_a_camera_turns_them(tmp_path: Path, orientation: int, right: Turn) -> None:
    """PyAV has no name for it."""
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(corners()).save(jpeg, "JPEG", quality=95, exif=exif)
    path = of_jpegs(tmp_path / "a.avi", jpeg.getvalue(), (96, 64))
    assert np.abs(seen(path)[0].astype(int) - right(corners())).mean() < 6


@FFMPEG
def test_transparency_that_the_container_tells_of_is_read_by_any_coder(tmp_path: Path) -> None:
    """Also where it needs no other decoder."""
    sprite = np.zeros((3, 64, 64, 4), np.uint8)
    sprite[:, 8:40, 8:40] = (220, 40, 40, 255)
    path = write(tmp_path / "a.mov", list(sprite), "png", "rgba")
    for codec in ("ffv1", "ffvhuff", "utvideo"):
        film = tmp_path / f"{codec}.mkv"
        pixels = "gbrap" if codec == "utvideo" else "yuva420p"
        options = ["-c:v", codec, "-pix_fmt", pixels, "-metadata:s:v:0", "alpha_mode=1"]
        subprocess.run(["ffmpeg", "-v", "error", "-i", path, *options, film], check=True)
        assert (seen(film)[:, 50:] > 253).all()


def test_cover_art_is_no_film(tmp_path: Path) -> None:
    """A picture that is attached to a song or to a film, before its pictures or after them."""
    path = write(tmp_path / "a.mp4", [bar(i / 5) for i in range(6)])
    Image.fromarray(corners()).save(tmp_path / "cover.png")
    inputs = {"film": path, "cover": tmp_path / "cover.png"}
    for names in (("film", "cover"), ("cover", "film")):
        covered = tmp_path / f"{names[0]}.mp4"
        with av.open(str(covered), "w") as out:
            sources = [av.open(str(inputs[name])) for name in names]
            streams = [out.add_stream_from_template(source.streams.video[0]) for source in sources]
            streams[names.index("cover")].disposition = Disposition.attached_pic
            for source, stream in zip(sources, streams, strict=True):
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        out.mux(packet)
        assert len(pictures(covered)) == 6
        assert seen(covered).shape == (6, 64, 64, 3)


def test_interlaced_pictures_are_told(tmp_path: Path) -> None:
    for name, options in (("fields", {"x264-params": "interlaced=1"}), ("frames", {})):
        path = write(tmp_path / f"{name}.mp4", [bar(i / 5) for i in range(6)], **options)
        combs = "it is marked as interlaced: where what moves has combs, deinterlace it first"
        assert noticed(path) == [combs] * bool(options)
