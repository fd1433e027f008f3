"""Measure all that needs a GPU: one JSON line per figure, at most eight minutes on one GPU.

    python benchmarks/gpu.py                 every figure
    python benchmarks/gpu.py --only obey     figures whose group contains "obey"
    python benchmarks/gpu.py --tiny          the same code on whatever there is, in a minute: its figures mean nothing

Times are by the clock on the wall, after everything on the GPU is done; works that are compared take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from figures import Figure, in_turns, tell
from training import TRAINED, ArticleLoop, Loop, article_write, fresh

from t2v_models.checkpoint import load
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.build import ModelConfig
from t2v_models.families.frame_gan import FrameGanConfig
from t2v_models.fresh import new_run
from t2v_models.judging.metrics import WATCHED, summarise
from t2v_models.judging.verdicts import judge
from t2v_models.machine import matrix_gflops
from t2v_models.model import VideoModel
from t2v_models.sampler import RoundTrip, repeat, sample_frames
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import write_shard
from t2v_models.training.clock import CountFlops
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import history
from t2v_models.training.validation import watcher
from t2v_models.worlds.dataset import DatasetConfig

Precision = Literal["float32", "bfloat16"]
ARTICLE_FRAMES = 10_000 * 10 * 30
"""Clips, frames and epochs of the article's table, in which an A10 takes an hour."""
ARTICLE_SECONDS = 3600.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    device: str
    pixels: int
    clips: int
    """Of the datasets."""
    turns: int
    steps: int
    """Updates in a turn."""
    batch: int
    """Clips an update where a GPU is to be filled, frames for the article's networks."""
    minutes: dict[str, float]
    """Of training until prompts are obeyed, by family."""
    backend: str
    """What compiles networks."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return ("float32", "bfloat16") if self.device == "cuda" else ("float32",)

    def models(self) -> dict[str, ModelConfig]:
        """Every family as it is by default, or as in tests."""
        return {name: family() if self.device == "cuda" else family.tiny() for name, family in TRAINED.items()}

    def dataset(self, folder: Path) -> Manifest:
        """Circles."""
        config = DatasetConfig(clips=self.clips, clips_per_shard=self.clips // 2, spec=ClipSpec(size=self.pixels))
        for index in range(config.shards):
            write_shard(folder, config, index)
        return finish(folder, config)


WHOLE = Size("cuda", 64, 10_080, 5, 30, 1024, {"gan": 0.75, "diffusion": 2.0}, "inductor")
TINY = Size("cpu", 16, 72, 1, 1, 8, {"gan": 0.01, "diffusion": 0.01}, "eager")


def article(size: Size, work: Path) -> Iterator[Figure]:
    """The article's workload, 3,000,000 frames through its networks: in our loop, at its batch of 16 frames and at a
    large one, beside a loop like its own."""
    manifest = size.dataset(work / "data")
    assert isinstance(manifest.config, DatasetConfig)
    article_write(work / "article", manifest.config, 8 * size.turns)
    theirs = ArticleLoop(work / "article", size.pixels, size.device)
    ours = {
        (batch, precision): Loop(FrameGanConfig(batch_size=batch), manifest, precision, size.device)
        for batch in (16, size.batch)
        for precision in size.precisions
    }
    works: dict[str, Callable[[int], object]] = {str(key): partial(_run, loop, size) for key, loop in ours.items()}
    found = in_turns(size.turns, time.perf_counter, theirs=partial(_run, theirs, size), **works)
    by_theirs = 16 * size.steps / found["theirs"]
    for batch, precision in ours:
        rate = batch * size.steps / found[str((batch, precision))]
        yield {
            "figure": f"the article's workload, batches of {batch} frames, {precision}",
            "seconds": ARTICLE_FRAMES / rate, "frames_per_second": rate,
            "baseline": "article-style loop", "baseline_seconds": ARTICLE_FRAMES / by_theirs,
            "published_seconds": ARTICLE_SECONDS, "ratio": rate / by_theirs, "gate": 15, "target": 40,
        }  # fmt: skip


def training(size: Size, work: Path) -> Iterator[Figure]:
    """Clips per second of every family at its own batch and at a large one, by precision, and share of the rate of
    matrices of that precision; with networks compiled, and with CUDA graphs; with clips on the device, and sent."""
    manifest = size.dataset(work / "data")
    peak = {p: matrix_gflops(torch.device(size.device), 0.5, getattr(torch, p)) for p in size.precisions}
    for name, own in size.models().items():
        for batch in dict.fromkeys((own.batch_size, size.batch)):
            config = own.model_copy(update={"batch_size": batch})
            for precision in size.precisions:
                loop = Loop(config, manifest, precision, size.device)
                with CountFlops() as counter:
                    loop.run(1)
                seconds = in_turns(size.turns, time.perf_counter, training=partial(_run, loop, size))["training"]
                gflops = counter.flops * size.steps / seconds / 1e9
                yield {
                    "figure": f"{name} at {size.pixels} px, batches of {batch}, {precision}",
                    "clips_per_second": size.steps * batch / seconds, "gflops": gflops,
                    "baseline": "1024 x 1024 matrices", "baseline_gflops": peak[precision],
                    "ratio": gflops / peak[precision],
                }  # fmt: skip


def ways(size: Size, work: Path) -> Iterator[Figure]:
    """What compiling, CUDA graphs and clips on the device bring to families whose networks follow one loss each."""
    manifest = size.dataset(work / "data")
    precision = size.precisions[-1]
    modes = {"compiled": None, "compiled, CUDA graphs": "reduce-overhead"}
    for name, config in size.models().items():
        if name == "gan":
            continue  # its penalties need second derivatives, which compiled networks do not have
        loops = {"as it is": Loop(config, manifest, precision, size.device)}
        for way, mode in modes.items():
            loops[way] = Loop(config, manifest, precision, size.device)
            for network in loops[way].model.optimizers:
                getattr(loops[way].model, network).compile(mode=mode, backend=size.backend)
        loops["clips sent from memory"] = Loop(config, manifest, precision, size.device, resident=False)
        found = in_turns(
            size.turns, time.perf_counter, **{way: partial(_run, loop, size) for way, loop in loops.items()}
        )
        rate = {way: size.steps * config.batch_size / seconds for way, seconds in found.items()}
        for way in list(loops)[1:]:
            yield {
                "figure": f"{name} at {size.pixels} px, {way}, {precision}", "clips_per_second": rate[way],
                "baseline": "as it is, clips on the device", "baseline_clips_per_second": rate["as it is"],
                "ratio": rate[way] / rate["as it is"],
            }  # fmt: skip


def obey(size: Size, work: Path) -> Iterator[Figure]:
    """Seconds of training until 99 % of the clips that validation reads obey, and how many of 16 a prompt do at the
    end. Validation takes a few per cent of the time, told beside it."""
    manifest = size.dataset(work / "data")
    assert isinstance(manifest.config, DatasetConfig)
    store = ClipStore(manifest)
    for name, minutes in size.minutes.items():
        run = new_run(manifest, size.models()[name], seed=0)
        precision = size.precisions[-1]
        config = TrainConfig(minutes=minutes, device=size.device, precision=precision, watch_seconds=1)  # type: ignore[arg-type]
        folder = work / name
        last = fit(run, store, config, folder, lambda step, figures: None, watcher(run, store, folder))
        looks = [row for row in history(folder).values() if WATCHED in row]
        reached = [row["train/seconds"] for row in looks if row[WATCHED] >= 0.99]
        model = load(folder)[0].to(size.device)
        prompts, seeds = repeat(manifest.config.prompts, 16, seed=1)
        verdicts = judge(sample_frames(model, prompts, seeds), prompts, seeds, "s0", manifest.config.rules)
        score = summarise(verdicts)[WATCHED.removeprefix("watch/")]
        yield {
            "figure": f"{name} at {size.pixels} px, seconds to 99 % of seen prompts, {precision}",
            "seconds": min(reached, default=None), "trained_seconds": 60 * minutes, "updates": last.step,
            "obeyed_at_the_end": score.value, "low": score.low, "high": score.high, "n": score.n,
            "share_of_time_validated": looks[-1].get("speed/watch_share") if looks else None,
        }  # fmt: skip


def sampling(size: Size, work: Path) -> Iterator[Figure]:
    """From prompts to the frames of one clip, and of many at once."""
    prompts = DatasetConfig().prompts
    for name, config in size.models().items():
        model = fresh(config, ClipSpec(size=size.pixels), prompts).to(size.device)
        if isinstance(model, RoundTrip):
            continue
        many = [prompts[i % len(prompts)] for i in range(4 * model.sample_batch)]
        found = in_turns(
            size.turns, time.perf_counter, one=partial(_sample, model, prompts[:1]), many=partial(_sample, model, many)
        )
        yield {
            "figure": f"{name}, clips at {size.pixels} px", "ms_of_one": 1000 * found["one"],
            "clips_per_second_of_many": len(many) / found["many"],
        }  # fmt: skip


def _run(loop: "Loop | ArticleLoop", size: Size, turn: int) -> None:
    loop.run(size.steps)
    if size.device == "cuda":
        torch.cuda.synchronize()


def _sample(model: VideoModel, prompts: Sequence[str], turn: int) -> None:
    sample_frames(model, prompts, [turn * len(prompts) + i for i in range(len(prompts))])


GROUPS = {"article": article, "training": training, "ways": ways, "obey": obey, "sampling": sampling}


def main() -> None:
    """Tell the figures of the groups that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"groups whose name contains this: {', '.join(GROUPS)}")
    parser.add_argument("--tiny", action="store_true", help="a minute on any machine, to see that all of it runs")
    asked = parser.parse_args()
    size = TINY if asked.tiny else WHOLE
    if size.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU was found: run it on a machine that has one, or try the code with --tiny")
    for name, group in GROUPS.items():
        if asked.only in name:
            with tempfile.TemporaryDirectory() as folder:
                for figure in group(size, Path(folder)):
                    tell(figure)


if __name__ == "__main__":
    main()
