"""Layers shared by networks of several files."""

from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

SLOPE = 0.2
"""Of every leaky ReLU for negative inputs."""


def he_normal(module: nn.Module) -> None:
    """Weights N(0, 2 / ((1 + slope²) fan_in)), biases 0 (He et al. 2015)."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with leaky ReLUs between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1]).apply(he_normal)


def word_table(width: int, length: int, std: float) -> nn.Linear:
    """From vectors of words or of whole captions, `width` long, to trained ones: with one-hot words a row a word.

    The smaller `std`, the nearer unseen sums of words start to seen ones.
    """
    table = nn.Linear(width, length, bias=False)
    nn.init.normal_(table.weight, std=std)
    return table


def at_least_float32(values: Tensor) -> Tensor:
    """The same numbers, exact enough for sums and differences, whatever autocast made of them."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function of tensors made float32 at least, whatever autocast has the networks around it do.

    For places and probabilities: in bfloat16 the middle of a 64-px frame and the next number are a quarter of a pixel
    apart, and a sigmoid is 1, and flat, from a logit of 6 on.
    """

    def exact(value: Any) -> Any:
        return at_least_float32(value) if isinstance(value, Tensor) else value

    @wraps(function)
    def exactly(*args: Any) -> Tensor:
        device = next(value.device for value in args if isinstance(value, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*map(exact, args))

    return exactly
