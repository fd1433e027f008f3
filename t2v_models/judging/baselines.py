"""Models that are no models: the ceiling and the floors every score table is read against.

Each has the signature of a model's sampler and stands behind the same interface. A clip depends on its prompt and its
seed alone, in a stream of its own, so none is a training clip and none changes with the clips beside it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import repeat

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.text.split import words
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.world import Frames, World, drawn


def oracle(spec: ClipSpec, prompts: Sequence[str], seeds: Sequence[int], world: World) -> Frames:
    """Real clips of the prompts, `(n, t, h, w, 3)`: what a perfect model would score."""
    meanings = [world.parse(p) for p in prompts]
    numbers = [np.random.default_rng([seed, *b"oracle"]).random((1, world.numbers)) for seed in seeds]
    return drawn(world, world.draw(meanings, spec, np.concatenate(numbers)), spec)


def unconditional(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips of random training prompts: perfect to look at, whatever the prompt says."""
    chosen = [data.prompts[np.random.default_rng([s, *b"deaf"]).integers(len(data.prompts))] for s in seeds]
    return real(data, chosen, seeds)


@lru_cache(2)
def _word_sets(data: DatasetConfig) -> dict[str, frozenset[str]]:
    """The words of every training prompt."""
    return {prompt: frozenset(words(prompt)) for prompt in data.prompts}


@lru_cache(1024)
def nearest_seen(data: DatasetConfig, prompt: str) -> str:
    """The training prompt with the greatest share of words in common (Jaccard), the first of equals."""
    asked, said = set(words(prompt)), _word_sets(data)
    return max(said, key=lambda p: len(asked & said[p]) / len(asked | said[p]))


def retrieval(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips of the nearest seen prompt: what lookup without composition scores on held-out prompts.

    Nearest in meaning where that was trained under another wording, else in words.
    """
    said = {data.meaning(p): p for p in reversed(data.prompts)}
    return real(data, [said.get(data.meaning(p)) or nearest_seen(data, p) for p in prompts], seeds)


def independent(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Every frame from another real clip of the prompt: the most that a generator of single frames can reach."""
    spec, world = data.spec, data.rules
    found = np.empty((len(prompts), *spec.shape), np.uint8)
    whole = np.empty(found.shape[1:], np.uint8)
    for clip, prompt, seed in zip(found, prompts, seeds, strict=True):
        rng = np.random.default_rng([seed, *b"independent"])
        times, numbers = rng.integers(spec.frames, size=spec.frames), rng.random((spec.frames, world.numbers))
        scenes = world.draw([world.parse(prompt)] * spec.frames, spec, numbers)
        for frame, time, _ in zip(clip, times, world.render(scenes, spec, repeat(whole)), strict=True):
            frame[:] = whole[time]
    return found


def frozen(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """The first frame of a real clip, held."""
    return np.repeat(real(data, prompts, seeds)[:, :1], data.spec.frames, axis=1)


def blank(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Nothing but background."""
    return np.full((len(seeds), *data.spec.shape), data.rules.background, np.uint8)


def noise(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Every byte drawn evenly."""
    shape = data.spec.shape
    return np.stack([np.random.default_rng([s, *b"noise"]).integers(0, 256, shape, np.uint8) for s in seeds])


def real(data: DatasetConfig, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """`oracle` with the signature of the others."""
    return oracle(data.spec, prompts, seeds, data.rules)


BASELINES: dict[str, Callable[[DatasetConfig, Sequence[str], Sequence[int]], Frames]] = {
    "oracle": real, "unconditional": unconditional, "retrieval": retrieval, "independent": independent,
    "frozen": frozen, "blank": blank, "noise": noise,
}  # fmt: skip
CEILING = "oracle"
FLOORS = tuple(name for name in BASELINES if name != CEILING)
