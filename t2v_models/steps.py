"""Steps of an optimiser that cannot run away."""

import math

import torch
from torch.optim import Optimizer


@torch.no_grad()
def bounded_step(optimizer: Optimizer) -> None:
    """A step of the optimiser whose root mean square over all parameters is at most its learning rate; a longer one is
    made as much shorter (update clipping, Shazeer & Stern 2018, arXiv:1804.04235, section 6, here for all matrices
    together).

    A step of Adam is that long on average, but where gradients rise suddenly up to (1 - beta2)^-1/2 times as long. With
    a penalty on gradients that feeds on itself: the longer the step, the steeper the network at the next penalty.
    """
    (group,) = optimizer.param_groups
    own = group["params"]
    before = [parameter.clone() for parameter in own]
    optimizer.step()
    lengths = torch.stack(torch._foreach_norm(torch._foreach_sub(own, before)))
    longest = group["lr"] * math.sqrt(sum(parameter.numel() for parameter in own))
    back = (1 - longest / lengths.norm().clamp_min(1e-30)).clamp_min(0)
    for parameter, old in zip(own, before, strict=True):
        parameter.lerp_(old, back)
