"""What `t2v clean` takes and what it leaves, in a real work folder with MLflow's store and a Prefect server."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from flows.cli.clean import _database
from flows.cli.main import main
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import bytes_in_words, rotate
from t2v_models.shards.ingest import ingest
from t2v_models.training.config import TrainConfig
from t2v_models.worlds.dataset import DatasetConfig
from tasks.mlflow.old_runs import runs_before
from tasks.mlflow.store import client
from tasks.mlflow.tracking import track
from tasks.records import read_record
from tasks.servers import up_note
from tasks.servers.old_runs import runs_before as flow_runs_before
from tasks.train import train_model
from tests.runs import SMALL
from tests.tiny import OPTIONS, noise, put, rendered

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # prefect's and mlflow's own


@pytest.fixture(scope="module")
def used(work: Path, own_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings of the same family on data of their own, the first one champion, the second its challenger, and
    what people have brought."""
    import prefect
    from prefect.artifacts import create_markdown_artifact

    config = TrainConfig(steps=1, log_every=1, probe_seconds=0)
    for seed, name in enumerate(("first", "second")):
        data = DatasetConfig(clips=36, clips_per_shard=36, spec=ClipSpec(size=16, frames=6), seed=seed)
        rendered(work / "data" / name, data)
        train_model.fn(work / "data" / name, SMALL["gan"], config, work / "runs" / name, work)
    store = client(work)
    store.set_registered_model_alias("t2v-gan", "champion", "1")
    films = tmp_path_factory.mktemp("films")
    for i in range(4):
        put(films, f"{i}.webp", noise_webp(i))
    ingest(films, work / "data" / "mine", OPTIONS)
    (work / "evaluations" / "frozen").mkdir(parents=True)
    (work / "evaluations" / "frozen" / "scores.json").write_text("{}")

    @prefect.flow
    def told() -> None:
        create_markdown_artifact("# all is well", key="told")

    told()
    return work


def noise_webp(seed: int) -> bytes:
    from t2v_models.clips.media import to_webp

    return to_webp(noise(seed), 10)


def t2v(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def files(folder: Path) -> set[str]:
    left = {path for path in folder.rglob("*") if path.is_file() and "prefect" not in path.parts}
    return {str(path.relative_to(folder)) for path in left}


def test_nothing_is_removed_that_is_young_or_not_agreed_to(used: Path, own_server: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PREFECT_API_URL", own_server)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert runs_before(used, yesterday).old == [] == flow_runs_before(yesterday)
    before = files(used)
    assert t2v("clean", "--work", used, "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["removed"] is False
    assert t2v("clean", "--work", used, "--older-than", "0m", monkeypatch=monkeypatch) == 2
    shown, said = capsys.readouterr()
    assert f"{used}/runs/second" in shown and f"{used}/runs/first" not in shown
    assert "nothing was removed" in said
    assert t2v("clean", "--work", used, "--older-than", "a month", monkeypatch=monkeypatch) == 2
    assert "--older-than 'a month' is no age" in capsys.readouterr().err
    assert files(used) == before


def test_the_challenger_of_nobody_stays(used: Path) -> None:
    store, now = client(used), datetime.now(UTC)
    store.delete_registered_model_alias("t2v-gan", "champion")
    found = runs_before(used, now)
    store.set_registered_model_alias("t2v-gan", "champion", "1")
    assert [run.info.run_id for run in found.old] == [read_record(used / "runs" / "first")["run_id"]]


def test_champions_their_data_and_what_people_brought_stay(used: Path, own_server: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PREFECT_API_URL", own_server)
    runs = {name: read_record(used / "runs" / name)["run_id"] for name in ("first", "second")}
    models = {v.version: v.source for v in client(used).search_model_versions("name = 't2v-gan'")}
    with track(used, "circles-16px", "deleted by hand", params={}, tags={}) as trash:
        pass
    client(used).delete_run(trash.run_id)
    champion = files(used / "runs" / "first") | files(used / "data" / "first") | files(used / "data" / "mine")
    assert t2v("clean", "--work", used, "--older-than", "0m", "--yes", "--json", monkeypatch=monkeypatch) == 0
    *_, told = capsys.readouterr().out.splitlines()
    found = json.loads(told)
    bytes = found.pop("bytes")
    assert found == {
        "folders": 3, "mlflow_runs": 1, "models": 1, "deleted_mlflow_runs": 1, "prefect_runs": 1, "removed": True
    }  # fmt: skip
    assert bytes > 100_000
    assert sorted(path.name for path in (used / "runs").iterdir()) == ["first"]
    assert sorted(path.name for path in (used / "data").iterdir()) == ["first", "mine"]
    assert not any((used / "evaluations").iterdir())
    assert files(used / "runs" / "first") | files(used / "data" / "first") | files(used / "data" / "mine") == champion
    store = client(used)
    left = store.search_runs(["0", "1"], run_view_type=ViewType.ALL)
    assert [run.info.run_id for run in left] == [runs["first"]]
    with pytest.raises(MlflowException):
        store.get_run(runs["second"])
    assert [v.version for v in store.search_model_versions("name = 't2v-gan'")] in ([1], ["1"])
    assert store.get_logged_model(models[min(models)].rsplit("/")[-1])
    artifacts = files(used / "mlflow-artifacts" / "circles-16px")
    assert not [path for path in artifacts if path.startswith(runs["second"])]
    assert len({path.split("/")[1] for path in artifacts if path.startswith("models")}) == 1
    assert flow_runs_before(datetime.now(UTC)) == []
    store.delete_run(runs["first"])
    with pytest.raises(LabError, match="t2v-gan version 1 has the alias champion and its run was deleted in"):
        runs_before(used, datetime.now(UTC))
    store.restore_run(runs["first"])


def test_a_database_that_is_elsewhere_is_asked_for(tmp_path: Path, monkeypatch) -> None:
    url = "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    up_note.write(tmp_path, up_note.Running(up=up_note.identity(), parts={}, prefect=url, mlflow=url))
    with pytest.raises(LabError, match="give --postgres again, as to 't2v up'"):
        _database(tmp_path, None)
    (tmp_path / "mlflow.db").touch()
    assert _database(tmp_path, None) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_log_begins_anew_and_its_writer_goes_on_in_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with log.open("ab") as output, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output) as process:
        assert process.stdin
        for part in (b"a" * 900, b"b" * 200, b"c" * 50):
            process.stdin.write(part)
            process.stdin.flush()
            while part[:1] not in log.read_bytes():
                os.sched_yield()
            rotate(log, 1000)
        process.stdin.close()
    assert log.read_bytes() == b"c" * 50
    assert log.with_name("server.log.1").read_bytes() == b"a" * 900 + b"b" * 200


@pytest.mark.parametrize(("bytes", "words"), [(0, "0 B"), (999, "999 B"), (4_400_000, "4.4 MB"), (2e12, "2 TB")])
def test_bytes_are_told_with_three_digits(bytes: float, words: str) -> None:
    assert bytes_in_words(bytes) == words
