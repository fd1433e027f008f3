"""Ours, packages of others and pipelines in one table: learnt for as long on the same cores, judged by our reader.

    pip install --no-deps video-diffusion-pytorch==0.7.0 phenaki-pytorch==0.5.0 einops einops-exts einx ema-pytorch \
        frozendict loguru rotary-embedding-torch sacremoses sentencepiece torch-einops-utils torchtyping \
        typeguard==2.13.3 vector-quantize-pytorch==1.32.0 accelerate
    python benchmarks/peers.py data/s32 --seconds 300 --threads 1 --out peers \
        --beside oracle unconditional runs/modelscope random:wan tuning/tuned.npz

In an environment of its own, for that brings what ours need not. Every row is kept as a JSON file once it is done and
not made again. Seconds are those of CPU, for a machine may be busy: ours make as many updates as fit into them by a
trial of a few, in float32 like all. What learnt leaves an archive, which `t2v evaluate` takes; beside it stand runs,
pipelines, archives and baselines by their names, and `random:NAME`, a pipeline of `tests/pretrained.py`.

What had to be bent to make the others run, and is no fault of their methods:

- Both ask the network for a text encoder (BERT, T5). Both get the same instead: a fixed random vector for each word, to
  video-diffusion-pytorch their mean, as its condition is one vector.
- phenaki-pytorch forgets to drop conditions in training (`cond_drop_prob` is 0 whatever is asked for), so its guidance
  would be by a null text that it never saw: it samples without.
- Its discriminator needs the weights of VGG: the tokenizer is trained by squared errors and its own losses alone.
- A clip has 1 + 3 n frames for it (patches of 3 frames after the first): 10, as ours have by default.
- video-diffusion-pytorch samples by as many steps as it was trained with: 10, not 1000. With its own 8 heads of 32 on
  every pixel a guided step of 16 clips of 32 px took 15 CPU seconds: it gets 4 heads of 16, and makes half the clips.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure, tell
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from t2v_models import files
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.media import save_clips
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.judging.statistics import wilson
from t2v_models.sampler import PIPELINE, Frames, sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.text.split import words
from t2v_models.text.words import vocabulary_of
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.dataset import DatasetConfig
from tasks.samplers import Archive, source

BATCH, TEXT = 8, 64
"""Clips an update of a peer; width of a word's vector."""
FEWER = {"video-diffusion-pytorch": 2}
"""Of what is slow, by how much fewer clips are asked."""
AT_ONCE = 16
"""Clips sampled together."""
TRIALS = 2, 2, 18
"""Updates of three short runs of ours: the first warms up, the others tell how many fit into the time."""
SPEEDS = {"clips_per_cpu_second": "learnt, clips a CPU second", "cpu_seconds_per_clip": "CPU seconds a clip"}
Sample = Callable[[Sequence[str], Sequence[int]], Frames]
"""Of prompts and seeds."""


class Words:
    """A fixed random vector for each word."""

    def __init__(self, captions: tuple[str, ...]) -> None:
        random = torch.Generator().manual_seed(0)
        self._vectors = {word: torch.randn(TEXT, generator=random) for word in vocabulary_of(captions)}

    def each(self, prompts: Sequence[str]) -> Tensor:
        """`(b, l, d)`, zeros behind short ones."""
        found = [torch.stack([self._vectors[word] for word in words(prompt)]) for prompt in prompts]
        return pad_sequence(found, batch_first=True)

    def mean(self, prompts: Sequence[str]) -> Tensor:
        """`(b, d)`, of length about 1 a number."""
        return torch.stack([self.each([prompt])[0].sum(0) / len(words(prompt)) ** 0.5 for prompt in prompts])


