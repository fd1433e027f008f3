"""Ours, packages of others and pipelines in one table: each row by one reader, and made once."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.media import load_npz, save_clips
from t2v_models.clips.spec import Bucket, ClipSpec
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.subjects import asked_of, subject
from tests.grammar import judge
from tests.tiny import rendered

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "peers.py"
CONFIG = DatasetConfig(clips=40, clips_per_shard=40, spec=ClipSpec(size=16, frames=10))


def asked(data: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    own = "--tiny", "--seconds", "1", "--clips", "20", "--out", out, *options
    return subprocess.run([sys.executable, BENCHMARK, data, *map(str, own)], capture_output=True, text=True)


def table(data: Path, out: Path, *options: object) -> tuple[list[dict[str, object]], list[list[str]]]:
    """The rows as JSON, and the lines of the table."""
    done = asked(data, out, *options)
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
def test_a_row_is_kept_by_its_name_and_by_what_it_judged(tmp_path: Path) -> None:
    data, out = rendered(tmp_path / "data", CONFIG), tmp_path / "out"
    black, real = (
        np.zeros((2, *CONFIG.spec.shape), np.uint8),
        BASELINES["oracle"](CONFIG, CONFIG.asked("s0")[:2], [0, 1]),
    )
    names = tmp_path / "a" / "b.npz", tmp_path / "a-b.npz"
    for name, frames in zip(names, (black, real), strict=True):
        save_clips(name, frames, CONFIG.asked("s0")[:2], [0, 1], 10)
    rows, _ = table(data, out, "--learn", "--beside", *names)
    assert [(row["figure"], row["valid"]) for row in rows] == [(str(names[0]), 0), (str(names[1]), 2)]
    shutil.copy(names[1], names[0])
    again, _ = table(data, out, "--learn", "--beside", *names)
    assert [row["valid"] for row in again] == [2, 2] and again[1] == rows[1], "of another archive, and the kept one"


@pytest.mark.slow
def test_what_cannot_be_a_row_is_one_sentence(tmp_path: Path) -> None:
    data, out = rendered(tmp_path / "data", CONFIG), tmp_path / "out"
    several = DatasetConfig(
        clips_per_shard=40, buckets=tuple(Bucket(spec=ClipSpec(size=16, frames=t), clips=20) for t in (7, 10))
    )
    (tmp_path / "file").write_text("")
    save_clips(tmp_path / "long.npz", np.zeros((1, 12, 16, 16, 3), np.uint8), ["circle moving left"], [0], 10)
    for where, to, options, sentence in (
        (data, out, ("--clips", 0), "argument --clips: should be above 0 (found 0)"),
        (data, out, ("--threads", 0), "argument --threads: should be above 0 (found 0)"),
        (data, tmp_path / "file", ("--learn",), "file is no folder you may write to"),
        (rendered(tmp_path / "two", several), out, ("--learn",), "has clips of 2 shapes, and rows are of one"),
        (data, out, ("--learn", "--beside", tmp_path / "long.npz"), "the shape 16x16x12 and the dataset has 16x16x10"),
        (data, out, ("--learn", "gan", "--beside", tmp_path / "none"), "none does not exist"),
    ):
        done = asked(where, to, *options)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (out / "gan.npz").exists(), "a mistake is told before anything learns"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ['{"fig', "[]"])
def test_a_damaged_row_is_made_anew(tmp_path: Path, damage: str) -> None:
    data, out = rendered(tmp_path / "data", CONFIG), tmp_path / "out"
    rows, _ = table(data, out, "--learn", "--beside", "oracle")
    (kept,) = out.glob("*.json")
    kept.write_text(damage)
    assert table(data, out, "--learn", "--beside", "oracle")[0][0].keys() == rows[0].keys()
    assert json.loads(kept.read_text())["figure"] == "oracle"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("phenaki_pytorch") is not None, reason="it is installed")
def test_a_peer_that_is_not_installed_is_told_before_anything_learns(tmp_path: Path) -> None:
    done = asked(rendered(tmp_path / "data", CONFIG), tmp_path / "out", "--learn", "gan", "phenaki-pytorch")
    assert done.returncode == 2 and done.stderr.startswith("peers.py: phenaki-pytorch is not installed: install")
    assert not (tmp_path / "out").exists()


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
