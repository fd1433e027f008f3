"""What a training says before it begins of what nobody chose by hand."""

from pathlib import Path

import pytest
import torch

from flows.cli.main import _what_next
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import here
from tasks.train import plan
from tests.owned import owned


def test_auto_is_bfloat16_where_the_machine_has_it_and_the_family_gains(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, manifest = TrainConfig(steps=1, device="cpu", precision="auto"), Manifest.load(data)
    diffusion, gan = (FAMILIES[name].tiny() for name in ("diffusion", "gan"))
    for has, found, why in (
        (True, "bfloat16", "which this machine is fast in"),
        (False, "float32", "for it is slow in"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"amx_bf16": has})
        assert here(wanted, diffusion).precision == found
        assert f"1 process, {found}, {why}" in plan(manifest, diffusion, wanted)
        assert here(wanted, gan).precision == "float32"
        exact = TrainConfig(steps=1, precision="float32")
        assert here(exact, diffusion) is exact


def test_after_a_training_nobody_is_sent_to_a_judge_that_refuses(data: Path, tmp_path: Path) -> None:
    alike = owned(tmp_path, 104, 0.1, ["a thing moves"] * 104)
    for folder, judged in ((data, True), (alike, False)):
        store, model = ClipStore(Manifest.load(folder)), FAMILIES["gan"].tiny()
        told = _what_next(new_run(store.manifest, model, 0), store, tmp_path / "run", tmp_path)
        assert "t2v generate" in told and ("t2v evaluate" in told) is judged
    assert "with 1 caption; gan" in plan(Manifest.load(alike), FAMILIES["gan"].tiny(), TrainConfig(steps=1))
