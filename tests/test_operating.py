"""`t2v up` as a person uses it: a lab triggered by the API, what a watcher sees, and a worker killed in mid-training.

All tests share one `t2v up` and run in the order of this file: the lab does its first stages while the servers are
looked at. With T2V_POSTGRES set to the URL of a PostgreSQL server both servers keep their databases there; with
T2V_SCREENSHOTS set to a folder the pictures of the pages are left there, to be looked at.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from PIL import Image

from t2v_models.training.run_log import history
from tasks.servers import supervisor, up_note
from tests.attacks import REBOUND, by_all_pages, by_http
from tests.browser import CHROMIUM, Page, browser

ROOT = Path(__file__).parents[1]
UP = [sys.executable, "-m", "flows.cli.main", "up"]
PATIENCE_SECONDS = 600
ENDED = ("COMPLETED", "FAILED", "CRASHED")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@dataclass
class Up:
    """A running `t2v up`, what it said, and the servers it named."""

    process: subprocess.Popen[str]
    work: Path
    said: dict[str, str]
    environment: dict[str, str]
    client: httpx.Client
    """One for all questions: a new one each time costs more than the answer."""

    def api(self, method: str, path: str, **body: Any) -> Any:
        """Ask the Prefect server, again while it is busy."""
        for _ in range(20):
            answer = self.client.request(method, f"{self.said['Prefect']}/api{path}", **body)
            if answer.status_code < 500:
                return answer.raise_for_status().json()
            time.sleep(1)
        raise AssertionError(answer.text)

    def trigger(self, deployment: str, parameters: dict[str, Any]) -> str:
        """The id of a new run of a deployment."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.api("POST", f"/deployments/{found['id']}/create_flow_run", json=body)["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return self.api("GET", f"/flow_runs/{run_id}")

    def runs(self) -> list[dict[str, Any]]:
        """All runs but those that wait for their hour."""
        begun = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}
        return self.api("POST", "/flow_runs/filter", json=begun | {"limit": 200})

    def wait(self, run_id: str, *states: str) -> dict[str, Any]:
        """The run once it is in one of the states."""
        until(lambda: self.run(run_id)["state_type"] in states)
        return self.run(run_id)

    def part(self, name: str) -> psutil.Process | None:
        """A server or worker; None while it is dead and its successor not noted."""
        note = up_note.written(self.work)
        return up_note.process(note.parts[name]) if note and name in note.parts else None


