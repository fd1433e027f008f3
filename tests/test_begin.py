"""A run that begins with the weights of another: what is taken, what is new, and what does not fit."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flows.cli.settings import begun_config
from flows.lab_config import LabConfig, check
from t2v_models import checkpoint
from t2v_models.checkpoint import RunConfig
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.families.diffusion.tuned import TunedConfig
from t2v_models.families.ema import Average
from t2v_models.fresh import fresh, new_run
from t2v_models.model import FamilyConfig
from t2v_models.sampler import Request, RoundTrip
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.one_clip import dataset_of
from t2v_models.shards.store import ClipStore
from t2v_models.training import launch
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import Log
from t2v_models.worlds.dataset import DatasetConfig
from tasks.mlflow.store import client
from tasks.records import read_record
from tasks.train import beginning
from tests.commands import ended, t2v
from tests.runs import SMALL, parent_of, quiet, run_of, tensors
from tests.tiny import SPEC, TINY, clips, rendered

KNOWN = "circle moving left", "circle moving up"
FAMILIES_BEGUN = [*sorted(set(FAMILIES) - {"tuned"}), "image_model"]
"""All but the one whose words and weights are another model's."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of the same shape as those of `data`, with more words."""
    config = DatasetConfig(world="shapes", clips=24, clips_per_shard=24, spec=SPEC)
    return rendered(tmp_path_factory.mktemp("shapes") / "data", config)


