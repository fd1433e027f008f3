"""What can be judged: archives from anywhere and baselines, and the sentences for what cannot."""

from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.evaluation.baselines import oracle
from t2v_models.evaluation.metrics import accuracy
from t2v_models.evaluation.scores import EvaluateConfig
from t2v_models.evaluation.verdicts import judge
from t2v_models.media import save_clips
from tasks.subjects import asked_of, dataset_like, subject

DATA = DatasetConfig(spec=ClipSpec(size=32))


def test_an_archive_is_judged_clip_by_clip_on_the_splits_its_prompts_belong_to(tmp_path: Path) -> None:
    prompts = ["circle moving left", "circle moving up-right", "circle moving left", "circle moving left-up"]
    seeds = [3, 3, 3, 5]  # two clips of one prompt and seed
    frames = oracle(DATA.spec, prompts, [3, 3, 4, 5])
    save_clips(tmp_path / "theirs.npz", frames, prompts, seeds, 10)
    who = subject(tmp_path / "theirs.npz", DATA)
    asked = asked_of(who, EvaluateConfig())
    assert asked == {"s0": (["circle moving left"] * 2, [3, 3]), "s3": (["circle moving up-right"], [3]),
                     "s1": (["circle moving left-up"], [5])}  # fmt: skip
    assert np.array_equal(who.sample(*asked["s0"]), frames[[0, 2]])
    in_parts = [who.sample([p], [s]) for p, s in zip(*asked["s0"], strict=True)]
    assert np.array_equal(np.concatenate(in_parts), frames[[0, 2]])
    for split, what in asked.items():
        assert accuracy(judge(who.sample(*what), *what, split)).value == 1


def test_what_cannot_be_judged_is_said(tmp_path: Path, data: Path) -> None:
    with pytest.raises(LabError, match="--like"):
        subject("noise")
    frames = oracle(DATA.spec, ["circle moving left"], [0])
    save_clips(tmp_path / "small.npz", frames, ["circle moving left"], [0], 10)
    with pytest.raises(LabError, match="32 px, the dataset"):
        subject(tmp_path / "small.npz", dataset_like(data))
    with pytest.raises(LabError, match="split s3"):
        asked_of(subject(tmp_path / "small.npz"), EvaluateConfig(splits=("s3",)))
