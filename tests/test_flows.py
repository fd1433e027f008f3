"""The whole lab as a user runs it: one command, then the same command again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flows.cli.main import main
from tasks.servers.runtime import prefect_api
from tests.pretrained import pipeline_folder
from tests.tiny import prepared

ROOT = Path(__file__).parents[1]
T2V = str(Path(sys.executable).with_name("t2v"))
RUN = ("run", "--profile", "smoke", "--set", "gate.floor=null")


def last_line(said: str) -> dict[str, Any]:
    """What `--json` leaves on the last line."""
    return json.loads(said.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder, the result and everything a person saw of the command in a process of its own."""
    folder = tmp_path_factory.mktemp("lab")
    home = folder / "home"
    home.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_"))}
    done = subprocess.run([T2V, *RUN, "--json"], cwd=folder, capture_output=True, text=True,
                          timeout=1200, env=clean | {"HOME": str(home)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(home.iterdir()), "something was written to the user's home"
    return folder, last_line(done.stdout), done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(lab: tuple[Path, dict[str, Any], str]) -> Iterator[str]:
    """A Prefect server for the commands after the first, which has started its own."""
    folder, *_ = lab
    with prepared(folder / "work"), prefect_api(folder / "work") as url:
        yield url


Command = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def t2v(
    lab: tuple[Path, dict[str, Any], str], server: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:  # fmt: skip
    """A later command in this process, since the imports of one take seconds: its result, and what a person saw."""
    monkeypatch.chdir(lab[0])

    def run(*arguments: str) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", ["t2v", *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capsys.readouterr()
        assert not ended.value.code, errors[-3000:]
        return last_line(out), out + errors

    return run


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # prefect's own


def test_one_command_leaves_data_runs_scores_and_a_report(lab: tuple[Path, dict[str, Any], str]) -> None:
    folder, result, said = lab
    for name in ("run", "data", "report"):
        assert (folder / result[name]).exists(), name
    assert result["mlflow"].startswith("sqlite:///")
    assert set(result["runs"]) == {"gan", "frame_gan"}
    scores = {e["name"]: e["scores"]["s0"]["prompt_acc"] for e in result["evaluations"]}
    assert scores["oracle"]["value"] >= 0.99
    assert scores["gan"]["n"] == 18 * 4
    for noise in ("Traceback", "Warning", "warning", "ERROR", "INFO", "sqlalchemy"):
        assert noise not in said, said


def test_the_report_plays_clips_and_names_every_model(lab: tuple[Path, dict[str, Any], str]) -> None:
    folder, result, _ = lab
    images, text = [], []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                images.append(dict(attrs)["src"])

        def handle_data(self, data: str) -> None:
            text.append(data)

    Page().feed((folder / result["report"]).read_text())
    assert len(images) > 50
    assert all(str(source).startswith("data:image/webp") for source in images)
    assert "gan" in " ".join(text)
    assert "frame_gan" in " ".join(text)
    assert "What is wrong" in text, "models of a few updates should have their faults named"


def test_mlflow_holds_what_a_comparison_needs(lab: tuple[Path, dict[str, Any], str], server: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(lab[1]["mlflow"])
    runs = [
        {"id": r.info.run_id, "name": r.info.run_name, "status": r.info.status, "metrics": r.data.metrics,
         "params": r.data.params, "tags": r.data.tags, "data": r.inputs.dataset_inputs,
         "files": [file.path for file in client.list_artifacts(r.info.run_id)]}
        for r in client.search_runs([e.experiment_id for e in client.search_experiments()])
    ]  # fmt: skip
    models = [model.name for model in client.search_registered_models()]
    stages = {r["name"]: r["tags"]["stage"] for r in runs}
    assert sorted(stages.values()) == sorted(["lab", "render", *["train"] * 2, *["evaluate"] * 3])
    assert all(name.startswith(stage) for name, stage in stages.items())
    [lab_run] = [r for r in runs if r["tags"]["stage"] == "lab"]
    assert {r["tags"].get("mlflow.parentRunId") for r in runs} == {None, lab_run["id"]}
    assert lab_run["files"] == ["report"]
    assert {"models.gan.batch_size", "models.frame_gan.batch_size"} <= set(lab_run["params"])
    trained = {r["tags"]["model"]: r for r in runs if r["tags"]["stage"] == "train"}
    judged = {r["tags"]["model"]: r for r in runs if r["tags"]["stage"] == "evaluate"}
    assert set(trained) | {"oracle"} == {"gan", "frame_gan", "oracle"} == set(judged)
    assert sorted(models) == ["t2v-frame-gan", "t2v-gan"]
    shared = set(trained["gan"]["metrics"]) & set(trained["frame_gan"]["metrics"])
    wanted = {f"eval/s0/prompt_acc{suffix}" for suffix in ("", "_lo", "_hi", "_n")}
    wanted |= {"eval/s3/prompt_acc", "speed/clips_per_second", "speed/data_wait_share", "watch/prompt_acc"}
    assert wanted <= shared
    for run in trained.values():
        assert run["status"] == "FINISHED"
        assert run["params"]["dataset.spec.size"] == "16"
        assert len(run["data"]) == 1
        assert run["tags"]["mlflow.source.git.commit"]
    for name, run in judged.items():
        assert {"evaluation", "images"} <= set(run["files"])
        assert run["params"]["model.name"] == name
        assert run["tags"].keys() >= {"reader_version", "prompt_list_hash", "featnet_hash", "metric_suite_version"}
        assert {key for key in trained.get(name, run)["metrics"] if key.startswith("eval/")} <= set(run["metrics"])


def test_the_same_command_again_does_nothing_again(lab: tuple[Path, dict[str, Any], str], t2v: Command) -> None:
    folder, first, _ = lab
    kept = {p: p.stat().st_mtime_ns for p in (folder / "work").rglob("*") if p.suffix in (".tar", ".safetensors")}
    second, said = t2v(*RUN)
    assert (second["run"], second["data"], second["evaluations"]) == (first["run"], first["data"], first["evaluations"])
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    assert not any(stage.startswith(("train", "evaluate", "render")) for stage in second["stages"])
    assert "nothing to train" in said


def test_generate_evaluate_and_verify_on_its_results(lab: tuple[Path, dict[str, Any], str], t2v: Command) -> None:
    folder, result, _ = lab
    made, _ = t2v("generate", "models:/t2v-gan@champion", "circle moving left", "--out", "x.npz")
    assert (folder / made["out"][0]).is_file()
    asked = ("--split", "s3", "--clips-per-prompt", "3")
    judged, said = t2v("evaluate", "models:/t2v-gan@champion", *asked, "--out", "a")
    again, said_again = t2v("evaluate", result["run"], *asked, "--out", "b")
    assert judged["scores"] == again["scores"], "the model of the store is that of the run folder"
    assert judged["scores"]["s3"]["prompt_acc"]["n"] == 6
    assert (folder / "a" / "s3" / "verdicts.parquet").is_file()
    assert "clips, read once" in said
    (line,) = [line for line in said_again.splitlines() if line.startswith("real clips of s3")]
    assert line.split()[-1] == "kept", "real clips are made once for all models"
    assert t2v("verify", result["data"])[0]["damages"] == []


def test_runs_and_a_baseline_are_compared_on_one_page(lab: tuple[Path, dict[str, Any], str], t2v: Command) -> None:
    folder, result, _ = lab
    oracle = folder / "work" / "data" / f"{Path(result['data']).name}-oracle"
    compared, said = t2v("compare", str(oracle), *map(str, result["runs"].values()))
    text = (folder / compared["page"]).read_text()
    assert "worse" in said
    assert text.count('class="card"') == 3
    assert len(list((folder / "work" / "mlflow-artifacts").glob("*/*/artifacts/compare/*/report.html"))) == 3


@pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra 'pretrained' is not installed")
def test_a_pipeline_of_others_is_judged_and_compared_like_a_run(
    lab: tuple[Path, dict[str, Any], str], t2v: Command
) -> None:
    from mlflow import MlflowClient

    folder, result, _ = lab
    ltx = f"diffusers:{pipeline_folder('ltx', folder)},steps=2,size=32,frames=9"
    judged, _ = t2v(
        "evaluate", ltx, "--like", result["data"], "--split", "s3", "--clips-per-prompt", "3", "--guidance", "2"
    )
    assert Path(judged["out"]).parent == Path("work/evaluations") and judged["out"].endswith("3x-seed0-guidance-2")
    assert judged["scores"]["s3"]["prompt_acc"]["n"] == 6
    compared, _ = t2v("compare", ltx, str(result["runs"]["gan"]))
    assert "ltx,steps=2" in (folder / compared["page"]).read_text()
    client = MlflowClient(result["mlflow"])
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (told,) = [run for run in runs if run.data.params.get("model.class") == "LTXPipeline"]
    assert told.info.run_name.endswith(" guidance 2") and told.data.params["evaluation.guidance"] == "2.0"
    assert told.data.params["model.steps"] == "2" and told.data.metrics["eval/s3/prompt_acc_n"] == 6
