"""Damaged films: no picture that the damage ruined becomes part of a clip, and what is left out is told."""

import io
import random
import re
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.decode import fitted, resampled, shown
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.paths import CLIP_SUFFIXES
from t2v_models.shards.picture import Told
from t2v_models.shards.store import ClipStore
from t2v_models.shards.structure import broken, is_cut
from tests.films import bar, encoders, of_jpegs, write
from tests.tiny import put, rejects

SPEC = ClipSpec(size=32, frames=5)
OPTIONS = IngestOptions(spec=SPEC, validation=0, codec="webp")
COUNT = 40
FILMS = [suffix for suffix in CLIP_SUFFIXES if suffix not in (".gif", ".webp", ".npz")]
RUINED = 4
"""Mean difference of a pixel, 0–255, from which on a picture is another one."""


OF_CODER = {"libx265": {"keyint": "10"}, "mpeg2video": {"b": "2M"}}


def noisy(count: int = COUNT) -> list[np.ndarray]:
    """A bar that moves over noise, so that there are bytes to damage."""
    chance = np.random.default_rng(0)
    clip = [bar(i / (count - 1)).astype(int) + chance.integers(-20, 20, (64, 64, 3)) for i in range(count)]
    return [frame.clip(0, 255).astype(np.uint8) for frame in clip]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film of every kind, 4 s of 10 pictures a second, with a key frame every second."""
    folder = tmp_path_factory.mktemp("whole")
    kinds = {
        "h264.mkv": ("libx264", "yuv420p"), "ffv1.mkv": ("ffv1", "yuv420p"), "hevc.mkv": ("libx265", "yuv420p"),
        "vp9.webm": ("libvpx-vp9", "yuv420p"), "vp8.webm": ("libvpx", "yuv420p"), "h264.avi": ("libx264", "yuv420p"),
        "mpeg4.avi": ("mpeg4", "yuv420p"), "mjpeg.avi": ("mjpeg", "yuvj420p"), "h264.mp4": ("libx264", "yuv420p"),
        "h264.mov": ("libx264", "yuv420p"), "h264.flv": ("libx264", "yuv420p"),
        "av1.mp4": ("libsvtav1", "yuv420p"), "mpeg2.ts": ("mpeg2video", "yuv420p"), "h264.ts": ("libx264", "yuv420p"),
        "mpeg2.mpg": ("mpeg2video", "yuv420p"), "wmv2.wmv": ("wmv2", "yuv420p"), "vp8.ogv": ("libvpx", "yuv420p"),
    }  # fmt: skip
    return {
        name: write(folder / name, noisy(), codec, pixels, g="10", **OF_CODER.get(codec, {}))
        for name, (codec, pixels) in kinds.items()
    }


def pictures(path: Path) -> np.ndarray:
    seen = resampled(shown(path, 10, Told()), 10)
    return np.stack([fitted(picture, SPEC, "crop") for picture in seen]).astype(int)


def kept(film: bytes, name: str) -> tuple[list[np.ndarray], dict[str, str]]:
    """The clips that an ingest of a damaged film keeps, and why it leaves out what it does."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        put(source, name, film)
        try:
            ingest(source, out, OPTIONS)
        except LabError:
            return [], rejects(out)
        store = ClipStore(Manifest.load(out))
        return list(store.frames(range(len(store))).astype(int)), rejects(out)


def ruined(clips: list[np.ndarray], right: np.ndarray) -> int:
    """Pictures that look like none of the film."""
    return sum(np.abs(right - frame).mean((1, 2, 3)).min() > RUINED for clip in clips for frame in clip)


def frozen(clips: list[np.ndarray]) -> int:
    """Pictures that are those before them; in these films all move."""
    return sum(int((np.abs(np.diff(clip, axis=0)).mean((1, 2, 3)) == 0).sum()) for clip in clips)


DAMAGES = st.one_of(
    st.tuples(st.just("zeros"), st.integers(40, 800)), st.tuples(st.just("bits"), st.sampled_from([1, 3, 20]))
)


