"""Runs that were kept before there was a setting are read as they were made."""

import json
from pathlib import Path

import pytest
import torch

from t2v_models import checkpoint
from t2v_models.families.build import FAMILIES
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.generate import load_run
from t2v_models.sampler import sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, quiet, run_of
from tests.tiny import TINY, rendered


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("diffusion", {"space_attention": False, "norm": "place"}),
        ("modelscope", {"fine_text": False, "balance": 0.0}),
    ],
)
def test_a_setting_that_a_kept_run_leaves_open_is_as_it_was_then(
    name: str, then: dict[str, object], tmp_path: Path
) -> None:
    if FAMILIES[name].packages:
        pytest.importorskip("diffusers")
    data = rendered(tmp_path / "data", TINY.model_copy(update={"clips": 8}))
    model = SMALL[name].model_copy(update=then)
    assert model != SMALL[name]
    config = TrainConfig(steps=1, probe_seconds=0)
    run = fit(run_of(data, model), ClipStore(Manifest.load(data)), config, tmp_path / "run", quiet)
    prompts = [TINY.prompts[0]] * 2
    made = sample_frames(load_run(tmp_path / "run"), prompts, [0, 1])

    kept = tmp_path / "run" / "checkpoints" / "step-00000001.json"
    record = json.loads(kept.read_text())
    for key in then:
        del record["run"]["model"][key]
    kept.write_text(json.dumps(record))
    again = checkpoint.newest(tmp_path / "run")
    assert again and again.run == run.run
    assert torch.equal(torch.tensor(sample_frames(load_run(tmp_path / "run"), prompts, [0, 1])), torch.tensor(made))


def test_what_is_asked_for_today_leaves_open_what_is_usual_today() -> None:
    assert DiffusionConfig.model_validate({}).norm == DiffusionConfig().norm == "picture"
