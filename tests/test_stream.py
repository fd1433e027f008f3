"""Clips in motion: every clip comes, in runs of one caption, in an order that only (seed, position) decides."""

import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.batch import Batch
from t2v_models.clips.media import to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.distributed.collectives import Share
from t2v_models.fresh import new_run
from t2v_models.shards.export import export
from t2v_models.shards.ingest import ingest
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches, blocked_order, order
from t2v_models.shards.write import write_shard
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.render import render
from tests.runs import SMALL
from tests.tiny import OPTIONS, drawn_clip, noise, put

CONFIG = DatasetConfig(clips=47, clips_per_shard=10, spec=ClipSpec(size=16, frames=4))

captions_strategy = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    for index in range(CONFIG.shards):
        write_shard(folder, CONFIG, index)
    finish(folder, CONFIG)
    return folder


@pytest.fixture
def store(folder: Path) -> ClipStore:
    return ClipStore(Manifest.load(folder))


def equal(left: Batch, right: Batch) -> bool:
    return left.captions == right.captions and torch.equal(left.frames, right.frames)


@settings(deadline=None)
@given(captions_strategy, st.integers(0, 5), st.integers(0, 5))
def test_without_groups_an_epoch_is_a_permutation(captions: list[str], seed: int, epoch: int) -> None:
    rows = order(captions, 1, seed, epoch)
    assert rows.dtype == np.int64
    assert sorted(rows) == list(range(len(captions)))


