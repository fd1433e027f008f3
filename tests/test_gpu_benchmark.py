"""What a GPU will be asked for runs from end to end, so that the first one fills the rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_all_that_needs_a_gpu_runs_tiny_on_a_processor() -> None:
    done = subprocess.run([sys.executable, BENCHMARK, "--tiny"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    told = " ".join(figure["figure"] for figure in figures)
    for what in ("article's workload", "compiled", "CUDA graphs", "sent from memory", "seconds to 99 %", "clips at"):
        assert what in told
    assert len({figure["figure"] for figure in figures}) == len(figures) > 12


@pytest.mark.slow
@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="a GPU is there")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith("run it on a machine that has one, or try the code with --tiny")
