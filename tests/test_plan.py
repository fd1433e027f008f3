"""What a training says before it begins of what nobody chose by hand."""

from pathlib import Path

import pytest
import torch

from t2v_models.families.build import FAMILIES
from t2v_models.shards.manifest import Manifest
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import here
from tasks.train import plan


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
