"""Captions that are numbers: how they are read, that models follow them, and what does not know them says so."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli.main import main
from t2v_models.batch import Batch
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.families.diffusion.model import Diffusion
from t2v_models.families.texts import mixed, none_like
from t2v_models.judging.learnt import reference_of
from t2v_models.judging.own_clips import OwnClips
from t2v_models.sampler import Request, sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.text.numbers import Numbers, NumbersConfig
from t2v_models.text.split import are_vectors, meaning, numbers
from t2v_models.text.words import WordsConfig
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tasks.play import next_words, player, show
from tests.lights import HIGH, SPEC
from tests.owned import owned
from tests.runs import SMALL, built, quiet, run_of

CAPTIONS = ("0 10 5", "2 30 5", "4 50 5")


def encoder() -> Numbers:
    return NumbersConfig().fitted(CAPTIONS).build()


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("0.1 -0.3 2", (0.1, -0.3, 2)), (" 1e-3  +.5 2. ", (0.001, 0.5, 2)), ("7", (7,)), ("", ()), ("red 2", ()),
        ("0,1 2", ()), ("nan", ()), ("infinity", ()), ("1e999", ()), ("1_0", ()), ("0x10", ()), ("1-2", ()),
    ],
)  # fmt: skip
def test_what_is_a_row_of_numbers(caption: str, found: tuple[float, ...]) -> None:
    assert numbers(caption) == found


def test_numbers_mean_the_same_in_the_same_order_only_and_words_in_any() -> None:
    assert meaning("1 0.20") == meaning("1.0 .2") != meaning("0.2 1") and meaning("-1") != meaning("1")
    assert meaning("up, red") == meaning("red up")
    assert are_vectors(["0 1", "1 0"]) and are_vectors(["1", "1.5"]) and not are_vectors(["1", "2", "10"])
    assert not are_vectors(["0 1", "red"]) and not are_vectors([])


def test_a_caption_is_one_token_of_its_numbers_in_deviations_behind_a_1() -> None:
    text = encoder()(["2 30 5", "4 10 5.5"])
    far = 1.5**0.5
    assert text.mask.tolist() == [[True], [True]]
    torch.testing.assert_close(text.embeddings, torch.tensor([[[1, 0, 0, 0]], [[1, far, -far, 0.5]]]))
    assert not torch.equal(text.embeddings[:1], none_like(text).embeddings[:1]), "means are no missing caption"
    placed = NumbersConfig(positions=2).fitted(CAPTIONS).build()
    assert placed.width == 6 and placed(["2 30 5"]).embeddings[0, 0, 4:].tolist() == [1, 0]


def test_the_way_between_two_captions_goes_over_the_numbers_between() -> None:
    read = encoder()
    between = mixed(read(["0 10 5", "4 30 9"]), torch.tensor([0.25]))
    torch.testing.assert_close(between.embeddings, read(["1 15 6"]).embeddings)


def test_scales_are_those_of_all_lines_and_are_kept_with_the_run() -> None:
    config = NumbersConfig().fitted(["0 10 5\n2 30 5", "4 50 5", "4 50 5"])
    assert config == NumbersConfig().fitted(CAPTIONS) and config.means == (2, 30, 5) and config.deviations[2] == 1
    assert config.fitted(["100 100 100"]) == config
    assert NumbersConfig.model_validate_json(config.model_dump_json()) == config


def test_a_model_that_goes_on_reads_other_numbers_by_the_scales_it_learnt() -> None:
    earlier, other = NumbersConfig().fitted(CAPTIONS), NumbersConfig().fitted(["0 0 0", "1 1 1"])
    assert other.after(earlier) == earlier.model_copy(update={"least": (0, 0, 0)})
    assert NumbersConfig().fitted(["1 1 1", "9 9 9"]).after(earlier).most == (9, 50, 9)
    for another in (NumbersConfig().fitted(["0 1"]), WordsConfig().fitted(["red"])):
        with pytest.raises(LabError, match="its text encoder was another"):
            other.after(another)


@pytest.mark.parametrize("prompt", ["red", "1 2", "1 2 3 4", "1, 2, 3"])
def test_a_prompt_that_is_not_as_many_numbers_is_one_sentence(prompt: str) -> None:
    with pytest.raises(LabError, match=rf"prompt '{prompt}' is not 3 numbers .*: ask for such as '2 30 5'$"):
        encoder().check(prompt)


@pytest.mark.parametrize("prompt", ["1e30 30 5", "2 30 -1e300", "1e308 30 5"])
def test_a_number_far_from_all_that_was_seen_is_one_sentence(prompt: str) -> None:
    with pytest.raises(LabError, match=r"is more than 1000 deviations away .*, such as '2 30 5': use the unit"):
        encoder().check(prompt)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("0 10 5", ""), ("-2 70 5", ""), ("6 -10 5", ""), ("6.1 30 5", "(6.1, where captions went from 0 to 4)"),
        ("2 -11 5", "(-11, where captions went from 10 to 50)"), ("2 30 5.1", "(5.1, where captions went from 5 to 5)"),
        ("-9 99 5", "(-9, where captions went from 0 to 4; 99, where captions went from 10 to 50)"),
    ],
)  # fmt: skip
def test_a_number_far_outside_the_captions_is_told_once(prompt: str, told: str, caplog) -> None:
    read = encoder()
    with caplog.at_level(logging.WARNING):
        read([prompt])
        assert not caplog.records, "captions of a training are not told"
        read.check(prompt)
        read.check(prompt)
    assert len(caplog.records) == bool(told) and told in caplog.text


def test_an_earlier_run_that_did_not_keep_its_range_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    then = NumbersConfig().fitted(CAPTIONS).model_dump(exclude={"least", "most"})
    earlier = NumbersConfig.model_validate(then)
    earlier.build().check("900 900 900")
    assert (
        not caplog.records
        and earlier.model_dump() == then
        and NumbersConfig().fitted(CAPTIONS).after(earlier) == earlier
    )


@pytest.mark.parametrize(
    ("captions", "sentence"),
    [
        (["1e200 1", "-1e200 2"], "cannot compare numbers up to 1e.200: give them in a larger unit"),
        (["1 2", "red 2"], "'red 2' is something else: change the captions"),
        (["red", "1 2"], "'red' is something else"),
        (["1 2", "1 2\n3"], "'3' has 1 and '1 2' has 2: change the captions"),
    ],
)
def test_captions_that_are_no_vectors_of_one_length_are_one_sentence(captions: list[str], sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        NumbersConfig().fitted(captions)


def test_words_that_are_numbers_are_told_and_classes_are_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        WordsConfig().fitted(["1", "2", "10"])
        assert not caplog.records
        WordsConfig().fitted(["0.1 -2", "3 4"])
    assert "captions are numbers, as '0.1 -2', and words tell neither" in caplog.text


def bright(number: int, clips: int = 16) -> Batch:
    """Even fields; of a caption's two numbers the second says how light, from -1 to 1."""
    said = np.random.default_rng(number).uniform(-1, 1, (clips, 2)).round(2)
    light = torch.from_numpy(128 + 100 * said[:, 1]).view(-1, 1, 1, 1, 1)
    frames = light.expand(clips, SPEC.frames, SPEC.size, SPEC.size, 3).to(torch.uint8)
    return Batch(frames, tuple(f"{one} {other}" for one, other in said), seed=number)


