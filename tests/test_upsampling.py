"""The second stage of diffusion's cascade in a run of its own, and the denoisers that take it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli.main import _what_next
from flows.lab_config import LabConfig, check
from t2v_models import checkpoint
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.model import Diffusion, DiffusionConfig
from t2v_models.families.diffusion.upsampling import UpsamplerConfig, Upsampling
from t2v_models.fresh import new_run
from t2v_models.model import FamilyConfig
from t2v_models.sampler import Request
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.commands import ended
from tests.runs import SMALL, parent_of, quiet, tensors
from tests.tiny import TINY, clips

ASKED = Request(("circle moving left", "circle moving up"), (0, 1))


def trained(data: Path, model: FamilyConfig, out: Path, steps: int) -> Path:
    config = TrainConfig(steps=steps, probe_seconds=0)
    fit(new_run(Manifest.load(data), model, 0), ClipStore(Manifest.load(data)), config, out, quiet)
    return out


@pytest.fixture(scope="module")
def stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an upsampler that learnt a little."""
    config = UpsamplerConfig.tiny().model_copy(update={"batch_size": 16, "width": 16})
    return trained(data, config, tmp_path_factory.mktemp("runs") / "stage", 80)


def small(stage: Path, **changes: object) -> DiffusionConfig:
    config = SMALL["diffusion"].model_copy(update={"upsampler": stage} | changes)
    assert isinstance(config, DiffusionConfig)
    return config


def test_it_learns_to_enlarge_clips_that_were_made_small(data: Path, stage: Path) -> None:
    real = clips(data)[:8]
    model, last = checkpoint.load(stage)
    assert isinstance(model, Upsampling)
    torch.manual_seed(0)
    fresh = last.run.build()
    assert isinstance(fresh, Upsampling)
    errors = [np.square(one.round_trip(real).astype(float) - real).mean() for one in (model, fresh)]
    assert errors[0] < 0.6 * errors[1]


def test_frames_between_are_drawn_by_a_stage_of_its_own_too(data: Path, tmp_path: Path) -> None:
    out = trained(data, UpsamplerConfig.tiny().model_copy(update={"every": 5}), tmp_path / "stage", 1)
    model, _ = checkpoint.load(trained(data, small(out, every=5), tmp_path / "run", 1))
    assert isinstance(model, Diffusion) and model.shape[1] == 2
    assert model.sample(ASKED).shape == (2, 6, 16, 16, 3)


def test_a_denoiser_takes_it_as_it_is_and_learns_alone(data: Path, stage: Path, tmp_path: Path) -> None:
    """It is kept once, by digest; clips are enlarged by it, as its own run does, also where that is gone."""
    out = trained(data, small(stage), tmp_path / "run", 2)
    model, last = checkpoint.load(out)
    own, first = checkpoint.load(stage)
    assert isinstance(model, Diffusion) and isinstance(own, Upsampling) and isinstance(model.upsampler, Upsampling)
    assert set(model.optimizers) == {"denoiser"} and len(model.average) == 1
    assert last.run.parents["upsampler"].sha256 == first.sha256 and len(list((out / "frozen").iterdir())) == 1
    assert all(torch.equal(value, model.upsampler.state_dict()[name]) for name, value in own.state_dict().items())
    assert not any(".upsampler." in name for name in checkpoint._tensors(model))
    video = torch.rand(2, 3, 6, 8, 8) * 2 - 1
    assert torch.equal(model.enlarged(video), own.enlarged(video))
    elsewhere = out.rename(tmp_path / "alone")
    again, _ = checkpoint.load(elsewhere)
    assert np.array_equal(again.sample(ASKED), model.sample(ASKED))


def test_with_it_a_run_goes_on_to_the_same_weights(data: Path, stage: Path, tmp_path: Path) -> None:
    config = small(stage, decay=1e-9)  # rates do not fall, so a longer run begins as a shorter one
    trained(data, config, tmp_path / "two", 1)
    trained(data, config, tmp_path / "two", 2)
    trained(data, config, tmp_path / "whole", 2)
    one, other = tensors(tmp_path / "two"), tensors(tmp_path / "whole")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"base_size": 4},
            r"stage enlarges frames 2 times \(every=1\), and here they are made small 4 times \(every=1\): use "
            "--set base_size=8 --set every=1",
        ),
        ({"base_size": 16}, r"here they are made small 1 times"),
        ({"every": 5}, r"made small 2 times \(every=5\): use --set base_size=8 --set every=1"),
    ],
)
def test_a_stage_of_another_factor_is_one_sentence(
    changes: dict[str, object], sentence: str, data: Path, stage: Path
) -> None:
    with pytest.raises(LabError, match=sentence):
        new_run(Manifest.load(data), small(stage, **changes), 0).build()


def test_what_is_no_upsampler_of_these_clips_is_one_sentence(data: Path, stage: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(data)
    gan = parent_of(data, "gan")
    with pytest.raises(LabError, match="is a run of gan: name one of upsampler with --set upsampler=RUN"):
        new_run(manifest, small(gan), 0).build()
    sentence = (
        r"^run folder (\S+none), the upsampler of diffusion, does not exist: train one with 't2v train DATA --model "
        r"upsampler --out \1', or name one with --set upsampler=RUN$"
    )
    with pytest.raises(LabError, match=sentence):
        new_run(manifest, small(tmp_path / "none"), 0)
    with pytest.raises(
        LabError, match=f"^{data}, the upsampler of diffusion, is a dataset: .* --model upsampler --min"
    ):
        new_run(manifest, small(data), 0)
    other = checkpoint.load(stage)[0]
    with pytest.raises(LabError, match="is of clips of 16 px, the dataset of 32 px: train upsampler on that dataset"):
        small(stage).with_captions(manifest.captions).build(ClipSpec(size=32, frames=6), {"upsampler": other})
    with pytest.raises(LabError, match="base_size 16 makes frames of 16 px no smaller, so there is nothing to enlarge"):
        new_run(manifest, UpsamplerConfig(), 0).build()


def test_a_lab_trains_it_first(tmp_path: Path) -> None:
    models = {"name": "upsampler", "base_size": 8}, SMALL["diffusion"].settings | {"upsampler": "upsampler"}
    lab = LabConfig.model_validate({"dataset": TINY, "models": models[::-1], "training": {"steps": 1}})
    assert [model.name for model in lab.in_order] == ["upsampler", "diffusion"]
    check(lab, tmp_path)


def test_who_asks_it_for_a_clip_is_told_what_it_is_for(stage: Path, tmp_path: Path, capsys) -> None:
    out = "--out", tmp_path / "clip.gif", "--work", tmp_path / "work"
    assert ended("generate", stage, "circle moving left", *out) == 2
    error = capsys.readouterr().err
    assert re.search(
        "upsampler makes no clips of prompts: judge by 't2v evaluate RUN' .*diffusion with --set upsa", error
    )


def test_after_training_it_is_told_what_it_is_for(stage: Path, data: Path, tmp_path: Path) -> None:
    last = checkpoint.newest(stage)
    assert last
    said = _what_next(last.run, ClipStore(Manifest.load(data)), stage, tmp_path)
    assert f"for diffusion with --set upsampler={stage}" in said and "generate" not in said
