"""Muon: steps of equal length in every direction of a matrix (Jordan 2024, kellerjordan.github.io/posts/muon)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from t2v_models.machine import has_bfloat16

COEFFICIENTS = 3.4445, -4.775, 2.0315
"""Of the quintic that takes singular values between 0 and 1 to about 1 in five steps."""


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


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1 (0.7 to 1.2), by Newton and Schulz's iteration."""
    is_fast = matrix.dtype == torch.float32 and (matrix.is_cuda or has_bfloat16())
    x = matrix.bfloat16() if is_fast else matrix
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = (x.T if turned else x).to(matrix.dtype)
    return found
