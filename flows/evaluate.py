"""Sample a model's prompts, read the clips, score them, and tell MLflow."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from t2v_models import files
from t2v_models.judging.features import features_digest
from t2v_models.judging.left_out import left_out
from t2v_models.judging.scores import (
    SUITE_VERSION,
    EvaluateConfig,
    Evaluation,
    Refusals,
    digest,
    interval,
    obeyed,
    shown,
)
from t2v_models.judging.statistics import Score
from t2v_models.leaderboard.gate import GateConfig
from t2v_models.sampler import is_uri
from t2v_models.worlds.dataset import DatasetConfig
from tasks.evaluate import judge_split, log_evaluation, read_evaluation
from tasks.gate import gate as decide_champion
from tasks.mlflow.registry import fetch_model
from tasks.mlflow.tracking import experiment_id
from tasks.records import experiment_name, training_run
from tasks.report.console import say
from tasks.report.progress import concluded, show_artifact
from tasks.servers.orchestration import check_starts
from tasks.servers.runtime import WORK
from tasks.subjects import asked_of, subject, taken, title


def _name() -> str:
    """`evaluate gan-87ee37f8`: the last part of a path says which run."""
    run = str(flow_run.parameters["run"])
    return f"evaluate {run if is_uri(run) else Path(run).name}"


@flow(flow_run_name=_name)
def evaluate(
    run: str, config: EvaluateConfig, out: Path, work: Path = WORK, data: DatasetConfig | None = None,
    gate: GateConfig = GateConfig(),  # noqa: B008  (a frozen record)
    own: Path | None = None,
) -> Evaluation:  # fmt: skip
    """Score a model, or return the scores in `out` if they are of the same weights and settings.

    Args:
        run: a run folder, an MLflow model URI, the name of a baseline, or an `.npz` of clips.
        config: splits, clips per prompt and seed.
        out: folder for scores, verdicts and clips.
        work: folder of the MLflow store.
        data: the dataset that a baseline draws from, or that clips in an archive are judged by.
        gate: what a registered model must show to become champion.
        own: folder of people's own clips in place of a dataset that was rendered.
    """
    check_starts()
    place = fetch_model(work, run) if is_uri(run) else Path(run)
    who = subject(place, data, own, config.wishes, config.wordnet)
    experiment_id(work, experiment_name(who.data))  # if MLflow is away, that is said now and not when all is judged
    done = read_evaluation(out, who.source, who.data.digest, config)
    if done:
        say(f"evaluate {out} is up to date")
        if not config.wishes_in_words:
            decide_champion(work, who, done, gate)  # the champion may have been judged anew since
        return concluded(done, obeyed(done))
    files.remove(out / "scores.json")  # until all is judged again: verdicts of one judging, scores of another, mislead
    asked, refused = taken(who, asked_of(who, config), config.splits or ())
    for split, refusals in refused.items():
        say(f"evaluate {who.name} on {split}: {refusals}")
    judged = {split: judge_split(who, split, what, out / split, work / "real") for split, what in asked.items()}
    names = dict.fromkeys(name for _, bound, _ in judged.values() for name in bound)
    evaluation = Evaluation(
        name=who.name, source=who.source, data=who.data.digest, config=config, suite=SUITE_VERSION,
        features=features_digest(),
        prompts=digest(f"{split} {p}" for split, (prompts, _) in asked.items() for p in dict.fromkeys(prompts)),
        scores={split: _with(refused.get(split), scores) for split, (scores, _, _) in judged.items()},
        refused=refused,
        understood={
            prompt: meant
            for prompts, _ in asked.values()
            for prompt in dict.fromkeys(prompts)
            if (meant := who.understood(prompt)) != prompt
        },
        bounds={name: {split: bound[name] for split, (_, bound, _) in judged.items()} for name in names},
        left_out={
            split: told
            for split, (scores, _, _) in judged.items()
            if who.own and (told := left_out(who.own, asked[split][0], scores))
        },
        seconds={split: seconds for split, (_, _, seconds) in judged.items()},
    )  # fmt: skip
    log_evaluation(work, title(run) + config.wishes_in_words, training_run(place), who, evaluation, out)
    rows = [
        {"split": s, "metric": m, "score": shown(m, v.value), "95 % interval": interval(m, v), "clips": v.n}
        | {name: shown(m, bound[s][m].value) for name, bound in evaluation.bounds.items() if m in bound[s]}
        for s, scores in evaluation.scores.items()
        for m, v in scores.items()
    ]
    about = f"Scores of {who.name} by split, with 95 % intervals; beside them the ceiling (oracle) and the floors"
    show_artifact(create_table_artifact, rows, key=f"scores-{_key(who.name)}", description=about)
    if not config.wishes_in_words:  # a model is served as it is
        decide_champion(work, who, evaluation, gate)
    files.write(out / "scores.json", evaluation.model_dump_json(indent=2))
    return concluded(evaluation, obeyed(evaluation))


def _with(refusals: Refusals | None, scores: dict[str, Score]) -> dict[str, Score]:
    """The figures of a split, and how many of its prompts were refused where any were."""
    return scores | ({"refused": refusals.share} if refusals else {})


def _key(name: str) -> str:
    """Lower-case letters, digits and dashes: what Prefect takes as a key."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
