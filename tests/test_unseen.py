"""The loss on clips that a model never saw."""

from pathlib import Path

import pytest
import torch

from t2v_models.judging.beside import Beside
from t2v_models.judging.metrics import WATCHED_OWN
from t2v_models.judging.own_clips import Frames, OwnClips
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import history
from t2v_models.training.unseen import beside_real, losses_of
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
    store, beside = ClipStore(Manifest.load(own.training.manifest.folder)), Beside(own)
    for name in ("diffusion", "gan", "frame_gan"):
        run = run_of(store.manifest.folder, SMALL[name])
        watch = watcher(run, store, tmp_path / name)
        fit(run, store, TrainConfig(steps=2, probe_seconds=0), tmp_path / name, quiet, watch)
        told = history(tmp_path / name)[2]
        assert 0 <= told[WATCHED_OWN] < 0.3 and told["watch/sharpness"] > 0, "next to nothing is learnt in two updates"
        assert ("watch/unseen_loss" in told) == (name == "diffusion")
    made = beside_real(SomeRealClips(own), beside, 16)
    assert made["own_pixels"] == 1 and made["own_rmse"] == 0 and made["energy"] == pytest.approx(1, abs=0.3)
    assert beside_real(built(SMALL["gan"], SPEC, ["thing"]), beside, 16) == {}, "it knows no caption of theirs"


class SomeRealClips:
    """Takes real clips apart and makes them again without a fault."""

    def __init__(self, own: OwnClips) -> None:
        self.spec = own.spec

    def round_trip(self, frames: Frames) -> Frames:
        return frames