@pytest.mark.slow
def test_a_model_follows_a_number_also_one_never_trained_and_between() -> None:
    changes = {"text_encoder": NumbersConfig(), "prediction": "x0", "lr": 0.01, "training_levels": HIGH, "steps": 8}
    torch.manual_seed(0)
    captions = [caption for number in range(20) for caption in bright(number).captions]
    model = SMALL["diffusion"].model_copy(update=changes).with_captions(captions).build(SPEC, {})
    assert isinstance(model, Diffusion)
    for step in range(250):
        model.training_step(bright(step), step, step / 250)

    def light(prompts: list[str], guidance: float) -> list[float]:
        made = model.make(Request(tuple(prompts), tuple(range(len(prompts))), guidance=guidance))
        return made.mean((1, 2, 3, 4)).mul(127.5).tolist()

    asked = [-0.8, -0.4, 0.0, 0.4, 0.8]
    found = light([f"{-number} {number}" for number in asked], 1.0)
    assert found == pytest.approx([100 * number for number in asked], abs=25)
    assert light([f"0.3 {number}" for number in asked], 1.0) == pytest.approx(found, abs=10), "the first says nothing"
    unheard = [model.make(Request((prompt,), (3,), guidance=0.0)) for prompt in ("0 -0.8", "0 0.8")]
    assert torch.equal(*unheard), "guidance 0 is no caption"
    ways = model.interpolate(("0 -0.8", "0 0.8"), (0, 0), 5).mean((1, 2, 3, 4))
    assert (np.diff(ways) > 0).all()


