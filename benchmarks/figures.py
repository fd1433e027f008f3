"""What benchmarks share: work measured in turns, and figures told as lines of JSON with where they were measured."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

Figure = dict[str, Any]
Group = Callable[[Path], Iterator[Figure]]
"""Measures in an empty folder."""


def in_turns(
    turns: int, clock: Callable[[], float] = time.process_time, **works: Callable[[int], object]
) -> dict[str, float]:
    """The median seconds of each piece of work, which is told the turn; the first turn only warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = clock()
            work(turn)
            times[name].append(clock() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def about_here() -> Figure:
    """The commit, the machine, its load now and the versions that matter."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True).stdout
    return {
        "commit": commit.strip(), "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load": os.getloadavg()[0], "versions": {m.__name__: m.__version__ for m in (np, pa, torch)},
    }  # fmt: skip


def tell(figure: Figure) -> None:
    """Print a figure as one line of JSON, with where it was measured: here and now, if it does not say."""
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figure.items()}
    print(json.dumps(rounded | {k: v for k, v in about_here().items() if k not in figure}), flush=True)


def run(groups: Mapping[str, Group], description: str) -> None:
    """Tell the figures of the groups that the command line asks for."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--only", default="", help=f"groups whose name contains this: {', '.join(groups)}")
    asked = parser.parse_args().only
    torch.set_num_threads(1)
    for name, group in groups.items():
        if asked in name:
            with tempfile.TemporaryDirectory() as folder:
                for figure in group(Path(folder)):
                    tell(figure)
