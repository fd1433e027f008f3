"""The way from one prompt and seed to another, for models that draw a clip from one text vector and Gaussian noise."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from t2v_models.batch import to_frames
from t2v_models.machine import threads
from t2v_models.model import VideoModel
from t2v_models.sampler import Frames


def noise_of(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard Gaussian noise `(b, *shape)`, row i a function of `seeds[i]`, the same on any device."""
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def interpolate(
    model: VideoModel, draw: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...],
    prompts: tuple[str, str], seeds: tuple[int, int], count: int,
) -> Frames:  # fmt: skip
    """`count` clips on the way, both ends included: uint8 `(count, t, h, w, 3)`.

    Words are mixed in proportion; noises of two seeds along a quarter circle, so that the mixture stays Gaussian.

    Args:
        model: whose text encoder and threads are used.
        draw: video of text vectors `(b, d)` and noise `(b, *shape)`.
        shape: of the noise of one clip.
        prompts: both ends.
        seeds: both ends; between equal ones the noise stays.
        count: clips.
    """
    share = torch.linspace(0, 1, count, device=model.device)
    with torch.inference_mode(), threads(model.config.threads):
        first, last = model.text.pooled(prompts)
        one, other = noise_of(seeds, shape, model.device)
        turn = (share * math.pi / 2 if seeds[0] != seeds[1] else 0 * share).view(-1, *(1 for _ in shape))
        return to_frames(draw(torch.lerp(first, last, share[:, None]), one * turn.cos() + other * turn.sin()))
