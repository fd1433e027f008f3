"""Frames of 8x8 cells as sums of Gaussian blobs (BlobGAN, Epstein et al. 2022): moving a thing is moving a number."""

import math

import torch
from torch import Tensor

from t2v_models.families.gan.painter import SMALL


def draw_blobs(blobs: Tensor) -> Tensor:
    """Sum of Gaussian blobs, `(…, 3, 8, 8)`, from `(…, k, 7)`: opacity of 3 channels, place x and y, spread x and y.

    A cell holds the integral of the blob over it, as a small frame holds the mean of a large one: a blob that moves
    by less than a cell keeps its mass. Numbers near N(0, 1) give faint blobs of about one cell, spread over the frame.
    No numbers hide a blob: its middle stays in the frame, its spread below e^2.5 cells. What nobody sees has no
    gradient, and a caption whose blobs had left the frame would never be learnt again.
    """
    opacity, place, spread = torch.split(blobs, [3, 2, 2], -1)
    middle, deviation = SMALL / 2 + soft_clamp(SMALL / 2, 2 * place), soft_clamp(2.5, 0.3 * spread - 0.4).exp()
    edge = torch.arange(SMALL + 1, device=blobs.device)
    distance = (edge - middle[..., None]) / deviation[..., None]  # (…, k, 2, 9)
    across, down = torch.erf(math.sqrt(0.5) * distance).diff(dim=-1).unbind(-2)  # (…, k, 8)
    rows = (0.3 * opacity[..., None]) * down[..., None, :]  # (…, k, 3, 8)
    return (rows[..., None] * across[..., None, None, :]).sum(-4)


def soft_clamp(limit: float, x: Tensor) -> Tensor:
    """x itself up to 0.8 of the limit, and beyond that ever closer to it; its slope falls as 1 / x², so it never dies.

    Inside the frame nothing may be bent: a path that is straight in the plan would not be so on screen, and motions
    that were never trained came out curved.
    """
    inner = x.clamp(-0.8 * limit, 0.8 * limit)
    over = x - inner
    return inner + over / (1 + over.abs() / (0.2 * limit))
