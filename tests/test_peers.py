"""Ours, packages of others and pipelines in one table: each row by one reader, and made once."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.subjects import asked_of, subject
from tests.grammar import judge
from tests.tiny import rendered

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "peers.py"
CONFIG = DatasetConfig(clips=40, clips_per_shard=40, spec=ClipSpec(size=16, frames=10))


def table(data: Path, out: Path, *options: str) -> tuple[list[dict[str, object]], list[list[str]]]:
    """The rows as JSON, and the lines of the table."""
    own = "--tiny", "--seconds", "1", "--clips", "20", "--out", str(out)
    done = subprocess.run([sys.executable, BENCHMARK, data, *own, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [json.loads(line) for line in lines if line.startswith("{")], cells[1:]


@pytest.mark.slow
def test_ours_stand_beside_baselines_pipelines_and_archives_and_no_row_is_made_twice(tmp_path: Path) -> None:
    data, out = rendered(tmp_path / "data", CONFIG), tmp_path / "out"
    beside = "oracle", "unconditional", "random:modelscope", str(out / "ar_tokens.npz")
    rows, cells = table(data, out, "--learn", "ar_tokens", "--beside", *beside)
    assert [row["figure"] for row in rows] == ["ar_tokens", *beside] == [line[0] for line in cells]
    learnt, real, chance, pipeline, archive = rows
    assert real["obeyed"] == real["valid"] == real["n"] == 20 > 2 * int(str(chance["obeyed"]))
    assert pipeline["obeyed"] == 0 and float(str(pipeline["cpu_seconds_per_clip"])) > 0
    assert [archive[name] for name in ("obeyed", "valid", "n")] == [learnt[name] for name in ("obeyed", "valid", "n")]
    frames, prompts, seeds = load_npz(out / "ar_tokens.npz")
    assert frames.shape == (20, 10, 16, 16, 3) and {*prompts} <= {*CONFIG.asked("s0")} and seeds == list(range(20))
    before = {file: file.stat().st_mtime_ns for file in out.glob("*.json")}
    _, same = table(data, out, "--learn", "ar_tokens", "--beside", *beside)
    assert same == cells and before == {file: file.stat().st_mtime_ns for file in out.glob("*.json")}


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("phenaki_pytorch") and find_spec("video_diffusion_pytorch")), reason="no peers")
def test_peers_learn_from_our_shards_and_leave_clips_that_are_judged(tmp_path: Path) -> None:
    peers = ["video-diffusion-pytorch", "phenaki-pytorch"]
    rows, _ = table(rendered(tmp_path / "data", CONFIG), tmp_path, "--learn", *peers)
    assert [row["figure"] for row in rows] == peers
    for peer, row in zip(peers, rows, strict=True):
        assert float(str(row["clips_per_cpu_second"])) > 0 and row["n"] == 20
        who = subject(str(tmp_path / f"{peer}.npz"), CONFIG)
        prompts, seeds = asked_of(who, EvaluateConfig())["s0"]
        assert len(judge(who.sample(prompts, seeds), prompts, seeds, "s0")) == 20
