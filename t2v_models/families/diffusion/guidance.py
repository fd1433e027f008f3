"""Sampling that follows its text more closely than the data did, and what keeps it from going too far.

Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): away from the clip without text (or with a negative
prompt), towards the one with it. Both go through the network in one pass. It needs a denoiser that was trained with
captions left out now and then. What it leads away from may be made by a weaker denoiser, whose errors are then led away
from as well (Karras et al. 2024, arXiv:2406.02507, autoguidance, there with the text on both sides).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from t2v_models.families.diffusion.samplers import Denoise
from t2v_models.families.diffusion.unet import Sight
from t2v_models.families.texts import beside
from t2v_models.text.encoder import Text

TINY = 1e-6


@dataclass(frozen=True)
class Guidance:
    """How far to go, and at which noise levels."""

    scale: float = 1.0
    """1 is the clip with text itself, 0 the one without."""
    low: float = 0.0
    """Noise levels up to here are not guided: that helps no more and costs a pass (Kynkäänniemi et al. 2024,
    arXiv:2404.07724)."""
    high: float = inf
    """Nor those above, where guidance takes variety."""
    rescale: float = 0.0
    """Share of the way back to the contrast of the clip with text (Lin et al. 2023, arXiv:2305.08891, eq. 15, 16)."""

    def __call__(self, with_text: Denoise, with_both: Callable[[Tensor, Tensor], Tensor]) -> Denoise:
        """The guided denoiser.

        Args:
            with_text: denoises clips `(b, …)` with their texts.
            with_both: denoises `(2 b, …)`, the first half with their texts, the second without or with what to avoid.
        """

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if self.scale == 1 or not self.low < float(sigma[0]) <= self.high:
                return with_text(x, sigma)
            towards, away = with_both(torch.cat([x, x]), torch.cat([sigma, sigma])).chunk(2)
            guided = away + self.scale * (towards - away)
            same_contrast = guided * _contrast(towards) / _contrast(guided).clamp_min(TINY)
            return torch.lerp(guided, same_contrast, self.rescale)

        return denoise


def _contrast(clips: Tensor) -> Tensor:
    """The deviation of each clip's numbers, `(b, 1, …)`."""
    return clips.std(dim=tuple(range(1, clips.ndim)), keepdim=True)


def dynamic_threshold(video: Tensor, share: float) -> Tensor:
    """Clips `(b, …)` pressed into [-1, 1]: where more than 1 - `share` of a clip's numbers lie outside, all of it is
    divided by the size that this share stays below, so that it is not clipped flat (Saharia et al. 2022,
    arXiv:2205.11487, section 2.3)."""
    size = video.flatten(1).abs().float().quantile(share, dim=1).clamp_min(1).view(-1, *[1] * (video.ndim - 1))
    return video.clamp(-size, size) / size


def by_two(towards: Denoise, away: Denoise) -> Denoise:
    """Of clips `(2 b, …)` the first half by one denoiser, the second by the other."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        (one, other), (level, same) = x.chunk(2), sigma.chunk(2)
        return torch.cat([towards(one, level), away(other, same)])

    return denoise


def of_text(denoiser: nn.Module, text: Text, given: Tensor | None, alone: Tensor | None, sight: Sight) -> Denoise:
    """A network that is told all but the noisy clips and their levels."""
    more = (given, alone) if sight == "own" else (given, alone, sight)  # which not every network has

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        clean: Tensor = denoiser(x, sigma, text, *more)
        return clean

    return denoise


def of_texts(
    denoiser: nn.Module, text: Text, other: Text, given: Tensor | None, alone: Tensor | None, sight: Sight
) -> Denoise:
    """The same of clips `(2 b, …)`, the first half with one text each, the second with the other."""
    return of_text(denoiser, beside(text, other), None if given is None else torch.cat([given, given]), alone, sight)