@settings(deadline=None)
@given(captions_strategy, st.integers(1, 6), st.integers(0, 5))
def test_groups_are_whole_and_every_clip_comes(captions: list[str], group: int, seed: int) -> None:
    rows = order(captions, group, seed, 0)
    runs = rows.reshape(-1, group)
    assert all(len({captions[row] for row in run}) == 1 for run in runs)
    seen, count = Counter(rows.tolist()), Counter(captions)
    assert set(seen) == set(range(len(captions)))
    for caption, clips in count.items():
        repeats = sum(seen[row] - 1 for row in range(len(captions)) if captions[row] == caption)
        assert repeats == -clips % group
        assert all(seen[row] <= 1 + -(-group // clips) for row in range(len(captions)) if captions[row] == caption)


@settings(deadline=None)
@given(captions_strategy, st.integers(1, 4), st.integers(0, 5))
def test_each_round_has_one_run_of_every_caption_that_has_one(captions: list[str], group: int, seed: int) -> None:
    runs = [captions[run[0]] for run in order(captions, group, seed, 1).reshape(-1, group)]
    left = {caption: -(-n // group) for caption, n in Counter(captions).items()}
    while runs:
        here = sorted(caption for caption, n in left.items() if n)
        assert sorted(runs[: len(here)]) == here
        runs = runs[len(here) :]
        left = {caption: max(n - 1, 0) for caption, n in left.items()}


def test_the_order_is_pure_and_changes_with_seed_and_epoch() -> None:
    captions = [f"c{i % 7}" for i in range(500)]
    first = order(captions, 4, 0, 0)
    np.testing.assert_array_equal(first, order(captions, 4, 0, 0))
    assert not np.array_equal(first, order(captions, 4, 0, 1))
    assert not np.array_equal(first, order(captions, 4, 1, 0))
    rounds = first.reshape(-1, 7, 4)[:, :, 0] % 7
    assert len({tuple(r) for r in rounds.tolist()}) > 10


def test_frames_are_those_that_were_drawn_in_any_order(store: ClipStore) -> None:
    rows = [46, 0, 9, 10, 10, 31]
    expected = np.stack([render(drawn_clip(CONFIG, row)[1], CONFIG.spec) for row in rows])
    np.testing.assert_array_equal(store.frames(rows), expected)
    assert len(store) == CONFIG.clips
    assert store.frames([]).shape == (0, 4, 16, 16, 3)


def test_threads_may_share_a_store(store: ClipStore) -> None:
    rows = np.arange(len(store))
    expected = store.frames(rows)
    fresh = ClipStore(store.manifest)
    with ThreadPoolExecutor(4) as pool:
        for frames in pool.map(lambda seed: fresh.frames(np.random.default_rng(seed).permutation(rows)), range(8)):
            assert frames.sum() == expected.sum()


def test_a_batch_is_the_video_and_the_captions_of_its_positions(store: ClipStore) -> None:
    rows = np.concatenate([order(store.captions, 2, 5, epoch) for epoch in range(4)])
    for k, batch in enumerate(islice(batches(store, 12, 2, 5), 10)):
        here = rows[12 * k : 12 * (k + 1)]
        assert batch.frames.dtype == torch.uint8
        np.testing.assert_array_equal(batch.frames, store.frames(here))
        assert batch.captions == tuple(store.captions[row] for row in here)
        assert batch.captions[::2] == batch.captions[1::2]


@pytest.mark.parametrize("batch_size", [4, 24, 200])
def test_a_stream_resumed_anywhere_goes_on_as_if_unbroken(store: ClipStore, batch_size: int) -> None:
    unbroken = list(islice(batches(store, batch_size, 4, 1), 12))
    for start in (0, 1, 7, 11):
        resumed = islice(batches(store, batch_size, 4, 1, start), 12 - start)
        assert all(equal(a, b) for a, b in zip(unbroken[start:], resumed, strict=True))


def test_closing_the_iterator_ends_its_thread(store: ClipStore) -> None:
    stream = batches(store, 8, 1, 0)
    next(stream)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    stream.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_a_batch_that_is_not_whole_runs_is_refused_at_once(store: ClipStore) -> None:
    with pytest.raises(LabError, match="batch_size 10 is not a multiple of group 4"):
        batches(store, 10, 4, 0)


def test_captions_with_too_few_clips_for_a_run_are_told(store: ClipStore, caplog: pytest.LogCaptureFixture) -> None:
    captions = Counter(store.captions)
    most = max(captions.values())
    batches(store, most + 1, most + 1, 0, workers=0)
    assert f"{len(captions)} of {len(captions)} captions have fewer than {most + 1} clips" in caplog.text
    caplog.clear()
    batches(store, 4, 1, 0, workers=0)
    assert not caplog.text


def test_a_damaged_clip_reaches_the_consumer_by_name(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = Manifest.load(copy)
    row = manifest.table.to_pylist()[13]
    content = bytearray((copy / row["shard"]).read_bytes())
    content[row["frames_offset"] : row["frames_offset"] + 8] = bytes(8)
    (copy / row["shard"]).write_bytes(content)
    with pytest.raises(LabError, match=r"clip 000000013 of .*shard-00001.tar cannot be read: run `t2v verify"):
        list(islice(batches(ClipStore(manifest), 47, 1, 0), 1))


def keys_of(batch: Batch) -> list[int]:
    """What tells two clips apart, for sequences of clips."""
    return [hash((caption, clip.numpy().tobytes())) for caption, clip in zip(batch.captions, batch.frames, strict=True)]


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_any_ranks_and_workers_read_the_same_sequence_from_any_position(
    store: ClipStore, world: int, block: int | None
) -> None:
    """At 10 random positions, with 0, 1, 2 and 4 workers."""
    one = [keys_of(batch) for batch in islice(batches(store, 16, 2, 3, block=block), 24)]
    for start in np.random.default_rng(world).integers(0, 20, 10):
        for workers in (0, 1, 2, 4):
            ranks = [batches(store, 16, 2, 3, int(start), Share(r, world), workers, block) for r in range(world)]
            for k in range(start, start + 4):
                assert [key for rank in ranks for key in keys_of(next(rank))] == one[k]
            for rank in ranks:
                rank.close()


def test_blocks_hold_every_clip_once_and_few_shards_at_a_time(store: ClipStore) -> None:
    for epoch in range(3):
        rows = blocked_order(store.captions, store.manifest.starts[:-1], 2, 1, 0, epoch)
        assert sorted(rows) == list(range(47))
        shards = (rows // 10).tolist()
        changes = sum(a // 2 != b // 2 for a, b in pairwise(shards))
        assert changes == 2  # three blocks, each gone through once
    one, other = (blocked_order(store.captions, store.manifest.starts[:-1], 2, 1, 0, epoch) for epoch in (0, 1))
    assert not np.array_equal(one, other)


def test_clips_on_a_device_make_the_same_batches(store: ClipStore) -> None:
    device = DeviceClips(store, torch.device("cpu"))
    for a, b in islice(zip(batches(store, 8, 2, 0), batches(device, 8, 2, 0), strict=False), 9):
        assert equal(a, b)


def test_a_batch_that_ranks_cannot_share_is_refused(store: ClipStore) -> None:
    with pytest.raises(LabError, match="12 clips is 3 runs of 4, too few for 4 parts .ranks times"):
        batches(store, 12, 4, 0, share=Share(0, 4))


def test_of_several_captions_one_is_drawn_for_every_run(tmp_path: Path) -> None:
    """Also the same words for both clips of a run, whatever ranks share the batch and wherever it begins."""
    texts = ("a cat\n\n  one pet \na tom", "a dog", "a dog")
    for i, text in enumerate((*texts, *texts)):
        put(tmp_path / "source", f"{i}.webp", to_webp(noise(i), 10), text.encode())
    ingest(tmp_path / "source", tmp_path / "out", OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.captions == ["a cat\none pet\na tom", "a dog", "a dog"] * 2
    assert set(manifest.config.prompts) == {"a cat", "a dog"}
    assert new_run(manifest, SMALL["gan"], seed=0).model.text_encoder.vocabulary == (
        "a",
        "cat",
        "dog",
        "one",
        "pet",
        "tom",
    )
    store = ClipStore(manifest)
    export(store, tmp_path / "files", "webp")
    ingest(tmp_path / "files", tmp_path / "back", OPTIONS)
    assert Manifest.load(tmp_path / "back").captions == manifest.captions
    found = list(islice(batches(store, 6, 2, 3), 100))
    assert all(batch.captions[i] == batch.captions[i + 1] for batch in found for i in (0, 2, 4))
    drawn = Counter(caption for batch in found for caption in batch.captions)
    assert set(drawn) == {"a cat", "one pet", "a tom", "a dog"}
    assert drawn["a dog"] == 400
    assert all(40 <= drawn[line] <= 95 for line in ("a cat", "one pet", "a tom")), "each a third of 200"
    assert equal(next(batches(store, 6, 2, 3, start=7)), found[7])
    for workers in (0, 2):
        assert all(map(equal, found[:9], batches(store, 6, 2, 3, workers=workers)))
    halves = [next(batches(store, 6, 2, 3, start=7, share=Share(rank, 2))) for rank in (0, 1)]
    assert halves[0].captions + halves[1].captions == found[7].captions
    assert any(x.captions != y.captions for x, y in zip(found, islice(batches(store, 6, 2, 4), 100), strict=False))
