"""The gate as a Prefect task: the scores of a judged model against the champion's, and who is champion afterwards."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from t2v_models.config import LabError
from t2v_models.judging.baselines import CEILING
from t2v_models.judging.scores import Evaluation, interval, shown
from t2v_models.judging.statistics import Score
from t2v_models.leaderboard.gate import Decision, Figures, GateConfig, decide, figures_of
from t2v_models.shards.ingested import DataConfig
from tasks.mlflow.registry import champion_of, promote, version_with
from tasks.mlflow.store import client, faults, first_line
from tasks.report.console import say
from tasks.report.progress import show_artifact
from tasks.subjects import Subject

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SCORES_TAG = "t2v.scores"
"""Of a judged version: its figures as JSON, `{"s0/valid": [value, low, high, n]}`."""
JUDGED_TAG = "t2v.judged"
"""On what, and by which judge, as words: scores of versions may be compared where these are equal."""
GATE_TAG = "t2v.gate"
"""`champion` or `challenger`: what was decided. Tags that begin with it hold the reason and both scores."""


@task(task_run_name="gate {who.name}", cache_policy=NO_CACHE)
def gate(work: Path, who: Subject, evaluation: Evaluation, config: GateConfig) -> Decision | None:
    """Decide whether the model just judged becomes champion, and make it so; None if it is not registered or is it.

    Scores, decision and reason become tags of the model's version, and an artifact of the Prefect run. The alias is
    moved last, so that every champion carries its scores.

    Raises:
        LabError: the MLflow store does not answer.
    """
    store = client(work)
    try:
        version = version_with(store, evaluation.source)
        if version is None:
            return None
        champion = champion_of(store, version.name)
        config = config.of(evaluation.scores)
        ceiling = evaluation.bounds.get(CEILING)
        figures, judged = figures_of(evaluation.scores, ceiling), judged_on(who.data, evaluation)
        if version.tags.get(JUDGED_TAG) == judged:  # other splits of the same weights, judged the same way, still count
            figures = _unpacked(version.tags[SCORES_TAG]) | figures
        tags = {SCORES_TAG: _packed(figures), JUDGED_TAG: judged}
        decision = None
        if champion is None or str(champion.version) != str(version.version):  # a number in SQL, a word from a server
            floor = evaluation.bounds.get(config.floor or "", {})
            decision = _decision(version, champion, judged, figures, figures_of(floor), config)
            tags |= _told(decision, champion)
        for key, value in tags.items():
            store.set_model_version_tag(version.name, version.version, key, value)
        if decision and decision.promoted:
            promote(store, version)
    except faults() as error:
        raise LabError(f"the MLflow store failed at the gate: {first_line(error)}; evaluate the run again") from error
    if decision:
        _show(version, champion, decision)
    return decision


def _decision(
    version: "ModelVersion", champion: "ModelVersion | None", judged: str, figures: Figures, floor: Figures,
    config: GateConfig,
) -> Decision:  # fmt: skip
    if champion is None:
        return decide(figures, None, floor, config)
    theirs = champion.tags.get(JUDGED_TAG)
    if theirs != judged:
        return Decision(
            promoted=False,
            reason=f"the champion, version {champion.version}, was judged on {theirs or 'nothing yet'}, this one on "
            f"{judged}: judge the champion anew with 't2v evaluate models:/{version.name}@champion', or move the alias "
            "by hand in MLflow",
        )
    return decide(figures, _unpacked(champion.tags[SCORES_TAG]), floor, config)


def judged_on(data: DataConfig, evaluation: Evaluation) -> str:
    """Everything that decides what a score means, in words; how many clips there were is in its interval."""
    held = f"{', '.join(data.hold_out) or 'nothing'} held out"
    world = data.world if data.truth else f"{data.world} {data.digest}"
    clips = ", ".join([world, f"{data.spec.sides} px", f"{data.spec.frames} frames", held, *data.conditions])
    return f"{clips}, by reader {evaluation.reader} and suite {evaluation.suite}"


def _packed(figures: Figures) -> str:
    return json.dumps({name: [s.value, s.low, s.high, s.n] for name, s in figures.items()})


def _unpacked(text: str) -> dict[str, Score]:
    keys = ("value", "low", "high", "n")
    return {name: Score(**dict(zip(keys, values, strict=True))) for name, values in json.loads(text).items()}


def _told(decision: Decision, champion: "ModelVersion | None") -> dict[str, str]:
    """The decision as tags."""
    tags = {GATE_TAG: "champion" if decision.promoted else "challenger", f"{GATE_TAG}.reason": decision.reason}
    if champion:
        tags[f"{GATE_TAG}.against"] = f"models:/{champion.name}/{champion.version}"
    if decision.changes:
        first = decision.changes[0]
        tags |= {f"{GATE_TAG}.score": f"{first.figure} {first.challenger}",
                 f"{GATE_TAG}.score_against": f"{first.figure} {first.champion}"}  # fmt: skip
    return tags


def _show(version: "ModelVersion", champion: "ModelVersion | None", decision: Decision) -> None:
    """Tell the terminal and the Prefect UI."""
    what = "becomes" if decision.promoted else "does not become"
    title = f"{version.name} version {version.version} {what} champion"
    say(f"gate     {title}: {decision.reason}")
    against = f"champion (version {champion.version})" if champion else "floor"
    rows = [f"| figure | this | {against} | difference | 95 % interval | |", "|---|---|---|---|---|---|"]
    for change in decision.changes:
        metric = change.figure.partition("/")[2]
        values = (shown(metric, score.value) for score in (change.challenger, change.champion, change.gap))
        word = "better" if change.better else "worse" if change.worse else ""
        role = " (guarded)" if change.guarded else ""
        rows.append(f"| {change.figure}{role} | {' | '.join(values)} | {interval(metric, change.gap)} | {word} |")
    table = "\n".join(rows) if decision.changes else ""
    show_artifact(create_markdown_artifact, f"# {title}\n\n{decision.reason}\n\n{table}", key=f"gate-{version.name}",
                  description=f"Why version {version.version} {what} champion, and by which figures")  # fmt: skip
