"""Ours, packages of others and pipelines in one table: learnt for as long on the same cores, judged by our reader.

    pip install --no-deps video-diffusion-pytorch==0.7.0 phenaki-pytorch==0.5.0 einops einops-exts einx ema-pytorch \
        frozendict loguru rotary-embedding-torch sacremoses sentencepiece torch-einops-utils torchtyping \
        typeguard==2.13.3 vector-quantize-pytorch==1.32.0 accelerate
    python benchmarks/peers.py data/s32 --seconds 300 --threads 1 --out peers \
        --beside oracle unconditional runs/modelscope random:wan tuning/tuned.npz

In an environment of its own, for that brings what ours need not. Every row is kept as a JSON file once it is done, with
the commit and the machine it was made on, and not made again while its name, the dataset, the options and the contents
of what it judges stay as they are (rows kept when contents did not count are made anew). Seconds are those of CPU, for
a machine may be busy: ours make as many updates as fit into them by a trial of a few, in float32 like all. What learnt
leaves an archive, which `t2v evaluate` takes; beside it stand runs, pipelines, archives and baselines by their names,
and `random:NAME`, a pipeline of `tests/pretrained.py`. What had to be bent for others is told in `lessons.py`.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import torch
from figures import Figure, about_here, tell
from lessons import LEARNERS, Lesson, Sample, check_learner

from t2v_models import files
from t2v_models.clips.media import save_clips
from t2v_models.config import LabError
from t2v_models.judging.statistics import wilson
from t2v_models.sampler import PIPELINE, Frames, sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.worlds.dataset import DatasetConfig
from tasks.samplers import Archive, Source, source

FEWER = {"video-diffusion-pytorch": 2}
"""Of what is slow, by how much fewer clips are asked."""
AT_ONCE = 16
"""Clips sampled together."""
SPEEDS = {"clips_per_cpu_second": "learnt, clips a CPU second", "cpu_seconds_per_clip": "CPU seconds a clip"}


@dataclass(frozen=True)
class Table:
    """Rows of one dataset, each a file."""

    store: ClipStore
    out: Path
    settings: Figure
    """On which a kept row depends."""

    def learnt(self, name: str) -> Figure:
        """Of what learns now, or did: its clips stay in an archive."""
        return self._row(name, {}, partial(self._learn, name))

    def found(self, name: str) -> Source:
        """What there is already."""
        return source(random_pipeline(name, self.out) if is_random(name) else name, self._data)

    def beside(self, name: str, found: Source) -> Figure:
        """Of that."""
        return self._row(name, {"source": found.sha256}, partial(self._judge, name, found))

    def _row(self, name: str, of: Figure, make: Callable[[], Figure]) -> Figure:
        """That of a name: kept, or made now."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:80]
        file = self.out / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
        key = {"figure": name, "settings": self.settings | of}
        if key.items() <= (kept := _kept(file)).items():
            return kept
        made = key | make() | about_here()
        files.write(file, json.dumps(made))
        return made

    def _learn(self, name: str) -> Figure:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory(dir=self.out) as folder:
            lesson = Lesson(self.store, self.settings["seconds"], self.settings["tiny"], Path(folder))
            busy = time.process_time()
            sample = LEARNERS[name](name, lesson)
            cpu = time.process_time() - busy - lesson.trials
            prompts, seeds = self._asked(max(1, self.settings["clips"] // FEWER.get(name, 1)))
            frames, each = sampled(sample, prompts, seeds)
        save_clips(self.out / f"{name}.npz", frames, prompts, seeds, self.store.spec.fps)
        about = f"{cpu:.0f} CPU s, {lesson.updates:,} updates"
        speed = {"clips_per_cpu_second": lesson.clips / cpu, "cpu_seconds_per_clip": each}
        return {"learnt": about, "cpu_seconds": cpu, **speed, **judged(self._data, name, frames, prompts)}

    def _judge(self, name: str, found: Source) -> Figure:
        if isinstance(found.sampler, Archive):
            prompts, seeds = found.sampler.prompts, found.sampler.seeds
        else:
            prompts, seeds = self._asked(self.settings["clips"])
        frames, each = sampled(partial(sample_frames, found.sampler), prompts, seeds)
        timed = {} if isinstance(found.sampler, Archive) or not found.settings else {"cpu_seconds_per_clip": each}
        about = "nothing: random weights" if is_random(name) else found.about
        return {"learnt": about, **timed, **judged(self._data, name, frames, prompts)}

    @property
    def _data(self) -> DatasetConfig:
        found = self.store.manifest.config.truth
        assert isinstance(found, DatasetConfig)
        return found

    def _asked(self, count: int) -> tuple[list[str], list[int]]:
        """Seen prompts, mixed, each as often as another or once more; clip i has seed i."""
        seen = self._data.asked("s0")
        mixed = [seen[i] for i in np.random.default_rng(0).permutation(len(seen))]
        return [mixed[i % len(mixed)] for i in range(count)], list(range(count))


def _kept(file: Path) -> Figure:
    """A row as it was kept; empty where there is none that can be read."""
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_random(name: str) -> bool:
    """Whether a pipeline with random weights is meant, which is made now."""
    return name.startswith("random:")


def random_pipeline(name: str, out: Path) -> str:
    """`diffusers:FOLDER` of one with tiny random weights, in two steps; Text2Video-Zero moves in its 44th to 47th."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.pretrained import PIPELINES, pipeline_folder

    kind = name.partition(":")[2]
    if kind not in PIPELINES:
        raise LabError(f"no pipeline is called {kind!r}: use one of {', '.join(PIPELINES)}")
    return f"{PIPELINE}{pipeline_folder(kind, out / 'random')},size=32,frames=9,steps={48 if kind == 'zero' else 2}"


def sampled(sample: Sample, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Frames, float]:
    """Clips, and the CPU seconds that one costs."""
    start = time.process_time()
    parts = range(0, len(seeds), AT_ONCE)
    frames = np.concatenate([sample(prompts[i : i + AT_ONCE], seeds[i : i + AT_ONCE]) for i in parts])
    return frames, (time.process_time() - start) / len(seeds)


def judged(data: DatasetConfig, name: str, frames: Frames, prompts: Sequence[str]) -> Figure:
    """How many clips the reader finds right in motion, in all that was asked, and whole.

    Raises:
        LabError: they are of another shape than the dataset's, or answer prompts of another world.
    """
    if frames.shape[1:] != data.spec.shape:
        t, h, w = frames.shape[1:4]
        raise LabError(
            f"{name} makes clips of the shape {w}x{h}x{t} and the dataset has {data.spec.name}: leave it out"
        )
    readings = data.rules.read(frames, [data.rules.parse(prompt) for prompt in prompts])
    counts = {"obeyed": [one.right for one in readings], "right in all": [one.success for one in readings]}
    counts["valid"] = [one.valid for one in readings]
    return {"n": len(readings)} | {name: sum(map(bool, hits)) for name, hits in counts.items()}


def line(row: Figure) -> str:
    """Of the table."""
    shares = [wilson(row[name], row["n"]) for name in ("obeyed", "right in all", "valid")]
    told = [f"{100 * s.value:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in shares]
    speeds = [f"{row[key]:,.4g}" if key in row else "" for key in SPEEDS]
    return "| " + " | ".join([row["figure"], *told, str(row["n"]), row["learnt"], *speeds]) + " |"


def above_zero(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Reads an option."""

    def read(text: str) -> float:
        if not 0 < (value := kind(text)) < inf:
            raise argparse.ArgumentTypeError(f"should be above 0 (found {text})")
        return value

    return read


def opened(data: Path) -> ClipStore:
    """The dataset.

    Raises:
        LabError: nothing reads its clips, or they are of several shapes.
    """
    store = ClipStore(Manifest.load(data))
    if not store.manifest.config.truth:
        raise LabError(f"{data} is no rendered dataset, so nothing reads its clips: 't2v render' one")
    if len(store.shapes) > 1:
        raise LabError(f"{data} has clips of {len(store.shapes)} shapes, and rows are of one: 't2v render' one of one")
    return store


def main() -> None:
    """Make the rows that are missing, tell each, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = above_zero(int)
    parser.add_argument("data", type=Path, help="a rendered dataset of square clips of 10 frames, or 1 + 3 n")
    parser.add_argument("--out", type=Path, default=Path("peers"), help="folder of rows and archives")
    parser.add_argument("--seconds", type=above_zero(float), default=300, help="of CPU to learn, for each that does")
    parser.add_argument("--clips", type=whole, default=128, help="that are judged of each row, one a prompt")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--learn", nargs="*", default=[*LEARNERS], choices=LEARNERS, help="what learns")
    parser.add_argument("--beside", nargs="*", default=[], help="runs, pipelines, archives, baselines, random:NAME")
    parser.add_argument("--tiny", action="store_true", help="small networks, to see whether all runs")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        store = opened(asked.data)
        for name in asked.learn:
            check_learner(name, store)
        files.check_writable(asked.out, "--out")
        asked.out.mkdir(parents=True, exist_ok=True)
        digest, options = store.manifest.config.digest, ("seconds", "clips", "threads", "tiny")
        table = Table(store, asked.out, {"data": digest} | {name: getattr(asked, name) for name in options})
        later = {str(asked.out / f"{name}.npz") for name in asked.learn}
        found = {name: table.found(name) for name in asked.beside if name not in later}  # mistakes before hours of work
        rows = [*map(table.learnt, asked.learn)]
        rows += [table.beside(name, found.get(name) or table.found(name)) for name in asked.beside]
    except LabError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    for row in rows:
        tell(row)
    heads = "obeyed, % [95 %]", "right in all", "one object in each frame", "clips", "learnt", *SPEEDS.values()
    print("| | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|")
    print("\n".join(map(line, rows)))


if __name__ == "__main__":
    main()
