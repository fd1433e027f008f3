"""A family in one file: it trains, resumes, samples, is judged, compared and played by the commands; no other file
knows of it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from t2v_models.batch import Batch
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.build import FAMILIES
from t2v_models.model import FamilyConfig, Loss, LossModel, VideoModel
from t2v_models.sampler import Request
from tests.commands import t2v
from tests.runs import tensors

PROMPT = "circle moving left"


class MeanFrameConfig(FamilyConfig):
    about = "the mean frame of each caption, held, with a little noise"

    name: Literal["mean_frame"] = "mean_frame"
    batch_size: int = Field(8, ge=1, description="clips per update")
    lr: float = Field(0.05, gt=0, description="Adam step")

    @classmethod
    def tiny(cls) -> "MeanFrameConfig":
        return cls()

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> VideoModel:
        return MeanFrame(self, spec)


class MeanFrame(LossModel):
    able = frozenset({"frames"})

    def __init__(self, config: MeanFrameConfig, spec: ClipSpec):
        super().__init__()
        self.config: MeanFrameConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.frame = nn.Linear(self.text.width, 3 * spec.size**2)

    def new_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"frame": torch.optim.Adam(self.frame.parameters(), self.config.lr)}

    def mean_frames(self, prompts: tuple[str, ...]) -> Tensor:
        return self.frame(self.text.pooled(prompts)).view(-1, self.spec.size, self.spec.size, 3)

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        target = part.frames.float().mean(1) / 127.5 - 1 + 0.01 * part.randn(1, 1, 1)
        error = (self.mean_frames(part.captions) - target).square().flatten(1).mean(1)
        return {"frame": Loss(error.sum(), len(error), {"bad": (error.detach() > 0.1).sum()})}

    @torch.no_grad()
    def make(self, request: Request) -> Tensor:
        noise = [torch.randn((), generator=torch.Generator().manual_seed(seed)) for seed in request.seeds]
        frames = self.mean_frames(request.prompts) + 0.05 * torch.stack(noise).view(-1, 1, 1, 1)
        clips = frames.unsqueeze(1).repeat(1, request.frames or self.spec.frames, 1, 1, 1)
        return clips.clamp(-1, 1).permute(0, 4, 1, 2, 3)


@pytest.fixture(scope="module", autouse=True)
def member(server: str) -> Iterator[None]:
    """The new family is among the others, and a Prefect server that all commands here use is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "mean_frame", MeanFrameConfig)
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_command_takes_a_family_of_one_file(data: Path, work: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, unbroken = tmp_path / "run", tmp_path / "runs" / f"{data.name}-mean_frame"
    settings = ("--model", "mean_frame", "--set", "lr=0.02")
    t2v("train", data, *settings, "--steps", 3, "--out", run, "--work", work)
    t2v("train", data, *settings, "--steps", 6, "--out", run, "--work", work)  # goes on
    capsys.readouterr()
    t2v("train", data, *settings, "--steps", 6, "--work", work)
    told = capsys.readouterr().err
    assert "90 clips of 6 frames at 16 px" in told and "mean_frame for 6 updates of batches of" in told
    one, other = tensors(run), tensors(unbroken)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)

    t2v("generate", run, PROMPT, "--count", 2, "--frames", 9, "--out", tmp_path / "clips.npz", "--work", work)
    frames, prompts, seeds = load_npz(tmp_path / "clips.npz")
    assert frames.shape == (2, 9, 16, 16, 3) and prompts == [PROMPT] * 2 and seeds == [0, 1]
    assert not np.array_equal(frames[0], frames[1])

    capsys.readouterr()
    few = ("--split", "s0", "--clips-per-prompt", 2, "--work", work)
    t2v("evaluate", run, *few, "--out", tmp_path / "judged", "--json")
    judged = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]["s0"]
    assert judged["prompt_acc"]["value"] == 0 and judged["prompt_acc"]["n"] > 20  # it holds still
    t2v("evaluate", "oracle", "--like", run, *few, "--out", tmp_path / "oracle")
    t2v("compare", tmp_path / "oracle", tmp_path / "judged", "--out", tmp_path / "compared", "--work", work)
    assert "mean_frame" in (tmp_path / "compared" / "report.html").read_text()

    from tasks.play import player, show  # Gradio's page asks these

    assert "<img" in show([player(str(run), work)], PROMPT, 0, 1)
