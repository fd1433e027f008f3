"""Both codecs keep every pixel, and what is damaged is refused."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2v_models.clips import media
from t2v_models.clips.spec import ClipSpec, Codec
from t2v_models.config import LabError
from t2v_models.shards.codec import FRAMES_SUFFIX, decoded, decoded_batch, packed
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.shards.write import write_shard
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.render import render
from tests.tiny import drawn_clip

CODECS: tuple[Codec, ...] = tuple(FRAMES_SUFFIX)
SPEC = ClipSpec(size=16, frames=5)


def noise(spec: ClipSpec, seed: int, stills: bool = False) -> np.ndarray:
    clip = np.random.default_rng(seed).integers(0, 256, (spec.frames, spec.size, spec.size, 3), np.uint8)
    if stills:
        clip[1:-1] = clip[0]
    return clip


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None, max_examples=25)
@given(st.integers(4, 9), st.integers(16, 24), st.integers(1, 60), st.integers(0, 99), st.booleans())
def test_every_pixel_comes_back(codec: Codec, frames: int, size: int, fps: int, seed: int, stills: bool) -> None:
    spec = ClipSpec(frames=frames, size=size, fps=fps)
    clips = [noise(spec, seed, stills), noise(spec, seed + 1), np.full((frames, size, size, 3), 255, np.uint8)]
    stored = [packed(clip, spec, codec) for clip in clips]
    np.testing.assert_array_equal([decoded(one, spec, codec) for one in stored], clips)
    np.testing.assert_array_equal(decoded_batch(stored, spec, codec), clips)
    assert decoded_batch([], spec, codec).shape == (0, frames, size, size, 3)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_clip_of_the_size_is_refused(codec: Codec) -> None:
    good = packed(noise(SPEC, 0), SPEC, codec)
    small, long = ClipSpec(size=17, frames=5), ClipSpec(size=16, frames=6)
    bad = [b"", b"\0" * 8 + good[8:], good[: len(good) // 2], good[:-5], packed(noise(small, 0), small, codec),
           packed(noise(long, 0), long, codec)]  # fmt: skip
    for content in bad:
        with pytest.raises(ValueError, match=r"no clip of \(5, 16, 16, 3\)"):
            decoded(content, SPEC, codec)
        with pytest.raises(ValueError, match="no clips? of"):
            decoded_batch([good, content, good], SPEC, codec)


def test_the_animation_plays_at_the_rate_of_the_dataset() -> None:
    _, motion = drawn_clip(DatasetConfig(spec=SPEC), 3)
    with Image.open(io.BytesIO(packed(render(motion, SPEC), SPEC, "webp"))) as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 5, (16, 16))
        image.load()
        assert image.info["duration"] == 1000 / SPEC.fps


@pytest.mark.parametrize(("mode", "lossless"), [("RGB", False), ("RGBA", True), ("RGBA", False)])
def test_animations_of_others_are_read_as_pillow_reads_them(mode: str, lossless: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, len(mode)), np.uint8)
    pixels[2] = pixels[1]
    first, *rest = [Image.fromarray(frame) for frame in pixels]
    content, times = io.BytesIO(), [100, 150, 50, 300, 0, 100]
    first.save(content, "WEBP", save_all=True, append_images=rest, duration=times, lossless=lossless, quality=60)
    there = media.decode(content.getvalue(), 10)
    assert len(there) > 6, "frames that are shown longer are repeated"
    spec = ClipSpec(size=16, frames=len(there), fps=10)
    np.testing.assert_array_equal(decoded(content.getvalue(), spec, "webp"), there)


def test_a_dataset_of_animations_holds_the_same_clips(tmp_path: Path) -> None:
    stores = []
    for codec in CODECS:
        config = DatasetConfig(clips=9, clips_per_shard=5, spec=SPEC, codec=codec)
        for index in range(config.shards):
            write_shard(tmp_path / codec, config, index)
        finish(tmp_path / codec, config)
        assert verify(tmp_path / codec) == []
        assert FRAMES_SUFFIX[codec] in (tmp_path / codec / "README.md").read_text()
        stores.append(ClipStore(Manifest.load(tmp_path / codec)))
    np.testing.assert_array_equal(stores[0].frames(range(9)), stores[1].frames(range(9)))
    np.testing.assert_array_equal(list(stores[0].clips([8, 2])), list(stores[1].clips([8, 2])))
    assert stores[0].captions == stores[1].captions
    shard = tmp_path / "webp" / "shard-00001.tar"
    place = stores[1].manifest.table["frames_offset"][7].as_py()
    content = bytearray(shard.read_bytes())
    content[place : place + 16] = bytes(16)
    shard.write_bytes(content)
    assert verify(tmp_path / "webp")[-1] == "shard-00001.tar has changed pixels in clips 000000007"
    with pytest.raises(LabError, match=r"clip 000000007 of .*shard-00001.tar cannot be read: run `t2v verify"):
        ClipStore(stores[1].manifest).frames([5, 7, 6])


def test_the_truth_beside_the_pixels_is_plain_json(tmp_path: Path) -> None:
    config = DatasetConfig(clips=3, spec=SPEC)
    write_shard(tmp_path, config, 0)
    row = finish(tmp_path, config).table.to_pylist()[2]
    content = (tmp_path / row["shard"]).read_bytes()[row["meta_offset"] :][: row["meta_size"]]
    truth = json.loads(content)
    assert list(truth) == ["caption", "fps", "key", "motion", "trace"]
    assert all(len(truth["trace"][axis]) == SPEC.frames for axis in ("radius", "x", "y"))
