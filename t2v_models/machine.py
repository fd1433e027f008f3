"""What this machine can do: threads, memory, bfloat16, and how fast it multiplies matrices."""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from t2v_models.config import LabError
from t2v_models.processes import cores


def matrix_gflops(device: torch.device, seconds: float, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s that matrices of 1024 x 1024 reach within about `seconds`, on all cores of a CPU or on one GPU."""
    side = 1024
    left = torch.ones(side, side, dtype=dtype, device=device)
    result = torch.empty_like(left)
    with threads(cores()):
        torch.mm(left, left, out=result)
        best, start = 0.0, time.perf_counter()
        while (since := time.perf_counter()) - start < seconds:
            for _ in range(8):
                torch.mm(left, left, out=result)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 8 * 2 * side**3 / (time.perf_counter() - since) / 1e9)
    return best


def keep_memory() -> None:
    """Let this process keep what it frees for its next tensors, on Linux with glibc; elsewhere nothing happens.

    By default every large tensor gets fresh pages from the system, which must be found and zeroed one by one, every
    step anew. `mallopt(3)`: all memory comes from the heap, and its end is never handed back.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        most_mapped, trim_threshold = -4, -1
        library.mallopt(most_mapped, 0)
        library.mallopt(trim_threshold, -1)


def free_memory(device: torch.device) -> int:
    """Bytes that tensors on a device may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether this machine's `cpu` or `cuda` multiplies in bfloat16; a processor that does not is hundreds of times
    slower than in float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def device_type(wanted: str, precision: str, ranks: int) -> str:
    """`cpu` or `cuda`: where so many ranks of this machine train.

    Args:
        wanted: `cpu`, `cuda`, or `auto`, which takes GPUs where there are some.
        precision: of the arithmetic, `float32` or `bfloat16`.
        ranks: processes, each of which needs a GPU of its own if any does.

    Raises:
        LabError: there is no GPU, or too few, or the processor lacks what is asked for.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise LabError("device 'cuda' was asked for and this machine has none: ask for cpu or auto")
    if wanted == "cpu" or not torch.cuda.is_available():
        if precision == "bfloat16" and not has_bfloat16():
            raise LabError(
                "bfloat16 needs a GPU or a processor with AVX-512 BF16 or AMX, on others it is far slower: use float32"
            )
        return "cpu"
    if ranks > (there := torch.cuda.device_count()):
        raise LabError(f"{ranks} ranks need a GPU each and this machine has {there}: use --ranks {there}")
    return "cuda"


@contextmanager
def threads(wanted: int | None) -> Iterator[None]:
    """CPU threads of torch while the block runs; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
