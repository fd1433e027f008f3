"""Several shapes in one dataset: a batch is of one, each comes as often as its share, and (seed, k) decides which."""

import json
import shutil
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pydantic import ValidationError

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.distributed.collectives import Share
from t2v_models.shards.buckets import CYCLE, Turns, clips_by_shape, mix_of, shares_of
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.opened import open_data
from t2v_models.shards.remote import verify_at
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches
from t2v_models.shards.verify import verify
from t2v_models.worlds.dataset import DatasetConfig, draw_clip
from tests.tiny import BUCKET_SHAPES, BUCKETS, rendered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("buckets"), BUCKETS)


@pytest.fixture
def store(folder: Path) -> ClipStore:
    return ClipStore(Manifest.load(folder))


def test_one_shape_is_written_as_ever() -> None:
    one = DatasetConfig(clips=20, spec=BUCKET_SHAPES[0])
    assert "buckets" not in one.model_dump() and "first" not in one.model_dump()
    assert one.digest == "f80c101169f11635"
    assert DatasetConfig.model_validate_json(BUCKETS.model_dump_json()) == BUCKETS
    assert (BUCKETS.clips, BUCKETS.spec, BUCKETS.shards) == (74, BUCKET_SHAPES[1], 2 + 4 + 2)


def test_a_turn_is_a_function_of_seed_and_number_and_shares_are_kept() -> None:
    turns = Turns([3, 1, 0.5], seed=4)
    taken = [turns.of(k) for k in range(2500)]
    assert taken == [Turns([3, 1, 0.5], seed=4).of(k) for k in range(2500)]
    assert [turns.of(k) for k in (2400, 7, 1999)] == [taken[2400], taken[7], taken[1999]]
    assert taken != [Turns([3, 1, 0.5], seed=5).of(k) for k in range(2500)]
    for bucket, share in enumerate((3 / 4.5, 1 / 4.5, 0.5 / 4.5)):
        numbers = [number for which, number in taken if which == bucket]
        assert numbers == list(range(len(numbers))), "no batch of a bucket is left out or comes twice"
        for k in range(100, 2500, 100):
            assert abs(sum(which == bucket for which, _ in taken[:k]) - share * k) < 3
    assert Counter(which for which, _ in taken[:CYCLE]) == {0: 667, 1: 222, 2: 111}


def test_one_bucket_has_all_turns_and_one_of_no_share_has_none() -> None:
    assert [Turns([7], seed=1).of(k) for k in (0, 999, 1000, 12345)] == [(0, k) for k in (0, 999, 1000, 12345)]
    assert {Turns([1, 0, 1e-9], seed=0).of(k)[0] for k in range(CYCLE)} == {0, 2}


def test_every_clip_is_drawn_in_its_shape_from_its_number(store: ClipStore) -> None:
    assert [len(rows) for rows in store.manifest.buckets] == [20, 40, 14]
    assert verify(store.manifest.folder) == []
    for one, rows in zip(BUCKETS.one_shape, store.manifest.buckets, strict=True):
        frames = store.frames(rows)
        assert frames.shape == (len(rows), *one.spec.shape)
        for place, row in ((0, rows[0]), (len(rows) - 1, rows[-1])):
            caption, scene = draw_clip(one, place)
            into = np.empty((1, *one.spec.shape), np.uint8)
            np.testing.assert_array_equal(next(iter(one.rules.render([scene], one.spec, into))), frames[place])
            assert store.captions[row] == caption
            assert store.manifest.table["truth"][int(row)].as_py() in (scene.model_dump_json()[11:-1],)
    same = ClipSpec(size=16, frames=6)
    assert draw_clip(DatasetConfig(clips=74, spec=same, first=20), 0) == draw_clip(
        DatasetConfig(clips=74, spec=same), 20
    )


@pytest.mark.parametrize("block", [None, 1])
def test_any_ranks_and_workers_take_the_same_batches_from_anywhere(store: ClipStore, block: int | None) -> None:
    def keys(start: int, share: Share = Share(0, 1), workers: int = 0) -> list[list[tuple[str, int]]]:  # noqa: B008
        stream = batches(store, 8, 2, 3, start, share, workers, block)
        found = [
            [(caption, hash(clip.numpy().tobytes())) for caption, clip in zip(b.captions, b.frames, strict=True)]
            for b in islice(stream, 24 - start)
        ]
        stream.close()
        return found

    whole = keys(0)
    for world in (2, 4):
        parts = [keys(0, Share(rank, world), rank) for rank in range(world)]
        assert [[key for part in parts for key in part[k]] for k in range(24)] == whole
    assert keys(17, workers=2) == whole[17:]


def test_an_epoch_of_a_bucket_has_each_of_its_clips_once(store: ClipStore) -> None:
    device = DeviceClips(store, torch.device("cpu"))
    seen: dict[tuple[int, ...], list[bytes]] = {}
    for one, other in islice(zip(batches(store, 10, 1, 0), batches(device, 10, 1, 0), strict=False), 12):
        assert torch.equal(one.frames, other.frames)
        seen.setdefault(tuple(one.frames.shape[1:]), []).extend(clip.numpy().tobytes() for clip in one.frames)
    assert set(seen) == {spec.shape for spec in BUCKET_SHAPES}
    first = seen[BUCKET_SHAPES[1].shape][:40]
    assert sorted(first) == sorted(clip.tobytes() for clip in store.frames(store.manifest.buckets[1]))
    assert next(batches(store, 10, 1, 5)).frames.shape[1:] == BUCKETS.spec.shape, (
        "the first is of the most common shape"
    )


