"""What a run folder knows of its MLflow run. Imports neither Prefect nor MLflow, so that looking a run up is quick."""

import json
from pathlib import Path

import yaml

from t2v_models import files
from t2v_models.shards.ingested import DataConfig


def experiment_name(data: DataConfig) -> str:
    """Runs that may be compared with each other share an experiment: one for each world and size."""
    return f"{data.world}-{data.spec.sides}px"


def read_record(run_dir: Path) -> dict[str, str]:
    """Which MLflow run a run folder belongs to (`run_id`), and its registered model once there is one (`model`)."""
    path = run_dir / "mlflow.json"
    record: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return record


def write_record(run_dir: Path, **record: str) -> None:
    """See `read_record`."""
    files.write(run_dir / "mlflow.json", json.dumps(record, indent=2))


def training_run(run: Path) -> str | None:
    """The MLflow run that trained a run folder, also one inside a logged model; None if unknown."""
    inside = run.parent.parent / "MLmodel"
    record: dict[str, str] = yaml.safe_load(inside.read_text()) if inside.is_file() else read_record(run)
    return record.get("run_id")
