"""Clips at rest: what is written is what was drawn, whoever writes it and whatever kills the writer."""

import gc
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import HOST, atomic
from t2v_models.shards import manifest as shards_manifest
from t2v_models.shards.manifest import MANIFEST, SUMS, Manifest, check_folder, finish, is_complete
from t2v_models.shards.rows import rows_digest
from t2v_models.shards.tar import header
from t2v_models.shards.verify import verify
from t2v_models.shards.write import (
    FOREIGN_SECONDS,
    clear_stale,
    is_being_written,
    read_metadata,
    shard_name,
    sidecar_path,
    write_shard,
)
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import Motion, trace
from t2v_models.worlds.render import render
from tests.tiny import drawn_clip

CONFIG = DatasetConfig(clips=44, clips_per_shard=20, spec=ClipSpec(size=16, frames=5), seed=3)

WRITE = """
import sys
from pathlib import Path
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.shards.manifest import finish
from t2v_models.shards.write import write_shard
config = DatasetConfig.model_validate_json(sys.argv[2])
order = [int(i) for i in sys.argv[3].split(",")]
print("ready", flush=True)
for index in order:
    write_shard(Path(sys.argv[1]), config, index)
finish(Path(sys.argv[1]), config)
"""


def write(folder: Path, config: DatasetConfig = CONFIG) -> Manifest:
    for index in range(config.shards):
        write_shard(folder, config, index)
    return finish(folder, config)


def command(folder: Path, config: DatasetConfig, order: str) -> list[str]:
    return [sys.executable, "-c", WRITE, str(folder), config.model_dump_json(), order]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write(folder)
    return folder


@pytest.fixture
def dataset(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "dataset"))


def read_npy_lz4(content: bytes) -> np.ndarray:
    """As a stranger would: streaming LZ4, then numpy."""
    pixels: np.ndarray = np.load(io.BytesIO(pa.CompressedInputStream(pa.BufferReader(content), "lz4").read()))
    return pixels


def test_every_clip_in_the_tars_is_the_clip_that_was_drawn(written: Path) -> None:
    index = 0
    for shard in range(CONFIG.shards):
        with tarfile.open(written / shard_name(shard)) as tar:
            members = tar.getmembers()
            for frames, meta in zip(members[::2], members[1::2], strict=True):
                caption, motion = drawn_clip(CONFIG, index)
                assert (frames.name, meta.name) == (f"{index:09d}.npy.lz4", f"{index:09d}.json")
                pixels = read_npy_lz4(tar.extractfile(frames).read())  # type: ignore[union-attr]
                np.testing.assert_array_equal(pixels, render(motion, CONFIG.spec))
                truth = json.loads(tar.extractfile(meta).read())  # type: ignore[union-attr]
                assert truth["caption"] == caption
                assert truth["fps"] == CONFIG.spec.fps
                assert Motion.model_validate(truth["motion"]) == motion
                np.testing.assert_allclose(truth["trace"]["x"], trace(motion, CONFIG.spec).x, atol=6e-5)
                index += 1
    assert index == CONFIG.clips


def test_members_carry_nothing_of_this_machine_or_day(written: Path) -> None:
    with tarfile.open(written / shard_name(0)) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "t2v", 0o444)
            assert not member.pax_headers


