"""Clips on the way between prompts and seeds."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flows.cli.main import main
from t2v_models.clips.media import load_npz, save_clips
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.generate import dissolve, interpolate, interpolation_names
from t2v_models.machine import threads
from t2v_models.model import VideoModel
from t2v_models.sampler import Frames, sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from tests.runs import SMALL, built, train

VOCABULARY = ("circle", "left", "moving", "right")
LEFT, RIGHT = "circle moving left", "circle moving right"


def of_family(name: str) -> VideoModel:
    torch.manual_seed(0)
    return built(SMALL[name], ClipSpec(size=16, frames=4), VOCABULARY)


WITH_A_WAY = ("gan", "frame_gan", "diffusion")


@pytest.fixture(params=WITH_A_WAY)
def model(request: pytest.FixtureRequest) -> VideoModel:
    return of_family(request.param)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - WITH_A_WAY))
def test_a_family_without_a_way_says_so(name: str) -> None:
    with pytest.raises(LabError, match=f"{name} knows no way between prompts or seeds"):
        interpolate(of_family(name), (LEFT, RIGHT), (3, 8), 5)


def test_both_ends_are_the_samples_of_their_prompt_and_seed(model: VideoModel) -> None:
    frames = interpolate(model, (LEFT, RIGHT), (3, 8), 5).astype(int)
    ends = sample_frames(model, [LEFT, RIGHT], [3, 8]).astype(int)
    assert np.abs(frames[[0, -1]] - ends).max() <= 1
    assert len({clip.tobytes() for clip in frames}) == 5


def test_between_equal_seeds_the_noise_stays(model: VideoModel) -> None:
    frames = interpolate(model, (LEFT, LEFT), (3, 3), 3).astype(int)
    assert np.abs(frames - sample_frames(model, [LEFT], [3])).max() <= 1


def test_clips_are_made_by_as_many_threads_as_the_family_asks_for(model: VideoModel) -> None:
    seen = []
    for network in model.modules():
        network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    with threads(2):
        sample_frames(model, [LEFT], [0])
        interpolate(model, (LEFT, RIGHT), (0, 1), 2)
        assert torch.get_num_threads() == 2
    assert set(seen) == {model.config.threads or 2}


def test_a_prompt_without_words_is_refused_on_the_way_too(model: VideoModel) -> None:
    for prompts in (("", RIGHT), (LEFT, "  ")):
        with pytest.raises(LabError, match="has no words"):
            interpolate(model, prompts, (0, 0), 2)


def test_the_way_is_named_by_its_ends_and_how_far_each_clip_is() -> None:
    assert interpolation_names((LEFT, RIGHT), (3, 3), 2) == (
        [f"{LEFT} to {RIGHT}, 0 %", f"{LEFT} to {RIGHT}, 100 %"],
        [3, 3],
    )
    names, seeds = interpolation_names((LEFT, LEFT), (3, 8), 3)
    assert names == [f"{LEFT}, seed 3 to 8, {share} %" for share in (0, 50, 100)]
    assert seeds == [3, -1, 8]


def test_a_way_of_one_clip_is_refused(model: VideoModel) -> None:
    with pytest.raises(LabError, match="a way has two ends and --count 1"):
        interpolate(model, (LEFT, RIGHT), (0, 0), 1)


def t2v(*arguments: object, monkeypatch: pytest.MonkeyPatch, command: str = "generate") -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["t2v", command, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_between_two_clips_of_ones_own_goes_a_family_that_can(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, tmp_path / "run", 1, "diffusion")
    clips = ClipStore(Manifest.load(data)).frames([0, 1])
    first, last = (save_clips(tmp_path / f"{i}.webp", clips[i : i + 1], [LEFT], [0], 10)[0] for i in range(2))
    asked = tmp_path / "run", LEFT, "--out", tmp_path / "way.npz", "--from-clip", first
    assert t2v(*asked, "--to-clip", last, "--count", 3, monkeypatch=monkeypatch) == 0
    frames, names, seeds = load_npz(tmp_path / "way.npz")
    assert frames.shape == (3, *clips.shape[1:]) and names[1] == f"{LEFT}, 50 %" and seeds == [0, 0, 0]
    for more, sentence in (((), "give both --from-clip and"), (("--to-clip", last, "--to-seed", 3), "leave --to-seed")):
        assert t2v(*asked, *more, monkeypatch=monkeypatch) == 2 and sentence in capsys.readouterr().err
    with pytest.raises(LabError, match="gan knows no way between clips"):
        dissolve(of_family("gan"), (clips[0], clips[1]), 5, (LEFT, LEFT), 0, 3)


def test_pictures_stand_where_they_are_known(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, run := tmp_path / "run", 1, "diffusion")
    train(data, other := tmp_path / "other", 1, "gan")
    one, two, wide = (tmp_path / f"{name}.png" for name in ("one", "two", "wide"))
    pictures = ClipStore(Manifest.load(data)).frames([0, 1])[:, 0]
    for path, picture in ((one, pictures[0]), (two, pictures[1]), (wide, np.zeros((16, 32, 3), np.uint8))):
        Image.fromarray(picture).save(path)

    def made(*options: object) -> Frames:
        out = tmp_path / "clips.npz"
        assert t2v(run, LEFT, "--count", 2, "--out", out, *options, monkeypatch=monkeypatch) == 0
        return load_npz(out)[0]

    begun = made("--first-frame", one)
    assert begun.shape == (2, 6, 16, 16, 3) and (begun[:, 0] == pictures[0]).all()
    assert np.array_equal(begun, made("--frame", f"0={one}"))
    between = made("--first-frame", one, "--frame", f"-1={two}")
    assert (between[:, 0] == pictures[0]).all() and (between[:, -1] == pictures[1]).all()
    assert not np.array_equal(between[:, 1:-1], begun[:, 1:-1])
    assert np.array_equal(between, made("--frame", f"5={two}", "--frame", f"0={one}"))
    for sampler, options, sentence in (
        (run, ("--frame", one), "--frame '.*one.png' is no place and picture: write 9=end.png"),
        (run, ("--frame", "3="), "--frame '3=' is no place and picture"),
        (run, ("--frame", f"6={one}"), "clips of 6 frames have no frame 6: use 0 to 5, or -1 for the last"),
        (run, ("--first-frame", one, "--frame", f"0={two}"), "frame 0 of clips of 6 is given twice"),
        (run, ("--frame", f"1={wide}"), "a known frame is 32 x 16 px, clips of diffusion 16 x 16: scale it"),
        (run, ("--frame", f"1={wide}", "--first-frame", one), "the pictures are of 16 x 16 and 32 x 16 px: scale"),
        (run, ("--frame", f"1={tmp_path / 'none.png'}"), "there is no picture .*none.png"),
        (
            run,
            ("--first-frame", one, "--to", RIGHT),
            "a way to another end is made as by default: leave --first-frame out",
        ),
        (run, ("--steps", 3, "--to", RIGHT, "--guidance", 2), "by default: leave --guidance, --steps out"),
        (other, ("--first-frame", one), "gan cannot take frames that are known, as for --first-frame, --frame and"),
    ):
        assert t2v(sampler, LEFT, *options, "--out", tmp_path / "no.npz", monkeypatch=monkeypatch) == 2
        said = capsys.readouterr().err
        assert re.search(sentence, said) and said.count("\n") == 1, said
    assert not (tmp_path / "no.npz").exists()


def test_what_is_to_be_avoided_changes_clips(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(data, tmp_path / "run", 1, "ar_tokens")

    def made(*options: object) -> Frames:
        out = tmp_path / "clips.npz"
        asked = tmp_path / "run", LEFT, "--count", 2, "--guidance", 60, "--out", out
        assert t2v(*asked, *options, monkeypatch=monkeypatch) == 0
        return load_npz(out)[0]

    free, avoiding = made(), made("--avoid", RIGHT)
    assert np.array_equal(avoiding, made("--avoid", RIGHT))
    assert not np.array_equal(avoiding, free) and not np.array_equal(avoiding, made("--avoid", "circle moving up"))


def test_what_makes_clips_is_exported_like_a_dataset(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    films, archive = tmp_path / "films", tmp_path / "real.npz"
    options = "--like", data, "--count", 2, "--seed", 5, "--kind", "npz"
    assert t2v("oracle", films, *options, command="export", monkeypatch=monkeypatch) == 0
    assert (
        t2v("oracle", LEFT, "--like", data, "--count", 1, "--seed", 6, "--out", archive, monkeypatch=monkeypatch) == 0
    )
    (first, *_) = [path for path in sorted(films.glob("*.txt")) if path.read_text() == f"{LEFT}\n"][1:]
    with np.load(first.with_suffix(".npz")) as film:
        assert np.array_equal(film["frames"], load_npz(archive)[0][0])
    assert t2v(archive, tmp_path / "again", command="export", monkeypatch=monkeypatch) == 0
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["000000000.mp4", "000000000.txt"]
    assert t2v("oracle", tmp_path / "no", command="export", monkeypatch=monkeypatch) == 2
    assert "oracle needs a dataset to draw from" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_baselines_and_archives_are_generated_from_like_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "real.npz", tmp_path / "again.npz"
    assert t2v("oracle", LEFT, "--like", data, "--count", 3, "--out", first, monkeypatch=monkeypatch) == 0
    assert t2v(first, LEFT, "--count", 3, "--out", again, monkeypatch=monkeypatch) == 0
    frames, prompts, seeds = load_npz(first)
    assert frames.shape == (3, 6, 16, 16, 3) and (prompts, seeds) == ([LEFT] * 3, [0, 1, 2])
    assert np.array_equal(frames, load_npz(again)[0])
    for wrong, sentence in (
        (("oracle", LEFT), "oracle needs a dataset to draw from"),
        (("oracle", LEFT, "--like", data, "--steps", 3), "oracle cannot take a number of steps"),
        (("oracle", LEFT, "--like", data, "--to", RIGHT), "oracle knows no way between"),
        ((first, LEFT, "--seed", 7), r"no clip of prompt .* with seed 7: of this prompt it has seeds 0, 1, 2"),
        ((first, RIGHT), r"no clip of prompt 'circle moving right'"),
        ((first, LEFT, "--size", "big"), "--size 'big' is no size"),
        ((first, LEFT, "--first-frame", tmp_path / "none.png"), "there is no picture"),
        ((first, LEFT, "--first-frame", data / "manifest.parquet"), "cannot be read as a picture"),
    ):
        assert t2v(*wrong, "--out", tmp_path / "no.npz", monkeypatch=monkeypatch) == 2
        said = capsys.readouterr().err
        assert re.search(sentence, said) and said.count("\n") == 1, said
    assert not (tmp_path / "no.npz").exists()
