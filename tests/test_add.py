"""Clips that are added to a dataset of people's own, and its card."""

import json
import shutil
from collections.abc import Callable, Generator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from t2v_models.clips.media import to_webp
from t2v_models.config import LabError
from t2v_models.shards.ingest import Ingested, _split, ingest, options_of
from t2v_models.shards.ingest_report import NOTICES, REJECTS
from t2v_models.shards.ingested import IngestConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.sources import Source
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.shards.windows import Job, Windows
from t2v_models.shards.write import clip_key, read_metadata
from tests.tiny import OPTIONS, SPEC, clips, noise, put, rejects


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_films_are_added_in_new_shards_and_no_byte_of_the_old_ones_changes(tmp_path: Path) -> None:
    """Twice; what is there is not read again, clips that are there are not stored twice, and all can be trained on."""
    source, out = tmp_path / "source", tmp_path / "out"
    options = OPTIONS.model_copy(update={"clips_per_shard": 2, "validation": 0.2})
    for i in range(5):
        put(source, f"{i}.webp", to_webp(noise(i), 10), f"film {i}".encode())
    assert ingest(source, out, options) == Ingested(5, 4, 1, 0)
    first = {path: path.read_bytes() for path in out.rglob("shard-*")}
    old = Manifest.load(out)
    for i in range(5, 10):
        put(source, f"{i}.webp", to_webp(noise(i, 12), 10), f"film {i}".encode())
    put(source, "twin.webp", to_webp(noise(0), 10))
    assert ingest(source, out, options, add=True) == Ingested(6, 12, 3, 6)
    assert all(path.read_bytes() == content for path, content in first.items())
    second = files_in(out)
    assert [reason for path, reason in rejects(out).items() if path == "0.webp"] == [
        "a file of this name is in the dataset already: if it is another film, rename it"
    ]
    assert rejects(out)["twin.webp"] == "the same frames are in another clip: in 0.webp"
    assert ingest(source, out, options, add=True) == Ingested(1, 12, 3, 11)
    assert {path: content for path, content in files_in(out).items() if path != Path(REJECTS)} == {
        path: content for path, content in second.items() if path != Path(REJECTS)
    }
    put(source, "last.webp", to_webp(noise(20, 18), 10))
    assert ingest(source, out, options, add=True).train == 15
    with pytest.raises(
        LabError, match=r"out holds another dataset \(files were added to it\): .* give --add to add files"
    ):
        ingest(source, out, options)
    for folder in (out, out / "validation"):
        assert verify(folder) == []
        manifest = Manifest.load(folder)
        rows = manifest.table.to_pylist()
        assert [row["key"] for row in rows] == [clip_key(i) for i in range(len(rows))]
        store = ClipStore(manifest)
        for i, row in enumerate(rows):
            number = {"last": 20}.get(Path(row["source"]).stem) or int(Path(row["source"]).stem)
            expected = noise(number, 18)[row["source_frame"] : row["source_frame"] + 6]
            np.testing.assert_array_equal(store.frames([i])[0], expected)
    manifest = Manifest.load(out)
    assert isinstance(manifest.config, IngestConfig)
    assert [state.clips for state in manifest.config.before] == [4, 12]
    assert manifest.config.of_shard(0) == old.config
    assert [shard.clips for shard in manifest.shards] == [2, 2, 2, 2, 2, 2, 2, 1]
    assert (
        manifest.config.states[0].digest
        == old.config.digest
        == read_metadata(out / "shard-00000.parquet")["config_digest"]
    )
    from t2v_models.shards.stream import blocked_order  # here: it brings torch

    rows = blocked_order(manifest.captions, manifest.starts[:-1], 3, 1, 0, 0).tolist()
    assert rows != list(range(15))
    assert sorted(rows) == list(range(15))


