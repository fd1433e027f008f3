"""The loss on clips that a model never saw."""

from pathlib import Path

import pytest
import torch

from t2v_models.judging.own_clips import OwnClips
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import history
from t2v_models.training.unseen import losses_of
from t2v_models.training.validation import watcher
from tests.owned import CAPTIONS, owned
from tests.runs import SMALL, built, quiet, run_of
from tests.tiny import SPEC


@pytest.mark.slow
def test_the_loss_on_unseen_clips_stands_beside_that_on_seen_ones(tmp_path: Path) -> None:
    own = OwnClips.of(owned(tmp_path, 200))
    for name in ("diffusion", "phenaki"):
        torch.manual_seed(0)
        model = built(SMALL[name], SPEC, CAPTIONS)
        before = {key: value.clone() for key, value in (*model.state_dict().items(), *model.named_buffers())}
        found = losses_of(model, own)
        assert all(torch.equal(value, before[key]) for key, value in model.named_buffers()), name
        assert found == losses_of(model, own) and found["unseen_loss"].low > 0, name
        assert found["loss_ratio"].low < 1 < found["loss_ratio"].high, f"{name} has learnt nothing yet"
    assert losses_of(built(SMALL["gan"], SPEC, CAPTIONS), own) == {}
    assert losses_of(built(SMALL["video_tokenizer"], SPEC, CAPTIONS), own) == {}
    assert losses_of(built(SMALL["diffusion"], SPEC, CAPTIONS[:1]), own) == {}
    store = ClipStore(Manifest.load(own.training.manifest.folder))
    run = run_of(store.manifest.folder, SMALL["diffusion"])
    watch = watcher(run, store, tmp_path / "run")
    fit(run, store, TrainConfig(steps=2, probe_seconds=0), tmp_path / "run", quiet, watch)
    assert history(tmp_path / "run")[2]["watch/unseen_loss"] > 0
