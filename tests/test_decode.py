"""Foreign media to frames: what is seen when, lossless files keep every pixel, and damage is a reason."""

import io
import math
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2v_models.clips.media import to_gif, to_mp4, to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.decode import fitted, resampled, shown
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.ingest_report import REJECTS
from t2v_models.shards.isolated import isolated
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.picture import Shown, Told
from t2v_models.shards.verify import verify
from tests.tiny import OPTIONS, SPEC, TO_FILE, clips, film, noise, put, put_frames, rejects, smooth


@pytest.mark.parametrize("fps", [10, 24, 30, 60])
def test_long_lossless_films_keep_every_frame_at_every_rate(tmp_path: Path, fps: int) -> None:
    clip = noise(0, frames=130)
    for kind in ("webp", "npz"):
        path = put(tmp_path, f"clip.{kind}", TO_FILE[kind](clip, fps))
        seen = np.stack([np.asarray(picture.pixels()) for picture in resampled(shown(path, 7, Told()), fps)])
        np.testing.assert_array_equal(seen, clip)
    path = put(tmp_path, "clip.mp4", to_mp4(smooth(0, 130), fps))
    assert len(list(resampled(shown(path, 7, Told()), fps))) == 130


@pytest.mark.parametrize("rate", [20, 40, 60, 120])
def test_steps_between_pictures_are_even_where_a_picture_begins_at_the_middle_of_a_frame(rate: int) -> None:
    steps, dot = rate // 10, Image.new("RGB", (1, 1))
    film = [Shown(1 / rate, lambda: dot, done=index) for index in range(60 * rate)]
    assert [picture.done for picture in resampled(iter(film), 10)] == [steps // 2 + steps * k for k in range(600)]


def test_rates_are_changed_by_what_is_seen_at_the_middle_of_each_frame() -> None:
    film = [Shown(seconds, partial(Image.new, "L", (1, 1), i)) for i, seconds in enumerate((0.1, 0.3, 0.0, 0.2))]
    seen = lambda fps: [picture.pixels().getpixel((0, 0)) for picture in resampled(iter(film), fps)]  # noqa: E731
    assert seen(10) == [0, 1, 1, 1, 3, 3]
    assert seen(5) == [1, 1, 3]
    assert seen(20) == [0, 0, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3]


def test_crop_keeps_the_middle_and_letterbox_keeps_all() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = noise(0, 1, 8, 8)[0]
    picture = Shown(1, partial(Image.fromarray, pixels))
    np.testing.assert_array_equal(fitted(picture, ClipSpec.model_construct(height=8, width=8), "crop"), pixels[:, 8:16])
    boxed = fitted(Shown(1, partial(Image.new, "RGB", (48, 16), (200, 100, 50))), SPEC, "letterbox")
    assert boxed.shape == (16, 16, 3)
    assert (boxed[5:10] == (200, 100, 50)).all()
    assert not boxed[:5].any()
    assert not boxed[10:].any()
    for width, height in ((1, 1), (7, 300), (301, 3), (17, 16)):
        for fit in ("crop", "letterbox"):
            for aspect in (1.0, 0.01, 64 / 45, 100.0):
                picture = Shown(1, partial(Image.new, "RGB", (width, height)), aspect)
                assert fitted(picture, SPEC, fit).shape == (16, 16, 3)


def png_16_bit(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG with 16 bits a channel, whose every value is 0x80FF."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = b"".join(b"\0" + b"\x80\xff" * width * channels for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("pixels", "tags", "why"), [
    (np.full((20, 20), 140, np.int32), {}, "32 bits, without a known range"),
    (np.full((20, 20), 140, np.float32), {}, "floats"),
    (np.full((20, 20), 140, np.uint16), {339: 2}, "signed"),
    (np.full((20, 20), 140, np.uint16), {262: 0}, "0 is white in it"),
    (np.full((20, 20), 140, np.uint16), {258: 12}, "12 bits"), (np.full((20, 20), 0x8080, np.uint16), {}, None),
])  # fmt: skip
def test_numbers_of_an_unknown_range_are_refused_and_never_black(
    tmp_path: Path, pixels: np.ndarray, tags: dict[int, int], why: str | None
) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(pixels).save(file, tiffinfo={339: 1} if 339 in tags else {})
    stored = bytearray(file.read_bytes())
    count, at = struct.unpack("<H", stored[(at := int.from_bytes(stored[4:8], "little")) : at + 2])[0], at + 2
    for entry in range(at, at + 12 * count, 12):
        tag = int.from_bytes(stored[entry : entry + 2], "little")
        if tag in tags:
            stored[entry + 8 : entry + 12] = tags[tag].to_bytes(4, "little")
    file.write_bytes(stored)
    (picture,) = shown(file, 10, Told())
    if why is None:
        assert picture.pixels().getextrema() == ((128, 128),) * 3
    else:
        with pytest.raises(ValueError, match=why):
            picture.pixels()


