"""Measure training and sampling: one JSON line per figure, each beside its baseline measured in the same run.

    python benchmarks/training.py                  every figure, a few minutes
    python benchmarks/training.py --only article   figures whose group contains "article"

Where one thread is enough, times are CPU seconds, measured in turns (ours, baseline, ours, ...), of
which the median counts: other work on the machine slows both alike. Figures of threads and ranks are by the clock on
the wall, and mean something on a machine with nothing else to do only.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import torch
from figures import Figure, in_turns, run
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from t2v_models.clips.spec import ClipSpec
from t2v_models.distributed import collectives
from t2v_models.families import frame_gan
from t2v_models.families.build import FAMILIES, ModelConfig
from t2v_models.families.frame_gan import FrameGanConfig
from t2v_models.machine import has_bfloat16, keep_memory
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.processes import cores
from t2v_models.sampler import RoundTrip, sample_frames
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches
from t2v_models.shards.write import write_shard
from t2v_models.text.words import vocabulary_of
from t2v_models.training.clock import CountFlops
from t2v_models.training.loop import arithmetic
from t2v_models.worlds.dataset import DatasetConfig, draw_clip
from t2v_models.worlds.render import render

TURNS, STEPS = 5, 8
"""How often each piece of work is measured, and its updates."""
TRAINED = {name: family for name, family in FAMILIES.items() if name != "tuned"}
"""That learns one clip, and only on a model that has learnt pictures."""
MODELS = {name: family() for name, family in TRAINED.items()}


def dataset(folder: Path, size: int, clips: int = 720) -> Manifest:
    """Clips of 10 frames at `size` pixels."""
    config = DatasetConfig(clips=clips, clips_per_shard=360, spec=ClipSpec(size=size))
    for index in range(config.shards):
        write_shard(folder, config, index)
    return finish(folder, config)


def fresh(config: FamilyConfig, spec: ClipSpec, captions: Sequence[str]) -> VideoModel:
    """A model that knows nothing yet, nor do those of the families that its settings name as parents."""
    parents = {key: fresh(FAMILIES[family.name](), spec, captions) for key, family in config.parents.items()}
    return config.with_captions(captions).build(spec, parents)


class Loop:
    """A model and its batches, a step at a time: what `fit` does between two looks at the clock."""

    def __init__(
        self,
        config: ModelConfig,
        manifest: Manifest,
        precision: str = "float32",
        device: str = "cpu",
        resident: bool = True,
    ) -> None:
        keep_memory()  # as `fit` does
        self.config, self.precision = config, precision
        torch.manual_seed(0)
        self.model = fresh(config, manifest.spec, manifest.captions).to(device)
        store = ClipStore(manifest)
        clips = DeviceClips(store, torch.device(device)) if resident and device != "cpu" else store
        self.stream = batches(clips, config.batch_size, config.group, 0, share=collectives.share())
        self.step = 0

    def run(self, steps: int) -> None:
        """So many updates."""
        for _ in range(steps):
            collectives.all_reduce_max(0.0, 0.0)  # what the ranks of `fit` agree on before each step
            batch = next(self.stream).to(self.model.device)
            torch.manual_seed(self.step)
            with arithmetic(self.model.device, self.precision):
                self.model.training_step(batch, self.step, 0.5)
            self.step += 1
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()


def threads(work: Path) -> Iterator[Figure]:
    """Clips per second of each family by threads of one process."""
    manifest = dataset(work / "data", 32)
    for name, config in MODELS.items():
        loop = Loop(config, manifest)

        def go(number: int, loop: Loop = loop) -> None:
            torch.set_num_threads(number)
            loop.run(STEPS)

        found = in_turns(TURNS, time.perf_counter, one=lambda turn: go(1), all=lambda turn: go(cores()))
        torch.set_num_threads(1)
        rate = {key: STEPS * config.batch_size / seconds for key, seconds in found.items()}
        yield {
            "figure": f"{name} at 32 px on {cores()} threads against one", "clips_per_second": rate["all"],
            "baseline": "one thread", "baseline_clips_per_second": rate["one"], "ratio": rate["all"] / rate["one"],
        }  # fmt: skip


def two_ranks(work: Path) -> Iterator[Figure]:
    """Two ranks of one machine against one, at the same batch and at one twice as large.

    Two that know nothing of each other say what a second core can give at most.
    """
    for name, size in (("gan", 64), *((name, 32) for name in FAMILIES)):
        config, manifest = MODELS[name], dataset(work / f"{name}-{size}", size)
        double = config.model_copy(update={"batch_size": 2 * config.batch_size})
        one, other = (Team(partial(Loop, config, manifest), 1) for _ in range(2))
        strong, weak = Team(partial(Loop, config, manifest), 2), Team(partial(Loop, double, manifest), 2)
        seconds = in_turns(
            TURNS, time.perf_counter, one=lambda turn: one.run(STEPS), strong=lambda turn: strong.run(STEPS),  # noqa: B023
            weak=lambda turn: weak.run(STEPS), apart=lambda turn: (one.start(STEPS), other.run(STEPS), one.wait()),  # noqa: B023
        )  # fmt: skip
        for team in (one, other, strong, weak):
            team.end()
        clips = {"one": 1, "strong": 1, "weak": 2, "apart": 2}
        rate = {key: times * STEPS * config.batch_size / seconds[key] for key, times in clips.items()}
        for key, what in (("strong", "the same batch"), ("weak", "twice the batch"), ("apart", "nothing shared")):
            yield {
                "figure": f"{name} at {size} px, two ranks against one, {what}", "clips_per_second": rate[key],
                "baseline": "one rank", "baseline_clips_per_second": rate["one"], "ratio": rate[key] / rate["one"],
            } | ({"gate": 1.5, "target": 1.8} if key != "apart" else {})  # fmt: skip


class Team:
    """Processes that wait, without using the machine, until they are told to work some steps together."""

    def __init__(self, make: "Callable[[], Loop | ArticleLoop]", size: int, threads: int = 1) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        context = get_context("spawn")
        pairs = [context.Pipe() for _ in range(size)]
        self.ends = [ours for ours, _ in pairs]
        self.members = [
            context.Process(target=_member, args=(theirs, make, rank, size, port, threads), daemon=True)
            for rank, (_, theirs) in enumerate(pairs)
        ]
        for member in self.members:
            member.start()

    def start(self, steps: int) -> None:
        """Tell them to work."""
        for end in self.ends:
            end.send(steps)

    def wait(self) -> None:
        """Until all have done it."""
        for end in self.ends:
            end.recv()

    def run(self, steps: int) -> None:
        """Work; returns when all have done it."""
        self.start(steps)
        self.wait()

    def cpu(self) -> float:
        """CPU seconds of all members so far, to a hundredth."""
        return sum(sum(psutil.Process(member.pid).cpu_times()[:2]) for member in self.members)

    def end(self) -> None:
        """Let them go."""
        self.start(0)
        for member in self.members:
            member.join()


def _member(
    orders: Connection, make: "Callable[[], Loop | ArticleLoop]", rank: int, size: int, port: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    if size > 1:
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": size,
            "RANK": rank,
            "LOCAL_WORLD_SIZE": size,
        }
        os.environ.update({key: str(value) for key, value in meeting.items()})
        collectives.join()
    loop = make()
    while steps := orders.recv():
        loop.run(steps)
        orders.send(steps)


def matrix_share(work: Path) -> Iterator[Figure]:
    """Arithmetic per second of training against that of large fp32 matrices.

    One thread of each, CPU seconds; and a rank on every core, each with a batch of its own, against as many threads, by
    the clock on the wall.
    """
    manifest = dataset(work / "data", 32)
    left = torch.rand(1024, 1024)
    out = torch.empty_like(left)

    def multiply(number: int, products: int) -> None:
        torch.set_num_threads(number)
        for _ in range(products):
            torch.mm(left, left, out=out)
        torch.set_num_threads(1)

    products, steps, turns = 16, 8, 3 * TURNS  # short turns and many: the machine's own rate drifts
    for name, config in MODELS.items():
        loop = Loop(config, manifest)
        with CountFlops() as counter:
            loop.run(8)
        whole = config.model_copy(update={"batch_size": cores() * config.batch_size})
        team = Team(partial(Loop, whole, manifest), cores())
        by_one = in_turns(turns, training=lambda turn: loop.run(steps), matrices=lambda turn: multiply(1, products))  # noqa: B023
        by_all = in_turns(
            turns, time.perf_counter,
            training=lambda turn: team.run(steps), matrices=lambda turn: multiply(cores(), cores() * products),  # noqa: B023
        )  # fmt: skip
        team.end()
        gate = {"gate": 0.4, "target": 0.6} if name == "gan" else {}
        for found, workers, where in ((by_one, 1, "a core's"), (by_all, cores(), "all cores'")):
            training = workers * counter.flops / 8 * steps / found["training"] / 1e9
            peak = workers * products * 2 * 1024**3 / found["matrices"] / 1e9
            yield {
                "figure": f"{name} at 32 px, share of {where} fp32 matrix rate", "gflops": training,
                "baseline": "1024 x 1024 matrices", "baseline_gflops": peak, "ratio": training / peak,
            } | gate  # fmt: skip


class ArticleFrames(Dataset[tuple[Tensor, str]]):
    """The article's data: every frame a PNG, opened with PIL, made a tensor in [-1, 1], with its clip's prompt."""

    def __init__(self, folder: Path) -> None:
        self.items = [
            (here / name, (here / "text.txt").read_text())
            for here in sorted(folder.iterdir())
            for name in sorted(os.listdir(here))
            if name.endswith(".png")
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        path, prompt = self.items[index]
        picture = Image.open(path).convert("RGB")
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub(0.5).div(0.5), prompt


def article_write(folder: Path, config: DatasetConfig, clips: int) -> None:
    """A folder a clip with a PNG a frame and the prompt in a text file."""
    for clip in range(clips):
        here = folder / f"video_{clip}"
        here.mkdir(parents=True)
        prompt, scene = draw_clip(config, clip)
        (here / "text.txt").write_text(prompt)
        for number, frame in enumerate(render(scene.objects[0], config.spec)):
            Image.fromarray(frame).save(here / f"frame_{number}.png")


class ArticleLoop:
    """The article's loop over the same networks: prompts encoded one by one, plain Adam, losses read every update."""

    def __init__(self, folder: Path, size: int, device: str = "cpu") -> None:
        config = FrameGanConfig()
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.frames = iter(
            self._forever(DataLoader(ArticleFrames(folder), batch_size=16, shuffle=True, drop_last=True))
        )
        self.words = {word: i for i, word in enumerate(vocabulary_of(DatasetConfig().prompts))}
        self.embedding = nn.Embedding(len(self.words), config.text).to(device)
        self.generator = frame_gan.generator(config, size).to(device)
        self.discriminator = frame_gan.discriminator(config, size).to(device)
        self.by_generator = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.by_discriminator = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.loss = nn.BCELoss()

    @staticmethod
    def _forever(loader: "DataLoader[tuple[Tensor, str]]") -> Iterator[Any]:
        for _ in count():
            yield from loader

    def _encode(self, prompt: str) -> Tensor:
        number = torch.tensor([self.words[word] for word in prompt.replace("-", " ").split()], device=self.device)
        return self.embedding(number).mean(0)

    def run(self, steps: int) -> None:
        """So many updates of both networks, on 16 frames each."""
        for _ in range(steps):
            real, prompts = next(self.frames)
            real = real.to(self.device)
            ones, zeros = torch.ones(len(real), device=self.device), torch.zeros(len(real), device=self.device)
            self.discriminator.zero_grad()
            on_real = self.discriminator(real).view(-1)
            judged_real = self.loss(on_real, ones)
            judged_real.backward()
            text = torch.stack([self._encode(prompt) for prompt in prompts])
            fake = self.generator(torch.cat([torch.randn(len(real), 100, device=self.device), text], 1))
            judged_fake = self.loss(self.discriminator(fake.detach()).view(-1), zeros)
            judged_fake.backward()
            self.by_discriminator.step()
            self.generator.zero_grad()
            fooled = self.loss(self.discriminator(fake).view(-1), ones)
            fooled.backward()
            self.by_generator.step()
            _ = judged_real.item() + judged_fake.item(), fooled.item()


