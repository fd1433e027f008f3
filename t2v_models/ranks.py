"""What the processes that train one model together do as one. In a process alone every function is the identity.

Rank r of `world` works on the r-th of `world` equal parts of every batch, and all hold the same weights bit for bit:
they start from one seed and step by the same averaged gradients. Gradients are averaged explicitly, in one flat buffer:
the GAN differentiates twice and by chosen inputs, where wrappers that listen to `backward` go wrong, and every message
is a wait for the slowest rank, which on a CPU costs more than what is sent.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported after `join`, it would hold the group: see `leave`
from torch import nn

from t2v_models.config import LabError
from t2v_models.model import Metrics

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes: rank r of `world` takes the r-th of `world` equal parts."""

    rank: int = 0
    world: int = 1


ALONE = Share()


def join() -> None:
    """Meet the other ranks that torchrun started with this one; figures travel by gloo, tensors of GPUs by NCCL.

    Raises:
        LabError: torchrun's variables are missing.
    """
    if "RANK" not in os.environ:
        raise LabError("no RANK in the environment: start ranks with 't2v train … --ranks N' or with torchrun")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Part from the other ranks, which ends the group's threads, as long as nothing else holds the group.

    A thread of gloo that is still there while the interpreter unloads may abort the process (a rank then seems to have
    failed after all its work). `torch.distributed.nn.functional` would hold it: its functions have the group that was
    there when it was first imported as their default, and torch's compiler imports it at the first step.
    """
    dist.destroy_process_group()


def share() -> Share:
    """Which part of every batch is this process's."""
    return Share(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def leads() -> bool:
    """Whether this process logs and saves: rank 0, or a process alone."""
    return share().rank == 0


def on_this_machine() -> int:
    """How many ranks share this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def number_on_this_machine() -> int:
    """0 for the first rank of each machine, 1 for the second."""
    return int(os.environ["LOCAL_RANK"]) if dist.is_initialized() else 0


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Put the mean over ranks in place of each parameter's gradient, in one message."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat.div_(dist.get_world_size()), [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def average(metrics: Metrics) -> Metrics:
    """The mean of every metric over ranks."""
    if not dist.is_initialized():
        return metrics
    total = torch.stack([value.double() for value in metrics.values()])
    dist.all_reduce(total)
    return dict(zip(metrics, total / dist.get_world_size(), strict=True))


def greatest(*numbers: float) -> list[float]:
    """The greatest of each number over ranks: how they agree on what a clock or a signal told only one of them."""
    if not dist.is_initialized():
        return list(numbers)
    values = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.tolist()


def total(number: float) -> float:
    """The sum of a number over ranks."""
    if not dist.is_initialized():
        return number
    value = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(value)
    return value.item()


def of_the_lead(value: T) -> T:
    """What rank 0 gave; the others wait for it, whatever they gave."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
