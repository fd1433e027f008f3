"""Prove the worlds and time them: one JSON line per figure, each with its interval or its limit.

    python benchmarks/worlds.py                      every figure, ten minutes and more on one core
    python benchmarks/worlds.py --only speed         drawing, writing and reading: about a minute
    python benchmarks/worlds.py --only right         real clips, which must be right: forms, sizes, prompts
    python benchmarks/worlds.py --only spoilt        clips or captions wrong in one thing, which must be named
    python benchmarks/worlds.py --only backgrounds   real clips on each pattern
    python benchmarks/worlds.py --only noisy         the same in white noise

Times are CPU seconds of this process on one thread; only the figure of two workers is by the clock on the wall.
"""

import hashlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
from figures import Figure, in_turns, run

from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.statistics import wilson
from t2v_models.processes import process_pool
from t2v_models.shards.codec import Packer
from t2v_models.shards.write import shard_name, write_shard
from t2v_models.worlds.dataset import DatasetConfig, draw_clips
from t2v_models.worlds.listed import WORLDS
from t2v_models.worlds.pair_prompts import Pair
from t2v_models.worlds.prompts import Meaning
from t2v_models.worlds.story_prompts import Story, fault, in_order
from t2v_models.worlds.textures import KINDS
from t2v_models.worlds.world import Frames, Reading, Scene, drawn
from tests.spoilt import (
    CHANGES,
    with_a_third,
    with_another,
    with_colours_exchanged,
    with_motions_exchanged,
    with_one_missing,
)

FORMS = ({"size": 64}, {"size": 32}, {"size": 128}, {"height": 40, "width": 64}, {"height": 96, "width": 48})
NOISE = (0.01, 0.02, 0.03, 0.05)
"""Standard deviation of white noise, of full scale."""
CLIPS = {"right": 1000, "spoilt": 1000, "backgrounds": 250, "noisy": 60}
"""Of each case."""


