"""Programs of others read a dataset of several shapes, both of its splits: `datasets` by its card, DuckDB, pandas."""

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from PIL import Image

from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import MANIFEST, VALIDATION, Manifest
from tests.tiny import noise, put

SHAPES = tuple(ClipSpec(height=16, width=width, frames=frames) for width, frames in ((16, 4), (32, 6), (32, 1)))

LOAD = """
import sys
from datasets import load_dataset
for split in ("train", "validation"):
    for streaming in (False, True):
        for sample in load_dataset(sys.argv[1], split=split, streaming=streaming):
            told = sample["json"]
            told = told["caption"] if isinstance(told, dict) else told
            print(split, streaming, sample["__key__"], len(sample["npy.lz4"]), told, sep="|")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    for number in range(8):
        put(folder, f"films/{number}.npz", to_npz(noise(number, 4), 10), f"a cat {number}".encode())
        put(folder, f"films/wide-{number}.npz", to_npz(noise(number, 6, 16, 32), 10), b"a wide dog")
        Image.fromarray(noise(number, 1, 16, 32)[0]).save(put(folder, f"films/{number}p.png", b"", b"a picture"))
    ingest(folder / "films", folder / "data", IngestOptions(shapes=SHAPES, validation=0.3))
    return folder / "data"


@pytest.mark.slow
def test_hugging_face_loads_both_splits(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    alone = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "USE_TORCH": "0"}
    told = subprocess.run(
        [sys.executable, "-c", LOAD, folder], capture_output=True, text=True, check=True, env=os.environ | alone
    ).stdout.splitlines()
    for split, place in (("train", folder), ("validation", folder / VALIDATION)):
        table = Manifest.load(place).table
        columns = (table[name].to_pylist() for name in ("key", "frames_size", "caption"))
        rows = [f"{key}|{size}|{caption}" for key, size, caption in zip(*columns, strict=True)]
        assert {row.split("|")[2] for row in rows} >= {"a wide dog"}
        for streaming in (False, True):
            assert [line for line in told if line.startswith(f"{split}|{streaming}|")] == [
                f"{split}|{streaming}|{row}" for row in rows
            ]


def test_duckdb_asks_the_manifests_of_both_splits(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"select width, frames, count(*) from '{folder}/**/{MANIFEST}' where caption <> 'a picture' group by all"
    assert sorted(duckdb.sql(query).fetchall()) == [(16, 4, 8), (32, 6, 8)]


def test_pandas_reads_the_manifests_of_both_splits(folder: Path) -> None:
    table = pandas.concat(pandas.read_parquet(place / MANIFEST) for place in (folder, folder / VALIDATION))
    counts = table.groupby(["width", "frames"]).size().to_dict()
    assert counts == {(16, 4): 8, (32, 6): 8, (32, 1): 8}
    assert sorted(table["caption"].unique()) == [*(f"a cat {i}" for i in range(8)), "a picture", "a wide dog"]
