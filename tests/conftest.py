"""What several test files share: a tiny dataset, rendered once, a work folder with an MLflow store, a server."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: threads of two processes only stand in line

import pytest
from hypothesis import settings

from tests.databases import new_work
from tests.tiny import TINY, prepared, rendered

# how long an example takes is no fault of what it proves; whether a commit passes should not change from run to run:
# `pytest --hypothesis-profile default` looks for new examples
settings.register_profile("any load", deadline=None, derandomize=True)
settings.load_profile("any load")

LONGEST = ("test_operating", "test_killed", "test_flows", "test_render_flow", "test_serving", "test_runtime")
"""Files that take a minute or more, most of it in servers, workers and labs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with most slow tests, for all processes to end together."""
    files = Counter(item.path for item in items if item.get_closest_marker("slow"))
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(LONGEST)), -files[item.path]))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 90 clips of 6 frames at 16 px in three shards."""
    return rendered(tmp_path_factory.mktemp("data") / "tiny", TINY)


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder a work folder that Prefect or MLflow knows already: their tables take seconds."""
    own = tmp_path_factory.getbasetemp()
    return partial(new_work, shared=own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="module")
def work(known: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prepared work folder, one for a whole file of tests."""
    work = known(tmp_path_factory.mktemp("work"), "mlflow")
    with prepared(work):
        yield work


@pytest.fixture(scope="session")
def shared_server(known: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A Prefect server for all files of this process, and its folder: its start takes seconds of the processor."""
    from tasks.servers.runtime import api_server

    work = known(tmp_path_factory.mktemp("shared"), "prefect")
    with ExitStack() as running:
        with prepared(work):
            url = running.enter_context(api_server(work / "prefect"))
        yield url, work / "prefect"


@pytest.fixture(scope="module")
def server(shared_server: tuple[str, Path], work: Path) -> Iterator[str]:
    """The URL of a Prefect server, which other files use too: for those who do not count what it has."""
    from tasks.servers.runtime import asking

    with asking(*shared_server):
        yield shared_server[0]


@pytest.fixture(scope="module")
def own_server(known: Callable[..., Path], work: Path) -> Iterator[str]:
    """The URL of a Prefect server of the work folder, that knows of this file of tests only."""
    from tasks.servers.runtime import prefect_api

    with prefect_api(known(work, "prefect")) as url:
        yield url


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system on a new folder; only where this user may."""
    folders: list[Path] = []

    def mount(*options: str) -> Path:
        if shutil.which("mount") is None:
            pytest.skip("no mount here")
        folder = tmp_path / f"mounted-{len(folders)}"
        folder.mkdir()
        if subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
            pytest.skip("this user may not mount")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a store may still map its shards
