"""The script that asks whether the learnt judge ranks models as the one that knows the truth, in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "judges.py"


@pytest.mark.slow
def test_both_judges_rank_clips_from_right_to_wrong_alike() -> None:
    done = subprocess.run([sys.executable, BENCHMARK, "--tiny"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    models = {figure["model"]: figure for figure in found if figure["figure"] == "model"}
    assert len(models) >= 14
    for judge in ("truth", "learnt"):
        kind = f"all that was asked, {judge}"
        right = [models[name][kind] for name in ("oracle", "50% wrong captions", "unconditional")]
        assert right == sorted(right, reverse=True) and right[0] > right[1] > right[2], judge
    told = {figure["figure"]: figure for figure in found if figure["figure"] != "model"}
    for what in ("all that was asked", "motion alone"):
        figure = told[f"rank correlation, {what}, all models"]
        assert 0.5 < figure["value"] <= 1 and 0 < figure["low"] <= figure["value"] <= figure["high"]