def test_odd_sizes_alpha_16_bits_and_uneven_times_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    put(source, "odd.webm", film(smooth(1, 8, 33, 47), "libvpx-vp9", "yuv420p", "webm"))
    put(source, "deep.mkv", film(smooth(2, 8, 34, 48), "ffv1", "yuv420p10le", "matroska"))
    put(source, "uneven.mkv", film(smooth(3, 4, 34, 48), "libx264", "yuv420p", "matroska", [0, 1, 5, 7]))
    for folder, colour in (("gray16", 0), ("rgb16", 2), ("rgba16", 6)):
        for i in range(6):
            put(source, f"{folder}/{i}.png", png_16_bit(20 + i, 20, colour), None)
        (source / f"{folder}.txt").write_text("sixteen bits")
    clear = [Image.new("RGBA", (16, 16), (10 * i, 0, 0, 128 if i else 0)) for i in range(6)]
    buffer = io.BytesIO()
    clear[0].save(buffer, "WEBP", save_all=True, append_images=clear[1:], lossless=True, exact=True, duration=100)
    put(source, "alpha.webp", buffer.getvalue())
    assert ingest(source, tmp_path / "out", OPTIONS).rejects == 1  # two folders of one grey: one is kept
    names = Manifest.load(tmp_path / "out").table["source"].to_pylist()
    assert names == ["alpha.webp", "deep.mkv", "gray16", "odd.webm", "rgba16", "uneven.mkv"]
    seen = dict(zip(names, clips(tmp_path / "out"), strict=True))
    assert (seen["alpha.webp"][0] == 255).all()
    assert (seen["alpha.webp"][5, ..., 1] == 127).all()
    assert (seen["gray16"] == 128).all()
    assert (seen["rgba16"] == 191).all()
    uneven = seen["uneven.mkv"]
    assert np.abs(uneven[1].astype(int) - uneven[4]).max() < 8  # one frame is shown from 0.1 s to 0.5 s
    assert np.abs(uneven[0].astype(int) - uneven[1]).max() > 8


def test_bad_media_are_listed_with_the_reason_and_skipped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    put(source, "good.webp", to_webp(noise(0), 10))
    put(source, "empty.mp4", b"")
    put(source, "text.mp4", b"this is no film\n" * 40)
    put(source, "cut.mp4", to_mp4(smooth(0, 20), 10)[:700])
    put(source, "cut.webp", to_webp(noise(1), 10)[:900])
    put(source, "short.gif", to_gif(noise(2)[:3], 10))
    put(source, "zero.npz", to_npz(noise(3)[:0], 10))
    put(source, "floats.npz", to_npz(noise(3) / 255, 10))
    put(source, "other.npz", to_npz(noise(3)[..., :2], 10))
    put(source, "stranger.npz", (lambda b: (np.savez(b, video=noise(3)), b.getvalue())[1])(io.BytesIO()))
    put(source, "huge.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0" + b"," + bytes(40))
    put(source, "sound.mp4", sound())
    put(source, "paper.pdf", b"%PDF")
    huge = np.lib.format.header_data_from_array_1_0(noise(0)) | {"shape": (10**9, 10**5, 10**5, 3)}
    buffer, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, huge)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("frames.npy", header.getvalue())
    put(source, "huge.npz", buffer.getvalue())
    put_frames(source / "broken_frames", noise(5))
    (source / "broken_frames" / "frame_3.png").write_bytes(b"\x89PNG\r\n\x1a\n what")
    (source / "no_frames").mkdir()
    result = ingest(source, tmp_path / "out", OPTIONS, mapper=isolated(1))
    reasons = rejects(tmp_path / "out")
    assert Manifest.load(tmp_path / "out").table["source"].to_pylist() == ["good.webp"]
    assert (result.train, result.rejects) == (1, len(reasons))
    expected = {
        "empty.mp4": "the file is empty", "text.mp4": "Invalid data", "cut.mp4": "End of file", "cut.webp": "cannot be",
        "short.gif": "it has 3 frames at 10 frames per second; a clip needs 6", "zero.npz": "it has 0 frames",
        "floats.npz": "float64 of shape", "other.npz": "allowed is uint8", "stranger.npz": "no array `frames`",
        "huge.gif": "too large", "huge.npz": "too large", "sound.mp4": "no video", "paper.pdf": "its suffix is not",
        "broken_frames": "frame frame_3.png cannot be read",
    }  # fmt: skip
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], (name, reasons[name])