@dataclass
class Lesson:
    """Our shards, the CPU seconds to learn from them, and what was seen so far."""

    store: ClipStore
    seconds: float
    tiny: bool
    folder: Path
    """For runs of ours."""
    updates: int = 0
    clips: int = 0
    trials: float = 0.0
    """CPU seconds of trials, in which nothing is learnt."""
    text: Words = field(init=False)

    def __post_init__(self) -> None:
        self.text = Words(tuple(self.store.captions))

    def during(self, share: float = 1.0) -> Iterator[tuple[Tensor, list[str]]]:
        """Clips `(b, 3, t, h, w)` in [0, 1] with captions for a share of the time, one batch at least."""
        end = time.process_time() + share * self.seconds
        for batch in batches(self.store, BATCH, 1, 0):
            yield batch.frames.permute(0, 4, 1, 2, 3).float() / 255, list(batch.captions)
            self.updates, self.clips = self.updates + 1, self.clips + BATCH
            if time.process_time() > end:
                return

    def run_of(self, name: str, share: float = 1.0, **settings: Any) -> tuple[Path, Any]:
        """A family of ours after a share of the time, and its run folder."""
        family = FAMILIES[name]
        settings |= {"threads": torch.get_num_threads()}
        config = (family.tiny() if self.tiny else family()).model_copy(update=settings)
        run, times = RunConfig.of(self.store.manifest, config, 0), []
        for number, steps in enumerate(TRIALS):
            start = time.process_time()
            self._fitted(run, steps, self.folder / f"{name}-{number}")
            times.append(time.process_time() - start)
        self.trials += sum(times)
        each = (times[2] - times[1]) / (TRIALS[2] - TRIALS[1])
        updates = max(1, round(share * self.seconds / max(each, 1e-3)))
        self.updates, self.clips = self.updates + updates, self.clips + updates * config.batch_size
        return self.folder / name, self._fitted(run, updates, self.folder / name)

    def _fitted(self, run: RunConfig, steps: int, folder: Path) -> Any:
        fit(run, self.store, TrainConfig(steps=steps, probe_seconds=0), folder, lambda step, figures: None)
        return source(folder).sampler


