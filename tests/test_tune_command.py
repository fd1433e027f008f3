"""The command that teaches an image model one clip: mistakes, a kill, and both kinds of motion."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from t2v_models import checkpoint as checkpoints
from t2v_models.clips.media import load_npz, save_clips
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.diffusion.tuned import TunedConfig
from t2v_models.fresh import new_run
from t2v_models.shards.export import to_npz
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.one_clip import dataset_of, read_clip
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests import forked
from tests.commands import ended, t2v
from tests.runs import train
from tests.tiny import clips, smooth

CAPTION = "circle moving left"


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of small models that learnt next to nothing, and clips."""
    folder = tmp_path_factory.mktemp("runs")
    for name, family in (("images", "image_model"), ("clips", "diffusion"), ("gan", "gan")):
        train(data, folder / name, 1, family)
    for name, frames in (("one", clips(data)[0]), ("other", clips(data)[1]), ("wide", smooth(0, 6, 16, 24))):
        (folder / f"{name}.npz").write_bytes(to_npz(frames, 10))
    save_clips(folder / "two.npz", clips(data)[:2], ["a", "b"], [0, 1], 10)
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none", "one.npz", CAPTION), "run folder .*none does not exist: train one with"),
        (("clips", "one.npz", CAPTION), "clips is a diffusion of clips, not of images: train one with --set images=1"),
        (("gan", "one.npz", CAPTION), "gan is a run of gan: tune one of diffusion that learnt images"),
        (("images", "wide.npz", CAPTION), "wide.npz is 24 x 16 px, the model makes 16 x 16: scale it to that"),
        (("images", "none.npz", CAPTION), "there is no clip .*none.npz: name an .mp4"),
        (("images", "one.npz", " "), "prompt ' ' has no words: use some of"),
        (("images", "one.npz", "dog moving left"), "was not trained on the word 'dog'"),
        (("images", "one.npz", CAPTION, "--set", "image=gan"), "--set image names an image model beside .*images"),
        (
            ("images", "two.npz", CAPTION),
            "two.npz cannot be read as a clip .it holds an array of 2 clips, .*t2v export",
        ),
        (("images", "one.npz", CAPTION, "--set", "caption=x"), "caption is 'x' and the clip's is 'circle moving left'"),
        (("images", "one.npz", CAPTION, "--set", "lr=1", "--set", "lr=1"), "--set lr is given twice: leave one out"),
        (("images", "one.npz", CAPTION, "--set", "lr=0"), r"lr: .*greater than 0 \(found 0\)"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_anything_is_written(
    arguments: tuple[str, ...], sentence: str, folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    assert ended("tune", *arguments, "--out", tmp_path / "out", "--work", tmp_path / "work") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(sentence, error), error
    assert not (tmp_path / "out").exists()


def test_another_run_is_not_tuned_into(folder: Path, tmp_path: Path, capsys) -> None:
    before = sorted(folder.rglob("*"))
    for name, sentence in (("images", "is the image model itself"), ("gan", "is a run of gan")):
        arguments = folder / "images", folder / "one.npz", CAPTION, "--out", folder / name, "--work", tmp_path
        assert ended("tune", *arguments) == 2
        assert f"{name} {sentence}: name another folder" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_pictures_move_by_command(folder: Path, tmp_path: Path, capsys) -> None:
    found = []
    for name, motion in (("moved", "1.5,-1"), ("still", "0,0")):
        t2v("generate", folder / "images", CAPTION, "--count", 2, "--motion", motion, "--out", tmp_path / f"{name}.npz")
        found.append(load_npz(tmp_path / f"{name}.npz")[0])
    assert found[0].shape == (2, 6, 16, 16, 3) and not np.array_equal(*found)
    for run, motion, sentence in (
        ("images", "1", "--motion '1' is not two numbers: write px a frame right and down, as -1.5,0"),
        ("images", "1,x", "--motion '1,x' is not two numbers"),
        ("images", "nan,0", "a motion of nan and 0 px a frame: give two numbers"),
        ("gan", "1,0", "gan cannot take a motion: leave --motion out"),
    ):
        assert ended("generate", folder / run, CAPTION, "--motion", motion, "--out", tmp_path / "x.npz") == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()


def killed(folder: Path, out: Path) -> None:
    """What the command does once its server is there, up to SIGKILL in the third update."""
    frames = read_clip(folder / "one.npz", ClipSpec(size=16))
    store = ClipStore(Manifest.load(dataset_of(frames, CAPTION, 10, out / "clip")))
    run = new_run(store.manifest, TunedConfig(image=folder / "images"), 0)
    config = TrainConfig(steps=100, probe_seconds=0, log_every=3, save_seconds=1e-6)
    fit(run, store, config, out, lambda step, figures: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # prefect's own
@pytest.mark.usefixtures("server")
def test_a_killed_tuning_goes_on(folder: Path, work: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "tuned"
    assert forked.ended(forked.start(killed, folder, out)) == -signal.SIGKILL
    first = checkpoints.newest(out)
    assert first and first.step == 2
    arguments = CAPTION, "--out", out, "--work", work, "--steps", 4
    assert ended("tune", folder / "images", folder / "other.npz", *arguments) == 2
    assert "holds another clip or caption: name another folder" in capsys.readouterr().err
    t2v("tune", folder / "images", folder / "one.npz", *arguments)
    assert "validation" not in capsys.readouterr().out, "one clip has no part to keep for it"
    last = checkpoints.newest(out)
    assert last and last.step == 4 and last.seconds > first.seconds

    t2v("generate", out, CAPTION, "--count", 2, "--out", tmp_path / "clips.npz")
    assert load_npz(tmp_path / "clips.npz")[0].shape == (2, 6, 16, 16, 3)
