"""Clips written in every format and read back."""

import io
import os

import av
import numpy as np
import pytest
from PIL import Image

from t2v_models.clips import media
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.reader import read
from t2v_models.worlds.render import render
from tests.tiny import drawn_clip


def clips(count=3, size=32, frames=6):
    config = DatasetConfig(clips=count, spec=ClipSpec(frames=frames, size=size))
    drawn = [drawn_clip(config, i) for i in range(count)]
    return np.stack([render(motion, config.spec) for _, motion in drawn]), [caption for caption, _ in drawn]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (4, 35, 37, 3)])
def test_webp_keeps_every_pixel(shape):
    frames = noise(shape)
    assert np.array_equal(media.decode(media.to_webp(frames, 10)), frames)


@pytest.mark.parametrize("encode", [media.to_webp, media.to_gif])
def test_animations_loop_for_ever_at_the_frame_rate(encode):
    with Image.open(io.BytesIO(encode(clips()[0][0], 10))) as image:
        assert image.n_frames == 6
        image.seek(1)
        image.load()
        assert (image.info["loop"], image.info["duration"]) == (0, 100)


@pytest.mark.parametrize("encode", [media.to_webp, media.to_gif])
def test_frames_that_do_not_change_come_back(encode):
    frames = np.repeat(np.array([250, 7], np.uint8), 3)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    assert np.array_equal(media.decode(encode(frames, 10), fps=10), frames)


def test_mp4_is_close_even_and_starts_fast():
    frames = clips(1, 35)[0][0]
    data = media.to_mp4(frames, 10, scale=3)
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    back = media.decode(data)
    assert back.shape == (6, 106, 106, 3)
    exact = media.enlarge(frames, 3).astype(float)
    assert np.abs(back[:, :105, :105] - exact).mean() < 2
    assert np.abs(back[:, 105, :105] - exact[:, 104]).mean() < 2  # the added row repeats the last one
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)


def test_a_clip_survives_mp4_and_gif_for_the_reader():
    frames, _ = clips(6, 64, 10)
    truth = read(frames, ["blue"] * 6).action
    for encode in (media.to_mp4, media.to_gif):
        back = np.stack([media.decode(encode(clip, 10), fps=10) for clip in frames])
        assert read(back, ["blue"] * 6).action == truth


def test_gif_is_within_its_palette():
    frames = clips(1)[0][0]
    assert np.abs(media.decode(media.to_gif(frames, 10)).astype(float) - frames).max() <= 16


def test_strip_puts_frames_in_order():
    frames = noise((3, 8, 6, 3))
    row = media.strip(frames, 2)
    assert row.shape == (16, 3 * 12 + 2 * 2, 3)
    for i in range(3):
        assert np.array_equal(row[::2, i * 14 : i * 14 + 12 : 2], frames[i])


def test_contact_sheet_shows_clips_and_marks():
    frames, prompts = clips(3)
    with Image.open(io.BytesIO(media.contact_sheet(list(frames), prompts, ["right", "partly", None]))) as image:
        pixels = np.asarray(image.convert("RGB"))
    tile = media.enlarge(frames[0, 0], 3)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (96, 96), axis=(0, 1))
    places = np.argwhere((windows[20, :].transpose(0, 2, 3, 1) == tile).all((1, 2, 3)))
    assert len(places) == 1, "the first frame of the first clip is at the top of the sheet"
    for colour in (media.MARKS["right"], media.MARKS["partly"]):
        assert (pixels == colour).all(-1).sum() > 96 * 4


def test_contact_sheet_of_a_long_clip_is_bounded():
    short, long = (media.contact_sheet([noise((t, 16, 16, 3))], ["x"]) for t in (media.SHEET_FRAMES, 200))
    assert Image.open(io.BytesIO(long)).size == Image.open(io.BytesIO(short)).size


