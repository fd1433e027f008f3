"""Clips on the way between two prompts, two seeds, or two clips that somebody has, as a text says.

Between clips as in Ho et al. (2020, arXiv:2006.11239, section 4.4): both are dissolved in noise, mixed in proportion,
and made clear again. Here the noise is the same for both, so that a mixture has as much of it as either end.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from t2v_models.batch import to_frames, to_video
from t2v_models.families.diffusion.samplers import Draw
from t2v_models.families.diffusion.upsampler import shrink
from t2v_models.families.texts import heard, mixed, none_like
from t2v_models.machine import threads
from t2v_models.sampler import Frames

if TYPE_CHECKING:
    from t2v_models.families.diffusion.model import Diffusion


def between_prompts(model: "Diffusion", prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
    """`sampler.Interpolates`: tokens are mixed in proportion, noises along a quarter circle."""
    share = torch.linspace(0, 1, count, device=model.device)
    turn = _each(share * torch.pi / 2 if seeds[0] != seeds[1] else 0 * share)
    one, other = (model.noise([seed] * count) for seed in seeds)
    return _made(model, prompts, share, lambda: one() * turn.cos() + other() * turn.sin())


def between_clips(
    model: "Diffusion", clips: Frames, noise: float, prompts: tuple[str, str], seed: int, count: int
) -> Frames:  # fmt: skip
    """`sampler.Dissolves`: clips `(2, t, h, w, 3)`, checked; `noise` in deviations of the data."""
    share = torch.linspace(0, 1, count, device=model.device)
    with torch.inference_mode():
        video = to_video(torch.from_numpy(clips).to(model.device))
        one, other = model.standardise(shrink(video, model.factor, model.every))
        draw = model.noise([seed] * count, *clips.shape[1:2])
        return _made(model, prompts, share, draw, torch.lerp(one, other, _each(share)), noise)


def _made(
    model: "Diffusion", prompts: tuple[str, str], share: Tensor, draw: Draw, begin: Tensor | None = None,
    noise: float | None = None,
) -> Frames:  # fmt: skip
    with torch.inference_mode(), threads(model.config.threads):
        text = mixed(heard(model.text(prompts), model.config.dropout), share)
        return to_frames(model.sampled(text, none_like(text), draw, model.config.guidance, begin=begin, noise=noise))


def _each(share: Tensor) -> Tensor:
    """One number a clip `(b, 1, 1, 1, 1)`."""
    return share.view(-1, 1, 1, 1, 1)
