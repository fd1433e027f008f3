"""Muon: steps of equal length in every direction of a matrix (Jordan 2024, kellerjordan.github.io/posts/muon)."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from t2v_models.distributed.collectives import all_reduce_tensor, share
from t2v_models.families.layers import full_precision

COEFFICIENTS = 3.4445, -4.775, 2.0315
"""Of the quintic that takes singular values between 0 and 1 to about 1 in so many steps."""
STEPS = 5
BETAS = (0.9, 0.98)
"""Of AdamW, in all families whose networks Muon teaches."""


class Muon(AdamW):
    """Muon for matrices and kernels of convolutions, AdamW for all else.

    Ranks share the matrices: each makes the steps of some, and a sum over ranks, zero but for one, tells all of all.

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
        super().__init__(groups, betas=betas, weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """There is no closure."""
        assert closure is None
        matrices, others = self.param_groups
        self._step([weight for weight in matrices["params"] if weight.grad is not None], matrices["lr"])
        self.param_groups = [others]
        for weight in others["params"]:
            if weight.grad is not None:  # fused steps on processors take numbers in the order they lie in memory
                weight.grad = weight.grad.contiguous()
        super().step()
        self.param_groups = [matrices, others]

    def _step(self, weights: list[nn.Parameter], lr: float) -> None:
        if not weights:
            return
        towards = [self._momentum(weight).flatten(1) for weight in weights]
        mine, ranks = share(), shared([work(matrix) for matrix in towards], share().world)
        found = [torch.zeros_like(matrix) for matrix in towards]
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for i, rank in enumerate(ranks):
            if rank == mine.rank:
                alike[towards[i].shape].append(i)
        for numbers in alike.values():
            steps = orthogonal(torch.stack([towards[i] for i in numbers]))
            for i, step in zip(numbers, steps, strict=True):
                found[i] = step
        if mine.world > 1:
            sums = all_reduce_tensor(torch.cat([step.flatten() for step in found]))
            found = [
                part.view_as(m)
                for part, m in zip(torch.split(sums, [m.numel() for m in towards]), towards, strict=True)
            ]
        for weight, step in zip(weights, found, strict=True):
            long = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
            weight.add_(step.view_as(weight), alpha=-lr * long)

    def _momentum(self, weight: nn.Parameter) -> Tensor:
        """Of the gradients so far, by Nesterov."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}  # AdamW loads none without steps
        momentum: Tensor = state["momentum"].lerp_(weight.grad, 0.05)
        return weight.grad.lerp(momentum, 0.95)


def work(matrix: Tensor) -> int:
    """About how many multiplications `orthogonal` takes: two with the long side, the rest in the small square."""
    short, long = sorted(matrix.shape)
    return short * short * (2 * long + (4 * STEPS - 3) * short)


def shared(works: Sequence[int], ranks: int) -> list[int]:
    """The rank that does each work: the largest first, each for the one that has least so far."""
    loads, found = [0] * ranks, [0] * len(works)
    for i in sorted(range(len(works)), key=lambda i: -works[i]):
        found[i] = loads.index(min(loads))
        loads[found[i]] += works[i]
    return found


def _polynomial(gram: Tensor) -> Tensor:
    """p of X Xᵀ."""
    a, b, c = COEFFICIENTS
    step = c * gram @ gram + b * gram
    step.diagonal(dim1=-2, dim2=-1).add_(a)
    return step


@full_precision  # in bfloat16 the gathered steps run away: autocast is on while an optimiser steps
def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices `(…, m, n)` with their singular values brought near 1 (0.7 to 1.2), by Newton and Schulz's iteration.

    Every step is X <- p(X Xᵀ) X, so the steps are gathered in one small square matrix; X itself, of a kernel up
    to nine times as long as high, is multiplied twice and not ten times, and float32 is cheap enough.
    """
    turned = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if turned else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    gram = x @ x.mT
    steps = step = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = step @ gram @ step
        step = _polynomial(gram)
        steps = step @ steps
    found: Tensor = steps @ x
    return found.mT if turned else found
