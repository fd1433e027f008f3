import getpass
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from t2v_models import files
from t2v_models.config import LabError
from t2v_models.judging.statistics import Score
from t2v_models.shards.manifest import Manifest
from t2v_models.training import loop, validation
from tasks.mlflow import tracking
from tasks.mlflow.finished_runs import add_scores, adopt, attach, known
from tasks.mlflow.outbox import Outbox
from tasks.mlflow.registry import _registered, fetch_model, model_id
from tasks.mlflow.server import settings
from tasks.mlflow.store import client, run_page, tracking_uri
from tasks.mlflow.tracking import close_stale, experiment_id, track
from tasks.records import experiment_name, read_record
from tasks.train import reporter, train_model
from tests.forked import PATIENCE
from tests.runs import SMALL, run_of

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own; our lines are checked by the other tests


def client_of(work: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri(work))


def history(work: Path, run_id: str, key: str) -> dict[int, list[float]]:
    rows: dict[int, list[float]] = {}
    for metric in client_of(work).get_metric_history(run_id, key):
        rows.setdefault(metric.step, []).append(metric.value)
    return rows


def pictures(work: Path, run_id: str) -> list[tuple[str, int]]:
    """Key and step of every picture of a run; MLflow keeps a small copy beside each."""
    names = [artifact.path for artifact in client_of(work).list_artifacts(run_id, "images")]
    assert len(names) == 2 * sum(name.endswith(".png") for name in names), names
    found = [re.fullmatch(r"images/(\w+)\Wstep\W(\d+)\W.*\.png", name) for name in names if name.endswith(".png")]
    return sorted((match[1], int(match[2])) for match in found if match)


def until(true: Callable[[], object]) -> None:
    """Wait for it, for a machine that is busy with other things."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_given_store_is_respected(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert tracking_uri(tmp_path) == "http://somewhere:5000"


@pytest.mark.slow
def test_processes_that_start_together_find_one_fresh_store(tmp_path):
    code = f"from pathlib import Path; from tasks.mlflow.store import client; client(Path({str(tmp_path)!r}))"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, told


def test_a_run_records_what_it_was_and_ends_finished(work, tmp_path):
    with track(work, "exp", "one", params={"model": {"batch_size": 72}}, tags={"model": "gan"}) as tracker:
        for step in range(1200):
            tracker.log(step, {"loss": float(step)})
        tracker.scores("s0", {"prompt_acc": Score(value=0.5, low=0.4, high=0.6, n=144)}, 1200)
        tracker.dataset("circles", "0123456789abcdef", str(tmp_path), "training")
        (tmp_path / "note.txt").write_text("x")
        tracker.artifact(tmp_path / "note.txt", "notes")
    run = client_of(work).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.batch_size": "72"}
    assert run.data.tags["model"] == "gan"
    assert history(work, tracker.run_id, "loss") == {step: [float(step)] for step in range(1200)}
    assert run.data.metrics["eval/s0/prompt_acc"] == 0.5
    assert {"eval/s0/prompt_acc_lo", "eval/s0/prompt_acc_hi", "eval/s0/prompt_acc_n"} <= set(run.data.metrics)
    assert [d.dataset.digest for d in run.inputs.dataset_inputs] == ["0123456789abcdef"]
    assert run.info.artifact_uri.startswith((work / "mlflow-artifacts").as_uri())
    assert [a.path for a in client_of(work).list_artifacts(tracker.run_id, "notes")] == ["notes/note.txt"]


def test_an_image_is_kept_by_key_and_step(work, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with track(work, "exp", "pictures", params={}, tags={}) as tracker:
        tracker.image("samples", 3, tmp_path / "a.png")
        tracker.image("samples", 7, tmp_path / "a.png")
    assert pictures(work, tracker.run_id) == [("samples", 3), ("samples", 7)]


def test_a_resumed_run_logs_each_step_once(work):
    with track(work, "exp", "resumed", params={}, tags={}) as first:
        for step in range(10):
            first.log(step, {"loss": 1.0})
    with track(work, "exp", "resumed", params={}, tags={}, run_id=first.run_id) as again:
        assert client_of(work).get_run(first.run_id).info.status == "RUNNING"
        for step in range(5, 15):
            again.log(step, {"loss": 2.0, "new": 3.0})
    assert again.run_id == first.run_id
    assert history(work, first.run_id, "loss") == {s: [1.0 if s < 10 else 2.0] for s in range(15)}
    assert sorted(history(work, first.run_id, "new")) == list(range(5, 15))


@pytest.mark.parametrize(("error", "status"), [(ValueError("no luck"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_breaks_says_how(work, error, status):
    trackers = []

    def broken() -> None:
        with track(work, "exp", "broken", params={}, tags={}) as tracker:
            trackers.append(tracker)
            tracker.log(0, {"loss": 1.0})
            raise error

    with pytest.raises(type(error)):
        broken()
    run = client_of(work).get_run(trackers[0].run_id)
    assert run.info.status == status
    assert run.data.metrics == {"loss": 1.0}
    if status == "FAILED":
        assert run.data.tags["t2v.failure"] == "ValueError: no luck"


@pytest.mark.slow
def test_runs_of_dead_processes_are_closed_and_living_ones_are_not(work):
    code = f"""
