"""Training as a Prefect task: data, loop, and what MLflow is told about it."""

import json
from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from t2v_models import files, training
from t2v_models.build import ModelConfig
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.splits import split_prompts
from t2v_models.evaluation.metrics import summarise
from t2v_models.evaluation.milestones import milestones
from t2v_models.evaluation.verdicts import judge
from t2v_models.generate import repeat, sample_frames
from t2v_models.media import contact_sheet
from t2v_models.model import VideoModel
from t2v_models.shards.ingested import DataConfig, IngestConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.text import vocabulary_of
from t2v_models.training import TrainConfig
from tasks.console import progress, say
from tasks.stopwatch import working
from tasks.tracking import Tracker, close_stale, track
from tasks.watched import show_artifact

WATCHED_CLIPS = 8
"""Clips of each prompt that are read while training: the smoke tier."""
WATCHED_PROMPTS = 64
"""The most prompts that are watched: more would cost more than they tell."""


@task(task_run_name="train {model.name} on {data.name}", cache_policy=NO_CACHE)
def train_model(data: Path, model: ModelConfig, config: TrainConfig, run_dir: Path, work: Path) -> Path:
    """Train into `run_dir`, from its newest checkpoint if it has one, tracked in MLflow; returns `run_dir`."""
    manifest = Manifest.load(data)
    run = RunConfig(
        model=model, dataset=manifest.config, dataset_digest=manifest.digest,
        vocabulary=vocabulary_of(manifest.captions), seed=config.seed,
    )  # fmt: skip
    record = read_record(run_dir)
    if "model" in record and training.is_finished(run, config, run_dir):
        say(f"train    {run_dir} is finished, nothing to train")
        return run_dir
    training.check_run(run, run_dir)
    close_stale(work)
    settings = {"model": model.model_dump(), "training": config.model_dump(), "dataset": manifest.config.model_dump()}
    name = experiment_name(manifest.config)
    run_id = record.get("run_id")
    with track(work, name, run_dir.name, params=settings, tags={"model": model.name}, run_id=run_id) as tracker:
        write_record(run_dir, run_id=tracker.run_id)
        if tracker.page:
            show_artifact(create_link_artifact, tracker.page, link_text=f"{run_dir.name} in MLflow", key="mlflow-run")
        tracker.catch_up(training.history(run_dir))
        tracker.dataset(data.name, manifest.digest, str(data.resolve()), "training")
        with working(f"train {model.name}"), progress(f"train {model.name}") as show:
            log, watch = _reporters(run, run_dir, tracker, show)
            last = training.fit(run, ClipStore(manifest), config, run_dir, log, watch)
            show(1.0, f"{last.step:,} steps")
            tracker.log(last.step, milestones(training.history(run_dir), model.batch_size))
        with working(f"register {model.name}"):
            uri = tracker.model(run_dir, "t2v-" + model.name.replace("_", "-"), run.dataset.prompts[0])
        write_record(run_dir, run_id=tracker.run_id, model=uri)
    return run_dir


def experiment_name(data: DataConfig) -> str:
    """Runs that may be compared with each other share an experiment: one for each world and size."""
    return f"{data.world}-{data.spec.size}px"


def read_record(run_dir: Path) -> dict[str, str]:
    """Which MLflow run a run folder belongs to (`run_id`), and its registered model once there is one (`model`)."""
    path = run_dir / "mlflow.json"
    record: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return record


def write_record(run_dir: Path, **record: str) -> None:
    """See `read_record`."""
    files.write(run_dir / "mlflow.json", json.dumps(record, indent=2))


def _reporters(
    run: RunConfig, run_dir: Path, tracker: Tracker, show: Callable[[float, str], None]
) -> tuple[training.Log, training.Watch]:
    """What the loop calls: one passes figures on, the other samples the model, reads its clips and shows them."""
    data = run.dataset
    if isinstance(data, IngestConfig):  # only prompts of our grammar say what should be seen
        can_judge, prompts = False, data.prompts[:WATCHED_PROMPTS]
    else:
        can_judge, prompts = True, split_prompts(data.world, "s0", data.hold_out, data.coverage)[:WATCHED_PROMPTS]
    asked, seeds = repeat(prompts, WATCHED_CLIPS, seed=0)
    share, accuracy = 0.0, "clips not read yet" if can_judge else "only eyes can judge these clips"

    def log(step: int, figures: dict[str, float]) -> None:
        nonlocal share, accuracy
        tracker.log(step, figures)
        share = figures.get("train/progress", share)
        if "watch/prompt_acc" in figures:
            accuracy = f"{figures['watch/prompt_acc']:.0%} of clips obey"
        show(share, f"step {step:,}, {accuracy}")

    def watch(step: int, model: VideoModel) -> dict[str, float]:
        frames = sample_frames(model, asked, seeds)
        verdicts = judge(frames, asked, seeds, "s0") if can_judge else []
        marks = [v.right for v in verdicts[::WATCHED_CLIPS]] or None
        sheet = contact_sheet(list(frames[::WATCHED_CLIPS]), prompts, marks)
        path = files.write(run_dir / "samples" / f"step-{step:08d}.png", sheet)
        tracker.image("samples", step, path)
        return {f"watch/{name}": score.value for name, score in summarise(verdicts).items()} if verdicts else {}

    return log, watch
