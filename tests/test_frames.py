"""Folders of images: the order of their frames is told by their names, or they are refused."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips.media import to_webp
from t2v_models.shards.frames import ordered
from t2v_models.shards.ingest import ingest
from tests.tiny import OPTIONS, clips, noise, put, rejects


@pytest.mark.parametrize(("names", "reason"), [
    ("1 2 4 5 6 7", "frames are missing after 2.png: the next number is 2 higher"),
    ("a0 a10 a20 a40 a50 a60", "frames are missing after a20.png: the next number is 20 higher"),
    ("0001_rgb 0002_rgb 0004_rgb 0005_rgb 0006_rgb 0007_rgb", "frames are missing after 0002_rgb.png"),
    ("0.1 0.2 0.4 0.5 0.6 1.0", "frames are missing after 0.2.png: the next number is 0.2 higher"),
    ("1_left 1_right 2_left 2_right 3_left 3_right", "frames 1_left.png and 1_right.png differ in more than numbers"),
    ("-2 -1 0 1 2 3", "frames -1.png and 0.png differ in more than numbers"),
    ("-3 -2 -1", "-1.png begins with what may be a minus"),
    ("0.15 0.25 0.5", "the numbers of 0.15.png and the other frames have one order as decimals and another"),
    ("img1 img1-copy img2 img3 img4 img5", "frames img1-copy.png and img1.png differ in more than numbers"),
    ("a1f b2f 3f9 f4f f5f f6f", "frames 3f9.png and a1f.png differ in more than numbers"),
    ("s1_f1 s1_f2 s1_f3 s2_f1 s2_f2 s2_f3", "the order of its frames cannot be told, for several numbers"),
    ("f1_t50 f2_t40 f3_t30 f4_t20 f5_t10 f6_t0", "the order of its frames cannot be told, for several numbers"),
    ("f1_t10 f2_t20 f3_t40 f4_t50 f5_t60 f6_t70", "frames are missing after f2_t20.png: the next number is 20 higher"),
    ("t10_f1 t20_f2 t30_f4 t40_f5 t50_f6 t60_f7", "frames are missing after t20_f2.png: the next number is 2 higher"),
    ("1.9 1.10 1.8 2.1 2.0 2.2", "the order of its frames cannot be told, for several numbers"),
    ("01 1 2 3 4 5", "two frames have the number of 01.png"),
    ("cover 1 2 3 4 5", "frame cover.png has no number, and others have"),
    ("one two three four five six", "the order of frames named as five.png cannot be told"),
    ("a b d e f g", "frames are missing after b.png: the next number is 2 higher"),
    ("1 2 3", "it has 3 frames"), ("", "it is a folder without images"),
    ("0 10 20 30 40 50", None), ("walk_a walk_b walk_c walk_d walk_e walk_f", None),
    ("t1033 t1066 t1100 t1133 t1166 t1200", None),
    ("frame.(1) frame.(2) frame.(9) frame.(10) frame.(11) frame.(12)", "frames are missing after frame.(2).png"),
    ("frame.(7) frame.(8) frame.(9) frame.(10) frame.(11) frame.(12)", None),
    ("8_left 9_left 10_left 11_left", "it has 4"),
    ("frame8_t frame9_t frame10_t frame11_t frame12_t frame13_t", None), ("Img1 img2 img3 img4 IMG5 img6", None),
    ("0.8 0.9 1.0 1.1 1.2 1.3", None), ("v1.8 v1.9 v1.10 v1.11 v1.12 v1.13", None),
    ("98_t0.033 99_t0.067 100_t0.1 101_t0.133 102_t0.167 103_t0.2", None), ("٨ ٩ ١٠ ١١ ١٢ ١٣", None),
    ("2024-08_8 2024-08_9 2024-08_10 2024-08_11 2024-08_12 2024-08_13", None),
])  # fmt: skip
def test_frames_are_in_the_order_of_the_number_that_changes(tmp_path: Path, names: str, reason: str | None) -> None:
    """Frames are made in the order in which they are named here."""
    folder = tmp_path / "source" / "clip"
    folder.mkdir(parents=True)
    for name, frame in zip(names.split(), noise(0), strict=False):
        Image.fromarray(frame).save(folder / f"{name}.png")
    (tmp_path / "source" / "list.csv").write_text("path,caption\nclip,a cat\nother.webp,a dog\n")
    put(tmp_path / "source", "other.webp", to_webp(noise(1), 10), None)
    ingest(tmp_path / "source" / "list.csv", tmp_path / "out", OPTIONS)
    assert rejects(tmp_path / "out").get("clip", "")[: len(reason or "")] == (reason or "")
    if reason is None:
        np.testing.assert_array_equal(clips(tmp_path / "out")[0], noise(0))


@given(
    st.lists(st.sampled_from(["a", "_", " (", ")", "é", "-"]), min_size=2, max_size=2),
    st.integers(0, 2000), st.integers(1, 40), st.integers(3, 30), st.integers(0, 6), st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_even_count_is_in_order_and_any_hole_in_it_is_found(
    text: list[str], first: int, step: int, count: int, width: int, chance: random.Random
) -> None:
    text[0] = text[0].replace("-", "x-")  # a name that begins with it may say a number below 0
    numbers = range(first, first + count * step, step)
    files = [Path(f"{text[0]}{number:0{width}d}{text[1]}.png") for number in numbers]
    assert ordered(chance.sample(files, count)) == files
    if count > 3:
        files.pop(chance.randrange(1, count - 1))
        with pytest.raises(ValueError, match="frames are missing after"):
            ordered(chance.sample(files, count - 1))


@pytest.mark.parametrize(("suffix", "form"), [("webp", "WEBP"), ("png", "PNG"), ("tiff", "TIFF")])
def test_a_frame_that_holds_several_pictures_is_none(tmp_path: Path, suffix: str, form: str) -> None:
    folder = tmp_path / "source" / "clip"
    folder.mkdir(parents=True)
    pictures = [Image.fromarray(frame) for frame in noise(0)]
    for i, picture in enumerate(pictures):
        more = {"save_all": True, "append_images": pictures[:3]} if i == 4 else {}
        picture.save(folder / f"{i}.{suffix}", form, **more)
    (folder / "caption.txt").write_text("a cat")
    put(tmp_path / "source", "other.webp", to_webp(noise(1), 10))
    ingest(tmp_path / "source", tmp_path / "out", OPTIONS)
    reason = f"frame 4.{suffix} cannot be read: it holds 4 pictures and not one"
    assert rejects(tmp_path / "out") == {"clip": reason}
