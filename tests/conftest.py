"""What several test files share: a tiny dataset, rendered once, and a work folder with an MLflow store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: threads of two processes only stand in line

import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.manifest import finish
from t2v_models.shards.write import write_shard
from tests.progress import Progress


@pytest.hookimpl(trylast=True)  # after the reporter is there
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and terminal.verbosity <= 0 and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(terminal))


TINY = DatasetConfig(clips=90, clips_per_shard=36, spec=ClipSpec(size=16, frames=6))


def rendered(folder: Path, config: DatasetConfig) -> Path:
    """The whole dataset of `config`, in this process."""
    for index in range(config.shards):
        write_shard(folder, config, index)
    finish(folder, config)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 90 clips of 6 frames at 16 px in three shards."""
    return rendered(tmp_path_factory.mktemp("data") / "tiny", TINY)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prepared work folder, one for a whole file of tests: the schema of its MLflow store takes seconds."""
    work = tmp_path_factory.mktemp("work")
    with prepared(work):
        yield work


@contextmanager
def prepared(work: Path) -> Iterator[None]:
    """An environment as the commands make it for a work folder, for as long as the block runs."""
    from tasks.runtime import prepare

    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("MLFLOW_", "PREFECT_")):
                patch.delenv(name)
        before = dict(os.environ)
        prepare(work)
        yield
        for name in set(os.environ) - set(before):
            del os.environ[name]
