"""The loss on clips that a model never saw."""

from pathlib import Path

import pytest
import torch

from t2v_models.judging.own_clips import OwnClips
from t2v_models.training.unseen import losses_of
from tests.owned import CAPTIONS, owned
from tests.runs import SMALL, built
from tests.tiny import SPEC


@pytest.mark.slow
def test_the_loss_on_unseen_clips_stands_beside_that_on_seen_ones(tmp_path: Path) -> None:
    own = OwnClips.of(owned(tmp_path, 200))
    for name in ("diffusion", "phenaki"):
        torch.manual_seed(0)
        model = built(SMALL[name], SPEC, CAPTIONS)
        found = losses_of(model, own)
        assert found == losses_of(model, own) and found["unseen_loss"].low > 0, name
        assert found["loss_ratio"].low < 1 < found["loss_ratio"].high, f"{name} has learnt nothing yet"
    assert losses_of(built(SMALL["gan"], SPEC, CAPTIONS), own) == {}
    assert losses_of(built(SMALL["video_tokenizer"], SPEC, CAPTIONS), own) == {}
    assert losses_of(built(SMALL["diffusion"], SPEC, CAPTIONS[:1]), own) == {}
