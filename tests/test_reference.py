"""The judge of clips without truth: proven on real clips, refused where it fails, and kept."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.cli.main import main
from t2v_models.config import LabError
from t2v_models.judging import learnt, proof
from t2v_models.judging.copies import inner, nearest_copy, nearest_to
from t2v_models.judging.encoders import Encoders, train
from t2v_models.judging.learnt import KEPT, Bounds, reference_of
from t2v_models.judging.left_out import left_out
from t2v_models.judging.metrics import METRICS
from t2v_models.judging.own_clips import CONTROLS, OF_THE_OWN, Frames, OwnClips
from t2v_models.judging.reference import Reference
from t2v_models.judging.scores import EvaluateConfig, pleases
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Verdict, verdicts_of
from t2v_models.leaderboard.compare import differences
from t2v_models.leaderboard.gate import GateConfig, decide, figures_of
from tasks import evaluate as judging
from tasks.evaluate import judge_split
from tasks.subjects import asked_of, subject
from tests.owned import CAPTIONS, owned
from tests.tiny import TINY

pytestmark = pytest.mark.slow
STEPS, BATCH = 50, 48


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return owned(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def learnt_judge(data: Path) -> tuple[Reference, Bounds]:
    return reference_of(OwnClips.of(data), steps=STEPS, batch=BATCH)


def test_real_clips_are_the_ceiling_and_clips_drawn_whatever_is_asked_the_floor(
    learnt_judge: tuple[Reference, Bounds],
) -> None:
    _, bounds = learnt_judge
    assert list(bounds) == list(CONTROLS)
    assert bounds["oracle"]["r_precision_1"].value > 0.7 > 0.2 > bounds["unconditional"]["r_precision_1"].value
    assert proof.fault(bounds) == ""


def test_what_no_learning_is_needed_for_is_as_it_must_be(learnt_judge: tuple[Reference, Bounds]) -> None:
    _, bounds = learnt_judge
    figures = {name: {key: score.value for key, score in found.items()} for name, found in bounds.items()}
    assert figures["frozen"]["energy"] == 0 and figures["reversed"]["energy"] == figures["oracle"]["energy"]
    assert figures["copied"]["copy_rate"] == 1
    assert figures["blurred"]["sharpness"] < figures["oracle"]["sharpness"] < figures["noise"]["sharpness"]
    assert figures["oracle"]["diversity"] == pytest.approx(1)
    assert figures["reversed"]["r_precision_motion"] < figures["oracle"]["r_precision_motion"]
    assert figures["unordered"]["r_precision_appearance"] > figures["noise"]["r_precision_appearance"]
    assert all(METRICS[name].judge in (None, "reference") for name in figures["oracle"])


def test_the_view_of_looks_does_not_see_the_order_of_frames_and_that_of_motion_nothing_still(
    learnt_judge: tuple[Reference, Bounds],
) -> None:
    reference, _ = learnt_judge
    views = reference.own.training_views[:4]
    ends = reference.encoders.see(views[:, [9, *range(1, 9), 0]])
    assert np.allclose(ends["appearance"], reference.encoders.see(views)["appearance"], atol=1e-5)
    held = reference.encoders.see(np.repeat(views[:, :1], views.shape[1], axis=1))["motion"]
    assert np.allclose(held, held[0], atol=1e-6)


def test_a_verdict_names_the_caption_that_is_nearer(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, _ = learnt_judge
    asked, shown = "a red square moves left", "a blue square moves right"
    clips = CONTROLS["oracle"](reference.own, [shown], [3])
    (right,) = reference.judge(clips, [shown], [3]).verdicts
    (wrong,) = reference.judge(clips, [asked], [3]).verdicts
    assert right.right and right.rank == 1 and wrong.rank > 1
    assert wrong.mark == "wrong" and wrong.reason == f"nearer to {shown!r}"


def test_the_judge_is_learnt_once_and_a_damaged_one_again(
    data: Path, learnt_judge: tuple[Reference, Bounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnt, "train", lambda *args: pytest.fail("it is kept"))
    again, bounds = reference_of(OwnClips.of(data), steps=STEPS, batch=BATCH)
    assert bounds == learnt_judge[1]
    clips = CONTROLS["oracle"](again.own, CAPTIONS, range(16))
    first, second = (judge.judge(clips, CAPTIONS, range(16)) for judge in (learnt_judge[0], again))
    assert first.verdicts == second.verdicts
    whole = (data / KEPT).read_bytes()
    (data / KEPT).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BaseException, match="it is kept"):
        reference_of(OwnClips.of(data), steps=STEPS, batch=BATCH)
    (data / KEPT).write_bytes(whole)


def test_captions_that_say_nothing_of_the_clips_are_refused(data: Path) -> None:
    own = OwnClips.of(data)
    drawn = np.random.default_rng(0).permutation(own.training_captions)
    encoders = train(own.training_views, [str(caption) for caption in drawn], own.config.meaning, steps=1, batch=BATCH)
    found = proof.controls(Reference(own, encoders), lambda share, note: None)
    assert "'own caption' is" in proof.fault(found) and "of clips drawn whatever is asked" in proof.fault(found)


def test_equal_seeds_give_equal_encoders(data: Path) -> None:
    own = OwnClips.of(data)
    found = [
        train(own.training_views, own.training_captions, own.config.meaning, steps=2, batch=BATCH) for _ in range(2)
    ]
    (first, second) = (encoders.see(own.training_views[:3]) for encoders in found)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_ceiling_and_floors_are_of_the_prompts_that_were_judged(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, proven = learnt_judge
    own, told = reference.own, lambda share, note: None
    assert proof.controls_of(reference, proven, own.asked(2), told) is proven
    easy = [caption for caption in own.captions if "red" in caption]
    found = proof.controls_of(reference, proven, easy, told)
    seeds = range(len(easy))
    real = reference.judge(CONTROLS["oracle"](own, easy, seeds), easy, seeds)
    assert found["oracle"] == reference.figures(real, real) and [*found] == [*proven]
    assert {bound["r_precision_1"].n for bound in found.values()} == {len(easy)} != {len(own.captions)}


def test_a_real_clip_is_never_set_beside_itself(tmp_path: Path) -> None:
    said = [f"{CAPTIONS[i % 16]} number {i}" if i % 2 else CAPTIONS[i % 16] for i in range(160)]
    own = OwnClips.of(owned(tmp_path, 160, captions=said))
    reference, numbered = Reference(own, Encoders.fresh(own.captions)), [c for c in own.captions if "number" in c]
    found = proof.controls(reference, lambda share, note: None)
    with_others = len(own.captions) - len(numbered)
    assert 0 < with_others < len(own.captions)
    for name, figures in found.items():
        n = with_others if name in OF_THE_OWN else len(own.captions)
        assert {figures[key].n for key in proof.BESIDE} == {n}, name
    assert found["oracle"]["own_rmse"].value > 0 and found["oracle"]["motion_corr"].value < 0.99
    told = left_out(own, own.captions, found["oracle"])[0]
    assert f"of real clips are of {with_others} of {len(own.captions)} prompts" in told
    alone = proof.controls(reference, lambda share, note: None, numbered)["oracle"]
    assert not {*proof.BESIDE} & {*alone} and alone["r_precision_1"].n == len(numbered)


@pytest.mark.filterwarnings("error")
def test_figures_that_are_left_out_are_named_with_why(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, bounds = learnt_judge
    own, caption = reference.own, CAPTIONS[0]
    assert left_out(own, own.asked(1), bounds["oracle"]) == ()
    one = reference.judge(CONTROLS["oracle"](own, [caption] * 8, [0] * 8), [caption] * 8, [0] * 8)
    figures = reference.figures(one, one)
    distances, diversity, spread = left_out(own, [caption] * 8, figures)
    count = own.captions.count(caption)
    assert "take 64 clips kept for validation" in distances and distances.endswith(f"are {count} and {count // 2}")
    assert "diversity is left out: the real clips of what was asked do not differ" in diversity
    assert spread.startswith("caption_spread is left out") and "r_precision_1" in figures
    assert left_out(own, CAPTIONS, figures)[2] == "caption_spread is left out: no caption was asked twice"


@pytest.mark.parametrize(
    ("count", "validation", "captions", "sentence"),
    [
        (20, 0.4, None, "so no figure of samples is told .own caption, .*: their judge takes 100 and 8"),
        (104, 0.0, None, "keeps no clips for validation, so no figure of samples is told"),
        (104, 0.1, ["a thing moves"] * 104, "say all the same, so no figure of samples"),
    ],
)
def test_a_dataset_that_cannot_have_a_judge_is_one_sentence(
    tmp_path: Path, count: int, validation: float, captions: list[str] | None, sentence: str
) -> None:
    with pytest.raises(LabError, match=sentence):
        OwnClips.of(owned(tmp_path, count, validation, captions))


def test_the_nearest_training_clip_is_found_with_its_distance() -> None:
    rng = np.random.default_rng(0)
    known, points = rng.random((300, 7), np.float32), rng.random((520, 7), np.float32)
    rows, far = nearest_to(points, known)
    table = ((points[:, None] - known) ** 2).mean(2)
    assert np.array_equal(rows, table.argmin(1)) and np.allclose(far, np.sqrt(table.min(1)), atol=1e-6)


def test_a_copy_that_is_darker_or_a_little_aside_is_one(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, _ = learnt_judge
    prompts = list(reference.own.training_captions[:40])
    copies = reference.own.training.frames(reference.own.training_rows[:40])

    def rate(clips: Frames) -> float:
        return reference.figures(*[reference.judge(clips, prompts, range(40))] * 2)["copy_rate"].value

    beside = np.pad(copies, [(0, 0)] * 3 + [(1, 0), (0, 0)])[:, :, :, :-1]  # a black column where it came in
    for changed in (copies - 8, 0.7 * copies, 128 + 0.6 * (copies - 128.0), beside):
        assert rate(changed.round().astype(np.uint8)) > 0.9
    assert rate(CONTROLS["oracle"](reference.own, prompts, range(40))) < 0.2


def test_a_copy_between_two_pixels_is_nearer_than_by_whole_ones() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 36, 32, 3)).astype(np.uint8)
    views = np.stack([[cv2.blur(frame, (5, 5)) for frame in clip] for clip in noise]).transpose(0, 1, 4, 2, 3)[
        ..., 2:34, :
    ]
    known, right = inner(views), np.roll(views, 1, 4)
    half = ((views.astype(int) + right) // 2).astype(np.uint8)
    assert nearest_copy(right, known).max() == 0
    assert (nearest_copy(half, known) < 0.5 * nearest_to(inner(half), known)[1]).all()
    assert nearest_copy(views[:4], known[4:]).min() > 1


def test_words_that_were_never_trained_say_nothing() -> None:
    encoders = Encoders.fresh(["a cat runs"])
    read = encoders.read(["cat", "cat zebra", "zebra"])["motion"]
    assert np.isfinite(read).all() and not np.allclose(read[0], read[2])


def evaluated(data: Path, name: str, out: Path) -> tuple[dict[str, Score], Bounds, list[Verdict]]:
    """A control as `t2v evaluate` judges it."""
    who = subject(name, own=data)
    ((split, asked),) = asked_of(who, EvaluateConfig(clips_per_prompt=2)).items()
    scores, bounds, _ = judge_split.fn(who, split, asked, out, out / "real")
    assert split == "own" and asked[0] == list(OwnClips.of(data).captions)
    return scores, bounds, verdicts_of(pq.read_table(out / "verdicts.parquet"))


def test_own_clips_are_evaluated_compared_and_gated_as_rendered_ones(
    data: Path, learnt_judge: tuple[Reference, Bounds], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "reference_of", partial(reference_of, steps=STEPS, batch=BATCH))
    real, bounds, verdicts = evaluated(data, "oracle", tmp_path / "real")
    random, _, others = evaluated(data, "unconditional", tmp_path / "random")
    assert bounds == learnt_judge[1]
    assert "prompt_acc" not in real and real["r_precision_1"].low > random["r_precision_1"].high
    assert all(score.low <= score.value <= score.high for score in (*real.values(), *random.values()))
    assert real["energy"].value == pytest.approx(1, abs=0.1) and real["caption_spread"].n == len(verdicts)
    found = {gap.metric: gap for gap in differences(others, verdicts)}
    assert found["r_precision_1"].better and "valid" not in found
    scores = {"own": real}
    config = GateConfig().of(scores)
    assert decide(figures_of(scores), figures_of({"own": random}), {}, config).promoted
    assert not decide(figures_of({"own": random}), figures_of(scores), {}, config).promoted


def test_a_model_that_hears_nothing_is_no_first_champion(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, bounds = learnt_judge
    prompts = reference.own.asked(8)
    seeds = range(len(prompts))
    real = reference.judge(CONTROLS["oracle"](reference.own, prompts, seeds), prompts, seeds)
    common = max(sorted(set(prompts)), key=prompts.count)
    always = np.repeat(CONTROLS["oracle"](reference.own, [common], [0]), len(prompts), axis=0)
    judged = reference.judge(always, prompts, seeds)
    floor = figures_of({"own": bounds["unconditional"]})
    config = GateConfig().of({"own": {}})
    refused, taken = (
        decide(figures_of({"own": reference.figures(one, real)}), None, floor, config) for one in (judged, real)
    )
    assert 0 < refused.changes[0].challenger.value <= prompts.count(common) / len(prompts)
    assert not refused.promoted and taken.promoted


def test_a_model_that_flickers_or_does_not_move_is_no_first_champion(learnt_judge: tuple[Reference, Bounds]) -> None:
    reference, bounds = learnt_judge
    prompts = reference.own.asked(1)
    seeds, floor = range(len(prompts)), figures_of({"own": bounds["unconditional"]})
    real = CONTROLS["oracle"](reference.own, prompts, seeds)
    flicker = (real.astype(int) + np.resize([0, -60], real.shape[1])[:, None, None, None]).clip(0, 255).astype(np.uint8)
    config = GateConfig().of({"own": {}})
    assert "own/energy_match" in config.guarded
    beside = reference.judge(real, prompts, seeds)
    for clips, taken in ((real, True), (flicker, False), (CONTROLS["frozen"](reference.own, prompts, seeds), False)):
        figures = reference.figures(reference.judge(clips, prompts, seeds), beside)
        figures["r_precision_1"] = bounds["oracle"]["r_precision_1"]  # however it pleases the judge
        decision = decide(figures_of({"own": figures}), None, floor, config)
        assert decision.promoted == taken and ("moves too unlike real clips" in decision.reason) != taken


def test_the_floor_is_as_often_right_as_anything_deaf_can_be(tmp_path: Path) -> None:
    said = [CAPTIONS[0] if i % 5 < 3 else CAPTIONS[i % len(CAPTIONS)] for i in range(200)]
    for captions, common in ((None, 16), (said, 1)):
        own = OwnClips.of(owned(tmp_path / str(common), 200, captions=captions))
        prompts = own.asked(4)
        found = CONTROLS["unconditional"](own, prompts, range(len(prompts)))
        clips = own.real(range(len(own.rows)))
        known = {clip.tobytes(): caption for clip, caption in zip(clips, own.captions, strict=True)}
        shown = [known[clip.tobytes()] for clip in found]
        best = max(own.captions.count(caption) for caption in set(own.captions)) / len(own.captions)
        right = np.mean([one == prompt for one, prompt in zip(shown, prompts, strict=True)])
        assert right == pytest.approx(best, abs=0.05) and len(set(shown)) <= common


def test_what_pleases_the_judge_more_than_real_clips_counts_for_no_more() -> None:
    real, fooled = (Score(value=v, low=v - 0.02, high=v + 0.02, n=900) for v in (0.8, 0.96))
    figure = "r_precision_1"
    assert pleases(figure, fooled, real) and not pleases(figure, real, fooled)
    counted = figures_of({"own": {figure: fooled}}, {"own": {figure: real}})["own/r_precision_1"]
    assert counted.value == real.value and counted.low <= real.value <= counted.high
    assert not pleases("prompt_acc", fooled, real)


def test_splits_made_on_meaning_are_refused_of_own_clips_before_their_judge_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = owned(tmp_path, 120)
    monkeypatch.setattr("sys.argv", ["t2v", "evaluate", "oracle", "--like", str(data), "--split", "s3"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "split s3 is made on meaning" in capsys.readouterr().err
    assert not (data / KEPT).exists()
    with pytest.raises(LabError, match="own clips have no baseline blank: allowed: oracle, unconditional"):
        subject("blank", own=data)
    with pytest.raises(LabError, match="split own is of people's own clips"):
        asked_of(subject("oracle", TINY), EvaluateConfig(splits=("own",)))
