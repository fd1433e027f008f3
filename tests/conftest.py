"""What several test files share: a tiny dataset, rendered once."""

from pathlib import Path

import pytest

from t2v_models.clips.dataset import DatasetConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.manifest import finish
from t2v_models.shards.write import write_shard

TINY = DatasetConfig(clips=90, clips_per_shard=36, spec=ClipSpec(size=16, frames=6))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 90 clips of 6 frames at 16 px in three shards."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    for index in range(TINY.shards):
        write_shard(folder, TINY, index)
    finish(folder, TINY)
    return folder