def until(true: Callable[[], Any]) -> Any:
    """Wait for it, for a machine that is busy with other things."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.5)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def up(known: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    known(folder / "work", "prefect", "mlflow")
    home = folder / "home"
    home.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_WORK"))}
    clean |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = ["--prefect-port", str(taken.getsockname()[1]), "--mlflow-port", "0"]
        command = [*UP, "--work", str(folder / "work"), *ports]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
        assert process.stderr is not None
        said: dict[str, str] = {}
        for line in process.stderr:
            said[line.split()[0]] = line.strip() if line.startswith("ready") else line.split()[-1]
            if line.startswith("ready"):
                break
    try:
        assert process.poll() is None, said
        with httpx.Client(timeout=60) as client:
            yield Up(process, folder / "work", said, clean, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE_SECONDS)
        process.stderr.close()


@pytest.fixture(scope="module")
def lab(up: Up) -> str:
    """The id of a run of the smallest lab, with one model and its stages on the pools."""
    config = up.api("GET", "/deployments/name/lab/smoke")["parameters"]["config"]
    training = {"steps": 600, "log_every": 5, "save_seconds": 1, "watch_seconds": 600, "probe_seconds": 0}
    config |= {"models": [{"name": "gan", "batch_size": 24, "width": 32}], "training": training, "place": "pools"}
    config |= {"evaluation": {"splits": ["s0", "s3"], "clips_per_prompt": 2}, "gate": {"floor": None}}
    return up.trigger("lab/smoke", {"config": config})


def test_both_uis_answer_and_a_taken_port_is_replaced(up: Up, lab: str) -> None:
    print(up.said["ready"])
    assert next(iter(up.said)) == "starting", "it says nothing while a person waits"
    assert up.said["port"] == up.said["Prefect"].rsplit(":")[-1], "a taken port is replaced, and that is said"
    assert httpx.get(up.said["Prefect"], follow_redirects=True, timeout=60).status_code == 200
    assert "MLflow" in httpx.get(up.said["MLflow"], timeout=60).text
    parts = [up.part(name) for name in ("prefect", "mlflow", "worker-cpu", "worker-gpu")]
    listening = {c.laddr.ip for part in parts if part for c in part.net_connections() if c.status == "LISTEN"}
    assert all(parts) and listening == {"127.0.0.1"}


def test_what_a_foreign_page_could_send_is_refused_at_both_ports(up: Up) -> None:
    """The attacks, and the proof that they are real, are in test_guard.py."""
    for url in guarded(up):
        by_http(url, {"name": "evil"})
    assert not evil(up)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_no_page_in_a_browser_can_read_or_start_anything_at_either_port(up: Up, tmp_path: Path) -> None:
    with browser(tmp_path / "browser", names=REBOUND) as page:
        for url in guarded(up):
            by_all_pages(page, url, {"name": "evil"})
    assert not evil(up)


def guarded(up: Up) -> tuple[str, str]:
    """Where Prefect would make a flow, and MLflow an experiment."""
    return f"{up.said['Prefect']}/api/flows/", f"{up.said['MLflow']}/api/2.0/mlflow/experiments/create"


def evil(up: Up) -> bool:
    """Whether either did."""
    found = {flow["name"] for flow in up.api("POST", "/flows/filter", json={})}
    return "evil" in found | {experiment.name for experiment in _store(up).search_experiments()}


def test_deployments_explain_themselves(up: Up) -> None:
    found = up.api("POST", "/deployments/filter", json={})
    flows = {flow["id"]: flow["name"] for flow in up.api("POST", "/flows/filter", json={})}
    names = {f"{flows[d['flow_id']]}/{d['name']}" for d in found}
    assert {"lab/nightly", "lab/smoke", "dataset/circles", "train/gan", "evaluate/champion"} <= names
    for deployment in found:
        assert deployment["description"] and deployment["tags"]
        for where, field in _fields(deployment["parameter_openapi_schema"]):
            assert field.get("description"), f"the form of {deployment['name']} does not explain {where}"
        # what is run on the pools is where `t2v up` says, not beside the checkout
        assert "T2V_WORK" not in json.dumps(deployment["parameters"])
    scheduled = {d["id"]: f"{flows[d['flow_id']]}/{d['name']}" for d in found if d["schedules"]}
    assert set(scheduled.values()) == {"lab/nightly", "evaluate/champion"}
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 200}
    until(lambda: set(scheduled) <= {r["deployment_id"] for r in up.api("POST", "/flow_runs/filter", json=waiting)})
    rules = {a["name"] for a in up.api("POST", "/automations/filter", json={})}
    assert rules == {"t2v: a silent run has crashed", "t2v: a crashed run goes on"}


def test_a_second_up_says_where_the_first_is(up: Up) -> None:
    again = subprocess.run([*UP, "--work", str(up.work)], capture_output=True, text=True, env=up.environment)
    assert again.returncode == 2
    assert up.said["Prefect"] in again.stderr and "runs already" in again.stderr


def test_a_lab_on_the_pools_outlives_its_worker(up: Up, lab: str) -> None:
    """The lab's training runs on the gpu worker, which is killed with it; the lab waits, and its training goes on."""
    [out] = until(lambda: trained(up.work) or (up.run(lab)["state_type"] in ENDED and [None]))
    assert out, up.run(lab)["state"]["message"]
    training = next(r for r in up.runs() if r["name"].startswith("train gan on circles-16px") and r["deployment_id"])
    worker = up.part("worker-gpu")
    assert worker
    family = [worker, *worker.children(recursive=True)]
    assert len(family) >= 2
    for process in family:
        with suppress(psutil.NoSuchProcess):  # one may end by itself when its parent does
            process.kill()
    killed, lines = time.time(), out / "metrics.jsonl"
    until(lambda: lines.stat().st_mtime > killed + 1)
    print(f"training again {lines.stat().st_mtime - killed:.0f} s after the kill")
    states = up.api("GET", "/flow_run_states/", params={"flow_run_id": training["id"]})
    crash = next(s for s in states if s["type"] == "CRASHED")
    assert crash["message"] == "its process was killed with its worker"
    run = up.wait(lab, *ENDED)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "lab: gan on 360 clips of circles at 16 px"
    steps = [json.loads(line)["step"] for line in lines.read_text().splitlines() if line.endswith("}")]
    assert steps.count(5) == 1, "it began again instead of going on"
    assert up.run(training["id"])["run_count"] == 2
    tasks = up.api("POST", "/task_runs/filter", json={"flow_runs": {"id": {"any_": [training["id"]]}}})
    assert sorted(t["state_type"] for t in tasks) == ["COMPLETED", "CRASHED"]
    pools = {r["name"].split()[0]: r["work_pool_name"] for r in up.runs() if r["deployment_id"]}
    assert pools == {"lab:": "cpu", "render": "cpu", "evaluate": "cpu", "train": "gpu"}


