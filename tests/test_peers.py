"""Packages of others are trained on our shards and judged by our reader, where they are installed."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.subjects import asked_of, subject
from tests.grammar import judge
from tests.tiny import rendered

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "peers.py"


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("phenaki_pytorch") and find_spec("video_diffusion_pytorch")), reason="no peers")
def test_peers_learn_from_our_shards_and_leave_clips_that_are_judged(tmp_path: Path) -> None:
    config = DatasetConfig(clips=40, clips_per_shard=40, spec=ClipSpec(size=16, frames=10))
    data = rendered(tmp_path / "data", config)
    options = "--tiny", "--seconds", "1", "--clips", "1", "--threads", "1", "--out", tmp_path
    done = subprocess.run([sys.executable, BENCHMARK, data, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(figure["archive"]).stem for figure in figures] == ["video-diffusion", "phenaki"]
    for figure in figures:
        assert figure["updates"] > 0 and figure["clips"] == len(config.prompts)
        who = subject(figure["archive"], config)
        prompts, seeds = asked_of(who, EvaluateConfig())["s0"]
        assert len(judge(who.sample(prompts, seeds), prompts, seeds, "s0")) == len(config.prompts)
