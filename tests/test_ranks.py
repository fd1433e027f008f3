"""Ranks with a part of a batch each, and parts one after the other, take the steps of one process with the whole batch:
in double precision, where rounding hides little."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from t2v_models.batch import Batch, cut
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.distributed.collectives import (
    all_reduce_gradients,
    all_reduce_max,
    all_reduce_metrics,
    all_reduce_sum,
    join,
    share,
)
from tests.forked import by_ranks, by_two_ranks, ended, start
from tests.runs import SMALL, built

CAPTIONS = ("circle moving left", "circle moving up-left", "circle moving diagonally up-left", "circle expanding")
"""The synonyms fall to different ranks: neither may take the other's for wrong captions."""
SPEC = ClipSpec(size=16, frames=4)
STEPS = 5
"""One more than there are between penalties."""


def steps(out: Path, parts: int = 1) -> None:
    """Train every family for some steps on this rank's share of a batch, in so many parts; gradients, weights and
    metrics to `out`."""
    torch.set_default_dtype(torch.float64)
    found: dict[str, torch.Tensor] = {}
    for name in SMALL:
        torch.manual_seed(0)
        model = built(SMALL[name].model_copy(update={"accumulate": parts}), SPEC, CAPTIONS).double()
        frames = torch.randint(256, (14, SPEC.frames, SPEC.size, SPEC.size, 3), dtype=torch.uint8)
        batch = part(frames, tuple(CAPTIONS[clip // 2 % 4] for clip in range(14)), model.config.group)
        for step in range(STEPS):
            torch.manual_seed(step)
            metrics = model.training_step(batch, step, step / STEPS)
            found |= {f"{name}.{step}.{key}": value for key, value in all_reduce_metrics(metrics).items()}
        found |= {f"{name}.{key}": value.detach() for key, value in model.state_dict().items()}
        found |= {f"{name}.gradient.{key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
    safetensors.torch.save_file({key: value.contiguous() for key, value in found.items()}, out)


def steps_of_rank(folder: Path) -> None:
    """Whole; two also in parts, and three as if every rank had a machine of its own, by gloo."""
    who = f"{share().rank} of {share().world}"
    steps(folder / f"rank {who}")
    if share().world == 2:
        steps(folder / f"parts of rank {who}", parts=2)
    if share().world == 3:
        os.environ["LOCAL_WORLD_SIZE"] = "1"
        steps(folder / f"distant rank {who}")


def part(frames: torch.Tensor, captions: tuple[str, ...], group: int) -> Batch:
    """What this rank has of a batch."""
    first, end = cut(len(captions), group, share().world)[share().rank :][:2]
    return Batch(frames[first:end], captions[first:end], before=captions[:first], after=captions[end:])


ALONE = {
    "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
}  # fmt: skip
"""What torchrun says to a rank that has no others."""
PARTING = """
from pathlib import Path
import torch
from t2v_models.distributed import collectives
collectives.join()
torch.compile(torch.nn.Linear(1, 1), backend="eager")(torch.ones(1, 1))  # as the first step of a training would
collectives.leave()
print(*sorted({name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads in /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    """One that did has aborted a rank after its work, while the interpreter unloaded."""
    done = subprocess.run(
        [sys.executable, "-c", PARTING], env=os.environ | ALONE, capture_output=True, text=True, check=True
    )
    assert "python" in done.stdout
    assert "gloo" not in done.stdout


def figures_of_rank(folder: Path) -> None:
    """What two ranks tell each other on one machine, and then as if they were on two."""
    ways = []
    for here, files in (("2", folder), ("1", folder / "missing")):  # two machines share no file
        os.environ["LOCAL_WORLD_SIZE"], tempfile.tempdir = here, str(files)
        rank = share().rank
        layer = torch.nn.Linear(3, 2)
        for number, parameter in enumerate(layer.parameters()):
            parameter.grad = torch.full_like(parameter, number + 0.1 * (rank + 1))
        all_reduce_gradients(list(layer.parameters()))
        gradients = [parameter.grad.tolist() for parameter in layer.parameters() if parameter.grad is not None]
        found = all_reduce_metrics({"loss": torch.tensor(rank + 1.0)})["loss"].item()
        ways.append((gradients, found, all_reduce_max(rank, -rank), all_reduce_sum(rank + 0.5)))
    assert ways[0] == ways[1]
    (weight, bias), *figures = ways[0]
    assert torch.allclose(torch.tensor(weight), torch.full((2, 3), 0.3))
    assert torch.allclose(torch.tensor(bias), torch.full((2,), 2.3))
    assert figures == [3.0, [1.0, 0.0], 2.0]


def test_ranks_tell_each_other_the_same_on_one_machine_as_between_two(tmp_path: Path) -> None:
    by_two_ranks(figures_of_rank, tmp_path)
    assert not list(tmp_path.iterdir()), "files of shared memory should have no name once all have opened them"


def refused_for_room(folder: Path) -> None:
    """As on a full disk, no file can grow."""
    os.environ |= ALONE
    tempfile.tempdir = str(folder)
    join()
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    with pytest.raises(LabError, match=r"share memory, \d+ bytes as a file in .* \(File too large\): set TMPDIR"):
        all_reduce_max(0)


def test_without_room_for_shared_memory_a_rank_says_what_to_do(tmp_path: Path) -> None:
    assert ended(start(refused_for_room, tmp_path)) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_gradients_losses_and_weights_are_those_of_one_process(tmp_path: Path) -> None:
    """Of seven runs, which neither ranks nor parts can share evenly."""
    for world in (2, 3, 4):
        by_ranks(world, steps_of_rank, tmp_path)
    try:
        steps(tmp_path / "alone")
        steps(tmp_path / "two parts", parts=2)
        steps(tmp_path / "four parts", parts=4)
    finally:
        torch.set_default_dtype(torch.float32)
    files = {file.name: safetensors.torch.load_file(file) for file in tmp_path.iterdir()}
    alone = files.pop("alone")
    assert len(alone) > 100 and len(files) == 2 + 2 * 2 + 2 * 3 + 4
    for name, found in files.items():
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-8, msg=lambda t, k=f"{name} {key}": k + t)
    for name, found in files.items():
        if "rank" in name:
            kind, _, of = name.partition("rank ")
            lead = files[f"{kind}rank 0{of[1:]}"]
            assert all(torch.equal(lead[key], value) for key, value in found.items()), f"{name} differs from its lead"
