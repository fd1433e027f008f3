"""A picture that moves: how an image model makes clips without having seen one (Khachatryan et al. 2023,
arXiv:2303.13439, Text2Video-Zero, section 3.2).

Noise is taken from one picture until things have their places. Frame k then goes on from that picture moved by k steps,
and looks at the first frame's places.
"""

from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_models.config import LabError
from t2v_models.families.diffusion.samplers import Denoise, Draw, euler

APART = 2.0
"""Noise level, in deviations of the data, at which frames part: what is above decides where things are."""


def check_motion(step: tuple[float, float], frames: int, begun: bool) -> None:
    """See that clips of so many frames can be made of pictures that move by a step of px a frame.

    Raises:
        LabError: they cannot: a step that is no number, one frame, clips that were begun by somebody else.
    """
    if not all(map(isfinite, step)):
        raise LabError(f"a motion of {step[0]:g} and {step[1]:g} px a frame: give two numbers")
    if frames < 2:
        raise LabError("a motion is seen from 2 frames on: ask for more with --frames")
    if begun:
        raise LabError("a motion begins with a picture that the model makes: leave --first-frame or --motion out")


def moving(first: Denoise, looking: Denoise, draw: Draw, sigmas: Tensor, step: tuple[float, float]) -> Tensor:
    """Clips of frames that look at the first one and part from it at `APART`, each moved by a step of px a frame.

    Args:
        first: denoises the picture they come from.
        looking: denoises all frames, which look at the first.
        draw: noise for whole clips.
        sigmas: falling levels, 0 at last.
        step: px of a small frame to the right and down.
    """
    apart = int((sigmas > APART).sum().clamp(1, len(sigmas) - 2))
    noise = draw()
    x = euler(first, sigmas[0] * noise[:, :, :1], sigmas[: apart + 1], draw)
    clean = first(x, sigmas[apart].expand(len(x)))
    return euler(looking, in_motion(clean, x - clean, noise.shape[2], step), sigmas[apart:], draw)


def in_motion(clean: Tensor, noise: Tensor, frames: int, step: tuple[float, float]) -> Tensor:
    """Noisy clips `(b, c, t, h, w)` of pictures `(b, c, 1, h, w)` in which frame k is moved by k steps.

    Args:
        clean: the pictures, standardised: 0 comes in from beyond the edge, as in the mean picture.
        noise: what lies over them. It moves by whole pixels, for between pixels it would lose some of its deviation,
            and what leaves the frame comes in on the other side.
        frames: t.
        step: px to the right and down.
    """
    moved = []
    for k in range(frames):
        across, down = k * step[0], k * step[1]
        rolled = noise[:, :, 0].roll((round(down), round(across)), (-2, -1))
        moved.append(shifted(clean[:, :, 0], across, down) + rolled)
    return torch.stack(moved, 2)


def shifted(pictures: Tensor, across: float, down: float) -> Tensor:
    """Pictures `(b, c, h, w)` moved by so many px to the right and down, also by parts of one; 0 comes in."""
    height, width = pictures.shape[2:]
    place = torch.tensor([[1, 0, -2 * across / width], [0, 1, -2 * down / height]], dtype=pictures.dtype)
    place = place.to(pictures.device).expand(len(pictures), 2, 3)
    grid = F.affine_grid(place, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False)