def test_shares_may_be_given(store: ClipStore) -> None:
    clips = clips_by_shape(store.manifest)
    assert np.allclose(shares_of(clips, {}), np.array([20, 40, 14]) / 74)
    assert np.allclose(shares_of(clips, mix_of(["16x16x6=0.7"])), [0.7, 0.3 * 40 / 54, 0.3 * 14 / 54])
    assert len({b.frames.shape for b in islice(batches(store, 8, 1, 0, mix={"32x16x4": 0, "16x16x6": 1}), 40)}) == 1
    for mix, what in (
        (["16x16x5=1"], "has no clips of the shape 16x16x5: did you mean .*'16x16x6'"),
        (["16x16x6=2"], "was given 2 of the batches: give a share from 0 to 1"),
        (["16x16x6=0.7", "32x16x4=0.7"], "make 1.4: they are parts of 1"),
        (["16x16x6=0.7", "16x16x6=0.2"], "--mix gives 16x16x6 twice, 0.7 and 0.2: give each shape one share"),
        (["16x16x6"], "--mix '16x16x6' is no share of a bucket"),
    ):
        with pytest.raises(LabError, match=what):
            shares_of(clips, mix_of(mix))


def test_mistakes_are_one_sentence(store: ClipStore) -> None:
    with pytest.raises(LabError, match="bucket 16x16x9 has 14 clips, fewer than a batch of 16: .*mix of 16x16x9=0"):
        batches(store, 16, 1, 0)
    batches(store, 16, 1, 0, mix={"16x16x9": 0})
    twice = [{"spec": {"size": 16, "frames": 5}, "clips": 5}] * 2
    with pytest.raises(ValidationError, match="the shape 16x16x5 is named twice"):
        DatasetConfig.model_validate({"buckets": twice})
    uneven = [{"spec": {"size": 16, "fps": fps, "frames": fps}, "clips": 5} for fps in (5, 10)]
    with pytest.raises(ValidationError, match="clips of 5 and of 10 frames per second"):
        DatasetConfig.model_validate({"buckets": uneven})
    with pytest.raises(ValidationError, match="beside spec or clips that are not theirs"):
        DatasetConfig.model_validate({"clips": 7, "buckets": twice[:1]})
    with pytest.raises(LabError, match="clips of the circles world have 4 frames or more.*found 1"):
        DatasetConfig(spec=ClipSpec(size=16, frames=1))


def test_a_row_of_another_shape_than_its_clip_is_told(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = Manifest.load(copy)
    manifest.bucket_of[0] = 1
    with pytest.raises(LabError, match="clip 000000000 .* cannot be read"):
        ClipStore(manifest).frames([0])


def test_other_readers_of_parquet_find_the_columns_that_are_documented(folder: Path) -> None:
    """What `select caption, count(*) from 'manifest.parquet' where frames = 9 group by caption` reads."""
    path = folder / "manifest.parquet"
    rows = pq.read_table(path, columns=["caption", "frames"], filters=[("frames", "=", 9)])
    assert sum(count["counts"].as_py() for count in rows["caption"].value_counts()) == 14
    plain = pq.ParquetFile(path).schema
    told = {plain.column(i).name: plain.column(i).physical_type for i in range(len(plain))}
    assert told["caption"] == told["key"] == "BYTE_ARRAY" and told["frames"] == told["frames_offset"] == "INT64"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset 1.0 leaves its tars to the collector
def test_webdataset_and_hugging_face_find_samples_of_equal_fields(folder: Path) -> None:
    """The card names all shards as a split; the builder of `datasets` asks of every sample what the first one has."""
    import webdataset

    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    (files,) = front["configs"][0]["data_files"]
    tars = sorted(map(str, folder.glob(files["path"])))
    assert files["split"] == "train" and len(tars) == BUCKETS.shards
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert {frozenset(key for key in sample if not key.startswith("__")) for sample in samples} == {
        frozenset({"npy.lz4", "json"})
    }
    manifest = Manifest.load(folder)
    assert [sample["__key__"] for sample in samples] == manifest.table["key"].to_pylist()
    assert [json.loads(sample["json"])["caption"] for sample in samples] == manifest.captions


def test_memory_does_not_grow_with_the_batches_that_were_read(store: ClipStore) -> None:
    tracemalloc.start()
    try:
        stream, held = batches(store, 8, 2, 0), []
        for k in range(1, 241):
            next(stream)
            if k in (80, 240):
                held.append(tracemalloc.get_traced_memory()[0])
        stream.close()
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 50_000, held


def test_several_shapes_come_by_url_and_in_any_codec_as_from_a_folder(
    folder: Path, store: ClipStore, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/buckets", recursive=True)
    assert verify_at("memory://buckets", tmp_path / "cache", lambda done, total: None) == []
    stores = [open_data("memory://buckets", tmp_path / "cache")]
    for codec in ("webp", "npy"):
        other = BUCKETS.model_copy(update={"codec": codec})
        stores.append(ClipStore(Manifest.load(rendered(tmp_path / codec, other))))
        assert verify(tmp_path / codec) == []
    for other in stores:
        for one, same in zip(batches(store, 8, 2, 3), islice(batches(other, 8, 2, 3), 9), strict=False):
            assert torch.equal(one.frames, same.frames) and one.captions == same.captions
