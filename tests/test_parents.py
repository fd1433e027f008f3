"""A run that builds on another one: its weights stay as they are, are kept once, and are known by their digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from t2v_models import checkpoint
from t2v_models.batch import Batch
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import fresh
from t2v_models.model import FamilyConfig, Loss, LossModel, VideoModel
from t2v_models.sampler import Request
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, quiet, run_of, tensors


class PupilConfig(FamilyConfig):
    name: Literal["pupil"] = "pupil"
    batch_size: int = 4
    teacher: Path

    @property
    def parents(self) -> dict[str, Path]:
        return {"teacher": self.teacher}

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> VideoModel:
        return Pupil(self, spec, parents["teacher"])


class Pupil(LossModel):
    """Learns the mean brightness of what its teacher makes, by one number a word; words it never hears have no part in
    its loss."""

    frozen = ("teacher",)

    def __init__(self, config: PupilConfig, spec: ClipSpec, teacher: VideoModel):
        super().__init__()
        self.config: PupilConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.teacher = teacher.requires_grad_(False)
        self.level = nn.ModuleDict({"heard": nn.Linear(self.text.width, 1), "never": nn.Linear(1, 1)})

    def new_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"level": torch.optim.Adam(self.level.parameters(), 0.1)}

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        seeds = tuple(range(*part.bounds))  # of the whole batch, however it is cut
        with torch.no_grad():
            target = self.teacher.make(Request(part.captions, seeds)).mean((1, 2, 3, 4))
        words = [len(caption.split()) for caption in part.captions]  # the longer a caption, the more it counts
        error = (self.level["heard"](self.text.pooled(part.captions))[:, 0] - target).square()
        return {"level": Loss((error * torch.tensor(words)).sum(), sum(words))}

    def make(self, request: Request) -> Tensor:
        level = self.level["heard"](self.text.pooled(request.prompts)).clamp(-1, 1)
        return level[:, :, None, None, None].expand(-1, 3, self.spec.frames, self.spec.size, self.spec.size)


@pytest.fixture
def teacher(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FAMILIES, "pupil", PupilConfig)
    folder = tmp_path / "teacher"
    fit(
        run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data)), TrainConfig(steps=1, probe_seconds=0), folder, quiet
    )
    return folder


def train(data: Path, teacher: Path, out: Path, steps: int) -> RunConfig:
    run, config = run_of(data, PupilConfig(teacher=teacher)), TrainConfig(steps=steps, probe_seconds=0, keep=2)
    fit(run, ClipStore(Manifest.load(data)), config, out, quiet)
    return run


def test_what_a_run_builds_on_stays_as_it_is_and_is_kept_once(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = train(data, teacher, tmp_path / "two", 2)
    train(data, teacher, tmp_path / "two", 5)
    train(data, teacher, tmp_path / "five", 5)
    newest = checkpoint.newest(teacher)
    assert newest and run.parents["teacher"].sha256 == newest.sha256
    assert len(list((tmp_path / "two" / "frozen").iterdir())) == 1
    one, other = tensors(tmp_path / "two"), tensors(tmp_path / "five")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    taught, _ = checkpoint.load(tmp_path / "two")
    alone, _ = checkpoint.load(teacher)
    for name, value in alone.state_dict().items():
        assert torch.equal(taught.state_dict()[f"teacher.{name}"], value), name
    size = sum(file.stat().st_size for file in checkpoint.folder(tmp_path / "two").glob("*.safetensors"))
    assert size < sum(file.stat().st_size for file in (tmp_path / "two" / "frozen").iterdir())


def test_a_run_needs_its_parent_no_more_once_it_has_begun(data: Path, teacher: Path, tmp_path: Path) -> None:
    train(data, teacher, tmp_path / "run", 1)
    before, _ = checkpoint.load(tmp_path / "run")
    teacher.rename(tmp_path / "elsewhere")
    after, _ = checkpoint.load(tmp_path / "run")
    request = Request(("circle moving left",), (0,))
    assert torch.equal(before.make(request), after.make(request))
    with pytest.raises(
        LabError, match="run folder .*teacher, the teacher of pupil, does not exist: .* name one with --set teacher=RUN"
    ):
        train(data, teacher, tmp_path / "run", 2)


def test_a_parent_that_was_trained_further_is_another_one(data: Path, teacher: Path, tmp_path: Path) -> None:
    train(data, teacher, tmp_path / "run", 1)
    store = ClipStore(Manifest.load(data))
    fit(run_of(data, SMALL["gan"]), store, TrainConfig(steps=2, probe_seconds=0), teacher, quiet)
    with pytest.raises(LabError, match=r"holds another run \(parents.teacher.sha256 was .*, now .*\)"):
        train(data, teacher, tmp_path / "run", 2)


def test_frozen_weights_that_are_damaged_are_one_sentence(data: Path, teacher: Path, tmp_path: Path) -> None:
    train(data, teacher, tmp_path / "run", 1)
    (file,) = (tmp_path / "run" / "frozen").iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(LabError, match="frozen.*damaged"):
        checkpoint.load(tmp_path / "run")
    file.unlink()
    with pytest.raises(LabError, match="frozen.*missing"):
        checkpoint.load(tmp_path / "run")


def test_losses_are_means_over_what_they_count_however_a_batch_is_cut(data: Path, teacher: Path) -> None:
    """Of captions of three and of five words, in one part and in two."""
    found = []
    for parts in (1, 2):
        torch.manual_seed(0)
        run = run_of(data, PupilConfig(teacher=teacher, accumulate=parts))
        model = fresh(run)
        captions = ("circle moving left",) * 2 + ("circle moving diagonally up-left",) * 2
        frames = torch.zeros(4, 6, 16, 16, 3, dtype=torch.uint8)
        metrics = model.training_step(Batch(frames, captions), 0, 0.0)
        found.append((metrics["loss/level"], [p.grad for p in model.level.parameters()]))
    (one, gradients), (two, others) = found
    torch.testing.assert_close(one, two)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other)
    assert all(not gradient.any() for gradient in gradients[2:]), "what the loss misses does not move"


def test_weights_are_hashed_once_between_start_and_first_update(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = TrainConfig(steps=2, probe_seconds=0), ClipStore(Manifest.load(data))
    fit(run_of(data, SMALL["gan"]), store, TrainConfig(steps=1, probe_seconds=0), tmp_path, quiet)
    checkpoint._sha256_of.cache_clear()
    for _ in range(4):
        assert checkpoint.newest(tmp_path)
    fit(run_of(data, SMALL["gan"]), store, config, tmp_path, quiet)
    assert checkpoint._sha256_of.cache_info().misses == 1