@pytest.mark.parametrize(
    "name", sorted(FAMILIES.keys() - {"video_tokenizer", "upsampler", "frame_autoencoder", "modelscope", "tuned"})
)
def test_clips_of_every_family_depend_on_the_numbers(name: str) -> None:
    torch.manual_seed(0)
    config = SMALL[name].model_copy(update={"text_encoder": NumbersConfig()})
    model = built(config, ClipSpec(size=16, frames=4), ["0.5 -1", "-0.5 1"])
    prompts = ["0.5 -1", "-30 20"]
    model.check(Request(tuple(prompts), (3, 3)))
    one, other = sample_frames(model, prompts, [3, 3])
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of people's own clips whose captions are two numbers."""
    said = [f"{i % 7 - 3} {i / 100}" for i in range(104)]
    return owned(tmp_path_factory.mktemp("numbered"), 104, 0.2, said)


def test_from_clips_with_numbers_to_a_clip_of_numbers(
    numbered: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = tmp_path / "run"
    config = SMALL["diffusion"].model_copy(update={"text_encoder": NumbersConfig()})
    store = ClipStore(Manifest.load(numbered))
    fit(run_of(numbered, config), store, TrainConfig(steps=2, probe_seconds=0), run, quiet)

    def t2v(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["t2v", "generate", str(run), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    out = tmp_path / "clips.npz"
    assert t2v("--count", 1, "--out", out, "--", "1 0.5", "-3 2e-1") == 0
    frames, prompts, _ = load_npz(out)
    assert frames.shape == (2, 6, 16, 16, 3) and prompts == ["1 0.5", "-3 2e-1"]
    assert t2v("1 0.5", "--to", "-1 0.25", "--count", 3, "--out", out) == 0
    for wrong, sentence in (
        ("-3 2", "no such option: -3; a prompt that begins with a minus stands behind all options and --"),
        ("1 2 3", "prompt '1 2 3' is not 2 numbers with blanks between"),
    ):
        assert t2v(wrong, "--out", tmp_path / "no.npz") == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert t2v("1 9", "--count", 1, "--out", out) == 0
    assert "prompt '1 9' is far outside" in caplog.text and "(9, where captions went from 0 to 1.03)" in caplog.text
    page = player(str(run), tmp_path)
    assert "<img" in show([page], "1 0.5", 0, 1)
    assert set(page.prompts) <= set(store.captions) and next_words("1 ", page.prompts, ()) == []


def test_a_judge_that_would_learn_words_of_numbers_says_so(numbered: Path) -> None:
    with pytest.raises(LabError, match=r"the captions of .* are numbers, as '.*', of which a judge would learn words"):
        reference_of(OwnClips.of(numbered))
