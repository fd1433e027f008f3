"""Training as a Prefect task: data, loop, and what MLflow is told about it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from t2v_models import checkpoint, files
from t2v_models.checkpoint import Checkpoint, RunConfig
from t2v_models.families.build import ModelConfig
from t2v_models.fresh import BEGIN, new_run
from t2v_models.judging.metrics import WATCHED, WATCHED_OWN
from t2v_models.leaderboard.milestones import Milestones
from t2v_models.shards.buckets import clips_by_shape, shares_of
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.opened import open_data
from t2v_models.shards.remote import is_url, local_folder
from t2v_models.shards.store import ClipStore
from t2v_models.text.split import are_vectors, confused
from t2v_models.training import launch, loop, run_log, validation
from t2v_models.training.config import TrainConfig
from tasks.mlflow.finished_runs import known
from tasks.mlflow.store import client, run_page
from tasks.mlflow.tracking import Tracker, close_stale, experiment_id, track
from tasks.records import experiment_name, read_record, write_record
from tasks.report.console import progress, say
from tasks.report.progress import show_artifact
from tasks.report.stopwatch import working


@task(task_run_name="train {model.name} into {run_dir.name}", cache_policy=NO_CACHE)
def train_model(data: Path | str, model: ModelConfig, config: TrainConfig, run_dir: Path, work: Path) -> Path:
    """Train into `run_dir`, from its newest checkpoint if it has one, tracked in MLflow; returns `run_dir`."""
    store = open_data(data, work / "cache", config.cache_gib, run_dir)
    run = new_run(store.manifest, model, config.seed, config.mix, config.augment, run_dir)
    if "model" in read_record(run_dir) and loop.is_finished(run, config, run_dir):
        say(f"train    {run_dir} is finished, nothing to train")
        return run_dir
    launch.check_ranks(model, config)
    client(work)  # an MLflow that is away is told before anything is written
    if "run_id" not in read_record(run_dir):  # so is an experiment that was deleted there
        experiment_id(work, experiment_name(store.manifest.config))
    # from here on: a second process must not touch the MLflow run of the first
    with files.locked(run_dir / "tracked.lock", loop.LOCK_SECONDS, "trains"):
        _train(data, store, run, config, run_dir, work)
    return run_dir


def _train(
    data: Path | str, store: ClipStore, run: RunConfig, config: TrainConfig, run_dir: Path, work: Path
) -> None:  # fmt: skip
    last = loop.check_run(run, run_dir)
    close_stale(work)
    model, manifest = run.model, store.manifest
    say(f"train    {run_dir}: {'; '.join(filter(None, [plan(manifest, model, config), beginning(run, last)]))}")
    why = validation.unwatched(run, store)
    if why and len(store.captions) > 1:  # one clip has none to be kept for validation
        say(f"train    no figure will tell what its clips are like: {why}")
    config = launch.here(config, model)
    settings = {"model": model.settings, "training": config.model_dump(), "dataset": manifest.config.model_dump()}
    settings |= {"parents": {key: {"step": one.step, "sha256": one.sha256} for key, one in run.parents.items()}}
    name = experiment_name(manifest.config)
    # a run that was deleted there, or is of another store, gets a new one with all its history
    run_id = next(iter(known(work, filter(None, [read_record(run_dir).get("run_id")]))), None)
    tags = {"stage": "train", "model": model.name}
    with track(work, name, f"train {run_dir.name}", params=settings, tags=tags, run_id=run_id) as tracker:
        source = str(data) if is_url(data) else str(local_folder(data).resolve())
        write_record(run_dir, run_id=tracker.run_id, data=source)
        tracker.dataset(source.rsplit("/", 1)[-1], manifest.digest, source, "training")
        if page := run_page(work, tracker.run_id):
            about = f"Curves, samples and settings of the training of {model.name} on {manifest.config.world}"
            text = f"{run_dir.name} in MLflow"
            show_artifact(create_link_artifact, page, link_text=text, key="mlflow-run", description=about)
        tracker.catch_up(run_log.history(run_dir))
        with working(f"train {model.name}"), progress(f"train {model.name}") as show:
            log = reporter(run, run_dir, tracker, show)
            if launch.by_several(config):
                job = launch.Job(
                    data=str(data), cache=(work / "cache").resolve(), run=run, training=config, run_dir=run_dir
                )
                last = launch.train(job, log)
            else:
                last = loop.fit(run, store, config, run_dir, log, validation.watcher(run, store, run_dir))
            show(1.0, f"{last.step:,} steps")
        with working(f"register {model.name}"):
            uri = tracker.model(run_dir, "t2v-" + model.name.replace("_", "-"), run.dataset.prompts[0])
        write_record(run_dir, run_id=tracker.run_id, model=uri, data=source)


def trained(run_dir: Path) -> str:
    """What came of a training, in one line."""
    last = checkpoint.newest(run_dir)
    assert last is not None, run_dir
    registered = read_record(run_dir)["model"]
    return f"{last.step:,} updates in {last.seconds / 60:.1f} minutes, registered as {registered}"


def plan(manifest: Manifest, model: ModelConfig, config: TrainConfig) -> str:
    """What is going to be trained, on what and for how long, in one line: also what nobody chose by hand."""
    spec, captions = manifest.spec, len(set(manifest.captions))
    shapes = f"{spec.frames} frames at {spec.sides} px"
    if len(manifest.shapes) > 1:
        shares = shares_of(clips_by_shape(manifest), config.mix)
        each = zip(manifest.shapes, manifest.buckets, shares, strict=True)
        shapes = "the shapes " + ", ".join(
            f"{s.name} ({len(rows):,}, {share:.0%} of batches)" for s, rows, share in each
        )
    data = f"{len(manifest.captions):,} clips of {shapes} with {captions:,} caption{'s' * (captions > 1)}"
    length = f"{config.steps:,} updates" if config.steps else f"{config.minutes:g} minutes"
    ranks = "1 process" if config.ranks == 1 else f"{config.ranks} processes"
    precision: str = launch.here(config, model).precision
    if config.precision == "auto" and model.gains_by_bfloat16:
        precision += ", which this machine is fast in" if precision == "bfloat16" else ", for it is slow in bfloat16"
    how = f"{length} of batches of {model.batch_size}, {ranks}, {precision}"
    return "; ".join(
        filter(None, [data, f"{model.name} for {how}", model.plan(spec), unheard(manifest.captions, model)])
    )


def unheard(captions: Sequence[str], model: ModelConfig) -> str:
    """Of captions that another has the words of, where the model does not hear their order: how many, and what would.

    Pieces of words, of which some text encoders tell the places, are counted as whole words.
    """
    encoder = model.text_encoder
    if model.told == "order" or encoder.hears_order or are_vectors(captions):
        return ""
    heard = max(0, encoder.positions - 1) if model.told == "tokens" else 0  # tokens from the last place on share it
    same = confused({line for caption in set(captions) for line in caption.split("\n")}, heard)
    if not same:
        return ""
    needs = f"--set text_encoder.positions={max(len(one.split()) for one in same)}"
    if model.told == "sum":
        needs = f"{needs} --set {model.by_tokens}" if model.by_tokens else "--set text_encoder=transformers:FOLDER"
    return (
        f"{len(same):,} captions have the same words as another in another order, which {model.name} does not hear: a "
        f"run with {needs} tells them apart"
    )


def beginning(run: RunConfig, last: Checkpoint | None) -> str:
    """Of a run that begins with another's weights: what it takes and what begins anew, in one line.

    Args:
        run: that one.
        last: where it goes on, with weights of its own.
    """
    first = run.parents.get(BEGIN)
    if first is None or last:
        return ""
    one, other = (set(getattr(each.model.text_encoder, "vocabulary", ())) for each in (first.run, run))
    words = sorted(other - one)
    new = f"{len(words)} word{'s' * (len(words) > 1)} ({', '.join(words[:5])}{', …' * (len(words) > 5)}), "
    updates = f"{first.step:,} update{'s' * (first.step > 1)}"
    return (
        f"it begins with the averaged weights of {run.model.begin} after {updates}; new are "
        f"{new if words else ''}averages, optimisers and what is measured of the data"
    )


def reporter(run: RunConfig, run_dir: Path, tracker: Tracker, show: Callable[[float, str], None]) -> run_log.Log:
    """What becomes of the figures of a run: MLflow has them, its pictures too, and the bar moves on."""
    share, accuracy = 0.0, "no clips judged yet"
    ways = Milestones(run.model.batch_size)
    for past, figures in run_log.history(run_dir).items():  # what MLflow has already it does not take twice
        tracker.log(past, ways.passed(past, figures))

    def log(step: int, figures: dict[str, float]) -> None:
        nonlocal share, accuracy
        tracker.log(step, figures | ways.passed(step, figures))
        share = figures.get("train/progress", share)
        if WATCHED in figures:
            accuracy = f"{figures[WATCHED]:.0%} of clips obey"
        if WATCHED_OWN in figures:
            accuracy = f"{figures[WATCHED_OWN]:.0%} of clips nearest to their own"
        if "train/seconds" in figures:  # the figures of a validation, which leaves a sheet of clips
            tracker.image("samples", step, validation.sheet(run_dir, step))
        show(share, f"step {step:,}, {accuracy}")

    return log