def trained(work: Path) -> list[Path]:
    """The run folder, once there is something in it to go on from."""
    runs = [path.parents[1] for path in (work / "runs").glob("gan-*/checkpoints/*.json")]
    return [run for run in dict.fromkeys(runs) if len(history(run)) > 3]


def test_a_watcher_sees_what_it_did(up: Up) -> None:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for artifact in up.api("POST", "/artifacts/filter", json={"limit": 200}):
        kinds.setdefault(artifact["type"], []).append(artifact)
    done = [a for a in kinds["progress"] if a["data"] == 100]
    assert {"render", "train-gan"} <= {a["key"] for a in done}
    assert all("100%" in a["description"] and "so far" in a["description"] for a in done)
    table = next(json.loads(a["data"]) for a in kinds["table"] if a["key"] == "scores-gan")
    assert {"split", "metric", "score", "95 % interval", "clips"} <= set(table[0])
    assert any("obey" in a["data"] for a in kinds["markdown"])
    links = {a["key"]: a["data"] for a in kinds["markdown"] if up.said["MLflow"] in a["data"]}
    assert {"mlflow-run", "report"} <= set(links)
    logs = up.api("POST", "/logs/filter", json={"limit": 200})
    assert len([line for line in logs if "step" in line["message"]]) < 30


def test_mlflow_has_the_champion_and_every_figure_once(up: Up) -> None:
    store = _store(up)
    assert "champion" in {m.name: set(m.aliases) for m in store.search_registered_models()}["t2v-gan"]
    experiments = [e.experiment_id for e in store.search_experiments()]
    [run] = store.search_runs(experiments, "tags.stage = 'train'")
    assert run.info.status == "FINISHED"
    logged = [m.step for m in store.get_metric_history(run.info.run_id, "train/progress")]
    assert sorted(logged) == list(range(5, 601, 5)), "a metric is missing, or there twice"
    [whole] = store.search_runs(experiments, "tags.stage = 'lab'")
    assert "report/report.html" in [a.path for a in store.list_artifacts(whole.info.run_id, "report")]


def test_the_champion_is_judged_by_its_scheduled_deployment(up: Up, lab: str) -> None:
    """As every morning, but of few clips: its scores lie where the deployment says, and under the run that made it."""
    up.wait(lab, *ENDED)
    run = up.wait(
        up.trigger("evaluate/champion", {"config": {"splits": ["s3"], "clips_per_prompt": 2}}),
        *ENDED,
    )
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "evaluate models:/t2v-gan@champion"
    out = up.work / "evaluations" / "champion"
    scores = json.loads((out / "scores.json").read_text())["scores"]
    assert scores["s3"]["prompt_acc"]["n"] == 4
    store = _store(up)
    record = store.get_run(json.loads((out / "mlflow.json").read_text())["run_id"])
    assert record.data.metrics["eval/s3/prompt_acc"] == scores["s3"]["prompt_acc"]["value"]
    champion = store.get_model_version_by_alias("t2v-gan", "champion")
    assert record.data.tags["mlflow.parentRunId"] == champion.run_id


def test_a_run_that_fails_says_why(up: Up, tmp_path: Path) -> None:
    parameters = {"data": str(tmp_path), "model": {"name": "gan"}, "training": {"steps": 1}, "out": str(tmp_path / "x")}
    run = up.wait(up.trigger("train/stage", parameters), *ENDED)
    assert run["state_type"] == "FAILED"
    assert str(tmp_path) in run["state"]["message"]