import os; from pathlib import Path; from tasks.mlflow.tracking import track
with track(Path({str(work)!r}), "exp", "dead", params={{}}, tags={{}}) as t:
    print(t.run_id, flush=True); os._exit(9)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    with track(work, "exp", "alive", params={}, tags={}) as alive:
        assert close_stale(work) == 1
        assert client_of(work).get_run(alive.run_id).info.status == "RUNNING"
    assert client_of(work).get_run(out.stdout.split()[-1]).info.status == "KILLED"
    assert close_stale(work) == 0


@pytest.mark.parametrize("user", ["", "ann:secret@", "ann:sec:ret@"])
def test_a_store_that_does_not_answer_is_one_sentence_without_the_password(monkeypatch, caplog, work, user: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{user}127.0.0.1:9")
    shown = "ann:***@" if user else ""
    with (
        pytest.raises(LabError, match=re.escape(f"MLflow does not answer at http://{shown}127.0.0.1:9")) as found,
        track(work, "exp", "x", params={}, tags={}),
    ):
        pass
    assert "ret@" not in str(found.value), "MLflow's own error names the URL as well"
    with pytest.raises(LabError, match=re.escape(shown)) as found:
        known(work, ["0123"])
    assert "ret@" not in str(found.value)
    assert caplog.text == "", "each try is told of above the sentence"


def test_a_store_whose_making_was_killed_is_made_again(monkeypatch, tmp_path):
    """Killed between the tables of its schema: nothing lies where the store belongs."""
    work = tmp_path / "work"
    work.mkdir()
    code = (
        "import os, sqlalchemy\n"
        "from pathlib import Path\n"
        "from tasks.mlflow.store import client\n"
        "made = []\n"
        "@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, 'after_cursor_execute')\n"
        "def count(*told):\n"
        "    made.append(told[2])\n"
        "    if sum('CREATE TABLE' in one for one in made) == 30: os._exit(9)\n"
        f"client(Path({str(work)!r}))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not (work / "mlflow.db").exists() and (work / "mlflow.db.fresh").exists()
    assert client(work).search_experiments()
    assert [path.name for path in sorted(work.glob("mlflow.db*"))] == ["mlflow.db", "mlflow.db.lock"]


def test_a_damaged_store_of_ones_own_is_told_what_to_do(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(LabError, match="MLflow does not answer at sqlite.*not a database.*; if it is damaged, put a"):
        client(tmp_path)


def test_a_training_that_mlflow_has_no_place_for_leaves_nothing(monkeypatch, data, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(LabError, match="MLflow does not answer"):
        train_model.fn(data, SMALL["gan"], loop.TrainConfig(steps=1), tmp_path / "run", tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_training_whose_experiment_was_deleted_leaves_nothing(known, data, tmp_path):
    work, name = known(tmp_path / "work", "mlflow"), experiment_name(Manifest.load(data).config)
    client(work).delete_experiment(experiment_id(work, name))
    with pytest.raises(LabError, match="was deleted in MLflow"):
        train_model.fn(data, SMALL["gan"], loop.TrainConfig(steps=1), tmp_path / "run", work)
    assert not (tmp_path / "run").exists()


def test_unknown_runs_and_models_are_one_sentence(work):
    with pytest.raises(LabError, match="0123"), track(work, "exp", "x", params={}, tags={}, run_id="0123"):
        pass
    for uri in ("models:/nothing@champion", "models:/nothing/3", "runs:/0123/model"):
        with pytest.raises(LabError, match=f"no model {uri}"):
            fetch_model(work, uri)


def test_metrics_wait_while_the_store_is_away(work, monkeypatch, caplog):
    """The store goes away under a running run, as when its disk is unmounted, and comes back."""
    store, away = work / "mlflow.db", work / "away.db"
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.05)
    with track(work, "exp", "patient", params={}, tags={}) as tracker:
        store.rename(away)
        store.mkdir()  # no new file is begun there
        for step in range(50):
            tracker.log(step, {"loss": float(step)})
        until(lambda: "MLflow is away, metrics wait in memory" in caplog.text)
        for step in range(50, 100):
            tracker.log(step, {"loss": float(step)})
        with closing(sqlite3.connect(away)) as found:
            arrived = found.execute("SELECT count(*) FROM metrics WHERE run_uuid = ?", [tracker.run_id])
            assert arrived.fetchone() == (0,)
        store.rmdir()
        away.rename(store)
    assert history(work, tracker.run_id, "loss") == {step: [float(step)] for step in range(100)}
    assert not list(tracking.unsent(work).glob("*")), "it came back in time"


def test_a_resumed_run_catches_up_with_its_folder(work):
    """A process was killed before it had sent steps 3 to 9 of its folder, of which 8 and 9 come again."""
    with track(work, "exp", "behind", params={}, tags={}) as first:
        for step in range(3):
            first.log(step, {"loss": 1.0})
    with track(work, "exp", "behind", params={}, tags={}, run_id=first.run_id) as again:
        again.catch_up({step: {"loss": 2.0} for step in range(10)})
        for step in range(8, 12):
            again.log(step, {"loss": 3.0})
    values = [1.0] * 3 + [2.0] * 7 + [3.0] * 2
    assert history(work, first.run_id, "loss") == {step: [value] for step, value in enumerate(values)}


@pytest.mark.slow
def test_a_second_start_leaves_the_run_of_the_first_alone(work, data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOCK_SECONDS", 0.1)
    with files.locked(tmp_path / "run" / "tracked.lock", 0, "trains"):  # as the first start has it
        with pytest.raises(LabError, match="another process trains in"):
            train_model.fn(data, SMALL["gan"], loop.TrainConfig(steps=1, probe_seconds=0), tmp_path / "run", work)
        assert not (tmp_path / "run" / "mlflow.json").exists()
    train_model.fn(data, SMALL["gan"], loop.TrainConfig(steps=1, probe_seconds=0), tmp_path / "run", work)
    assert client_of(work).get_run(read_record(tmp_path / "run")["run_id"]).info.status == "FINISHED"


def test_what_the_store_refuses_is_dropped_and_said(work, caplog):
    with caplog.at_level(logging.WARNING), track(work, "exp", "deleted", params={}, tags={}) as tracker:
        client_of(work).delete_run(tracker.run_id)
        tracker.log(0, {"loss": 1.0})
    assert "MLflow refuses metrics" in caplog.text
    assert not tracking.unsent(work).exists() or not list(tracking.unsent(work).iterdir())


def test_what_one_store_was_not_told_waits_for_it_and_goes_to_no_other(work, tmp_path, monkeypatch):
    with track(work, "exp", "before", params={}, tags={}):
        pass
    shutil.copy(work / "mlflow.db", tmp_path / "other.db")
    with track(work, "exp", "away", params={}, tags={}) as tracker:
        pass
    Outbox(client_of(work), tracker.run_id, [{"tags": {"t2v.last": "told"}}]).save(tracking.unsent(work))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        close_stale(work)
    assert [path.stem for path in tracking.unsent(work).iterdir()] == [tracker.run_id]
    close_stale(work)
    assert client_of(work).get_run(tracker.run_id).data.tags["t2v.last"] == "told"
    assert not list(tracking.unsent(work).iterdir())


def test_a_file_that_is_gone_holds_up_nothing(work, tmp_path, caplog):
    with track(work, "exp", "gone", params={}, tags={}) as tracker:
        pass
    gone = str(tmp_path / "removed meanwhile")
    items = [{"artifact": gone, "folder": "a"}, {"image": gone, "key": "b", "step": 0}, {"tags": {"t2v.last": "told"}}]
    with caplog.at_level(logging.WARNING):
        Outbox(client_of(work), tracker.run_id, items).send()
    assert caplog.text.count("removed meanwhile") == 2
    assert client_of(work).get_run(tracker.run_id).data.tags["t2v.last"] == "told"


@pytest.mark.slow
def test_a_server_that_goes_away_gets_everything_once_it_is_back(tmp_path, monkeypatch, caplog):
    """Away in the middle and still at the end: the next run in the folder delivers what is left, each thing once."""
    from PIL import Image

    from tasks.servers.supervisor import Services, answers, free_port

    monkeypatch.setattr(tracking, "END_SECONDS", 1.0)
    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        monkeypatch.setenv(name, value)
    port = free_port(0, "MLflow")
    url = f"http://127.0.0.1:{port}"
    serve = ("uvicorn", "--factory", "tasks.mlflow.server:application", "--port", str(port), "--log-level", "warning")
    # files go through it as well, as through one on another machine
    through = {"_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/"}
    environment = settings(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts") | through
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def flushed() -> bool:
        return not tracker._rows and not len(tracker._outbox)

    with Services(tmp_path / "logs", tmp_path) as server:
        server.start("mlflow", *serve, environment=environment)
        server.wait("mlflow", f"{url}/health")
        with track(tmp_path, "exp", "patient", params={}, tags={}) as tracker, caplog.at_level(logging.WARNING):
            tracker.log(0, {"loss": 0.0})
            until(flushed)
            server.__exit__()
            assert not answers(f"{url}/health")
            for step in range(1, 100):
                tracker.log(step, {"loss": float(step)})
            tracker.image("samples", 99, tmp_path / "a.png")
    assert "metrics wait in" in caplog.text
    [kept] = tracking.unsent(tmp_path).iterdir()
    assert kept.stem == tracker.run_id
    items = [json.loads(line) for line in kept.read_text().splitlines()]
    assert sorted(row[3] for item in items for row in item.get("metrics", ())) == list(range(1, 100))
    assert [next(iter(item)) for item in items if "metrics" not in item] == ["image", "end"]
    with Services(tmp_path / "logs", tmp_path) as server:
        server.start("mlflow", *serve, environment=environment)
        server.wait("mlflow", f"{url}/health")
        assert client_of(tmp_path).get_run(tracker.run_id).info.status == "RUNNING"
        assert history(tmp_path, tracker.run_id, "loss") == {0: [0.0]}
        assert pictures(tmp_path, tracker.run_id) == []
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", url.replace("://", "://ann:secret@"))
            assert run_page(tmp_path, tracker.run_id) == f"{url}/#/experiments/1/runs/{tracker.run_id}"
        for _ in range(2):  # the second time nothing is left to send
            assert close_stale(tmp_path) == 0
            assert not list(tracking.unsent(tmp_path).iterdir())
            assert client_of(tmp_path).get_run(tracker.run_id).info.status == "FINISHED"
            assert history(tmp_path, tracker.run_id, "loss") == {step: [float(step)] for step in range(100)}
            assert pictures(tmp_path, tracker.run_id) == [("samples", 99)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from t2v_models import checkpoint
    from t2v_models.checkpoint import RunConfig
    from t2v_models.clips.spec import ClipSpec
    from t2v_models.families.gan.model import GanConfig
    from t2v_models.worlds.dataset import DatasetConfig

    dataset = DatasetConfig(clips=17, spec=ClipSpec(frames=4, size=16))
    run = RunConfig(
        model=GanConfig(batch_size=4).with_captions(dataset.prompts), dataset=dataset, dataset_digest="0" * 16,
        seed=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    model = run.build()
    for step in (1, 2):
        checkpoint.save(model, run, folder, step, 0.0, keep=5)
    return folder


@pytest.mark.slow
def test_a_logged_model_answers_prompts_as_the_run_folder_does(work, run_dir):
    import base64

    import mlflow
    import pandas as pd

    from t2v_models import generate, sampler
    from t2v_models.clips import media

    with track(work, "exp", "model", params={}, tags={}) as tracker:
        assert tracker.model(run_dir, "t2v-test", "circle moving up") == "models:/t2v-test/1"
        assert client_of(work).get_run(tracker.run_id).info.status == "RUNNING"
        client_of(work).update_registered_model("t2v-test", "")  # as an earlier version left it
        assert tracker.model(run_dir, "t2v-test", "circle moving up") == "models:/t2v-test/2"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    folder = fetch_model(work, "models:/t2v-test@challenger")
    assert [p.name for p in sorted(folder.rglob("*.*"))] == ["step-00000002.json", "step-00000002.safetensors"]
    assert fetch_model(work, "models:/t2v-test/2") == folder
    assert fetch_model(work, "models:/t2v-test/1") != folder

    version = client_of(work).get_model_version("t2v-test", "2")
    with track(work, "exp", "judged", params={}, tags={"stage": "evaluate"}) as judged:
        judged.used(model_id(version))
        judged.scores("s0", {"prompt_acc": SCORE, "valid": SCORE}, 2, (model_id(version), "circles", "0123"))
        judged.table(
            "evaluation/scores.json", [{"figure": "valid", "value": 0.5}, {"figure": "prompt_acc", "value": 1}]
        )
    found = {m.key: (m.value, m.dataset_name) for m in client_of(work).get_logged_model(model_id(version)).metrics}
    assert found["eval/s0/prompt_acc"] == found["eval/s0/valid"] == (0.5, "circles")
    assert "eval/s0/prompt_acc_lo" in found and "eval/s0/valid_lo" not in found, "the table has those"
    run = client_of(work).get_run(judged.run_id)
    assert [used.model_id for used in run.inputs.model_inputs] == [model_id(version)]
    assert "evaluation/scores.json" in run.data.tags["mlflow.loggedArtifacts"], "else the UI shows no table"
    told = {key: run.data.tags[f"mlflow.{key}"] for key in ("source.name", "user")}
    assert told == {"source.name": "t2v evaluate", "user": getpass.getuser()}
    assert client_of(work).get_logged_model(model_id(version)).tags["mlflow.source.name"] == "t2v train"
    assert "t2v serve models:/t2v-test@challenger" in client_of(work).get_registered_model("t2v-test").description
    example = json.loads((folder.parent.parent / "input_example.json").read_text())
    assert example["inputs"] == {"columns": ["prompt"], "data": [["circle moving up"]]}

    served = mlflow.pyfunc.load_model(str(folder.parent.parent))
    table = served.predict(pd.DataFrame({"prompt": ["circle moving up"]}), params={"seed": 5, "count": 2})
    assert list(table["seed"]) == [5, 6]
    assert set(table["mime"]) == {"video/mp4"}
    frames = sampler.sample_frames(generate.load_run(run_dir), ["circle moving up"] * 2, [5, 6])
    expected = [base64.b64encode(media.to_mp4(clip, 10)).decode() for clip in frames]
    assert list(table["data_base64"]) == expected


@pytest.mark.slow
def test_tracking_says_nothing(tmp_path):
    """A fresh store, a run and its end, in a process of its own: nothing on the terminal, nothing in the home."""
    code = f"""
from pathlib import Path
from tasks.servers.runtime import prepare
work = Path({str(tmp_path / "work")!r}); prepare(work)
from tasks.mlflow.tracking import track
with track(work, "exp", "quiet", params={{"a": 1}}, tags={{}}) as t:
    t.log(1, {{"loss": 1.0}})
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | {"HOME": str(home)}, check=True
    )
    assert json.dumps([done.stdout, done.stderr]) == '["", ""]'
    assert not list(home.iterdir())


SCORE = Score(value=0.5, low=0.4, high=0.6, n=144)


def test_scores_and_pages_join_an_ended_run_and_leave_it_as_it_was(work, tmp_path):
    with track(work, "exp", "train one", params={}, tags={}) as trained:
        trained.log(7, {"train/loss": 1.0})
    with track(work, "exp", "evaluate one", params={}, tags={}, parent=trained.run_id) as judged:
        judged.scores("s0", {"prompt_acc": SCORE}, 7)
    before = client_of(work).get_run(trained.run_id)
    add_scores(work, trained.run_id, {"s0": {"prompt_acc": SCORE}}, 7)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.html").write_text("x")
    attach(work, trained.run_id, tmp_path / "page", "compare/one-two")
    after, child = client_of(work).get_run(trained.run_id), client_of(work).get_run(judged.run_id)
    assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)
    assert after.data.tags == before.data.tags
    assert after.data.metrics == before.data.metrics | child.data.metrics
    assert child.data.metrics == {"eval/s0/prompt_acc": 0.5, "eval/s0/prompt_acc_lo": 0.4,
                                  "eval/s0/prompt_acc_hi": 0.6, "eval/s0/prompt_acc_n": 144}  # fmt: skip
    files = [a.path for a in client_of(work).list_artifacts(trained.run_id, "compare/one-two")]
    assert files == ["compare/one-two/report.html"]


def test_stages_are_shown_under_the_lab_and_runs_of_other_stores_are_left_out(work):
    with track(work, "exp", "train one", params={}, tags={}) as trained:
        pass
    with track(work, "exp", "lab one", params={}, tags={}) as lab:
        pass
    assert known(work, []) == []
    assert known(work, ["0123", trained.run_id]) == [trained.run_id]
    adopt(work, lab.run_id, ["0123", trained.run_id])
    assert client_of(work).get_run(trained.run_id).data.tags["mlflow.parentRunId"] == lab.run_id


def test_levels_of_accuracy_are_logged_when_reached_and_never_twice(work, data, tmp_path):
    run = run_of(data, SMALL["gan"])
    readings = {10: 0.4, 20: 0.55, 30: 0.85, 40: 0.5, 50: 0.97}

    def go_on(steps, run_id=None):
        """As training does: a line in metrics.jsonl, then the log."""
        with track(work, "exp", "train", params={}, tags={}, run_id=run_id) as tracker:
            log = reporter(run, tmp_path, tracker, lambda share, note: None)
            for step in steps:
                figures = {"watch/prompt_acc": readings[step], "train/seconds": step / 2}
                with (tmp_path / "metrics.jsonl").open("a") as file:
                    file.write(json.dumps({"step": step} | figures) + "\n")
                sheet = validation.sheet(tmp_path, step)
                sheet.parent.mkdir(exist_ok=True)
                Image.new("RGB", (4, 4)).save(sheet)
                log(step, figures)
        return tracker.run_id

    run_id = go_on([10, 20, 30])
    assert history(work, run_id, "reach/50_seconds") == {20: [10.0]}
    assert history(work, run_id, "reach/80_clip_steps") == {30: [30.0 * 8]}
    go_on([30, 40, 50], run_id)  # killed after step 30, its last checkpoint is of step 20
    for level, step in ((50, 20), (80, 30), (90, 50), (95, 50)):
        assert history(work, run_id, f"reach/{level}_seconds") == {step: [step / 2]}
        assert history(work, run_id, f"reach/{level}_clip_steps") == {step: [step * 8.0]}
    assert history(work, run_id, "watch/prompt_acc") == {step: [share] for step, share in readings.items()}
    fresh = go_on([])  # the store was lost: a new run is told what was reached
    assert history(work, fresh, "reach/95_seconds") == {50: [25.0]}


def test_a_deleted_experiment_is_brought_back_by_the_command_that_is_said(work, monkeypatch):
    from click.testing import CliRunner
    from mlflow.cli import cli

    with track(work, "gone", "one", params={}, tags={}) as first:
        pass
    number = experiment_id(work, "gone")
    client_of(work).delete_experiment(number)
    with (
        pytest.raises(LabError, match="'gone' was deleted in MLflow") as found,
        track(work, "gone", "x", params={}, tags={}),
    ):
        pass
    assert known(work, [first.run_id]) == []
    said = re.search(r"'MLFLOW_TRACKING_URI=(\S+) mlflow (experiments restore .*)'", str(found.value))
    assert said
    CliRunner().invoke(cli, said[2].split(), env={"MLFLOW_TRACKING_URI": said[1]}, catch_exceptions=False)
    client_of(work).set_experiment_tag(number, "mlflow.note.content", "")
    assert experiment_id(work, "gone") == number
    note = client_of(work).get_experiment(number).tags["mlflow.note.content"]
    assert note.startswith("Models trained on clips of one world"), "one without a description gets ours"
    client_of(work).set_experiment_tag(number, "mlflow.note.content", "mine")
    experiment_id(work, "gone")
    assert client_of(work).get_experiment(number).tags["mlflow.note.content"] == "mine"
    assert known(work, [first.run_id]) == [first.run_id]


def test_what_a_run_beside_this_one_has_made_meanwhile_is_used(work: Path) -> None:
    """Two labs of a queue begin at once on a new work folder: both look, see nothing, and make it."""
    store = client_of(work)
    assert len({tracking._made(store, work, "twins") for _ in range(2)}) == 1
    for part in ("first", "second"):
        _registered(store, "t2v-twins", f"made by the {part}")
    assert store.get_registered_model("t2v-twins").description == "made by the first"


@pytest.mark.slow
def test_a_training_whose_run_was_deleted_in_mlflow_goes_on_in_a_new_one_that_knows_all(work, data, tmp_path):
    def trained(steps: int) -> str:
        config = loop.TrainConfig(steps=steps, log_every=1, probe_seconds=0)
        train_model.fn(data, SMALL["gan"], config, tmp_path / "run", work)
        return read_record(tmp_path / "run")["run_id"]

    first = trained(1)
    client_of(work).delete_run(first)
    second = trained(2)
    assert second != first
    assert sorted(history(work, second, "train/progress")) == [1, 2]
    assert client_of(work).get_run(second).info.status == "FINISHED"
