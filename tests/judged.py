"""Folders of small runs and baselines that were judged."""

from collections.abc import Iterator
from pathlib import Path

from t2v_models.judging.scores import SUITE_VERSION, EvaluateConfig, Evaluation
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.dataset import DatasetConfig
from tasks.evaluate import judge_split
from tasks.subjects import asked_of, subject
from tests.runs import SMALL, quiet, run_of


def evaluated(
    run: Path | str, out: Path, data: DatasetConfig | None = None, splits: tuple[str, ...] = ("s1", "s3")
) -> Path:
    """The folder of an evaluation, as the flow leaves it."""
    who, config = subject(run, data), EvaluateConfig.model_validate({"splits": splits, "clips_per_prompt": 6})
    judged = {
        split: judge_split.fn(who, split, what, out / split, out / "real")
        for split, what in asked_of(who, config).items()
    }
    evaluation = Evaluation(
        name=who.name, source=who.source, data=who.data.digest, config=config, suite=SUITE_VERSION,
        scores={split: scores for split, (scores, _, _) in judged.items()},
        bounds={name: {split: bound[name] for split, (_, bound, _) in judged.items()} for name in ("oracle", "frozen")},
    )  # fmt: skip
    (out / "scores.json").write_text(evaluation.model_dump_json())
    return out


def trained(
    data: Path, out: Path, seed: int, readings: Iterator[float], steps: int = 2, splits: tuple[str, ...] = ("s1", "s3")
) -> Path:
    """The folder of a small run whose accuracy was read as told, and that was judged."""
    config = TrainConfig(steps=steps, watch_seconds=1e-9, probe_seconds=0)
    store, run = ClipStore(Manifest.load(data)), run_of(data, SMALL["gan"], seed)
    fit(run, store, config, out, quiet, lambda step, model: {"watch/prompt_acc": next(readings)})
    evaluated(out, out / "evaluation", splits=splits)
    return out
