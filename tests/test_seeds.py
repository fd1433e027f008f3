"""Means over training seeds: closed forms, and what may not be averaged."""

import json
import math
import os
import shutil
from itertools import repeat
from pathlib import Path

import pytest

from flows.cli.main import main
from t2v_models import checkpoint
from t2v_models.config import LabError
from t2v_models.judging.scores import EvaluateConfig, Evaluation, over_seeds
from t2v_models.judging.statistics import Score, wilson
from t2v_models.shards.manifest import Manifest
from t2v_models.training import run_log
from tasks.report.judged_run import JudgedRun
from tasks.report.seeds import print_seeds, repeats, times_of
from tests.judged import evaluated, trained


def score(value: float, n: int = 100) -> Score:
    return Score(value=value, low=0, high=1, n=n)


def test_the_mean_over_seeds_has_the_interval_of_student() -> None:
    """Of 1, 2, 3 the mean is 2 and its standard error 1 / sqrt(3); t for two degrees of freedom is 4.3027."""
    runs = [{"s0": {"traj_rmse": score(v), "prompt_acc": score(v / 3)}} for v in (1, 2, 3)]
    found = over_seeds(runs)["s0"]  # type: ignore[arg-type]
    half = 4.302652729911275 / math.sqrt(3)
    error = found["traj_rmse"]
    assert (error.value, error.n) == (2, 300)
    assert (error.low, error.high) == pytest.approx((2 - half, 2 + half))
    share = found["prompt_acc"]
    assert (share.value, share.low, share.high) == pytest.approx((2 / 3, 0, 1)), "a share is cut to what it can be"


def test_figures_that_not_all_runs_have_are_left_out() -> None:
    one = {"s0": {"valid": score(1), "copy_rate": score(0)}, "s3": {"valid": score(1)}}
    found = over_seeds([one, {"s0": {"valid": score(0.5)}}])  # type: ignore[list-item]
    assert found.keys() == {"s0"}
    assert found["s0"].keys() == {"valid"}


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [trained(data, tmp_path_factory.mktemp("runs") / f"run-{seed}", seed, repeat(0.92)) for seed in (4, 9)]


def test_every_figure_is_the_mean_of_the_runs(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = repeats(runs)
    scores, times = over_seeds([judged.evaluation.scores for judged in found]), times_of(found)
    each = [Evaluation.model_validate_json((run / "evaluation" / "scores.json").read_bytes()).scores for run in runs]
    assert scores.keys() == {"s1", "s3"}
    for split, figures in scores.items():
        assert figures.keys() == each[0][split].keys() & each[1][split].keys()
        for metric, figure in figures.items():
            mean = (each[0][split][metric].value + each[1][split][metric].value) / 2
            assert figure.value == pytest.approx(mean, nan_ok=True), metric
    assert (times["seed"], times["updates"]) == ([4, 9], [2, 2])
    first_look = [next(f for f in run_log.history(run).values() if "train/seconds" in f) for run in runs]
    assert times["reach/90_seconds"] == [figures["train/seconds"] for figures in first_look]
    assert times["reach/95_seconds"] == [None, None]
    print_seeds(found, scores, times)
    said = capsys.readouterr().out
    assert "s3, 2 seeds: 24 clips" in said, said
    assert "never" in said


def test_of_a_run_that_was_evaluated_otherwise_since_it_is_said_which_evaluation_counts(
    runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    again = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    assert not any(judged.newer for judged in repeats(again))
    newer = Path(shutil.copytree(again[0] / "evaluation", again[0] / "evaluation-s3-6x-seed0"))
    os.utime(newer / "scores.json", (2e9, 2e9))
    first, second = repeats(again)
    assert (first.newer, second.newer) == ([newer], []) and first.place == again[0] / "evaluation"
    assert f"{newer} is newer and judged otherwise" in capfd.readouterr().err


def test_own_clips_have_means_over_seeds_too(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        JudgedRun(Path(), Evaluation(name="gan", source="", config=EvaluateConfig(), scores=scores), Path(), None)
        for scores in ({"own": {"r_precision_1": wilson(hits, 40)}} for hits in (20, 30))
    ]
    print_seeds(runs, over_seeds([run.evaluation.scores for run in runs]), {})
    said = capsys.readouterr().out
    assert "own, 2 seeds: 80 clips" in said and "62.5 %" in said


def test_the_command_prints_tables_and_json(runs: list[Path], monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["t2v", "seeds", *map(str, runs), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    *tables, last = capsys.readouterr().out.splitlines()
    assert any("worst_prompt_acc" in line for line in tables)
    told = json.loads(last)
    assert told["runs"] == [str(run) for run in runs]
    assert told["scores"]["s3"]["valid"]["n"] == 24
    assert told["reach/95_seconds"] == [None, None]


def test_what_is_no_repetition_is_one_sentence(data: Path, runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(LabError, match="two runs or more, found 1"):
        repeats(runs[:1])
    with pytest.raises(LabError, match="seed 4 is there more than once"):
        repeats([runs[0], runs[1], runs[0]])
    with pytest.raises(LabError, match="is neither a run nor an evaluation"):
        repeats([runs[0], tmp_path])
    baseline = evaluated("frozen", tmp_path / "frozen", Manifest.load(data).config)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="frozen is no evaluation of a training: name run folders"):
        repeats([runs[0], baseline])
    other = trained(data, tmp_path / "other", 5, repeat(0.92), splits=("s3",))
    with pytest.raises(LabError, match=r"other differ in more than their seed \(evaluation.*: use 't2v compare'"):
        repeats([runs[0], other])


def test_runs_of_other_lengths_are_no_repetition(data: Path, runs: list[Path], tmp_path: Path) -> None:
    """Of equal updates the minutes may differ, as on a busy machine; of other numbers of updates they may not."""
    longer = trained(data, tmp_path / "longer", 5, repeat(0.92), steps=3)

    def after(minutes: float) -> list[Path]:
        folder = tmp_path / f"{minutes}"
        shutil.copytree(longer, folder)
        last = checkpoint.newest(folder)
        assert last is not None
        state = checkpoint.folder(folder) / f"step-{last.step:08d}.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"seconds": 60 * minutes}))
        first = tmp_path / f"{minutes}-first"
        shutil.copytree(runs[0], first)
        state = checkpoint.folder(first) / "step-00000002.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"seconds": 60.0}))
        return [first, folder]

    assert len(repeats(after(1.05))) == 2
    with pytest.raises(LabError, match=r"trained for 1.0 to 1.2 minutes: take runs of one length"):
        repeats(after(1.2))
