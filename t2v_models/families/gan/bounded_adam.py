"""Adam with update clipping."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Adam

TINY = 1e-30
"""In place of the squares of weights that never had a gradient."""


class BoundedAdam(Adam):
    """Adam without momentum (beta1 = 0) whose step has a root mean square, over all parameters, of at most the learning
    rate; a longer one is made as much shorter (update clipping, Shazeer & Stern 2018, arXiv:1804.04235, section 6, here
    for all matrices together).

    A step is about that long, but where gradients rise suddenly up to (1 - beta2)^-1/2 times as long. With a penalty on
    gradients that feeds on itself: the longer the step, the steeper the network at the next penalty.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """As that of Adam; there is no closure."""
        assert closure is None
        (group,) = self.param_groups
        rate, (beta1, beta2), parameters = group["lr"], group["betas"], group["params"]
        assert beta1 == 0, beta1
        if self.state:  # the first step is as long as its rate
            squares = torch.stack([self._square(parameter, beta2) for parameter in parameters])
            steps = self.state[parameters[0]]["step"] + 1
            mean = squares.sum() * (1 - beta2**steps) / sum(parameter.numel() for parameter in parameters)
            group["lr"] = rate / mean.sqrt().clamp_min(1)
        super().step()
        group["lr"] = rate

    def _square(self, parameter: Tensor, beta2: float) -> Tensor:
        """Of the step to come, in units of the rate and before its bias is corrected, the square over one parameter."""
        gradient = parameter.grad
        assert gradient is not None
        second = gradient.square().add_(TINY)
        torch.lerp(self.state[parameter]["exp_avg_sq"], second, 1 - beta2, out=second)
        return torch.dot(gradient.flatten(), torch.div(gradient, second, out=second).flatten())