def learn(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One update."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def one_run(name: str, lesson: Lesson) -> Sample:
    """A family of ours by its defaults."""
    return partial(sample_frames, lesson.run_of(name)[1])


def two_runs(name: str, lesson: Lesson) -> Sample:
    """A transformer of ours, after its tokenizer has had half of the time."""
    tokenizer, _ = lesson.run_of("video_tokenizer", 0.5)
    return partial(sample_frames, lesson.run_of(name, 0.5, tokenizer=tokenizer)[1])


def video_diffusion(name: str, lesson: Lesson) -> Sample:
    """Ho et al. 2022 by video-diffusion-pytorch: a space-time U-Net that denoises pixels."""
    from video_diffusion_pytorch import GaussianDiffusion, Unet3D

    spec, text = lesson.store.manifest.spec, lesson.text
    mults = (1, 2) if lesson.tiny else (1, 2, 4)
    unet = Unet3D(dim=16, cond_dim=TEXT, dim_mults=mults, attn_heads=4, attn_dim_head=16)
    steps = 4 if lesson.tiny else 10
    diffusion = GaussianDiffusion(unet, image_size=spec.size, num_frames=spec.frames, timesteps=steps)
    optimiser = torch.optim.Adam(diffusion.parameters(), 1e-3)
    for videos, captions in lesson.during():
        learn(diffusion(videos, cond=text.mean(captions)), optimiser)
    diffusion.eval()
    return lambda prompts, seeds: to_bytes(diffusion.sample(cond=text.mean(prompts), cond_scale=2.0))


def phenaki(name: str, lesson: Lesson) -> Sample:
    """Villegas et al. 2022 by phenaki-pytorch: clips as tokens for half of the time, masked tokens for the other."""
    from phenaki_pytorch import CViViT, MaskGit, Phenaki
    from phenaki_pytorch.t5 import DEFAULT_T5_NAME, T5_CONFIGS
    from transformers import T5Config

    spec, text, tiny = lesson.store.manifest.spec, lesson.text, lesson.tiny
    T5_CONFIGS[DEFAULT_T5_NAME] = {"config": T5Config(d_model=TEXT)}  # asked for, also where it is not used
    width, codes, patch = 64, 1024, 8
    shape = {"heads": 4, "dim_head": 16}
    tokenizer = CViViT(
        dim=width, codebook_size=codes, image_size=spec.size, patch_size=patch, temporal_patch_size=3,
        spatial_depth=1 if tiny else 2, temporal_depth=1 if tiny else 2, use_vgg_and_gan=False, **shape,
    )  # fmt: skip
    optimiser = torch.optim.Adam(tokenizer.parameters(), 1e-3)
    for videos, _ in lesson.during(0.5):
        learn(tokenizer(videos), optimiser)
    tokens = (spec.size // patch) ** 2 * (1 + (spec.frames - 1) // 3)
    network = MaskGit(
        dim=width, num_tokens=codes, max_seq_len=tokens, dim_context=TEXT, depth=1 if tiny else 4, **shape
    )
    model = Phenaki(maskgit=network, cvivit=tokenizer, steps=8, text_embed_dim=TEXT)
    model.encode_texts = lambda texts, output_device: text.each(texts)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for videos, captions in lesson.during(0.5):
        learn(model(videos, text_embeds=text.each(captions)), optimiser)
    return lambda prompts, seeds: to_bytes(model.sample(texts=list(prompts), num_frames=spec.frames, cond_scale=1.0))


LEARNERS: dict[str, Callable[[str, Lesson], Sample]] = {
    "gan": one_run, "diffusion": one_run, "ar_tokens": two_runs,
    "video-diffusion-pytorch": video_diffusion, "phenaki-pytorch": phenaki,
}  # fmt: skip
"""What learns for the same time, by the name of its row."""


def to_bytes(videos: Tensor) -> Frames:
    """uint8 `(b, t, h, w, 3)`."""
    return (videos.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 4, 1).contiguous().numpy()


@dataclass(frozen=True)
class Table:
    """Rows of one dataset, each a file."""

    store: ClipStore
    out: Path
    settings: Figure
    """On which a kept row depends."""

    def row(self, name: str, make: Callable[[str], Figure]) -> Figure:
        """The row of that name: kept, or made now."""
        file = self.out / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}.json"
        if file.is_file() and (kept := json.loads(file.read_text()))["settings"] == self.settings:
            return dict(kept)
        made = {"figure": name, "settings": self.settings} | make(name)
        with files.atomic(file) as place:
            place.write(json.dumps(made).encode())
        return made

    def learnt(self, name: str) -> Figure:
        """Of what learns now: its clips stay in an archive."""
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory(dir=self.out) as folder:
            lesson = Lesson(self.store, self.settings["seconds"], self.settings["tiny"], Path(folder))
            busy = time.process_time()
            sample = LEARNERS[name](name, lesson)
            cpu = time.process_time() - busy - lesson.trials
            prompts, seeds = self._asked(self.settings["clips"] // FEWER.get(name, 1))
            frames, each = sampled(sample, prompts, seeds)
        save_clips(self.out / f"{name}.npz", frames, prompts, seeds, self.store.manifest.spec.fps)
        about = f"{cpu:.0f} CPU s, {lesson.updates:,} updates"
        speed = {"clips_per_cpu_second": lesson.clips / cpu, "cpu_seconds_per_clip": each}
        return {"learnt": about, "cpu_seconds": cpu, **speed, **judged(self._data, frames, prompts)}

    def beside(self, name: str) -> Figure:
        """Of what there is already."""
        is_random = name.startswith("random:")
        found = source(random_pipeline(name, self.out) if is_random else name, self._data)
        if isinstance(found.sampler, Archive):
            prompts, seeds = found.sampler.prompts, found.sampler.seeds
        else:
            prompts, seeds = self._asked(self.settings["clips"])
        frames, each = sampled(partial(sample_frames, found.sampler), prompts, seeds)
        timed = {} if isinstance(found.sampler, Archive) or not found.settings else {"cpu_seconds_per_clip": each}
        about = "nothing: random weights" if is_random else found.about
        return {"learnt": about, **timed, **judged(self._data, frames, prompts)}

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


def random_pipeline(name: str, out: Path) -> str:
    """`diffusers:FOLDER` of one with tiny random weights, in two steps; Text2Video-Zero moves in its 44th."""
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


def judged(data: DatasetConfig, frames: Frames, prompts: Sequence[str]) -> Figure:
    """How many clips the reader finds right in motion, in all that was asked, and whole."""
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


def main() -> None:
    """Make the rows that are missing, tell each, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="a rendered dataset of square clips of 10 frames, or 1 + 3 n")
    parser.add_argument("--out", type=Path, default=Path("peers"), help="folder of rows and archives")
    parser.add_argument("--seconds", type=float, default=300, help="of CPU to learn, for each that does")
    parser.add_argument("--clips", type=int, default=128, help="that are judged of each row, one a prompt")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--learn", nargs="*", default=[*LEARNERS], choices=LEARNERS, help="what learns")
    parser.add_argument("--beside", nargs="*", default=[], help="runs, pipelines, archives, baselines, random:NAME")
    parser.add_argument("--tiny", action="store_true", help="small networks, to see whether all runs")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        store = ClipStore(Manifest.load(asked.data))
        if not store.manifest.config.truth:
            raise LabError(f"{asked.data} is no rendered dataset, so nothing reads its clips: 't2v render' one")
        asked.out.mkdir(parents=True, exist_ok=True)
        digest, options = store.manifest.config.digest, ("seconds", "clips", "tiny")
        table = Table(store, asked.out, {"data": digest} | {name: getattr(asked, name) for name in options})
        rows = [table.row(name, table.learnt) for name in asked.learn]
        rows += [table.row(name, table.beside) for name in asked.beside]
    except LabError as error:
        parser.error(str(error))
    for row in rows:
        tell(row)
    heads = "obeyed, % [95 %]", "right in all", "one object in each frame", "clips", "learnt", *SPEEDS.values()
    print("| | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|")
    print("\n".join(map(line, rows)))


if __name__ == "__main__":
    main()
