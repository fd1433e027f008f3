"""Train whichever model the configuration names."""

import signal
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from t2v_models.families.build import ModelConfig
from t2v_models.training.config import TrainConfig
from tasks.report.progress import concluded
from tasks.servers.orchestration import check_starts, end_if_cancelled
from tasks.servers.runtime import WORK
from tasks.train import train_model, trained


def _name() -> str:
    """`train gan on circles-32px-07ad6e42`: the last part of a path or URL says which dataset."""
    model, data = flow_run.parameters["model"], str(flow_run.parameters["data"]).rstrip("/")
    name = model["name"] if isinstance(model, dict) else model.name
    return f"train {name} on {data.rsplit('/', 1)[-1]}"


@flow(flow_run_name=_name)
def train(data: Path | str, model: ModelConfig, training: TrainConfig, out: Path, work: Path = WORK) -> Path:
    """Train a model on the dataset in `data`, or go on with the run in `out`; a finished run is left alone.

    Args:
        data: folder or URL of a dataset.
        model: which family and its settings.
        training: how long, seed, device.
        out: run folder for checkpoints, samples and metrics.
        work: folder of the MLflow store, and of the cache of what comes from URLs.
    """
    check_starts()
    try:
        train_model(data, model, training, out, work)
    except SystemExit as end:
        if end.code == 128 + signal.SIGTERM:  # all is saved, and MLflow told
            end_if_cancelled("cancelled, and saved; a new run goes on from there")
            signal.raise_signal(signal.SIGTERM)  # for Prefect's own handler
        raise
    return concluded(out, trained(out))
