"""What can be judged: archives from anywhere and baselines, and the sentences for what cannot."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.media import save_clips
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.figures import accuracy
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.sampler import Request, sample_all, sample_frames
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.splits import SPLITS
from tasks.subjects import Subject, asked_of, dataset_like, subject, taken, title
from tests.commands import t2v
from tests.grammar import judge, oracle
from tests.runs import SMALL, train
from tests.tiny import SPEC

DATA = DatasetConfig(spec=ClipSpec(size=32))
SHAPES = DatasetConfig(world="shapes", coverage=43, spec=ClipSpec(size=32))


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


def test_an_archive_of_other_peoples_clips_needs_frames_and_prompts_only(tmp_path: Path) -> None:
    prompts = ["circle moving left", "a red square moving left"]
    np.savez(tmp_path / "theirs.npz", frames=oracle(DATA.spec, prompts, [0, 1]), prompts=np.array(prompts))
    who = subject(tmp_path / "theirs.npz")
    assert (who.data.world, who.data.spec.size) == ("shapes", 32)
    assert sum(len(prompts) for prompts, _ in asked_of(who, EvaluateConfig()).values()) == 2


@pytest.mark.parametrize("data", [DATA, SHAPES, DATA.model_copy(update={"bands": True}),
                                  SHAPES.model_copy(update={"bands": True})])  # fmt: skip
def test_every_prompt_of_a_split_is_sorted_into_that_split(data: DatasetConfig) -> None:
    for split in SPLITS:
        prompts = data.asked(split)
        assert {data.split_of(prompt) for prompt in prompts} <= {split}
    assert {data.split_of(prompt) for prompt in data.prompts} == {"s0"}


@pytest.mark.parametrize(
    ("run", "called"),
    [("runs/gan-1.5/", "gan-1.5"), ("a/theirs.npz", "theirs"), ("oracle", "oracle"), ("models:/m@champion",) * 2],
)
def test_what_is_judged_is_called_what_a_person_calls_it(run: str, called: str) -> None:
    assert title(run) == called


def archive(folder: Path, prompts: list[str], shape: tuple[int, ...] = (10, 32, 32)) -> Path:
    """Blank clips under these prompts."""
    path = folder / "clips.npz"
    np.savez(path, frames=np.zeros((len(prompts), *shape, 3), np.uint8), prompts=np.array(prompts))
    return path


@pytest.mark.parametrize(
    ("prompt", "shape", "like", "sentence"),
    [
        ("circle moving lefft", (10, 32, 32), None, "cannot be judged: unknown word 'lefft'.*did you mean 'left'"),
        ("circle", (10, 32, 32), None, "names no known motion"),
        ("square moving left", (10, 32, 32), None, "names no colour for the square"),
        ("circle moving left", (10, 32, 24), DATA, "10 frames of 24 x 32 px, the dataset 10 frames of 32 x 32"),
        ("circle moving left", (3, 32, 32), None, r"cannot be judged: .* have 4 frames or more, .*\(found 3\)"),
        ("circle moving left", (10, 8, 8), None, r"height: .*equal to 16 \(found 8\)"),
        ("circle moving left", (8, 32, 32), DATA, "8 frames of 32 x 32 px, the dataset 10 frames.*--like"),
        ("circle moving left", (10, 64, 64), DATA, "64 x 64 px, the dataset 10 frames of 32 x 32"),
        ("red square moving left", (10, 32, 32), DATA, "shows a red square, and the circles world has blue"),
        ("small circle moving left", (10, 32, 32), DATA, "says 'small', and no caption of the dataset names.*--bands"),
        ("circle moving left fast", (16, 32, 32), None, "cannot be judged: bands of 16 frames.*10 frames or fewer"),
        ("circle flying left", (10, 32, 32), DATA, "unknown word 'flying'"),
    ],
)
def test_an_archive_that_cannot_be_judged_is_one_sentence(
    prompt: str, shape: tuple[int, ...], like: DatasetConfig | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(LabError, match=sentence) as said:
        subject(archive(tmp_path, [prompt], shape), like)
    assert "\n" not in str(said.value)


def test_what_cannot_be_judged_is_said(tmp_path: Path, data: Path) -> None:
    with pytest.raises(LabError, match="--like"):
        subject("noise")
    with pytest.raises(LabError, match="orcale does not exist.*did you mean 'oracle'"):
        subject("orcale")
    with pytest.raises(LabError, match="no clips at"):
        subject(tmp_path / "nowhere.npz")
    path = archive(tmp_path, ["circle moving left"])
    with pytest.raises(LabError, match="32 px, the dataset 6 frames of 16 x 16 px"):
        subject(path, dataset_like(data))
    with pytest.raises(LabError, match="split s3"):
        asked_of(subject(path), EvaluateConfig(splits=("s3",)))
    with pytest.raises(LabError, match="split s4 .* is empty, the dataset says nothing of size or speed.*--bands"):
        asked_of(subject("oracle", DATA), EvaluateConfig(splits=("s4",)))


def taught(*captions: str) -> Subject:
    """A model that knows the words of these captions only."""
    model = SMALL["gan"].with_captions(captions).build(SPEC, {})
    vocabulary = model.text.vocabulary
    return Subject("gan", "", 0, DATA, partial(sample_frames, model), sampler=model, vocabulary=vocabulary)


def test_captions_with_unknown_words_are_refused_and_counted_apart() -> None:
    who = taught("account add", "bell off")
    prompts = ["account smile", "bell add", "account smile", "Off-bell", "speedometer loop"]
    asked, refused = taken(who, {"own": (prompts, [0, 1, 2, 3, 4])})
    assert asked == {"own": (["bell add", "Off-bell"], [1, 3])}
    assert len(who.sample(*asked["own"])) == 2
    told = refused["own"]
    assert list(told.prompts) == ["account smile", "speedometer loop"]
    assert "not trained on the word 'smile'" in told.prompts["account smile"]
    assert str(told) == "refused 2 of 4 prompts: unknown words smile, speedometer, loop"
    assert (told.share.value, told.share.n) == (0.5, 4)


def test_where_all_are_refused_there_is_nothing_to_judge() -> None:
    with pytest.raises(LabError, match="gan takes no prompt of split own: .*not trained on the word 'smile'"):
        taken(taught("account add", "bell off"), {"own": (["smile"], [0])})


def test_of_words_never_trained_all_may_be_refused() -> None:
    who = taught(*DATA.prompts)
    asked, refused = taken(
        who, {"s0": (["circle moving up"], [0]), "s7": (["disc moving up", "circle rising"], [0, 1])}
    )
    assert asked == {"s0": (["circle moving up"], [0])}
    assert str(refused["s7"]) == "refused 2 of 2 prompts, so it is not judged: unknown words disc, rising"


def test_a_split_of_words_that_no_clip_showed_is_left_out_unless_it_is_asked_for_by_name() -> None:
    who = taught("circle moving up", "circle moving left")
    asked = {"s0": (["circle moving up"], [0]), "s1": (["the circle moving up"], [0])}
    found, refused = taken(who, asked)
    assert list(found) == ["s0"]
    assert str(refused["s1"]) == "refused 1 of 1 prompts, so it is not judged: unknown word the"
    with pytest.raises(LabError, match="gan takes no prompt of split s1: .*not trained on the word 'the'"):
        taken(who, asked, ("s0", "s1"))


def test_what_takes_all_prompts_refuses_none() -> None:
    asked = {"s0": (["circle moving left"] * 2, [3, 4])}
    assert taken(subject("oracle", DATA), asked) == (asked, {})


def test_a_run_is_judged_as_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(guidance=3, steps=1)
    train(data, tmp_path / "run", 1, "diffusion")
    asked, seeds = ("circle moving left", "circle moving up"), (3, 4)
    who = subject(tmp_path / "run", wishes=config.wishes)
    wanted = sample_all(who.sampler, Request(asked, seeds, guidance=3, steps=1))
    assert np.array_equal(who.sample(asked, seeds), wanted)
    assert not np.array_equal(subject(tmp_path / "run").sample(asked, seeds), wanted)
    assert config.wishes_in_words == " guidance 3 steps 1" and EvaluateConfig().wishes_in_words == ""
    with pytest.raises(LabError, match="makes a clip in 1 step or more"):
        taken(subject(tmp_path / "run", wishes=Request((), (), steps=0)), {"s0": (list(asked), list(seeds))})


def test_what_is_asked_beside_prompts_changes_no_digest_where_it_is_nothing() -> None:
    assert set(EvaluateConfig().model_dump()) == {"splits", "clips_per_prompt", "seed"}


def test_what_makes_no_clips_of_prompts_is_asked_for_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot take guidance: leave --guidance out"):
        subject(archive(tmp_path, ["circle moving left"]), wishes=Request((), (), guidance=2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # prefect's own
@pytest.mark.usefixtures("server")
def test_scores_of_archives_of_one_name_are_kept_apart(tmp_path: Path, work: Path) -> None:
    prompts = ["circle moving left", "circle moving up"]
    real = oracle(DATA.spec, prompts, [0, 1])
    names = tmp_path / "a" / "clips.npz", tmp_path / "b" / "clips.npz"
    for name, frames in zip(names, (real, np.zeros_like(real)), strict=True):
        save_clips(name, frames, prompts, [0, 1], 10)
        t2v("evaluate", name, "--work", work)
    places = sorted((work / "evaluations").glob("clips-*/scores.json"))
    assert len(places) == 2 and len({json.loads(place.read_text())["source"] for place in places}) == 2
    t2v("compare", *names, "--out", tmp_path / "page", "--work", work)
    assert (tmp_path / "page" / "report.html").is_file()