def clips(config: DatasetConfig, count: int) -> tuple[Frames, list[object], list[Scene]]:
    """Clips of captions that are evenly spread, what they mean, and their scenes."""
    step = max(1, len(config.prompts) // count) | 1
    made = [draw_clips(config, range(i, i + 1))[0] for i in range(0, step * count, step)]
    scenes = [scene for _, scene in made]
    return drawn(config.rules, scenes, config.spec), [config.rules.parse(caption) for caption, _ in made], scenes


def told(figure: str, flags: Sequence[bool], **about: object) -> Figure:
    """A share of clips in per cent, with its interval."""
    share = wilson(sum(flags), len(flags))
    return {"figure": figure, "per_cent": 100 * share.value, "low": 100 * share.low, "high": 100 * share.high,
            "clips": share.n} | about  # fmt: skip


def reasons(found: Sequence[Reading]) -> dict[str, int]:
    """The faults that were read most often."""
    return dict(Counter(r.fault for r in found if r.fault).most_common(3))


def worst_motion(asked: Sequence[object], found: Sequence[Reading]) -> Figure:
    """The motion whose clips are right least often, where a prompt has one."""
    flags: dict[str, list[bool]] = {}
    for meaning, reading in zip(asked, found, strict=True):
        assert isinstance(meaning, Meaning)
        flags.setdefault(meaning.action, []).append(reading.success)
    name, least = min(((name, np.mean(of)) for name, of in flags.items()), key=lambda both: both[1])
    return {"worst_motion": name, "per_cent_of_worst": 100 * least, "gate_of_worst": 98}


def right(work: Path) -> Iterator[Figure]:
    """Real clips."""
    for world in WORLDS:
        for form in FORMS:
            config = DatasetConfig.model_validate({"world": world, "spec": form})
            frames, asked, _ = clips(config, CLIPS["right"])
            found = config.rules.read(frames, asked)
            told_of = told(f"right in all: {world}, {config.spec.width}x{config.spec.height}",
                           [r.success for r in found], gate=99.5, faults=reasons(found))  # fmt: skip
            yield told_of | (worst_motion(asked, found) if world in ("circles", "shapes") else {})
    for world, size in product(("pairs", "stories"), (64, 32)):
        config = DatasetConfig.model_validate({"world": world, "spec": {"size": size}})
        shares: list[float] = []
        for prompt in config.asked("s0"):
            frames = BASELINES["oracle"](config, [prompt] * 50, range(50))
            shares.append(np.mean([r.success for r in config.rules.read(frames, [config.rules.parse(prompt)] * 50)]))
        yield {"figure": f"the worst of {len(shares)} prompts in 50 clips: {world}, {size} px",
               "per_cent": 100 * min(shares), "gate": 98, "mean": 100 * np.mean(shares)}  # fmt: skip


def spoilt(work: Path) -> Iterator[Figure]:
    """Clips or captions wrong in one thing."""
    for size in (64, 32):
        yield from _spoilt_pairs(DatasetConfig.model_validate({"world": "pairs", "spec": {"size": size}}))
        yield from _spoilt_stories(DatasetConfig.model_validate({"world": "stories", "spec": {"size": size}}))


def _spoilt_pairs(config: DatasetConfig) -> Iterator[Figure]:
    frames, asked, scenes = clips(config, CLIPS["spoilt"])
    pairs = [pair for pair in asked if isinstance(pair, Pair)]
    size = f"pairs, {config.spec.size} px"
    for what, exchange in (("colours", with_colours_exchanged), ("motions", with_motions_exchanged)):
        others = [exchange(pair) for pair in pairs]
        here = [i for i, pair in enumerate(pairs) if others[i] != pair and pair.back.shape != pair.front.shape]
        found = config.rules.read(frames[here], [others[i] for i in here])
        yield told(f"right though {what} are exchanged: {size}", [r.success for r in found], gate=1)
    for spoil in (with_one_missing, with_a_third, with_another):
        changed, faults = spoil(frames, scenes, config.spec)
        found = config.rules.read(changed, pairs)
        named = [r.fault == fault for r, fault in zip(found, faults, strict=True)]
        yield told(f"named: {spoil.__name__.replace('_', ' ')}: {size}", named, gate=99)
    related = [i for i, pair in enumerate(pairs) if pair.relation]
    turned = [Pair(pairs[i].front, pairs[i].back, pairs[i].relation) for i in related]
    found = config.rules.read(frames[related], turned)
    yield told(f"the relation turned round, and named: {size}", [r.related == 0 and bool(r.fault) for r in found])


def _spoilt_stories(config: DatasetConfig) -> Iterator[Figure]:
    frames, asked, _ = clips(config, CLIPS["spoilt"])
    stories = [story for story in asked if isinstance(story, Story)]
    size = f"stories, {config.spec.size} px"
    turned = [replace(story, actions=story.actions[::-1]) for story in stories]
    here = [i for i, story in enumerate(stories) if turned[i] != story]
    found = config.rules.read(frames[here], [turned[i] for i in here])
    yield told(f"right though the order is turned round: {size}", [r.success for r in found], gate=1)
    named = [r.fault == f"in another order: {in_order(stories[i].actions)}" for i, r in zip(here, found, strict=True)]
    yield told(f"named: the order turned round: {size}", named, gate=99)
    for what, change in CHANGES.items():
        pairs = [(story, other) for k, story in enumerate(stories) if (other := change(story, k))]
        pairs = [(story, other) for story, other in pairs if not fault(other[0].actions)]
        numbers = np.random.default_rng(0).random((len(pairs), config.rules.numbers))
        shown = config.rules.draw([other for _, (other, _) in pairs], config.spec, numbers)
        found = config.rules.read(drawn(config.rules, shown, config.spec), [story for story, _ in pairs])
        named = [r.reason == why for r, (_, (_, why)) in zip(found, pairs, strict=True)]
        yield told(f"named: a part {what}: {size}", named, gate=99)


def backgrounds(work: Path) -> Iterator[Figure]:
    """Real clips on each pattern."""
    for world, kind, drifting, size in product(WORLDS, KINDS[1:], (False, True), (32, 64)):
        config = DatasetConfig.model_validate(
            {"world": world, "background": kind, "drifting": drifting, "spec": {"size": size}}
        )
        frames, asked, _ = clips(config, CLIPS["backgrounds"])
        found = config.rules.read(frames, asked)
        yield told(f"right on {kind}, {'drifting' if drifting else 'still'}: {world}, {size} px",
                   [r.success for r in found], gate=99, faults=reasons(found))  # fmt: skip


def noisy(work: Path) -> Iterator[Figure]:
    """Real clips on each pattern in white noise."""
    rng = np.random.default_rng(0)
    for world in WORLDS:
        for kind in KINDS:
            config = DatasetConfig.model_validate({"world": world, "background": kind})
            frames, asked, _ = clips(config, CLIPS["noisy"])
            for level in NOISE:
                damaged = frames + rng.normal(0, 255 * level, frames.shape)
                found = config.rules.read(np.clip(np.rint(damaged), 0, 255).astype(np.uint8), asked)
                yield told(f"right on {kind} with {level:.0%} noise: {world}, 64 px", [r.success for r in found],
                           faults=reasons(found))  # fmt: skip


def speed(work: Path) -> Iterator[Figure]:
    """Drawing, writing and reading."""
    for world in WORLDS:
        yield _written(work / world, DatasetConfig(world=world, clips=100_000))
    yield _by_two(work, DatasetConfig(world="pairs", clips=100_000))
    for world in WORLDS:
        config = DatasetConfig.model_validate({"world": world})
        frames, asked, _ = clips(config, 200)
        seconds = in_turns(7, read=lambda turn, c=config, f=frames, a=asked: c.rules.read(f, a))["read"]
        yield {"figure": f"read: {world}, 64x64x{config.spec.frames}", "clips_per_cpu_second": len(frames) / seconds,
               "gate": 300 if world == "pairs" else None}  # fmt: skip


def _written(folder: Path, config: DatasetConfig) -> Figure:
    """A shard on one core, beside packing and hashing the same pixels: what the format asks for at least."""
    packer = Packer(config.spec, "lz4")
    here = range(config.clips_per_shard)
    _, scenes = zip(*draw_clips(config, here), strict=True)
    pixels = np.empty((50, *config.spec.shape), np.uint8)
    for _ in config.rules.render(scenes[:50], config.spec, pixels):
        pass

    def limit(turn: int) -> None:
        for k in here:
            packer.frames[:] = pixels[k % len(pixels)]
            hashlib.sha256(packer.packed())

    times = in_turns(
        9, ours=lambda turn: write_shard(folder, config, turn), limit=limit,
        drawn=lambda turn: draw_clips(config, here),
        rendered=lambda turn: [None for _ in config.rules.render(scenes, config.spec, [packer.frames] * len(scenes))],
    )  # fmt: skip
    each = {name: 1e6 * seconds / len(here) for name, seconds in times.items()}
    return {"figure": f"drawn, rendered and written: {config.world}, one core", "microseconds_a_clip": each["ours"],
            "gate": 400 if config.world == "pairs" else None, "of_these": each,
            "limit": "copying, packing and hashing the same pixels", "of_limit": each["limit"] / each["ours"],
            "bytes_a_clip": (folder / shard_name(0)).stat().st_size / len(here)}  # fmt: skip


def _by_two(work: Path, config: DatasetConfig) -> Figure:
    """Clips per second of two processes, by the clock, once they have started."""
    rates: list[float] = []
    with process_pool(2) as pool:
        list(pool.map(write_shard, [work / "warm"] * 4, [config] * 4, range(4)))
        for turn in range(3):
            start = time.perf_counter()
            list(pool.map(write_shard, [work / f"two-{turn}"] * 20, [config] * 20, range(20)))
            rates.append(20 * config.clips_per_shard / (time.perf_counter() - start))
    return {"figure": f"drawn, rendered and written: {config.world}, two cores", "clips_per_second": max(rates),
            "turns": [round(rate) for rate in rates], "median": statistics.median(rates), "gate": 5000,
            "load_of_the_machine": psutil.getloadavg()[0]}  # fmt: skip


GROUPS = {"speed": speed, "right": right, "spoilt": spoilt, "backgrounds": backgrounds, "noisy": noisy}


if __name__ == "__main__":
    run(GROUPS, __doc__ or "")