def test_npz_round_trip(tmp_path):
    frames, prompts = clips(3)
    path = tmp_path / "new" / "clips.npz"
    assert media.save_clips(path, frames, prompts, [5, 6, 7], 10) == [path]
    back, back_prompts, back_seeds = media.load_npz(path)
    assert np.array_equal(back, frames)
    assert (back_prompts, back_seeds) == (prompts, [5, 6, 7])
    with np.load(path) as archive:
        assert {name: archive[name].shape for name in archive} == {
            "frames": (3, 6, 32, 32, 3), "prompts": (3,), "seeds": (3,),
        }  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_one_clip_is_the_file_and_several_are_numbered(tmp_path, suffix):
    frames, prompts = clips(2)
    one = media.save_clips(tmp_path / f"a{suffix}", frames[:1], prompts[:1], [0], 10)
    several = media.save_clips(tmp_path / f"b{suffix.upper()}", frames, prompts, [0, 1], 10)
    assert [p.name for p in one] == [f"a{suffix}"]
    assert [p.name for p in several] == [f"b-000{suffix.upper()}", f"b-001{suffix.upper()}"]
    assert sorted(tmp_path.iterdir()) == sorted([*one, *several])
    for path, clip in zip(several, frames, strict=True):
        assert np.abs(media.decode(path, fps=10).astype(float) - clip).mean() < 3


def test_png_is_a_contact_sheet(tmp_path):
    frames, prompts = clips(2)
    [path] = media.save_clips(tmp_path / "sheet.png", frames, prompts, [0, 1], 10)
    with Image.open(path) as image:
        assert (image.format, image.height) == ("PNG", 2 * 96 + 12 + 40)


@pytest.mark.parametrize(
    ("name", "words"), [("clip.mp5", r"'\.mp5'; did you mean '\.mp4'"), ("clip.mov", r"\.npz"), ("clip", "no suffix")]
)
def test_unknown_suffix_is_refused(tmp_path, name, words):
    frames, prompts = clips(1)
    with pytest.raises(LabError, match=words):
        media.save_clips(tmp_path / name, frames, prompts, [0], 10)
    assert not list(tmp_path.iterdir())


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "clips.npz"
    with pytest.raises(LabError, match="no clips at"):
        media.load_npz(path)
    frames, prompts = clips(3)
    media.save_clips(path, frames, prompts, [0, 1, 2], 10)
    whole = path.read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2], whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]):
        path.write_bytes(data)
        with pytest.raises(LabError, match="not a whole"):
            media.load_npz(path)
    contents = {"frames": frames, "prompts": np.array(prompts), "seeds": np.arange(3)}
    for change, words in (
        ({"frames": frames.astype(np.float32)}, "float32"),
        ({"frames": frames[0]}, r"\(6, 32, 32, 3\)"),
        ({"seeds": np.arange(2)}, "3 clips, 3 prompts and 2 seeds"),
        ({"prompts": np.array(prompts, object)}, "not a whole"),
        ({"prompts": np.arange(3)}, r"prompts of type int64 and shape \(3,\); allowed are strings, one a clip"),
        ({"prompts": np.array(prompts[0])}, r"prompts of type <U\d+ and shape \(\)"),
        ({"seeds": np.array([0.5, 1, 2])}, "seeds of type float64 .* allowed are whole numbers"),
        ({key: value[:0] for key, value in contents.items()}, "0 clips, 0 prompts and 0 seeds"),
    ):
        np.savez(path, **(contents | change))
        with pytest.raises(LabError, match=words):
            media.load_npz(path)
    np.savez(path, frames=frames)
    with pytest.raises(LabError, match="lacks prompts"):
        media.load_npz(path)


def test_an_archive_without_seeds_gets_positions(tmp_path):
    frames, prompts = clips(3)
    np.savez(tmp_path / "theirs.npz", frames=frames, prompts=np.array(prompts))
    assert media.load_npz(tmp_path / "theirs.npz")[1:] == (prompts, [0, 1, 2])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    frames, prompts = clips(2)
    [path] = media.save_clips(tmp_path / "a.webp", frames[:1], prompts[:1], [0], 10)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left"):
        media.save_clips(path, frames[1:], prompts[1:], [1], 10)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == old
