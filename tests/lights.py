"""A world of two captions, learnt in seconds: a grey field that is lighter on one half."""

import torch
from torch import Tensor

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.diffusion.model import Diffusion, DiffusionConfig
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.sampler import Request

SPEC = ClipSpec(size=16, frames=4)
CAPTIONS = ("light left", "light right")
HIGH = NoiseLevels(curve="lognormal", low=0.02, high=200, mean=2, std=1.2)
"""Where text chooses between two kinds of clips."""


def batch(number: int, clips: int = 16) -> Batch:
    """A grey field that is lighter on one half, by how much is chance; captions say on which."""
    random = torch.Generator().manual_seed(number)
    frames = torch.full((clips, SPEC.frames, SPEC.size, SPEC.size, 3), 100.0)
    light = 60 + 40 * torch.rand(clips, 1, 1, 1, 1, generator=random)
    frames[0::2, :, :, :8] += light[0::2]
    frames[1::2, :, :, 8:] += light[1::2]
    return Batch(frames.to(torch.uint8), CAPTIONS * (clips // 2), seed=number)


def fresh(**changes: object) -> Diffusion:
    quick = {"prediction": "x0", "lr": 0.01, "training_levels": HIGH, "dropout": 0.2, "steps": 8, "guidance": 1.0}
    config = DiffusionConfig.tiny().model_copy(update=quick | changes)
    torch.manual_seed(0)
    model = config.with_captions(CAPTIONS).build(SPEC, {})
    assert isinstance(model, Diffusion)
    return model


def lighter_right(model: Diffusion, prompt: str, guidance: float | None = None, avoid: str | None = None) -> Tensor:
    """Of 16 clips, how much lighter the right half is than the left, of the range from 0 to 1."""
    video = model.make(Request((prompt,) * 16, tuple(range(16)), guidance=guidance, avoid=avoid))
    return (video[..., 8:].mean((1, 2, 3, 4)) - video[..., :8].mean((1, 2, 3, 4))) / 2
