"""Tars of other people that are learnt from where they lie, and what does not fit."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from t2v_models.clips.media import to_webp
from t2v_models.config import LabError
from t2v_models.shards.opened import open_data
from t2v_models.shards.stream import DeviceClips, batches
from tasks.subjects import dataset_like, subject
from tests.commands import t2v
from tests.runs import train_on
from tests.tiny import noise, pack


def npy(clip: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, clip)
    return content.getvalue()


def theirs(folder: Path, suffix: str = ".npy") -> str:
    """Three tars of four clips each, as `webdataset.TarWriter` lays them."""
    for tar in range(3):
        members: dict[str, bytes] = {}
        for i in range(4):
            clip, key = noise(4 * tar + i), f"in/{4 * tar + i:06d}"
            members[key + suffix] = npy(clip) if suffix == ".npy" else to_webp(clip, 10)
            told = {".txt": f"clip {i}".encode()} if i % 2 else {".json": json.dumps({"text": f"clip {i}"}).encode()}
            members |= {key + kind: text for kind, text in told.items()}
        folder.mkdir(exist_ok=True)
        pack(folder / f"{tar:03d}.tar", members)
    return f"{folder}/{{000..002}}.tar"


@pytest.mark.parametrize("suffix", [".npy", ".webp"])
def test_tars_that_fit_are_a_dataset_where_they_lie(suffix: str, tmp_path: Path) -> None:
    name = theirs(tmp_path / "tars", suffix)
    store = open_data(name, tmp_path / "cache")
    manifest = store.manifest
    assert (manifest.spec.name, manifest.spec.fps, manifest.config.shards) == ("16x16x6", 10, 3)
    assert store.captions == tuple(f"clip {i % 4}" for i in range(12))
    np.testing.assert_array_equal(store.frames(range(12)), [noise(i) for i in range(12)])
    assert manifest.table["source"][5].as_py() == f"001.tar/in/000005{suffix}"
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")}
    for same in (name, str(tmp_path / "tars"), f"file://{name}"):
        assert open_data(same, tmp_path / "cache").manifest.digest == manifest.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")} == there, "read once"
    one, other = (next(batches(s, 6, 2, 0)) for s in (store, DeviceClips(store, torch.device("cpu"))))
    assert torch.equal(one.frames, other.frames) and one.captions == other.captions
    pack(tmp_path / "tars" / "002.tar", {"a" + suffix: npy(noise(3)) if suffix == ".npy" else to_webp(noise(3), 10),
                                         "a.txt": b"another"})  # fmt: skip
    assert open_data(name, tmp_path / "cache").captions[8:] == ("another",), "a tar that changed is read anew"


def test_a_model_learns_from_them(tmp_path: Path) -> None:
    store = open_data(theirs(tmp_path / "tars"), tmp_path / "cache")
    assert train_on(store, tmp_path / "run", 2).step == 2
    assert train_on(store, tmp_path / "run", 3).step == 3
    clip = tmp_path / "clip.mp4"
    t2v("generate", tmp_path / "run", store.manifest.config.prompts[0], "--count", 1, "--out", clip)
    assert clip.is_file()
    with pytest.raises(LabError, match="learnt from tars where they lie, .* so nothing judges it: 't2v ingest'"):
        subject(tmp_path / "run")
    with pytest.raises(LabError, match="tars holds tars of others and no manifest.parquet: .*`t2v ingest`"):
        dataset_like(tmp_path / "tars")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"a.mp4": b"x", "a.txt": b"a"}, r"sample a has \.mp4, where .npy or .webp is learnt from.*'t2v ingest' it"),
        ({"a.txt": b"a"}, "its sample a has no clip"),
        ({"a.npy": npy(noise(0)), "a.webp": to_webp(noise(0), 10), "a.txt": b"a"}, r"sample a has \.npy and \.webp"),
        ({"a.npy": npy(noise(0))}, r"its sample a cannot be learnt from \(no caption\)"),
        ({"a.npy": npy(noise(0)), "a.json": b'{"caption": "none"}'}, "its caption is 'none', which stands for none"),
        ({"a.npy": npy(noise(0)[0]), "a.txt": b"a"}, r"sample a does not fit \(an array of uint8 \(16, 16, 3\)"),
        ({"a.npy": npy(noise(0) / 2), "a.txt": b"a"}, "an array of float64"),
        ({"a.npy": b"no array", "a.txt": b"a"}, "sample a does not fit"),
        ({"a.npy": npy(noise(0)), "a.txt": b"a", "b.npy": npy(noise(0, 5)), "b.txt": b"b"},
         r"sample b does not fit, where those before it are 16x16x6 \(no clip of \(6, 16, 16, 3\): 3,"),
        ({"a.npy": npy(noise(0)), "a.txt": b"a", "b.webp": to_webp(noise(0), 10), "b.txt": b"b"},
         "sample b does not fit.* stored as webp and those before it as npy"),
        ({"a.npy": npy(noise(0)), "./a.npy": b"x", "a.txt": b"a"}, "holds ./a.npy twice"),
        ({"a.npy": npy(noise(0)), "a.b.npy": npy(noise(0)), "a.txt": b"a"}, r"sample a has \.npy and \.b\.npy"),
        ({"a.b.npy": npy(noise(0)), "a.txt": b"a"}, r"sample a has \.b\.npy"),
        ({}, "holds no sample"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    members: dict[str, bytes], sentence: str, tmp_path: Path
) -> None:
    pack(tmp_path / "a.tar", members)
    with pytest.raises(LabError, match=sentence):
        open_data(str(tmp_path / "a.tar"), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.parquet*"))


@pytest.mark.parametrize("rest", [0, 32])
def test_a_tar_that_breaks_off_between_two_members_is_not_learnt_from(rest: int, tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    pack(tar, {"a.npy": npy(noise(0)), "a.txt": b"a"})
    whole = tar.stat().st_size
    pack(tar, {"a.npy": npy(noise(0)), "a.txt": b"a", "b.npy": npy(noise(1)), "b.txt": b"b"})
    end = tar.read_bytes().index(b"b.npy")
    assert end < whole
    tar.write_bytes(tar.read_bytes()[: end + rest])
    with pytest.raises(LabError, match=r"no tar that can be learnt from .*the mark of its end is missing.*fetch it"):
        open_data(str(tar), tmp_path / "cache")


def test_tars_elsewhere_packed_or_in_two_folders_are_one_sentence(tmp_path: Path) -> None:
    name = theirs(tmp_path / "tars")
    theirs(tmp_path / "other")
    pack(tmp_path / "a.tar.gz", {"a.npy": npy(noise(0)), "a.txt": b"a"}, "w:gz")
    for data, sentence in (
        ("https://host/{000..002}.tar", "lies elsewhere, .*'t2v ingest' them from there"),
        (name.replace("/tars/", "/{tars,other}/"), "lie in two folders"),
        (str(tmp_path / "a.tar.gz"), "is no tar that can be learnt from as it lies"),
        (str(tmp_path / "none.tar"), "there is no folder .*none.tar"),
        (name.replace("002", "003"), "there is no tar .*003.tar"),
    ):
        with pytest.raises(LabError, match=sentence):
            open_data(data, tmp_path / "cache")
