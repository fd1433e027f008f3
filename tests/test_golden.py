"""What must not change unnoticed: the pixels of the worlds and the scores of the judge, on any machine (V15).

`python -m tests.test_golden` writes both files anew.
"""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging import suite
from t2v_models.judging.scores import SUITE_VERSION
from t2v_models.judging.truth import Truth
from t2v_models.worlds.dataset import RENDERER_VERSION, DatasetConfig
from t2v_models.worlds.reader import READER_VERSION
from t2v_models.worlds.render import render
from tests.grammar import oracle
from tests.tiny import drawn_clip

CLIPS = Path(__file__).parent / "golden" / "clips.json"
SCORES = Path(__file__).parent / "golden" / "scores.json"
CONFIGS = {
    "circles": DatasetConfig(spec=ClipSpec(size=32)),
    "shapes": DatasetConfig(world="shapes", spec=ClipSpec(size=64)),
}
OTHER_MACHINE = {
    "OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "OPENCV_CPU_DISABLE": "AVX2,AVX,FP16,FMA3",
}  # fmt: skip
"""A processor without AVX, as far as numpy, OpenBLAS and OpenCV can be told so; no effect on other architectures."""


def digest(config: DatasetConfig) -> str:
    """sha256 of the captions and pixels of the first 96 clips."""
    found = hashlib.sha256()
    for index in range(96):
        caption, motion = drawn_clip(config, index)
        found.update(caption.encode() + render(motion, config.spec).tobytes())
    return found.hexdigest()


@cache
def scores(name: str) -> dict[str, list[float]]:
    """Every figure of 240 spoilt clips, with its interval: a third noisy, in half of them one frame shown twice."""
    data = CONFIGS[name]
    asked = data.asked("s0")
    prompts = [p for p in asked[:: len(asked) // 6][:6] for _ in range(40)]
    frames = oracle(data.spec, prompts, range(len(prompts)))
    frames[1::2, 3] = frames[1::2, 4]
    noisy = frames[::3] + np.random.default_rng(0).integers(-12, 13, frames[::3].shape)
    frames[::3] = noisy.clip(0, 255)
    truth = Truth(data, "s0")
    judged = truth.judge(frames, prompts, range(len(prompts)))
    figures = truth.figures(judged, suite.real_clips(data, "s0", prompts, lambda clips: None))
    return {metric: [s.value, s.low, s.high, s.n] for metric, s in figures.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_clips_are_what_they_were_at_this_renderer_version(name: str) -> None:
    golden = json.loads(CLIPS.read_text())
    assert golden["renderer"] == RENDERER_VERSION, "write the golden files anew: python -m tests.test_golden"
    assert digest(CONFIGS[name]) == golden[name], "pixels or captions changed: raise RENDERER_VERSION"


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_what_they_were_on_another_machine(name: str) -> None:
    golden = json.loads(SCORES.read_text())
    assert golden["versions"] == [READER_VERSION, SUITE_VERSION], "write the golden files anew"
    assert_within_1e_6(scores(name), golden[name])


@pytest.mark.slow
def test_scores_are_the_same_on_a_processor_without_avx() -> None:
    """In a process of its own, since kernels are chosen once."""
    code = "import json; from tests.test_golden import *; print(json.dumps({n: scores(n) for n in CONFIGS}))"
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | OTHER_MACHINE, capture_output=True, text=True, check=True
    )
    other, golden = json.loads(told.stdout), json.loads(SCORES.read_text())
    for name in CONFIGS:
        assert_within_1e_6(other[name], golden[name])


def assert_within_1e_6(found: dict[str, list[float]], golden: dict[str, list[float]]) -> None:
    assert found.keys() == golden.keys()
    for metric, figures in golden.items():
        assert found[metric] == pytest.approx(figures, rel=1e-6, abs=1e-6, nan_ok=True), metric


if __name__ == "__main__":
    clips = {"renderer": RENDERER_VERSION} | {name: digest(config) for name, config in CONFIGS.items()}
    CLIPS.write_text(json.dumps(clips, indent=2) + "\n")
    judged = {"versions": [READER_VERSION, SUITE_VERSION]} | {name: scores(name) for name in CONFIGS}
    SCORES.write_text(json.dumps(judged, indent=1) + "\n")