@pytest.fixture(scope="module")
def images(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model of images."""
    return trained(data, SMALL["image_model"], tmp_path_factory.mktemp("runs") / "images", 2)


def interrupts(step: int, figures: dict[str, float]) -> None:
    """A log during which somebody presses Ctrl-C after the second update."""
    if step == 2:
        signal.raise_signal(signal.SIGINT)


def trained(data: Path, model: FamilyConfig, out: Path, steps: int, log: Log = quiet) -> Path:
    model = run_of(data, model).model if model.parents and not model.begin else model
    run = new_run(Manifest.load(data), model, 0, run_dir=out)
    fit(run, ClipStore(Manifest.load(data)), TrainConfig(steps=steps, probe_seconds=0, log_every=1), out, log)
    return out


def begun(data: Path, first: Path, *settings: str) -> RunConfig:
    """The run that begins on `data` with another."""
    out = first.with_name("none")
    return new_run(Manifest.load(data), begun_config(first, out, None, settings), 0)


@pytest.mark.parametrize("name", FAMILIES_BEGUN)
def test_before_its_first_update_it_makes_of_known_words_what_the_other_makes(
    name: str, data: Path, shapes: Path, tmp_path: Path
) -> None:
    """Once what is measured is the same; new words change nothing of it. Averages begin as the weights do."""
    model = SMALL[name].model_copy(update={"words": 8} if name == "modelscope" else {})
    first, _ = checkpoint.load(trained(data, model, tmp_path / "first", 2))
    run = begun(shapes, tmp_path / "first")
    other = fresh(run)
    assert set(first.text.vocabulary) < set(other.text.vocabulary)
    for part in other.modules():
        if isinstance(part, Average):
            for original, average in zip(part._originals, part, strict=True):
                assert all(torch.equal(*both) for both in zip(original.parameters(), average.parameters(), strict=True))
    for part in first.measured:
        both = getattr(first, part), getattr(other, part)
        if isinstance(both[1], nn.Module):
            assert isinstance(both[0], nn.Module)
            both[1].load_state_dict(both[0].state_dict())
        else:
            setattr(other, part, both[0])
    if isinstance(first, RoundTrip) and isinstance(other, RoundTrip):
        again = [model.round_trip(clips(data)[:2]).astype(int) for model in (first, other)]
        assert np.abs(again[0] - again[1]).max() <= 1
        return
    request = Request(KNOWN, (0, 1))
    was, now, apart = (model.sample(request).astype(int) for model in (first, other, run.build()))
    assert np.abs(was - now).max() <= 1
    assert np.abs(was - apart).max() > 1, "nothing was to be taken"


def test_video_goes_on_from_images_and_resumes_without_them(data: Path, images: Path, tmp_path: Path) -> None:
    """In the weights of a network that looked at no other frame yet; three updates are two and one more."""
    first = images.rename(tmp_path / "images")
    try:
        video = begun(data, first, "images=0", "weaker=0.4").model
        assert video.begin == first and video.name == "diffusion"
        trained(data, video, tmp_path / "three", 3)
        with pytest.raises(KeyboardInterrupt):
            trained(data, video, tmp_path / "two", 3, interrupts)
    finally:
        first.rename(images)
    again, taken = begun_config(first, tmp_path / "two", None, ["images=0", "weaker=0.4"]), {"text_encoder"}
    assert again.model_dump(exclude=taken) == video.model_dump(exclude=taken)
    trained(data, video, tmp_path / "two", 3)
    one, other = tensors(tmp_path / "two"), tensors(tmp_path / "three")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    record = checkpoint.newest(tmp_path / "two").run.parents["begin"]  # type: ignore[union-attr]
    last = checkpoint.newest(images)
    assert last and (record.sha256, record.step) == (last.sha256, 2)
    model, _ = checkpoint.load(tmp_path / "two")
    before, _ = checkpoint.load(images)
    attention = "average.0.network.down.0.attention.leave.weight"
    assert not torch.equal(model.state_dict()[attention], before.state_dict()[attention]), "time was not learnt"
    with pytest.raises(LabError, match="run folder .*images does not exist"):
        trained(data, video, tmp_path / "another", 1)


def test_a_picture_becomes_a_clip_and_a_dataset_of_one_clip_is_gone_on_with(data: Path, tmp_path: Path) -> None:
    clip = clips(data)[0]
    picture = dataset_of(clip[:1], "circle moving left", 10, tmp_path / "picture")
    own = dataset_of(clip, "a cat moving left", 10, tmp_path / "own")
    model = SMALL["diffusion"].model_copy(update={"network": "factorised"})
    first = trained(picture, model, tmp_path / "pictures", 1)
    run = begun(own, first)
    assert run.model.text_encoder.vocabulary == ("circle", "left", "moving", "a", "cat")  # type: ignore[union-attr]
    out = trained(own, run.model, tmp_path / "video", 1)
    last = checkpoint.newest(out)
    assert last and last.run.spec.frames == 6
    told = beginning(last.run, None)
    assert told.startswith(f"it begins with the averaged weights of {first} after 1 update; new are 2 words (a, cat), ")
    assert beginning(last.run, last) == "", "it goes on with weights of its own"
    assert beginning(checkpoint.require(first).run, None) == ""


def test_what_was_learnt_of_one_clip_is_learnt_on_with_another(data: Path, images: Path, tmp_path: Path) -> None:
    """Which has a caption of its own, and begins the clips that are made."""
    one, other = (dataset_of(clips(data)[i], KNOWN[i], 10, tmp_path / str(i)) for i in (0, 1))
    first = trained(one, TunedConfig.tiny().model_copy(update={"image": images}), tmp_path / "first", 1)
    run = begun(other, first)
    assert run.model.caption == KNOWN[1]  # type: ignore[attr-defined]
    was, now = checkpoint.load(first)[0].state_dict(), fresh(run).state_dict()
    learnt = [name for name in was if name.startswith("denoiser")]
    assert learnt and all(torch.equal(was[name], now[name]) for name in learnt)
    assert was["is_seen"] and not now["is_seen"]


def test_another_beginning_is_another_run(data: Path, images: Path, tmp_path: Path) -> None:
    config = begun_config(images, tmp_path, None, ["images=0"])
    trained(data, config, tmp_path / "run", 1)
    for begin, sentence in (
        (None, "model.begin was '.*images', now None"),
        (tmp_path / "x", "run folder .*x does not"),
    ):
        with pytest.raises(LabError, match=sentence):
            trained(data, config.model_copy(update={"begin": begin}), tmp_path / "run", 2)
    again = trained(data, SMALL["image_model"], tmp_path / "again", 1)
    other = begun_config(again, tmp_path, None, ["images=0"])
    with pytest.raises(LabError, match=r"holds another run \(model.begin was .*images', now .*again'"):
        trained(data, other, tmp_path / "run", 2)


@pytest.mark.parametrize("name", ["diffusion", "ar_tokens"])
def test_it_goes_on_whatever_becomes_of_the_other_run(name: str, data: Path, tmp_path: Path) -> None:
    """That was trained on, or is gone; one that builds on a third run too."""
    first = trained(data, SMALL[name], tmp_path / "first", 1)
    config = begun_config(first, tmp_path, None, [])
    out = trained(data, config, tmp_path / "out", 1)
    trained(data, SMALL[name], first, 2)
    trained(data, config, out, 2)
    first.rename(tmp_path / "gone")
    trained(data, begun_config(first, out, None, []), out, 3)
    last = checkpoint.newest(out)
    assert last and last.step == 3 and last.run.parents["begin"].step == 1


def test_a_run_that_is_trained_on_meanwhile_is_taken_as_it_was(data: Path, tmp_path: Path) -> None:
    """As long as that checkpoint is kept."""
    first = trained(data, SMALL["gan"], tmp_path / "first", 1)
    was, run = checkpoint.load(first)[0].state_dict(), begun(data, first)
    trained(data, SMALL["gan"], first, 2)
    assert checkpoint.load(first, run.parents["begin"])[1].step == 1
    weights = fresh(run).state_dict()
    assert all(torch.equal(weights[name], was[name]) for name in was if name.startswith("average"))
    trained(data, SMALL["gan"], first, 3)
    with pytest.raises(LabError, match="first was at update 1 when it was chosen and .*: give the same command again"):
        fresh(run)


@pytest.mark.slow
def test_ranks_take_what_the_run_was_to_begin_with_though_they_start_later(data: Path, tmp_path: Path) -> None:
    first, out = trained(data, SMALL["gan"], tmp_path / "first", 1), tmp_path / "out"
    run = begun(data, first)
    trained(data, SMALL["gan"], first, 2)
    training = TrainConfig(steps=1, probe_seconds=0, device="cpu")
    launch.train(launch.Job(data=str(data), cache=data, run=run, training=training, run_dir=out), quiet)
    assert checkpoint.require(out).run == run


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["widths=[8,32]"],
            r"images, whose denoiser\.\S+ is \(.*\) and here \(.*\) \(widths was \[8, 16\], now \[8, 32\]\)",
        ),
        (["network=folded", "images=0"], r"network was 'factorised', now 'folded'.*use the settings and the shape"),
        (["text_encoder.positions=2"], r"images: its text encoder was another \(positions was None, now 2\): use that"),
        (
            ["begin=elsewhere"],
            "--begin .*images says what to begin with, and so does --set begin=RUN: leave one of them",
        ),
        (["images=2"], "images: .*less than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_told(settings: list[str], sentence: str, data: Path, images: Path) -> None:
    with pytest.raises(LabError, match=sentence):
        fresh(begun(data, images, *settings))


def test_clips_of_another_length_need_a_network_that_takes_them(data: Path, tmp_path: Path) -> None:
    first = trained(data, SMALL["diffusion"], tmp_path / "first", 1)
    short = dataset_of(clips(data)[0][:4], "circle moving left", 10, tmp_path / "short")
    with pytest.raises(LabError, match=r"cannot begin with .*first, whose denoiser.* \(frames was 6, now 4\)"):
        fresh(begun(short, first))


def test_tokens_of_another_tokenizer_mean_other_things(data: Path, tmp_path: Path) -> None:
    first = trained(data, SMALL["ar_tokens"], tmp_path / "first", 1)
    assert fresh(begun(data, first))
    other = trained(data, SMALL["video_tokenizer"], tmp_path / "tokenizer", 2)
    with pytest.raises(
        LabError, match=r"first has learnt with another tokenizer: use that one, --set tokenizer=.*tiny-"
    ):
        begun(data, first, f"tokenizer={other}")


def test_a_lab_sees_before_it_begins_what_its_models_begin_with(images: Path, data: Path, tmp_path: Path) -> None:
    model = SMALL["image_model"].settings | {"begin": images, "images": 0.0}
    lab = {"dataset": TINY, "training": {"steps": 1}, "evaluation": {"splits": ["s0"]}}
    config = LabConfig.model_validate(lab | {"models": [model]})
    check(config, tmp_path)
    stage = {"name": "upsampler", "base_size": 8}
    with pytest.raises(LabError, match="images has learnt its own upsampler: leave --set upsampler=RUN out"):
        check(LabConfig.model_validate(lab | {"models": [model | {"upsampler": "upsampler"}, stage]}), tmp_path)
    for change, sentence in (
        ({"widths": (8, 32)}, "widths was"),
        ({"begin": parent_of(data, "gan")}, "is a run of gan"),
    ):
        with pytest.raises(LabError, match=sentence):
            check(LabConfig.model_validate(lab | {"models": [model | change]}), tmp_path)


def test_a_lab_that_goes_on_needs_what_its_models_began_with_no_more(images: Path, data: Path, tmp_path: Path) -> None:
    first = images.rename(tmp_path / "images")
    try:
        model = SMALL["image_model"].model_copy(update={"begin": first, "images": 0.0})
        lab = {"dataset": TINY, "training": {"steps": 1}, "evaluation": {"splits": ["s0"]}, "models": [model]}
        config = LabConfig.model_validate(lab)
        trained(data, model, config.run_folders(tmp_path)["diffusion"], 1)
    finally:
        first.rename(images)
    check(config, tmp_path)
    with pytest.raises(LabError, match="images does not exist"):
        check(config, tmp_path / "another")


def test_a_mistake_is_one_sentence_before_anything_is_written(data: Path, images: Path, tmp_path: Path, capsys) -> None:
    for arguments, sentence in (
        (("--begin", tmp_path / "none"), "run folder .*none does not exist"),
        (
            ("--begin", images, "--model", "gan"),
            "gan cannot begin with .*images: it is a run of diffusion, name one of",
        ),
        (("--begin", images, "--set", "widths=[8,32]"), "widths was"),
        (("--begin", data), "is a dataset: train a model"),
    ):
        out = "--steps", 1, "--out", tmp_path / "out", "--work", tmp_path / "work"
        assert ended("train", data, *arguments, *out) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and re.search(sentence, error), error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # prefect's own
@pytest.mark.usefixtures("server")
def test_two_ranks_go_on_by_command_and_mlflow_knows_from_what(
    data: Path, shapes: Path, images: Path, work: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "cores", lambda: 2)
    command = "train", shapes, "--begin", images, "--set", "images=0", "--ranks", 2, "--work", work
    t2v(*command, "--steps", 1)
    out = tmp_path / "runs" / "data-images"
    told = capsys.readouterr()
    assert re.search(
        "begins with the averaged weights of .*images after 2 updates; new are 11 words", told.out + told.err
    )
    t2v(*command, "--steps", 2)
    told = capsys.readouterr()
    assert "begins with" not in told.out + told.err
    last, first = checkpoint.newest(out), checkpoint.newest(images)
    assert last and first and last.step == 2 and last.run.parents["begin"].sha256 == first.sha256
    params = client(work).get_run(str(read_record(out)["run_id"])).data.params
    assert params["model.begin"] == str(images) and params["parents.begin.sha256"] == first.sha256
    assert ended("train", shapes, "--model", "diffusion", "--out", out, "--steps", 3, "--work", work) == 2
    assert "holds another run" in capsys.readouterr().err