def damaged(film: bytes, damage: tuple[str, int], seed: int) -> bytes:
    """Zeros in one place, or so many flipped bits, among the pictures."""
    chance, (kind, count), content = random.Random(seed), damage, bytearray(film)
    index = film.rfind(b"idx1") if b"idx1" in film else len(film) * 19 // 20
    places = range(max(len(film) // 6, film.find(b"movi")), index - (count if kind == "zeros" else 0))
    if kind == "zeros":
        place = chance.choice(places)
        content[place : place + count] = bytes(min(count, len(film) - place))
    else:
        for place in chance.sample(places, count):
            content[place] ^= 1 << chance.randrange(8)
    return bytes(content)


@settings(max_examples=6)
@pytest.mark.parametrize("name", ["h264.mkv", "ffv1.mkv", "hevc.mkv", "vp9.webm", "av1.mp4"])
@given(damage=DAMAGES, seed=st.integers(0, 10**6))
def test_where_every_wrong_bit_can_be_noticed_none_passes(
    whole: dict[str, Path], name: str, damage: tuple[str, int], seed: int
) -> None:
    """By the checksums of Matroska and FFV1, and by the decoders of VP9 and AV1, which check how each part ends."""
    content = damaged(whole[name].read_bytes(), damage, seed)
    clips, reasons = kept(content, name)
    assert ruined(clips, pictures(whole[name])) == 0
    assert frozen(clips) == 0
    assert reasons or len(clips) == COUNT // SPEC.frames


@settings(max_examples=4)
@pytest.mark.parametrize("name", ["h264.mp4", "h264.mov", "h264.avi", "vp8.webm", "mpeg4.avi", "mjpeg.avi", "h264.flv"])
@given(zeros=st.integers(150, 1200), seed=st.integers(0, 10**6))
def test_holes_of_zeros_are_noticed_in_all_films(whole: dict[str, Path], name: str, zeros: int, seed: int) -> None:
    """What disks and broken downloads leave."""
    clips, reasons = kept(damaged(whole[name].read_bytes(), ("zeros", zeros), seed), name)
    assert reasons
    assert ruined(clips, pictures(whole[name])) == 0
    assert frozen(clips) == 0


@pytest.mark.parametrize("name", [
    "h264.mkv", "ffv1.mkv", "vp9.webm", "vp8.webm", "h264.avi", "mjpeg.avi", "h264.mp4", "h264.mov", "h264.flv",
    "av1.mp4", "mpeg2.ts", "h264.ts", "mpeg2.mpg", "wmv2.wmv", "vp8.ogv",
])  # fmt: skip
def test_a_film_that_is_cut_is_told_and_its_beginning_kept(whole: dict[str, Path], name: str) -> None:
    content = whole[name].read_bytes()
    clips, reasons = kept(content[: len(content) * 6 // 10], name)
    assert len(reasons) == 1
    assert 1 <= len(clips) < COUNT // SPEC.frames
    assert ruined(clips, pictures(whole[name])) == 0
    assert frozen(clips) == 0


@pytest.mark.parametrize("name", ["wmv2.wmv", "mpeg2.ts", "h264.ts"])
def test_a_packet_whose_head_is_destroyed_is_missed(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    """What is told in it of the pictures, which FFmpeg then leaves out without a word."""
    content, right = whole[name].read_bytes(), pictures(whole[name])
    if name.endswith("wmv"):
        start = int.from_bytes(content[16:24], "little") + 50
        heads = range(start + 6, len(content) - 3200, 3200)
    else:
        track = content.index(b"\0\0\1\xe0", len(content) // 3) // 188 * 188 + 1
        own = content[track] | 0x40, content[track + 1]
        heads = range(4, len(content) - 188, 188)
        heads = [at for at in heads if (content[at - 3], content[at - 2]) == own]
    for at in heads[2:12]:
        path = put(tmp_path, f"a.{name}", content[:at] + bytes(64) + content[at + 64 :], None)
        told = Told()
        found = list(shown(path, 10, told))
        assert told.lost or any(picture.damage for picture in found)
        kept = [fitted(picture, SPEC, "crop") for picture in found if not picture.damage]
        assert ruined([np.stack(kept)], right) == 0


@pytest.mark.parametrize("lost", [0, 300])
def test_a_short_ogg_whose_pages_were_all_read_on_opening_tells_of_them(whole: dict[str, Path], lost: int) -> None:
    """FFmpeg says so while it looks what there is, which is not listened to."""
    content = whole["vp8.ogv"].read_bytes()
    place = len(content) // 2
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "a.ogv", content[:place] + bytes(300 - lost) + content[place + 300 :], None)
        assert broken(path, "ogg", 0)


def test_a_gif_that_is_cut_is_told_wherever_it_ends(tmp_path: Path) -> None:
    frames, path = [Image.fromarray(frame) for frame in noisy(6)], tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    content, right = path.read_bytes(), [np.asarray(picture.pixels()) for picture in shown(path, 10, Told())]
    for place in [*range(len(content) // 2, len(content), len(content) // 20), content.rindex(b"\x21\xf9")]:
        path.write_bytes(content[:place])
        assert is_told(path, right)
        kept = [np.asarray(picture.pixels()) for picture in shown(path, 10, Told()) if not picture.damage]
        assert all(map(np.array_equal, kept, right))


def test_whole_films_have_no_damage(whole: dict[str, Path], tmp_path: Path) -> None:
    for name, path in whole.items():
        put(tmp_path / "source", name, path.read_bytes(), f"a bar in {name}".encode())
    ingest(tmp_path / "source", tmp_path / "out", OPTIONS)  # one stream may stand in several containers
    assert all(reason.startswith("the same frames are in another") for reason in rejects(tmp_path / "out").values())
    for path in whole.values():
        with av.open(str(path)) as container:
            kind, track = container.format.name, container.streams.video[0].id
        assert not broken(path, kind, track)
        assert not is_cut(path, kind, track)


def noticed(path: Path) -> list[str]:
    for picture in shown(path, 10, told := Told()):
        picture.pixels()
    return list(told.notices)


def unnoticed(coder: str) -> list[str]:
    return [f"wrong bits in it may pass unnoticed: {coder} here has no checksum"]


@pytest.mark.parametrize(("codec", "suffix", "options", "coder"), [
    ("libx264", "mp4", {}, "H264"), ("libx265", "ts", {}, "HEVC"),
    ("libx265", "mp4", {"x265-params": "log-level=error:hash=1"}, None), ("libx265", "mkv", {}, None),
    ("libvpx", "webm", {}, "VP8"), ("libvpx", "ogv", {}, None), ("libvpx-vp9", "webm", {}, "VP9"),
    ("libsvtav1", "mp4", {}, "AV1"), ("ffv1", "avi", {"level": "3"}, None), ("ffv1", "avi", {"level": "1"}, "FFV1"),
    ("ffv1", "avi", {"level": "3", "slicecrc": "0"}, "FFV1"), ("png", "mov", {}, None),
    ("utvideo", "avi", {}, "UTVIDEO"),
])  # fmt: skip
def test_where_wrong_bits_may_pass_it_is_told(
    tmp_path: Path, codec: str, suffix: str, options: dict[str, str], coder: str | None
) -> None:
    """Where neither the decoder nor the container has a checksum."""
    pixels = "rgb24" if codec == "png" else "yuv420p"
    path = write(tmp_path / f"a.{suffix}", noisy(4), codec, pixels, **options)
    assert noticed(path) == (unnoticed(coder) if coder else [])


def test_where_wrong_bits_of_images_may_pass_it_is_told(tmp_path: Path) -> None:
    """Frames and animations: only PNG and archives have checksums."""
    images = [Image.fromarray(frame) for frame in noisy(4)]
    for suffix, coder in (("png", None), ("jpg", "JPEG"), ("bmp", "BMP"), ("tif", "TIFF"), ("webp", "WEBP")):
        folder = tmp_path / suffix
        folder.mkdir()
        for i, image in enumerate(images):
            image.save(folder / f"{i}.{suffix}")
        assert noticed(folder) == (unnoticed(coder) if coder else [])
    for suffix in ("gif", "webp"):
        images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:])
        assert noticed(tmp_path / f"a.{suffix}") == unnoticed(suffix.upper())
    np.savez(tmp_path / "a.npz", frames=np.stack(noisy(4)))
    assert noticed(tmp_path / "a.npz") == []


def test_every_pair_of_coder_and_container_is_checked_or_it_is_told(tmp_path: Path) -> None:
    """All that PyAV writes and that can be read here: where nothing is told, no wrong bit passes."""
    checked, frames, count = set(), noisy(3), 0
    for codec, pixels in encoders().items():
        for suffix in FILMS:
            path = tmp_path / f"a{suffix}"
            try:
                write(path, frames, codec, pixels, rate=25)
                if noticed(path):
                    count += 1
                    continue
            except (av.FFmpegError, ValueError):  # it is not written, or cannot be read
                continue
            whole, right = path.read_bytes(), [np.asarray(picture.pixels()) for picture in shown(path, 25, Told())]
            for seed in range(3):
                path.write_bytes(damaged(whole, ("bits", 1), seed))
                assert is_told(path, right), (codec, suffix, seed)
            checked.add(f"{codec}{suffix}")
    assert count > 100
    assert {"ffv1.avi", "png.mov", "libvpx.ogv", "libx264.mkv", "libx265.mkv"} <= checked


def is_told(path: Path, right: list[np.ndarray]) -> bool:
    """Whether damage is told of, if it changes any picture."""
    told = Told()
    try:
        found = list(shown(path, 25, told))
        same = [np.asarray(picture.pixels()) for picture in found]
    except ValueError:
        return True
    equal = len(same) == len(right) and all(map(np.array_equal, same, right))
    return equal or bool(told.lost or any(picture.damage for picture in found))


def test_an_avi_from_a_pipe_is_whole(whole: dict[str, Path], tmp_path: Path) -> None:
    """Its sizes and its length are none."""
    content = bytearray(whole["mpeg4.avi"].read_bytes())
    index, movi, head, rate = (content.find(name) for name in (b"idx1", b"movi", b"avih", b"strh"))
    for place in (4, movi - 4):
        content[place : place + 4] = b"\xff" * 4
    for place in (head + 24, rate + 40):  # pictures in all, and of the stream
        content[place : place + 4] = (25_000).to_bytes(4, "little")
    path = put(tmp_path, "piped.avi", bytes(content[:index]), None)
    told = Told()
    assert len([picture for picture in shown(path, 10, told) if not picture.damage]) == COUNT
    assert told.lost is None


def test_what_stands_beside_the_pictures_of_an_avi_is_no_damage(whole: dict[str, Path], tmp_path: Path) -> None:
    """Who made it, as VirtualDub tells behind the index, and bytes that are no part of the film."""
    content, said = whole["mpeg4.avi"].read_bytes(), b"INFOISFT" + (10).to_bytes(4, "little") + b"some tool\0"
    more = b"LIST" + len(said).to_bytes(4, "little") + said
    size = (len(content) + len(more) - 8).to_bytes(4, "little")
    path = put(tmp_path, "told.avi", content[:4] + size + content[8:] + more + b"and a line of text", None)
    told = Told()
    assert [picture.damage for picture in shown(path, 10, told)] == [None] * COUNT
    assert told.lost is None


@pytest.mark.parametrize(("codec", "suffix"), [("mpeg1video", "m1v"), ("mpeg2video", "m2v")])
def test_zeros_between_the_parts_of_a_picture_are_no_damage(tmp_path: Path, codec: str, suffix: str) -> None:
    """MPEG allows them before every start code."""
    path = write(tmp_path / f"a.{suffix}", noisy(10), codec, rate=25, b="2M")
    right = pictures(path)
    content = re.sub(rb"\x00\x00\x01", lambda code: bytes(9) + code[0], path.read_bytes())
    stuffed, told = put(tmp_path, f"stuffed.{suffix}", content, None), Told()
    assert [picture.damage for picture in shown(stuffed, 10, told)] == [None] * 10
    np.testing.assert_array_equal(pictures(stuffed), right)


@pytest.mark.parametrize("even", [True, False])
def test_zeros_that_are_the_code_of_an_even_picture_are_no_damage(tmp_path: Path, even: bool) -> None:
    """JPEG with tables of its own: one end of a block after the other. In other pictures they are a hole."""
    image, jpeg = Image.new("RGB", (320, 240)) if even else Image.fromarray(noisy(2)[0]), io.BytesIO()
    image.save(jpeg, "JPEG", optimize=True)
    content = jpeg.getvalue() if even else jpeg.getvalue()[:-200] + bytes(100) + jpeg.getvalue()[-100:]
    assert bytes(32) in content
    found = shown(of_jpegs(tmp_path / "a.avi", content, image.size), 10, Told())
    assert any(picture.damage for picture in found) is not even


def test_damage_spoils_only_the_clips_it_touches(whole: dict[str, Path]) -> None:
    content = bytearray(whole["h264.mp4"].read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    clips, reasons = kept(bytes(content), "h264.mp4")
    assert 4 <= len(clips) <= 6
    assert set(reasons.values()) == {"its pictures are damaged (there are zeros in a picture's code)"}


@settings(max_examples=5)
@pytest.mark.parametrize("name", ["h264.avi", "mpeg4.avi", "mjpeg.avi", "h264.flv", "wmv2.wmv", "mpeg2.ts", "vp8.ogv"])
@given(lost=st.sampled_from([1, 188, 700]), seed=st.integers(0, 10**6))
def test_bytes_that_are_lost_leave_a_hole_in_the_container(
    whole: dict[str, Path], name: str, lost: int, seed: int
) -> None:
    content = whole[name].read_bytes()
    place = random.Random(seed).randrange(len(content) // 3, len(content) * 2 // 3)
    clips, reasons = kept(content[:place] + content[place + lost :], name)
    assert reasons or len(clips) == COUNT // SPEC.frames  # what was lost may be no picture's
    assert ruined(clips, pictures(whole[name])) == 0
