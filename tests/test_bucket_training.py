"""Models that learn from clips of several shapes: resumed as unbroken, by any ranks, asked for any of the shapes."""

import base64
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2v_models import checkpoint as checkpoints
from t2v_models.clips.media import decode
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES, ModelConfig
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.fresh import new_run
from t2v_models.judging.learnt import reference_of
from t2v_models.judging.own_clips import OwnClips
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.judging.truth import Truth
from t2v_models.sampler import Request, sample_all
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import METRICS, Log
from t2v_models.training.validation import OTHERS, sheet, watcher
from tasks.play import player, show
from tasks.subjects import asked_of, dataset_like, shapes_of, subject, taken
from tests.forked import by_two_ranks, until_killed
from tests.runs import SMALL, tensors
from tests.tiny import BUCKET_SHAPES, BUCKETS, noise, put, rendered

FACTORISED = DiffusionConfig.tiny().model_copy(update={"network": "factorised"})
TRANSFORMER = DiffusionConfig.tiny().model_copy(update={"network": "transformer"})


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("buckets"), BUCKETS)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of two sizes, and pictures."""
    folder = tmp_path_factory.mktemp("own")
    for number in range(5):
        put(folder, f"films/{number}.npz", to_npz(noise(number, 4), 10))
        put(folder, f"films/wide-{number}.npz", to_npz(noise(number, 6, 16, 32), 10), b"a wide dog")
        picture = put(folder, f"films/{number}.png", b"", b"a picture").with_suffix(".png")
        Image.fromarray(noise(number, 1, 16, 32)[0]).save(picture)
    shapes = tuple(ClipSpec(height=16, width=width, frames=t) for width, t in ((16, 4), (32, 6), (32, 1)))
    ingest(folder / "films", folder / "data", IngestOptions(shapes=shapes, validation=0))
    return folder / "data"


@pytest.mark.parametrize("kind", ["rendered", "own"])
def test_a_resumed_run_is_bit_for_bit_an_unbroken_one(kind: str, folder: Path, own: Path, tmp_path: Path) -> None:
    data, mix = (own, {"32x16x1": 0.4}) if kind == "own" else (folder, {"16x16x6": 0.4})
    trained(data, tmp_path / "whole", 7, mix=mix)
    with pytest.raises(Killed):
        trained(data, tmp_path / "broken", 7, dies_at=4, mix=mix)
    assert len(losses(tmp_path / "broken")) == 4 and checkpoints.load(tmp_path / "broken")[1].step == 3
    trained(data, tmp_path / "broken", 7, mix=mix)
    whole, broken = tensors(tmp_path / "whole"), tensors(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    model, last = checkpoints.load(tmp_path / "whole")
    assert last.run.mix == mix and len(model.shapes) == 3


def trained(
    data: Path, out: Path, steps: int, model: ModelConfig = FACTORISED, dies_at: int = 0,
    mix: Mapping[str, float] | None = None, log: Log | None = None,
) -> None:  # fmt: skip
    """A run, or what a kill leaves of one."""

    def until(step: int, figures: dict[str, float]) -> None:
        if step == dies_at:
            raise Killed

    manifest = Manifest.load(data)
    run = new_run(manifest, model, 0, mix)
    config = TrainConfig(steps=steps, log_every=1, probe_seconds=0, save_seconds=1e-9)
    fit(run, ClipStore(manifest), config, out, log or until)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["train/loss/denoiser"] for line in (out / METRICS).read_text().splitlines()]


def killed(data: Path, out: Path, mix: Mapping[str, float]) -> None:
    """What a rank does until the first is killed."""

    def log(step: int, figures: dict[str, float]) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    trained(data, out, 7, mix=mix, log=log)


@pytest.mark.slow
def test_killed_ranks_are_followed_by_any_number_with_equal_order(own: Path, tmp_path: Path) -> None:
    """Two kinds of films and pictures: what four ranks began, two take up as if nothing had been."""
    mix = {"32x16x1": 0.4}
    until_killed(4, killed, own, tmp_path / "run", mix)
    assert len(losses(tmp_path / "run")) == 4 and checkpoints.load(tmp_path / "run")[1].step == 3
    by_two_ranks(trained, own, tmp_path / "run", 7, FACTORISED, 0, mix)
    trained(own, tmp_path / "one", 7, mix=mix)
    assert losses(tmp_path / "run")[4:] == pytest.approx(losses(tmp_path / "one")[3:], rel=1e-4)


@pytest.mark.parametrize("config", [FACTORISED, TRANSFORMER], ids=lambda config: config.network)
def test_it_makes_clips_of_any_of_its_shapes_and_of_no_other_size(
    config: ModelConfig, folder: Path, tmp_path: Path
) -> None:
    trained(folder, tmp_path, 3, config)
    model, _ = checkpoints.load(tmp_path)
    ask = ("circle moving left",), (0,)
    assert sample_all(model, Request(*ask)).shape[1:] == BUCKETS.spec.shape
    for spec in BUCKET_SHAPES:
        request = Request(*ask, frames=spec.frames, size=(spec.height, spec.width))
        assert sample_all(model, request).shape[1:] == spec.shape
    assert sample_all(model, Request(*ask, size=(16, 16))).shape[1:] == BUCKET_SHAPES[0].shape
    assert sample_all(model, Request(*ask, frames=9)).shape[1:] == BUCKET_SHAPES[2].shape
    with pytest.raises(LabError, match="has not learnt the shape 16x32x4: ask for one of 16x16x6, 32x16x4, 16x16x9"):
        sample_all(model, Request(*ask, size=(32, 16)))


def test_each_shape_is_judged_shown_and_played(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path / "run", 3)
    model, last = checkpoints.load(tmp_path / "run")
    watcher(last.run, ClipStore(Manifest.load(folder)), tmp_path / "run")(3, model)
    with Image.open(sheet(tmp_path / "run", 3)) as picture:
        rows = len(last.run.dataset.watched) + 2 * OTHERS
        assert picture.height == 2 * 20 + rows * 96 + 12 * (rows - 1), "each clip in its own form, none cut"
        assert picture.width > 9 * 96 + 8 * 2, "the longest is there with all frames"
    who = player(str(tmp_path / "run"), tmp_path)
    assert who.shapes == ("32x16x4", "16x16x6", "16x16x9")
    for shape, length in ((None, 4), *zip(who.shapes, (4, 6, 9), strict=True)):
        html = show([who, None], "circle moving left", 0, 1, shape=shape)
        assert ("; shown: " in html) == (shape in who.shapes[1:]), "not under the model's own shape"
        clips = [decode(base64.b64decode(clip)) for clip in re.findall(r"base64,([^\"]+)", html)]
        assert len(clips) == 2 and len({clip.shape[1:] for clip in clips}) == 1 and len(clips[1]) == length
    with pytest.raises(LabError, match="has not learnt the shape 9x9x9"):
        show([who], "circle moving left", 0, 1, shape="9x9x9")
    assert shapes_of(tmp_path / "run") == shapes_of(folder) == [None, "16x16x6", "16x16x9"]
    for spec, named in zip(BUCKET_SHAPES, ("16x16x6", None, "16x16x9"), strict=True):
        config = EvaluateConfig(shape=named)
        assert config.wishes_in_words == (f" shape {named}" if named else "")
        who = subject(tmp_path / "run", wishes=config.wishes)
        (prompts, seeds), _ = (found := asked_of(who, config))["s0"], taken(who, found)
        assert who.data.spec == spec and who.sample(prompts[:2], seeds[:2]).shape[1:] == spec.shape
        real = subject("oracle", dataset_like(folder, config.wishes), wishes=config.wishes)
        verdicts = Truth(real.data.truth, "s0").judge(real.sample(prompts, seeds), prompts, seeds).verdicts
        assert real.data.digest == who.data.digest and np.mean([v.right for v in verdicts]) > 0.9
    with pytest.raises(
        LabError, match="no clips of the shape 9x9x9, so nothing judges them: ask for one of 16x16x6, 3"
    ):
        subject(tmp_path / "run", wishes=EvaluateConfig(shape="9x9x9").wishes)
    with pytest.raises(LabError, match="'64x36' is no shape: write width, height and frames, 64x36x10"):
        subject(tmp_path / "run", wishes=EvaluateConfig(shape="64x36").wishes)


def test_own_clips_are_judged_by_their_shape(own: Path, tmp_path: Path) -> None:
    assert shapes_of(own) == [None, "32x16x6"]
    both = Path(shutil.copytree(own, tmp_path / "own"))
    shutil.copytree(own, both / "validation")
    for name, sentence in (
        ("32x16x1", "clips of 32x16x1 in .*own are pictures, and their judge asks about motion as well"),
        ("32x16x6", "the bucket 32x16x6 of .*own has 10 clips, 5 of them for validation, so no figure"),
        ("64x36x6", "no clips of the shape 64x36x6"),
    ):
        with pytest.raises(LabError, match=sentence):
            subject("oracle", own=both, wishes=EvaluateConfig(shape=name).wishes)


@pytest.mark.slow
def test_the_judge_of_own_clips_learns_from_one_shape(tmp_path: Path) -> None:
    for number in range(110):
        put(tmp_path, f"films/{number}.npz", to_npz(noise(number, 3, 16, 32), 10), f"clip {number % 11}".encode())
        if number % 4 == 0:
            put(tmp_path, f"films/{number}-long.npz", to_npz(noise(number, 5), 10), b"a dog")
    shapes = tuple(ClipSpec(height=16, width=width, frames=t) for width, t in ((16, 5), (32, 3)))
    ingest(tmp_path / "films", tmp_path / "data", IngestOptions(shapes=shapes, validation=0.2))
    own = OwnClips.of(tmp_path / "data", shapes[1])
    assert own.spec == shapes[1] and len(own.rows) + len(own.training_rows) == 110
    with pytest.raises(LabError, match="no judge of .* can be believed"):  # of noise, after two updates
        reference_of(own, steps=2, batch=16)
    assert [path.name for path in (tmp_path / "data").glob("judge*")] == ["judge.kept"]
    with pytest.raises(LabError, match="the bucket 16x16x5 of .* has 28 clips"):
        OwnClips.of(tmp_path / "data", shapes[0])


def test_families_of_one_shape_refuse_in_a_sentence(folder: Path) -> None:
    manifest = Manifest.load(folder)
    for name in FAMILIES:
        if not SMALL[name].parents and name not in ("diffusion", "upsampler"):
            with pytest.raises(
                LabError, match=r"one (shape|frame size) and the dataset has 32x16x4, 16x16x6, 16x16x9: .*several"
            ):
                new_run(manifest, SMALL[name], 0)
    assert new_run(manifest, SMALL["diffusion"], 0).model.network == "factorised"
    assert len(new_run(manifest, SMALL["upsampler"], 0).build().shapes) == 3
    folded = SMALL["diffusion"].model_copy(update={"network": "folded"})
    with pytest.raises(LabError, match="network=folded learns from clips of one shape .* use --set network=factorised"):
        new_run(manifest, folded, 0)
    with pytest.raises(LabError, match="bucket 16x16x9 has 14 clips, fewer than a batch of 16"):
        new_run(manifest, FACTORISED.model_copy(update={"batch_size": 16}), 0)