def test_each_group_of_rows_has_its_own_captions_only(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those of all, a million rows of as many captions took ten seconds and 1.4 GB to be opened."""
    again = shutil.copytree(written, tmp_path / "again")
    (again / MANIFEST).unlink()
    monkeypatch.setattr(shards_manifest, "ROW_GROUP", 20)
    manifest = finish(again, CONFIG)
    assert manifest.captions == Manifest.load(written).captions
    with pq.ParquetFile(again / MANIFEST) as file:
        groups = [file.read_row_group(number, ["caption"])["caption"] for number in range(file.num_row_groups)]
    assert [len(group) for group in groups] == [20, 20, 4]
    assert all(len(group.chunk(0).dictionary) == len(set(group.to_pylist())) for group in groups)


def test_the_manifest_says_where_everything_is(written: Path) -> None:
    manifest = Manifest.load(written)
    assert manifest.config == CONFIG
    assert manifest.spec == CONFIG.spec
    assert manifest.captions == [drawn_clip(CONFIG, i)[0] for i in range(CONFIG.clips)]
    assert manifest.table.column_names == [
        "key", "caption", "truth",
        "shard", "index_in_shard", "frames_offset", "frames_size", "meta_offset", "meta_size",
        "frames_sha256", "meta_sha256",
    ]  # fmt: skip
    for i, row in enumerate(manifest.table.to_pylist()):
        content = (written / row["shard"]).read_bytes()
        stored = content[row["frames_offset"] : row["frames_offset"] + row["frames_size"]]
        meta = content[row["meta_offset"] : row["meta_offset"] + row["meta_size"]]
        pixels = read_npy_lz4(stored)
        np.testing.assert_array_equal(pixels, render(drawn_clip(CONFIG, i)[1], CONFIG.spec))
        assert row["frames_sha256"] == hashlib.sha256(stored).digest()
        assert json.loads(meta)["key"] == row["key"]
        motion = drawn_clip(CONFIG, i)[1]
        assert [Motion.model_validate(thing) for thing in json.loads(row["truth"])] == [motion]
    assert pq.ParquetFile(written / MANIFEST).num_row_groups == 1, "not one a shard, which would be read slowly"
    assert [(shard.clips, shard.captions) for shard in manifest.shards] == [(20, 18), (20, 18), (4, 4)]
    assert sum(shard.pixel_bytes for shard in manifest.shards) == sum(manifest.table["frames_size"].to_pylist())


def test_a_dataset_whose_truth_is_a_column_for_each_number_still_loads_and_is_finished(
    written: Path, tmp_path: Path
) -> None:
    """As earlier versions wrote them; shards of which have the same bytes."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    paths = [*sorted(tmp_path.glob("shard-*.parquet")), tmp_path / MANIFEST]
    for path in paths:
        table, metadata = pq.read_table(path), read_metadata(path)
        table = table.drop_columns("truth").add_column(2, "radius", pa.array(np.ones(len(table))))
        metadata |= {"rows_sha256": rows_digest(table)}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    assert Manifest.load(tmp_path).digest == Manifest.load(written).digest
    paths[-1].unlink()
    assert write_shard(tmp_path, CONFIG, 0), "a manifest has columns of one version"
    for index in range(1, CONFIG.shards):
        write_shard(tmp_path, CONFIG, index)
    assert finish(tmp_path, CONFIG).table == Manifest.load(written).table


def test_bytes_do_not_depend_on_process_order_or_hash_seed(written: Path, tmp_path: Path) -> None:
    """This process wrote shards 0, 1, 2 with the hash seed it has; another writes them in another order."""
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    subprocess.run(command(tmp_path, CONFIG, "2,0,1"), check=True, env=environment, capture_output=True)
    assert contents(tmp_path) == contents(written)


def test_plain_tar_lists_the_members(written: Path) -> None:
    listed = subprocess.run(["tar", "tf", written / shard_name(2)], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [f"{i:09d}{suffix}" for i in range(40, 44) for suffix in (".npy.lz4", ".json")]
    assert not listed.stderr


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset 1.0 leaves its tars to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_shards(written: Path) -> None:
    import webdataset

    shards = [str(written / shard_name(i)) for i in range(CONFIG.shards)]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()
    assert [s["__key__"] for s in samples] == [f"{i:09d}" for i in range(CONFIG.clips)]
    for i in (0, 43):
        caption, motion = drawn_clip(CONFIG, i)
        np.testing.assert_array_equal(read_npy_lz4(samples[i]["npy.lz4"]), render(motion, CONFIG.spec))
        assert json.loads(samples[i]["json"])["caption"] == caption


def test_a_second_write_renders_nothing(dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.glob("*.tar")}
    assert is_complete(dataset, CONFIG)
    assert not any(write_shard(dataset, CONFIG, index) for index in range(CONFIG.shards))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_what_is_lost_is_rendered_again(dataset: Path, written: Path) -> None:
    (dataset / shard_name(1)).unlink()
    assert not is_complete(dataset, CONFIG)
    assert [write_shard(dataset, CONFIG, index) for index in range(CONFIG.shards)] == [False, True, False]
    finish(dataset, CONFIG)
    assert contents(dataset) == contents(written)


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_that_the_next_run_cannot_finish(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"clips": 200})
    order = ",".join(map(str, range(config.shards)))
    whole = write(tmp_path / "whole", config)
    delays = random.Random(0)
    for attempt in range(3):
        folder = tmp_path / f"killed-{attempt}"
        with subprocess.Popen(command(folder, config, order), stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delays.uniform(0, 0.6))
            writer.kill()
        proven = [i for i in range(config.shards) if "shard_sha256" in read_metadata(sidecar_path(folder, i))]
        redone = [i for i in range(config.shards) if write_shard(folder, config, i)]
        assert set(redone).isdisjoint(proven)
        assert finish(folder, config).digest == whole.digest
        assert contents(folder) == contents(tmp_path / "whole")


def test_a_dead_writers_files_are_removed_and_a_living_ones_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    dead = tmp_path / f"{shard_name(0)}.{gone.pid}.tmp"
    living = tmp_path / f"{shard_name(0)}.{os.getppid()}.tmp"
    dead.touch()
    living.touch()
    write_shard(tmp_path, CONFIG, 0)
    assert not dead.exists()
    assert living.exists()


def test_a_file_that_another_machine_writes_is_kept_and_goes_an_hour_after_it_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    monkeypatch.setattr("t2v_models.files.HOST", "elsewhere")
    monkeypatch.setattr(os, "getpid", lambda: gone.pid)
    with atomic(tmp_path / shard_name(0)) as stream:
        monkeypatch.undo()
        clear_stale(tmp_path / "shard-*.tar")
        assert Path(stream.name).exists()
        assert is_being_written(Path(stream.name))
        stream.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [shard_name(0)]
    nowhere, here, there = (tmp_path / f"{shard_name(0)}.{gone.pid}@{host}.tmp" for host in ("", HOST, "elsewhere"))
    here.touch()
    there.touch()
    clear_stale(tmp_path / shard_name(0))
    assert not here.exists()
    nowhere.touch()  # by a machine that has no name
    os.utime(nowhere, (0, 0))
    clear_stale(tmp_path / shard_name(0))
    assert not nowhere.exists()
    os.utime(there, (0, time.time() - FOREIGN_SECONDS + 60))
    clear_stale(tmp_path / shard_name(0))
    assert there.exists()
    os.utime(there, (0, time.time() - FOREIGN_SECONDS - 60))
    clear_stale(tmp_path / shard_name(0))
    assert not there.exists()


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    done = subprocess.run(
        [sys.executable, "-c", limit + WRITE, str(tmp_path), CONFIG.model_dump_json(), "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"LabError: cannot write {tmp_path / shard_name(0)}: file too large" in done.stderr.replace("File", "file")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_whole_shards_and_a_sentence(mounted: Callable[..., Path], tmp_path: Path) -> None:
    folder = mounted("-t", "tmpfs", "-o", "size=100k", "tmpfs")
    with pytest.raises(LabError, match=r"cannot write .*shard-0000[12].tar: No space left on device; free some space"):
        write(folder)
    names = {path.name for path in folder.iterdir()}
    assert names
    assert not any(name.endswith(".tmp") for name in names)
    for index in range(CONFIG.shards):
        if shard_name(index) in names:
            write_shard(tmp_path / "roomy", CONFIG, index)
            assert (folder / shard_name(index)).read_bytes() == (tmp_path / "roomy" / shard_name(index)).read_bytes()


def test_a_read_only_folder_can_be_read_and_is_not_written(dataset: Path, mounted: Callable[..., Path]) -> None:
    folder = mounted("--bind", "-o", "ro", str(dataset))
    if os.access(folder, os.W_OK):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    assert verify(folder) == []
    assert not any(write_shard(folder, CONFIG, index) for index in range(CONFIG.shards))
    (dataset / shard_name(0)).unlink()
    with pytest.raises(LabError, match="cannot write .*shard-00000.tar: Read-only file system"):
        write_shard(folder, CONFIG, 0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"cannot write .*file/data/shard-00000.tar: "):
        write_shard(tmp_path / "file" / "data", CONFIG, 0)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def add_member(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))


def drop_last_clip(path: Path) -> None:
    with tarfile.open(path) as tar:
        kept = [(m, tar.extractfile(m).read()) for m in tar.getmembers()[:-2]]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in kept:
            tar.addfile(member, io.BytesIO(content))


def test_a_sound_dataset_has_no_damage(written: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert verify(written, lambda done, total: seen.append((done, total))) == []
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_flipped_byte_is_found(dataset: Path) -> None:
    path = dataset / shard_name(2)
    for place in np.linspace(0, path.stat().st_size - 1, 25).astype(int):
        flip(path, place)
        assert any(shard_name(2) in sentence for sentence in verify(dataset)), place
        flip(path, place)
    assert verify(dataset) == []


def test_a_flipped_byte_is_traced_to_its_clip(dataset: Path) -> None:
    row = Manifest.load(dataset).table.to_pylist()[23]
    flip(dataset / row["shard"], row["frames_offset"] + row["frames_size"] // 2)
    assert verify(dataset) == ["shard-00001.tar has changed pixels in clips 000000023"]
    flip(dataset / shard_name(2), row["meta_offset"] * 0)
    assert any("shard-00002.tar has" in s or "shard-00002.tar cannot" in s for s in verify(dataset))


def test_cut_missing_swapped_and_stray_files_are_named(dataset: Path) -> None:
    first, second, third = (dataset / shard_name(i) for i in range(3))
    first_bytes = first.read_bytes()
    first.write_bytes(first_bytes[:5000])
    damage = verify(dataset)
    assert damage[0] == f"shard-00000.tar has 5,000 bytes instead of {len(first_bytes):,}"
    assert any("shard-00000.tar has changed pixels in clips 00000000" in sentence for sentence in damage)
    assert any("shard-00000.tar has missing members" in sentence for sentence in damage)
    assert len(damage) <= 5
    first.unlink()
    assert verify(dataset) == ["shard-00000.tar is missing"]
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_bytes)
    assert verify(dataset) == [
        "shard-00000.tar holds the bytes of shard-00001.tar",
        "shard-00001.tar holds the bytes of shard-00000.tar",
    ]
    second.write_bytes(first.read_bytes())
    first.write_bytes(first_bytes)
    shutil.copy(third, dataset / "shard-00007.tar")
    (dataset / f"{MANIFEST}.none.tmp").touch()
    assert verify(dataset) == [
        "shard-00007.tar is no shard of this dataset",
        "manifest.parquet.none.tmp is left over from a writer that was killed",
    ]


def test_extra_and_missing_members_are_named(dataset: Path) -> None:
    add_member(dataset / shard_name(0))
    drop_last_clip(dataset / shard_name(1))
    damage = verify(dataset)
    assert "shard-00000.tar has extra members: notes.txt" in damage
    assert "shard-00001.tar has missing members: 000000039.json, 000000039.npy.lz4" in damage


def test_the_manifest_of_another_dataset_is_told(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", CONFIG.model_copy(update={"seed": 4}))
    shutil.copy(tmp_path / "other" / MANIFEST, dataset / MANIFEST)
    damage = verify(dataset)
    assert len(damage) == CONFIG.shards + 1
    assert all("not the shard that the manifest describes" in sentence for sentence in damage[:-1])
    assert damage[-1].startswith("SHA256SUMS and manifest.parquet do not belong together")


def test_no_flipped_byte_in_the_manifest_changes_what_is_read(dataset: Path) -> None:
    path, sound = dataset / MANIFEST, Manifest.load(dataset)
    for place in np.linspace(0, path.stat().st_size - 1, 40).astype(int):
        flip(path, place)
        with suppress(LabError):  # bytes without meaning to a reader, such as statistics, are read as before
            assert Manifest.load(dataset).table.equals(sound.table), place
        assert any(MANIFEST in sentence for sentence in verify(dataset)), place
        flip(path, place)


def test_another_dataset_in_the_folder_is_refused_with_the_keys_that_differ(dataset: Path) -> None:
    other = CONFIG.model_copy(update={"spec": ClipSpec(size=32, frames=5), "hold_out": ()})
    for refuse in (check_folder, is_complete, finish, lambda f, c: write_shard(f, c, 0)):
        with pytest.raises(LabError, match=r"spec.size is 16 there and 32 asked") as caught:
            refuse(dataset, other)
        assert "hold_out is ['up-right'] there and [] asked" in str(caught.value)
        assert "seed" not in str(caught.value)


def test_bad_folders_are_refused_with_what_to_do(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no folder .*nowhere"):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match=r"holds no manifest.parquet"):
        Manifest.load(tmp_path / "empty")
    write_shard(tmp_path / "half", CONFIG, 0)
    with pytest.raises(LabError, match="half-written: run `t2v render` again with the same options"):
        Manifest.load(tmp_path / "half")
    with pytest.raises(LabError, match=r"shard-00001.tar is not finished"):
        finish(tmp_path / "half", CONFIG)
    (dataset / shard_name(1)).unlink()
    with pytest.raises(LabError, match=r"shard-00001.tar is missing"):
        Manifest.load(dataset)
    (dataset / shard_name(0)).write_bytes(b"cut")
    with pytest.raises(LabError, match=r"shard-00000.tar has 3 bytes instead of"):
        Manifest.load(dataset)
    for content in (b"", b"not parquet", (dataset / "shard-00000.parquet").read_bytes()):
        (dataset / MANIFEST).write_bytes(content)
        with pytest.raises(LabError, match="is damaged or is no manifest"):
            Manifest.load(dataset)


def test_a_caption_that_means_something_held_out_is_never_rendered(tmp_path: Path) -> None:
    class Leaky(DatasetConfig):
        @property
        def prompts(self) -> tuple[str, ...]:
            return ("circle moving right-up",)

    with pytest.raises(LabError, match="'circle moving right-up' means 'up-right', which is held out"):
        write_shard(tmp_path, Leaky(clips=1), 0)
    assert list(tmp_path.iterdir()) == []


OPEN = """
import sys
from pathlib import Path
import t2v_models.shards.verify
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
store = ClipStore(Manifest.load(Path(sys.argv[1])))
store.frames([0]), store.captions, store.manifest.bucket_of, store.manifest.caption_codes
assert not {"torch", "pandas"} & set(sys.modules)
"""


def test_writing_opening_and_verifying_need_neither_torch_nor_pandas(written: Path) -> None:
    subprocess.run([sys.executable, "-c", OPEN, written], check=True)


@pytest.mark.parametrize(("name", "size"), [("000000000.npy.lz4", 0), ("a" * 100, 1), ("x.json", 8**11 - 1)])
def test_a_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, 0o444, "t2v", "t2v"
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_sha256sum_agrees(written: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=written, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(list(written.iterdir())) - 1


def test_damaged_sums_are_told(dataset: Path) -> None:
    flip(dataset / SUMS, 3)
    assert verify(dataset) == [
        "SHA256SUMS and shard-00000.tar do not belong together: one is damaged or of another dataset"
    ]
    (dataset / SUMS).unlink()
    assert verify(dataset) == ["SHA256SUMS is missing"]


@pytest.mark.parametrize("name", ["README.md", "shard-00001.parquet", SUMS, MANIFEST])
def test_every_flipped_byte_beside_the_shards_is_named(dataset: Path, name: str) -> None:
    path = dataset / name
    for place in np.linspace(0, path.stat().st_size - 1, 40).astype(int):
        flip(path, place)
        assert any(name in sentence for sentence in verify(dataset)), place
        flip(path, place)
    path.rename(dataset / "elsewhere")
    if name != MANIFEST:
        assert verify(dataset) == [f"{name} is missing"]


def test_hugging_face_tools_read_the_card(written: Path) -> None:
    card = pytest.importorskip("huggingface_hub").DatasetCard.load(written / "README.md")
    assert card.data.task_categories == ["text-to-video"]
    assert card.data.size_categories == ["n<1K"]
    assert {"webdataset", "video", "synthetic"} <= set(card.data.tags)
    (files,) = card.data.configs[0]["data_files"]
    assert files["split"] == "train"
    assert sorted(written.glob(files["path"])) == sorted(written.glob("*.tar"))
    assert Manifest.load(written).digest in card.text
