"""Layers shared by networks of several files."""

from itertools import pairwise

from torch import nn

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
