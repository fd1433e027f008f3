"""What a lab leaves behind: in its folders, in MLflow, and on a real Prefect server."""

import os
import re
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from flows.lab_config import LabConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.scores import SUITE_VERSION, EvaluateConfig, Evaluation
from tasks.evaluate import judge_split, log_evaluation
from tasks.mlflow.store import client
from tasks.publish import log_lab
from tasks.records import read_record
from tasks.report.progress import concluded, reported, show_artifact
from tasks.servers.orchestration import AUTOMATIONS, POOLS, set_up
from tasks.subjects import asked_of, subject
from tests.forked import PATIENCE
from tests.grammar import oracle

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # prefect's and mlflow's own


def test_the_names_of_clips_do_not_lead_out_of_their_folder(work: Path, tmp_path: Path) -> None:
    """Prompts of an archive come from anybody, and punctuation does not change what they mean."""
    prompts = ["../../../circle moving left", "circle moving left", "circle/moving\\right", "circle: moving\0up"]
    frames = oracle(ClipSpec(size=16, frames=6), prompts, range(4))
    np.savez(tmp_path / "theirs.npz", frames=frames, prompts=np.array(prompts))
    who, config, out = subject(tmp_path / "theirs.npz"), EvaluateConfig(), tmp_path / "a" / "b" / "evaluation"
    scores = {
        split: judge_split.fn(who, split, asked, out / split, tmp_path / "real")[0]
        for split, asked in asked_of(who, config).items()
    }
    evaluation = Evaluation(
        name=who.name, source=who.source, data=who.data.digest, config=config, suite=SUITE_VERSION, scores=scores
    )
    before = set(tmp_path.rglob("*"))
    log_evaluation.fn(work, "theirs", None, who, evaluation, out)
    left = {os.path.relpath(path, out) for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert left == {
        "mlflow.json", "s0/clips/000-circle-moving-left.mp4", "s1/clips/000-circle-moving-left.mp4",
        "s1/clips/001-circle-moving-right.mp4", "s1/clips/002-circle-moving-up.mp4",
    }  # fmt: skip


def test_a_lab_with_another_setting_is_another_lab(work: Path, data: Path, server: str, tmp_path: Path) -> None:
    """The same lab done again adds to the MLflow run it has; one whose model is set otherwise has a run of its own."""
    page = tmp_path / "report" / "report.html"
    page.parent.mkdir()
    page.write_text("x")

    def logged(model: dict[str, Any], **others: Any) -> str:
        lab = {"models": [{"name": "gan"} | model, {"name": "frame_gan"}], "training": {"steps": 1}} | others
        config = LabConfig.model_validate(lab)
        runs = {name: tmp_path / name for name in ("gan", "frame_gan")}
        log_lab.fn(page, config.settings, [], data, runs, {"render": 1.0}, work)
        return str(read_record(page.parent)["run_id"])

    first = logged({})
    assert logged({}) == first
    others = [logged({"batch_size": 8}), logged({}, training={"steps": 2}), logged({}, gate={"floor": None})]
    assert len({first, *others}) == 4
    params = client(work).get_run(others[0]).data.params
    assert (params["models.gan.batch_size"], params["training.steps"]) == ("8", "1")


def test_pools_and_rules_stay_as_a_person_has_set_them(server: str) -> None:
    """`t2v up` sets the server up at every start: it opens no pool and no rule that somebody has paused."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    set_up()
    with get_client(sync_client=True) as client:
        assert not any(client.read_work_pool(name).is_paused for name in POOLS)
        client.update_work_pool("gpu", WorkPoolUpdate(is_paused=True, concurrency_limit=3))
        rule = client.read_automations_by_name(AUTOMATIONS[0].name)[0]
        client.pause_automation(rule.id)
        set_up()
        pools = {name: client.read_work_pool(name) for name in POOLS}
        assert {name: (pool.is_paused, pool.concurrency_limit) for name, pool in pools.items()} == {
            "cpu": (False, None), "gpu": (True, 3),
        }  # fmt: skip
        found = {a.name: [r.enabled for r in client.read_automations_by_name(a.name)] for a in AUTOMATIONS}
        assert found == {AUTOMATIONS[0].name: [False], AUTOMATIONS[1].name: [True]}


def test_a_finished_run_shows_the_last_progress(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what was told while the one before was sent, and where nothing was told at all."""
    import prefect.artifacts
    from prefect.client.orchestration import get_client

    create, link = prefect.artifacts.create_progress_artifact, prefect.artifacts.create_link_artifact

    def slow(*arguments: Any, **settings: Any) -> Any:
        made = create(*arguments, **settings)
        for tell in tellers:
            tell(1.0, "40 steps")
            told.set()
        return made

    tellers: list[Any] = []
    told = Event()
    monkeypatch.setattr(prefect.artifacts, "create_progress_artifact", slow)

    @prefect.flow
    def work() -> int:
        show_artifact(link, "http://127.0.0.1/earlier", key="a-link")
        show_artifact(link, "http://127.0.0.1/later", key="a-link")
        create(40.0, key="told-meanwhile", description="an earlier start, which was killed")
        with reported("told meanwhile") as tell:
            tellers.append(tell)
            assert told.wait(PATIENCE)
        tellers.clear()
        with reported("done before"):
            pass
        return concluded(3, "3 of 3 are done")

    assert (work(), concluded(3, "outside of a run")) == (3, 3)
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
        states = [run.state for run in client.read_flow_runs() if run.state]
    assert "Completed('3 of 3 are done')" in map(str, states), "which is the last line of the log"
    found = {artifact.key: artifact for artifact in artifacts}
    keys = [artifact.key for artifact in artifacts]
    assert keys.count("told-meanwhile") == keys.count("a-link") == 1, "what an earlier start has told is not left"
    assert found["told-meanwhile"].data == found["done-before"].data == 100
    assert re.match("told meanwhile: 100%, 40 steps, ", found["told-meanwhile"].description or "")
    assert re.match("done before: 100%, done, ", found["done-before"].description or "")