def npy(shape: tuple[int, ...], kind: str, values: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": kind})
    return stream.getvalue() + values


def npz(method: int = zipfile.ZIP_DEFLATED, **arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


MANY = 2**27
FRAMES = npy((6, 16, 16, 3), "|u1", bytes(6 * 16 * 16 * 3))
HEADER = b"\x93NUMPY\x02\0" + struct.pack("<I", MANY)
"""Of an array whose description would be as long."""
LARGE = (1, 5000, 5000, 3)


@pytest.mark.parametrize(("bomb", "found"), [
    (lambda: npz(frames=FRAMES, fps=npy((MANY // 8,), "<f8", bytes(MANY))), "its fps is float64 of shape"),
    (lambda: npz(frames=FRAMES, fps=npy((2**40,), "<f8", b"")), "allowed is one number"),
    (lambda: npz(frames=FRAMES, fps=npy((), f"|S{MANY}", bytes(MANY))), f"its fps is |S{MANY} of shape ()"),
    (lambda: npz(frames=FRAMES, fps=HEADER + bytes(MANY)), "write it with numpy.savez"),
    (lambda: npz(frames=HEADER + bytes(MANY)), "write it with numpy.savez"),
    (lambda: npz(frames=npy((6, 10**5, 10**5, 3), "|u1", bytes(MANY))), "frames of 100000 x 100000 pixels"),
    (lambda: npz(zipfile.ZIP_LZMA, frames=npy(LARGE, "|u1", bytes(math.prod(LARGE)))), "packed in a way"),
    (lambda: npz(zipfile.ZIP_BZIP2, frames=npy(LARGE, "|u1", bytes(math.prod(LARGE)))), "packed in a way"),
], ids=["rates", "no-rates", "word", "header-of-rate", "header-of-frames", "large-frame", "lzma", "bzip2"])  # fmt: skip
def test_no_archive_fills_the_memory(tmp_path: Path, bomb: Callable[[], bytes], found: str) -> None:
    """Files of a few kB that would unpack to 75 MB and more."""
    put(tmp_path / "source", "bomb.npz", bomb())
    put(tmp_path / "source", "good.npz", to_npz(noise(0), 10))
    tracemalloc.start()
    try:
        assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(2, 1, 0, 1)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert found in rejects(tmp_path / "out")["bomb.npz"]


def test_rates_of_archives_are_any_one_number(tmp_path: Path) -> None:
    for kind in ("<f8", "<f4", ">i4", "|u1"):
        for shape in ((), (1,), (1, 1)):
            rate = npy(shape, kind, np.array(20).astype(kind).tobytes())
            path = put(tmp_path, "rate.npz", npz(frames=FRAMES, fps=rate))
            assert [picture.seconds for picture in shown(path, 7, Told())] == [0.05] * 6


def test_no_picture_fills_the_memory(tmp_path: Path) -> None:
    """Pictures of a few bytes that say that they are huge."""
    source = tmp_path / "source"
    put(source, "good.npz", to_npz(noise(0), 10))
    for side in (8001, 9500, 20_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = struct.pack(">I", 13) + header + struct.pack(">II", zlib.crc32(header), 8) + b"IDAT" + bytes(20)
        put_frames(source / f"png-{side}", noise(1))
        (source / f"png-{side}" / "frame_4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    frames = [b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0" for side in (1, 9000)]
    put(source, "grows.gif", b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + b"".join(frames) + b";")
    assert ingest(source, tmp_path / "out", OPTIONS) == Ingested(5, 1, 0, 4)
    found = rejects(tmp_path / "out")
    assert found["grows.gif"] == "its frames of 9000 x 9000 pixels are too large: at most 64,000,000 are decoded"
    for side in (8001, 9500):
        assert found[f"png-{side}"].startswith(
            f"frame frame_4.png cannot be read: its frames of {side} x {side} pixels"
        )
    assert found["png-20000"].startswith(
        "frame frame_4.png cannot be read: Image size (400000000 pixels) exceeds limit"
    )


def sound() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_no_damage_to_a_media_file_stops_an_ingest(tmp_path: Path) -> None:
    """Every kind, cut and with bytes changed, 25 times each: clips or a reason, never an error."""
    chance = random.Random(0)
    source = tmp_path / "source"
    put(source, "sound.webp", to_webp(noise(0), 10))
    whole = {kind: encode(smooth(1, 12), 10) for kind, encode in TO_FILE.items()}
    whole["webm"] = film(smooth(2, 12), "libvpx-vp9", "yuv420p", "webm")
    for kind, content in whole.items():
        for i in range(25):
            damaged = bytearray(content[: chance.randrange(len(content))] if i % 2 else content)
            for _ in range(chance.choice((1, 20)) if damaged else 0):
                damaged[chance.randrange(len(damaged)) if i % 3 else chance.randrange(min(64, len(damaged)))] = (
                    chance.randrange(256)
                )
            put(source, f"{kind}-{i}.{kind}", bytes(damaged))
    result = ingest(source, tmp_path / "out", OPTIONS)
    table = pq.read_table(tmp_path / "out" / REJECTS).to_pylist()
    assert all(row["reason"] for row in table)
    sources = {row["path"] for row in table} | set(Manifest.load(tmp_path / "out").table["source"].to_pylist())
    assert len(sources) == result.sources == 5 * 25 + 1
    assert verify(tmp_path / "out") == []
