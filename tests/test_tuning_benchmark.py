"""The script that judges tuned clips and moved pictures, in small; its clips are judged like those of other models."""

import subprocess
import sys
from pathlib import Path

import pytest

from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.dataset import DatasetConfig
from tests.runs import train
from tests.tiny import rendered

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "tuning.py"


@pytest.mark.slow
def test_edits_and_moved_pictures_have_tables_and_leave_archives(tmp_path: Path) -> None:
    config = DatasetConfig(world="shapes", clips=60, clips_per_shard=60, spec=ClipSpec(size=16, frames=5))
    train(rendered(tmp_path / "data", config), tmp_path / "images", 1, "image_model")
    options = "--clips", "1", "--edits", "4", "--steps", "1", "--out", tmp_path
    done = subprocess.run([sys.executable, BENCHMARK, tmp_path / "images", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [row[0].removeprefix("| ") for row in rows]
    edited = ["tuned", "not tuned", "noise over the clip", "copy of the clip"]
    assert names == ["edits", *edited, "moved by a vector", "moved", "not moved"]
    assert rows[4][4] == "100 % [51, 100], n 4", "a copy is on the path"
    for name, count in (*((name, 4) for name in edited), ("moved", 16), ("not moved", 16)):
        frames, prompts, seeds = load_npz(tmp_path / f"{name.replace(' ', '-')}.npz")
        assert frames.shape == (count, 5, 16, 16, 3) and len(prompts) == count and seeds == list(range(count))
