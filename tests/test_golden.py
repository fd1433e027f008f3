"""What must not change unnoticed: the pixels of the worlds. `python -m tests.test_golden` writes the file anew."""

import hashlib
import json
from pathlib import Path

import pytest

from t2v_models.clips.dataset import RENDERER_VERSION, DatasetConfig, draw_clip
from t2v_models.clips.render import render
from t2v_models.clips.spec import ClipSpec

GOLDEN = Path(__file__).parent / "golden" / "clips.json"
CONFIGS = {
    "circles": DatasetConfig(spec=ClipSpec(size=32)),
    "shapes": DatasetConfig(world="shapes", spec=ClipSpec(size=64)),
}


def digest(config: DatasetConfig) -> str:
    """sha256 of the captions and pixels of the first 96 clips."""
    found = hashlib.sha256()
    for index in range(96):
        caption, motion = draw_clip(config, index)
        found.update(caption.encode() + render(motion, config.spec).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", CONFIGS)
def test_clips_are_what_they_were_at_this_renderer_version(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["renderer"] == RENDERER_VERSION, "write the golden file anew: python -m tests.test_golden"
    assert digest(CONFIGS[name]) == golden[name], "pixels or captions changed: raise RENDERER_VERSION"


if __name__ == "__main__":
    content = {"renderer": RENDERER_VERSION} | {name: digest(config) for name, config in CONFIGS.items()}
    GOLDEN.write_text(json.dumps(content, indent=2) + "\n")
