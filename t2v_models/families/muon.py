"""Muon: steps of equal length in every direction of a matrix (Jordan 2024, kellerjordan.github.io/posts/muon)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from t2v_models.families.layers import full_precision

COEFFICIENTS = 3.4445, -4.775, 2.0315
"""Of the quintic that takes singular values between 0 and 1 to about 1 in so many steps."""
STEPS = 5


class Muon(AdamW):
    """Muon for matrices and kernels of convolutions, AdamW for all else.

    torch's own takes no convolutions, and computes in bfloat16 also where that is hundreds of times slower.

    Args:
        matrices: weights `(out, in, …)` of hidden layers; the rate is multiplied by sqrt(max(1, out / in)).
        others: input and output layers, tables, biases.
        lr: of the matrices.
        other_lr: of the others.
        betas: of the others; of the matrices the momentum is 0.95, by Nesterov.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        other_lr: float,
        betas: tuple[float, float],
    ) -> None:
        groups = [{"params": list(matrices), "lr": lr}, {"params": list(others), "lr": other_lr}]
        super().__init__(groups, betas=betas, weight_decay=0.0, foreach=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """There is no closure."""
        assert closure is None
        matrices, others = self.param_groups
        for weight in matrices["params"]:
            self._step(weight, matrices["lr"])
        self.param_groups = [others]
        super().step()
        self.param_groups = [matrices, others]

    def _step(self, weight: Tensor, lr: float) -> None:
        gradient = weight.grad
        if gradient is None:
            return
        state = self.state[weight]
        if not state:
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}  # AdamW loads none without steps
        momentum = state["momentum"]
        momentum.lerp_(gradient, 0.05)
        direction = orthogonal(gradient.lerp(momentum, 0.95).flatten(1))
        long = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
        weight.add_(direction.view_as(weight), alpha=-lr * long)


@full_precision  # in bfloat16 the gathered steps run away: autocast is on while an optimiser steps
def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1 (0.7 to 1.2), by Newton and Schulz's iteration.

    Every step is X <- p(X Xᵀ) X, so the steps are gathered in one small square matrix; X itself, of a kernel up
    to nine times as long as high, is multiplied twice and not ten times, and float32 is cheap enough.
    """
    turned = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if turned else matrix
    x = x / x.norm().clamp_min(1e-7)
    gram = x @ x.T
    steps = torch.eye(len(x), dtype=x.dtype, device=x.device)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        step = c * gram @ gram + b * gram
        step.diagonal().add_(a)
        steps, gram = step @ steps, step @ gram @ step
    found: Tensor = steps @ x
    return found.T if turned else found
