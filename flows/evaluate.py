"""Sample a model's prompts, read the clips, score them, and tell MLflow."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from t2v_models import files
from t2v_models.clips.dataset import DatasetConfig
from t2v_models.evaluation.scores import EvaluateConfig, Evaluation
from tasks.console import say
from tasks.evaluate import asked_splits, judge_split, log_evaluation, read_evaluation, subject
from tasks.registry import fetch_model
from tasks.runtime import WORK


@flow(flow_run_name="evaluate {run}")
def evaluate(
    run: str, config: EvaluateConfig, out: Path, work: Path = WORK, data: DatasetConfig | None = None
) -> Evaluation:
    """Score a model, or return the scores in `out` if they are of the same weights and settings.

    Args:
        run: a run folder, an MLflow model URI, or `oracle` for real clips of `data`.
        config: splits, clips per prompt and seed.
        out: folder for scores, verdicts and clips.
        work: folder of the MLflow store.
        data: the dataset that `oracle` draws from.
    """
    who = subject(fetch_model(work, run) if ":/" in run else run, data)
    done = read_evaluation(out, who.source, config)
    if done:
        say(f"evaluate {out} is up to date")
        return done
    scores = {
        split: judge_split(who, split, prompts, config, out / split)
        for split, prompts in asked_splits(config, who.data).items()
    }
    evaluation = Evaluation(name=who.name, source=who.source, config=config, scores=scores)
    log_evaluation(work, run, who, evaluation, out)
    rows = [{"split": s, "metric": m, "score": str(v), "clips": v.n} for s, ms in scores.items() for m, v in ms.items()]
    create_table_artifact(rows, key=f"scores-{who.name.replace('_', '-')}", description=f"Scores of {who.name}")
    files.write(out / "scores.json", evaluation.model_dump_json(indent=2))
    return evaluation
