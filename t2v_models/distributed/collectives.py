"""What the processes that train one model together do as one. In a process alone every function is the identity.

Rank r of `world` works on the r-th of `world` parts of every batch, and all hold the same weights bit for bit: they
start from one seed and step by the same gradients. Each weighs its losses by its share of the batch, so the sums over
ranks are the gradients and figures of the whole batch. They are added by name, not by wrappers that listen to
`backward`, which go wrong where a GAN differentiates twice or by chosen inputs; and in one flat buffer, because every
message is a wait for the slowest rank, which on a CPU costs more than what is sent. Ranks of one machine write what
they have into `SharedRows`; those of several send it by gloo, and GPUs by NCCL.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil
import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported after `join`, it would hold the group: see `leave`
from torch import Tensor, nn

from t2v_models.config import LabError
from t2v_models.distributed.shared_memory import SharedRows, new_shared_file

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes: rank r of `world` takes the r-th of `world` parts."""

    rank: int = 0
    world: int = 1


ALONE = Share()
MEETING = "T2V_MEETING"
"""Names the file where ranks of one machine meet, in place of a port."""


def on_the_loopback(meeting: Path) -> dict[str, str]:
    """The environment of ranks that meet in a file and listen on no interface that other machines can reach.

    Without it they listen on what the name of the machine stands for.
    """
    [loopback, *_] = (
        name for name, found in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in found)
    )
    return {MEETING: str(meeting), "GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}


def join() -> None:
    """Meet the other ranks that torchrun started with this one.

    Raises:
        LabError: torchrun's variables are missing.
    """
    if "RANK" not in os.environ:
        raise LabError("no RANK in the environment: start ranks with 't2v train … --ranks N' or with torchrun")
    meeting = os.environ.get(MEETING)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{meeting}" if meeting else "env://",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def leave() -> None:
    """Part from the other ranks, which ends the group's threads, as long as nothing else holds the group.

    A thread of gloo that is still there while the interpreter unloads may abort the process (a rank then seems to have
    failed after all its work). `torch.distributed.nn.functional` would hold it: its functions have the group that was
    there when it was first imported as their default, and torch's compiler imports it at the first step.
    """
    _shared_rows.cache_clear()
    dist.destroy_process_group()


def share() -> Share:
    """Which part of every batch is this process's."""
    return Share(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def is_rank_zero() -> bool:
    """Whether this process logs and saves: rank 0, or a process alone."""
    return share().rank == 0


def local_world() -> int:
    """How many ranks share this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def local_rank() -> int:
    """0 for the first rank of each machine, 1 for the second."""
    return int(os.environ["LOCAL_RANK"]) if dist.is_initialized() else 0


def all_reduce_gradients(parameters: Sequence[nn.Parameter], numbers: Sequence[float] = ()) -> list[float]:
    """Put the sum over ranks in place of each parameter's gradient, in one message.

    Returns:
        the sums over ranks of `numbers`, which travel with them.
    """
    if not dist.is_initialized():
        return list(numbers)
    learnt = [(p, p.grad.reshape(-1)) for p in parameters if p.grad is not None]
    counts = learnt[0][1].new_tensor(numbers)
    whole = _combine([*(gradient for _, gradient in learnt), counts])
    *parts, counts = torch.split(whole, [*(len(gradient) for _, gradient in learnt), len(numbers)])
    for (parameter, _), part in zip(learnt, parts, strict=True):
        parameter.grad = part.view_as(parameter)
    return [float(count) for count in counts]


def all_reduce_metrics(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum of every metric over ranks."""
    if not dist.is_initialized():
        return metrics
    return dict(zip(metrics, _combine([torch.stack([value.double() for value in metrics.values()])]), strict=True))


def all_reduce_tensor(sums: Tensor) -> Tensor:
    """The sum over ranks, like `sums`."""
    if not dist.is_initialized():
        return sums
    return _combine([sums.reshape(-1)]).view_as(sums)


def all_reduce_max(*numbers: float) -> list[float]:
    """The greatest of each number over ranks: how they agree on what a clock or a signal told only one of them."""
    if not dist.is_initialized():
        return list(numbers)
    return _combine([torch.tensor(numbers, dtype=torch.float64)], maximum=True).tolist()


def all_reduce_sum(number: float) -> float:
    """The sum of a number over ranks."""
    if not dist.is_initialized():
        return number
    return _combine([torch.tensor([number], dtype=torch.float64)]).item()


def _combine(parts: Sequence[Tensor], maximum: bool = False) -> Tensor:
    """Of the joined flat parts the sum over ranks, or the maximum, bit for bit the same on all."""
    if parts[0].is_cuda or dist.get_world_size() > local_world():
        joined = torch.cat(list(parts))
        dist.all_reduce(joined, dist.ReduceOp.MAX if maximum else dist.ReduceOp.SUM)
        return joined
    rows = _shared_rows(sum(len(part) for part in parts), parts[0].dtype).exchange(parts)
    return rows.amax(0) if maximum else rows.sum(0)


@cache
def _shared_rows(length: int, dtype: torch.dtype) -> SharedRows:
    """One for all messages of a length and type, behind a file that has its name only until all have opened it."""
    mine = share()
    blank = new_shared_file(mine.world, length, dtype) if is_rank_zero() else ""
    try:
        rows = SharedRows(broadcast(blank), mine.rank, mine.world, length, dtype)
        dist.barrier()
    finally:
        if is_rank_zero():
            Path(blank).unlink(missing_ok=True)
    return rows


def broadcast(value: T) -> T:
    """What rank 0 gave; the others wait for it, whatever they gave."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