def test_what_was_told_of_a_dataset_stays_when_clips_are_added(tmp_path: Path) -> None:
    """Until the file is read again: then what is told now stands for it."""
    source, out = tmp_path / "source", tmp_path / "out"
    put(source, "a.webp", to_webp(noise(0), 10))
    put(source, "short.webp", to_webp(noise(1)[:3], 10))
    put(source, "mended.webp", b"")
    put(source, "long.webp", to_webp(noise(2), 10), b"word " * 1000)
    ingest(source, out, OPTIONS)
    first, notices = rejects(out), pq.read_table(out / NOTICES).to_pylist()
    assert set(first) == {"short.webp", "mended.webp"}
    other = tmp_path / "other"
    put(other, "mended.webp", to_webp(noise(3), 10))
    put(other, "bad.webp", b"")
    ingest(other, out, OPTIONS, add=True)
    assert rejects(out) == {"short.webp": first["short.webp"], "bad.webp": first["mended.webp"]}
    assert [row for row in pq.read_table(out / NOTICES).to_pylist() if row["path"] != "mended.webp"] == notices


def test_a_validation_split_that_comes_alone_is_on_the_card(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    options = OPTIONS.model_copy(update={"validation": 0.5})
    put(source, "a.webp", to_webp(noise(0), 10))
    ingest(source, out, options)
    before = files_in(out)
    assert "validation/" not in (out / "README.md").read_text()
    for i in range(1, 9):  # those to train on are all known: only the others are new
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    new = _split([Source(f"{i}.webp", source / f"{i}.webp", ()) for i in range(1, 9)], 0.5, {})
    for path, split in new.items():
        if split == "train":
            put(source, path, to_webp(noise(0), 10))
    ingest(source, out, options, add=True)
    assert "validation/shard-*.tar" in (out / "README.md").read_text()
    changed = {path for path, content in before.items() if (out / path).read_bytes() != content}
    assert changed == {Path("README.md"), Path("SHA256SUMS"), Path(REJECTS), Path(NOTICES)}
    assert verify(out) == verify(out / "validation") == []


def grouped(source: Path, groups: dict[str, str]) -> Path:
    """Clips by name, of the groups that a table says."""
    for name in groups:
        put(source, f"{name}.webp", to_webp(noise(int(name)), 10), None)
    rows = [f"{name}.webp,a thing,{group}" for name, group in groups.items()]
    (source / "list.csv").write_text("\n".join(["path,caption,group", *rows]))
    return source / "list.csv"


def sides_of(out: Path) -> dict[str, set[str]]:
    """The names of the files in both parts."""
    folders = {"train": out, "validation": out / "validation"}
    return {
        side: {path.removesuffix(".webp") for path in Manifest.load(folder).table["source"].to_pylist()}
        for side, folder in folders.items()
    }


def test_files_of_one_group_stay_on_one_side_also_those_that_come_later(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    options = OPTIONS.model_copy(update={"validation": 0.4})
    groups = {str(i): "abcd"[i % 4] for i in range(12)} | {"12": "", "13": ""}
    ingest(grouped(source, groups), out, options)
    before = sides_of(out)
    assert 3 <= len(before["validation"]) <= 6  # 0.4 of 14 is 6
    kept = {groups[name] for name in before["validation"]} - {""}
    assert kept and kept.isdisjoint(groups[name] for name in before["train"])
    later = {str(i): "abcd"[i % 4] for i in range(20, 24)}
    ingest(grouped(source, groups | later), out, options, add=True)
    after = sides_of(out)
    assert {name for name in later if later[name] in kept} == after["validation"] - before["validation"]


def test_a_file_of_two_groups_is_told(tmp_path: Path) -> None:
    table = grouped(tmp_path / "source", {"1": "a", "2": "7"})
    table.write_text(table.read_text() + "\n1.webp,another,b\n")
    ingest(table, tmp_path / "out", OPTIONS)
    assert rejects(tmp_path / "out") == {"1.webp": "its group is 'b', and another row says 'a', in list.csv line 4"}


def test_what_cannot_be_added_to_is_said(tmp_path: Path, data: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    put(source, "a.webp", to_webp(noise(0), 10))
    with pytest.raises(LabError, match="out holds no dataset to add to: leave --add out"):
        ingest(source, out, OPTIONS, add=True)
    with pytest.raises(LabError, match="holds rendered clips"):
        ingest(source, data, OPTIONS, add=True)
    ingest(source, out, OPTIONS)
    assert options_of(out) == OPTIONS
    other = OPTIONS.model_copy(update={"fit": "letterbox"})
    with pytest.raises(LabError, match="out was made with fit 'crop' and not 'letterbox': leave that out"):
        ingest(source, out, other, add=True)
    several = OPTIONS.model_copy(update={"shapes": (SPEC, SPEC.model_copy(update={"frames": 9}))})
    with pytest.raises(LabError, match="out was made with .*shapes none and not 16x16x6, 16x16x9"):
        ingest(source, out, several, add=True)
    with pytest.raises(LabError, match="give --add"):
        ingest(put(source, "b.webp", to_webp(noise(1), 10)).parent, out, OPTIONS)


def test_an_addition_that_was_killed_is_done_again_and_loses_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    options = OPTIONS.model_copy(update={"clips_per_shard": 2})
    for i in range(3):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    ingest(source, out, options)
    before = files_in(out)
    for i in range(3, 8):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    whole = tmp_path / "whole"
    shutil.copytree(out, whole)
    ingest(source, whole, options, add=True)

    def stop(work: Callable[[Job], Windows], jobs: list[Job], on_share: Callable[[float], None]) -> Generator[Windows]:
        yield from islice(map(work, jobs), 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(source, out, options, mapper=stop, add=True)
    left = files_in(out)
    assert len(left) > len(before), "nothing was written yet"
    assert all(left[path] == content for path, content in before.items() if path != Path(REJECTS))
    assert len(Manifest.load(out).captions) == 3
    ingest(source, out, options, add=True)
    assert files_in(out) == files_in(whole)


def test_an_addition_that_was_killed_between_its_splits_keeps_its_share(tmp_path: Path) -> None:
    """What is in validation by then counts when it is done again; so it does not where other files are added."""
    source, out, whole = tmp_path / "source", tmp_path / "out", tmp_path / "whole"
    options = OPTIONS.model_copy(update={"validation": 0.3})
    for i in range(4):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    ingest(source, out, options)
    for i in range(4, 12):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    shutil.copytree(out, whole)
    ingest(source, whole, options, add=True)
    shutil.rmtree(out / "validation")
    shutil.copytree(whole / "validation", out / "validation")
    other = tmp_path / "other"
    shutil.copytree(out, other)
    ingest(source, out, options, add=True)
    assert sides_of(out) == sides_of(whole)
    assert verify(out) == verify(out / "validation") == []
    put(source, "12.webp", to_webp(noise(12), 10))
    ingest(source, other, options, add=True)
    assert len(sides_of(other)["validation"]) > len(sides_of(whole)["validation"])


def test_a_dataset_of_an_earlier_version_is_read_and_nothing_is_added_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new in a configuration is left out of it where it is not used: so it was before, and so are digests."""
    source, out = tmp_path / "source", tmp_path / "out"
    put(source, "a.webp", to_webp(noise(0), 10))
    monkeypatch.setattr("t2v_models.shards.ingested.INGEST_VERSION", "2")
    ingest(source, out, OPTIONS)
    monkeypatch.undo()
    stored = json.loads(read_metadata(out / "manifest.parquet")["config"])
    first = {"spec", "fit", "stride", "validation", "clips_per_shard", "codec", "world"}
    assert set(stored) == first | {"split", "source_sha256", "clips", "prompts"}
    assert verify(out) == []
    np.testing.assert_array_equal(clips(out)[0], noise(0))
    with pytest.raises(LabError, match=r"another version of the ingest made .*out, other than this: ingest all files"):
        ingest(source, out, OPTIONS, add=True)


def test_the_card_names_the_shards_of_both_splits(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / "source", f"{i}.webp", to_webp(noise(i), 10))
    for share in (0.25, 0):
        out = tmp_path / f"out-{share}"
        ingest(tmp_path / "source", out, OPTIONS.model_copy(update={"validation": share}))
        _, front, _ = (out / "README.md").read_text().split("---\n", 2)
        files = yaml.safe_load(front)["configs"][0]["data_files"]
        found = {entry["split"]: len(list(out.glob(entry["path"]))) for entry in files}
        assert found == ({"train": 1, "validation": 1} if share else {"train": 1})
