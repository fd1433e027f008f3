"""A pipeline of diffusers written for others, whole or not at all."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import HOST, writing

CARD = """---
library_name: diffusers
pipeline_tag: text-to-video
---
Trained from scratch by t2v-lab: clips of {spec.frames} frames at {spec.width} x {spec.height} px. Prompts are made of
these words, others are refused: {words}.

```python
import torch
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("FOLDER")
noise = torch.Generator().manual_seed(0)
made = pipe("PROMPT", num_frames={spec.frames}, height={spec.height}, width={spec.width}, num_inference_steps={steps},
            guidance_scale={guidance:g}, generator=noise)
clip = made.frames[0]  # float (frames, height, width, 3) in [0, 1]
```

The same clip by t2v-lab: `t2v generate diffusers:FOLDER,{options} "PROMPT" --out clip.mp4`.
"""


def save_whole(pipeline: Any, out: Path, spec: ClipSpec, steps: int, guidance: float, words: Sequence[str]) -> str:
    """Write a pipeline with safetensors, and a card that says how it is asked for its clips.

    Returns:
        The same for `diffusers:FOLDER` here.

    Raises:
        LabError: the folder holds something, or cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise LabError(f"{out} holds other files ({min(out.iterdir()).name}): choose an empty folder")
    options = f"frames={spec.frames},size={spec.sides},steps={steps},guidance={guidance:g}"
    temporary = out.with_name(f"{out.name}.{os.getpid()}@{HOST}.tmp")
    try:
        with writing(out):
            pipeline.save_pretrained(temporary, safe_serialization=True)
            card = CARD.format(spec=spec, steps=steps, guidance=guidance, options=options, words=", ".join(words))
            (temporary / "README.md").write_text(card)
            temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return options