def test_a_training_outlives_its_server_and_is_cancelled_when_a_person_says_so(up: Up, data: Path) -> None:
    out = up.work / "runs" / "long"
    lines = out / "metrics.jsonl"
    training = {"steps": 10**6, "log_every": 5, "save_seconds": 1, "watch_seconds": 600, "probe_seconds": 0}
    parameters = {"data": str(data), "model": {"name": "gan", "width": 32}, "training": training, "out": str(out)}
    run_id = up.trigger("train/stage", parameters)
    until(lambda: lines.exists() and up.run(run_id)["state_type"] == "RUNNING")
    server = up.part("prefect")
    assert server
    server.kill()
    before = lines.stat().st_size
    until(lambda: up.part("prefect") not in (server, None))
    until(lambda: lines.stat().st_size > before)
    until(lambda: supervisor.answers(f"{up.said['Prefect']}/api/health"))
    until(lambda: up.run(run_id)["state_type"] == "RUNNING")
    up.api("POST", f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}})
    run = up.wait(run_id, "CANCELLED", "FAILED", "COMPLETED")
    assert run["state_type"] == "CANCELLED", run["state"]
    store = _store(up)
    record = json.loads((out / "mlflow.json").read_text())
    until(lambda: store.get_run(record["run_id"]).info.status == "KILLED")
    logged = [m.step for m in store.get_metric_history(record["run_id"], "train/progress")]
    assert sorted(logged) == sorted(history(out)), "a metric is missing, or there twice"


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_the_pages_show_what_they_should(up: Up, lab: str, tmp_path: Path) -> None:
    """Of Prefect the run of the lab, of MLflow the report of the lab and two trainings side by side."""
    store, pictures = _store(up), Path(os.environ.get("T2V_SCREENSHOTS", tmp_path))
    trainings = store.search_runs([e.experiment_id for e in store.search_experiments()], "tags.stage = 'train'")
    runs, experiments = [r.info.run_id for r in trainings], sorted({r.info.experiment_id for r in trainings})
    artifacts = up.api("POST", "/artifacts/filter", json={"limit": 200})
    [report] = [re.search(r"\((http.*)\)", a["data"]) for a in artifacts if a["key"] == "report"]
    assert report

    def says(text: str) -> str:
        return f"!!document.body && document.body.innerText.includes({json.dumps(text)})"

    pages = {
        "prefect-run": (f"{up.said['Prefect']}/runs/flow-run/{lab}",
                        [says("lab: gan on 360 clips"), says("Completed"), says("Subflow Runs")]),
        "mlflow-report": (report[1], [says("report.html"), "!!document.querySelector('iframe')"]),
        "mlflow-compare": (
            f"{up.said['MLflow']}/#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(json.dumps(experiments))}",
            [says("Comparing 2 Runs"), says("train long"), says("train gan-")]),
    }  # fmt: skip
    with browser(tmp_path / "browser", 1400, 1100) as page:
        for name, (address, conditions) in pages.items():
            page.open(address)
            for condition in conditions:
                page.wait(condition)
            if "T2V_SCREENSHOTS" in os.environ:
                time.sleep(5)  # graphs draw themselves, and MLflow opens its assistant's panel on the first visit
                page.evaluate("document.querySelector('[aria-label=Close]')?.click()")
                time.sleep(1)
            until(lambda picture=pictures / f"{name}.png": colours(page, picture) > 100)


def colours(page: Page, picture: Path) -> int:
    """How many the page shows, in a picture that is left there: a blank page has few."""
    page.picture(picture)
    with Image.open(picture) as shown:
        return len(shown.convert("RGB").getcolors(2**24) or ())


def test_ctrl_c_ends_everything_and_leaves_nothing(up: Up) -> None:
    """And so it does when impatient people press it again, or a service manager sends its own signal."""
    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) >= 4
    up.process.send_signal(signal.SIGINT)
    assert up.process.stderr is not None
    assert any(line.startswith("stopping") for line in up.process.stderr)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        assert up.process.poll() is None
        up.process.send_signal(number)
        time.sleep(0.1)  # equal signals that wait together arrive as one
    up.process.stderr.read()
    assert up.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert not psutil.wait_procs(children, timeout=PATIENCE_SECONDS)[1]
    assert not (up.work / "up.json").exists()
    assert not list(Path(up.environment["HOME"]).iterdir()), "something was written to the user's home"


def _store(up: Up) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(up.said["MLflow"], registry_uri=up.said["MLflow"])


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field a person may fill in: the parameters, and those of the records inside them."""
    yield from schema["properties"].items()
    for name, record in schema.get("definitions", {}).items():
        for field, what in record.get("properties", {}).items():
            if "const" not in what:  # the name of a family chooses the form, nobody types it
                yield f"{name}.{field}", what
