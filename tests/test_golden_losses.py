"""Same seeds, same losses: 20 steps of a small model of each family, as they were before the second house was built
(`diffusion`: before its networks were several).

`python -m tests.test_golden_losses` writes them anew, in a row with every change that is meant to change them.
"""

import json
import tempfile
from pathlib import Path

import pytest

from t2v_models.families.build import FAMILIES, ModelConfig
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.frame_gan import FrameGanConfig
from t2v_models.families.gan.model import GanConfig
from t2v_models.fresh import new_run
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.tiny import TINY, rendered

LOSSES = Path(__file__).parent / "golden" / "losses.json"
CONFIGS: dict[str, ModelConfig] = {
    "gan": GanConfig(batch_size=8, group=2, width=16, frame_width=16, features=8, painter_per_run=2, accumulate=2),
    "frame_gan": FrameGanConfig(batch_size=4, width=16, threads=1),
    "diffusion": DiffusionConfig(  # all of it is written out, since the recipe's defaults may move
        batch_size=4, base_size=8, space_attention=False, norm="place", widths=(8, 16),
        blocks=1, condition=16, upsampler_width=8, threads=1,
        balance=0.5, prediction="x0", weight="even", distance="l2", dropout=0.2, optimizer="adamw", lr=2e-3,
        warmup_steps=3, decay=0.7, training_levels=NoiseLevels(curve="lognormal", low=0.02, high=200, mean=1, std=1.4),
    ),
}  # fmt: skip
STEPS = 20


def losses(name: str, data: Path, out: Path) -> list[dict[str, float]]:
    """The metrics of every step."""
    manifest = Manifest.load(data)
    rows: dict[int, dict[str, float]] = {}

    def log(step: int, figures: dict[str, float]) -> None:
        rows[step] = {key: value for key, value in figures.items() if key.startswith(("train/loss", "train/score"))}

    run = new_run(manifest, CONFIGS[name], seed=3)
    fit(run, ClipStore(manifest), TrainConfig(steps=STEPS, log_every=1, probe_seconds=0), out, log)
    return list(rows.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_are_what_they_were(name: str, data: Path, tmp_path: Path) -> None:
    golden, found = json.loads(LOSSES.read_text())[name], losses(name, data, tmp_path)
    assert len(found) == len(golden) == STEPS
    for step, (row, before) in enumerate(zip(found, golden, strict=True)):
        # a gap is a small difference of scores, which processors with other instructions round otherwise by 2e-6
        assert row == pytest.approx(before, rel=1e-4, abs=1e-5), step


if __name__ == "__main__":
    assert CONFIGS.keys() <= FAMILIES.keys()
    with tempfile.TemporaryDirectory() as folder:
        data = rendered(Path(folder) / "data", TINY)
        LOSSES.write_text(json.dumps({n: losses(n, data, Path(folder) / n) for n in CONFIGS}, indent=1) + "\n")