def article(work: Path) -> Iterator[Figure]:
    """The article's networks at 64 px, 16 frames an update: in our loop, and in a loop like its own.

    On one core by CPU time. On all cores by the clock on the wall: theirs on threads, which is what torch does if left
    to itself, ours on threads and on ranks that share the same batch. On a GPU where there is one. Ours in bfloat16 as
    well, where the processor has it.
    """
    manifest = dataset(work / "data", 64, clips=360)
    assert isinstance(manifest.config, DatasetConfig)
    article_write(work / "article", manifest.config, 90)
    by_cpu, by_gpu = {"gate": 1.3, "target": 1.6}, {"gate": 15, "target": 40}
    places = [
        ("cpu", 1, 1, "one core", 4, by_cpu),
        ("cpu", 1, cores(), "threads on all cores", 4, by_cpu),
        ("cpu", min(cores(), FrameGanConfig().batch_size), 1, "ranks on all cores", 4, by_cpu),
    ]
    places += [("cuda", 1, 1, "a GPU", 64, by_gpu)] * torch.cuda.is_available()
    for device, world, threads, where, steps, limits in places:
        theirs = partial(ArticleLoop, work / "article", 64, device)
        precisions = ["float32", "bfloat16"] if device == "cuda" or has_bfloat16() else ["float32"]
        # processes of their own: `fit` changes how one keeps memory
        teams = {"theirs": Team(theirs, 1, world * threads)}
        for precision in precisions:
            teams[precision] = Team(partial(Loop, FrameGanConfig(), manifest, precision, device), world, threads)
        clock = partial(_cpu, teams) if where == "one core" else time.perf_counter
        found = in_turns(2 * TURNS, clock, **{name: partial(_work, team, steps) for name, team in teams.items()})
        for team in teams.values():
            team.end()
        rate = {name: steps * 16 / seconds for name, seconds in found.items()}
        for precision in precisions:
            yield {
                "figure": f"the article's networks at 64 px in our loop, {where}, {precision}",
                "frames_per_second": rate[precision],
                "baseline": "article-style loop", "baseline_frames_per_second": rate["theirs"],
                "ratio": rate[precision] / rate["theirs"],
            } | limits  # fmt: skip


def _cpu(teams: dict[str, Team]) -> float:
    return sum(team.cpu() for team in teams.values())


def _work(team: Team, steps: int, turn: int) -> None:
    team.run(steps)


def sampling(work: Path) -> Iterator[Figure]:
    """From a prompt to the frames of one clip at 64 px, on one core."""
    prompts = DatasetConfig().prompts
    for name, config in MODELS.items():
        model = fresh(config, ClipSpec(size=64), prompts)
        if isinstance(model, RoundTrip):
            continue
        found = in_turns(2 * TURNS, clips=partial(_one_by_one, model, prompts[:1]))
        limits = {"gate": 10, "target": 2} if name == "gan" else {}
        yield {"figure": f"{name}, one clip at 64 px on one core, ms", "ms": 1000 * found["clips"] / 50} | limits


def _one_by_one(model: VideoModel, prompt: Sequence[str], turn: int) -> None:
    for number in range(50):
        sample_frames(model, prompt, [50 * turn + number])


GROUPS = {"threads": threads, "ranks": two_ranks, "share": matrix_share, "article": article, "sampling": sampling}


if __name__ == "__main__":
    run(GROUPS, __doc__ or "")
