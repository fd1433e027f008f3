"""Clips longer than a sampler makes, of one prompt or of several: parts that begin with the last frames before them.

(Villegas et al. 2023, arXiv:2210.02399, section 2.3.) It works with every sampler that takes first frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2v_models.config import LabError
from t2v_models.sampler import MOST_SEED, NO_WISHES, Frames, Request, Sampler, sample_all


@dataclass(frozen=True)
class Scene:
    """What is shown, for how long, and how."""

    prompt: str
    length: int
    """New frames. Beyond what the sampler makes at a time they are made in several parts."""
    like: Request = NO_WISHES
    """Wishes, such as guidance; its own prompts and seeds are of no account."""
    seeds: tuple[int, ...] = ()
    """Of its noise and that of scenes after it, one for each story: it can be made anew where those before stay."""


def story(sampler: Sampler, scenes: Sequence[Scene], seeds: Sequence[int], prime: int) -> Iterator[Frames]:
    """The new frames of scene after scene, uint8 `(b, length, h, w, 3)`; memory does not grow with their number.

    The first part of all is the clip that the sampler makes of the prompt and the seed.

    Args:
        sampler: one that takes first frames.
        scenes: one after the other.
        seeds: one for each of b stories.
        prime: frames that the next part begins with, as far as there are so many before it.

    Raises:
        LabError: before anything is made: no scene, a length of 0, what the sampler refuses.
    """
    if not scenes:
        raise LabError("a story has no prompt: give one or more")
    begun = np.zeros((1, prime, sampler.spec.height, sampler.spec.width, 3), np.uint8)
    for scene in scenes:
        if scene.length < 1:
            raise LabError(f"a prompt is shown for {scene.length} frames: give 1 or more")
        assert len(scene.seeds) in (0, len(seeds)), (scene.seeds, seeds)
        sampler.check(replace(scene.like, prompts=(scene.prompt,), seeds=(0,), known_frames=begun))
    return _told(sampler, scenes, seeds, prime)


def _told(sampler: Sampler, scenes: Sequence[Scene], seeds: Sequence[int], prime: int) -> Iterator[Frames]:
    last: Frames | None = None
    part = 0
    for scene in scenes:
        if scene.seeds:
            seeds, part = scene.seeds, 0
        parts: list[Frames] = []
        missing = scene.length
        while missing:
            own = tuple(_seed(seed, part) for seed in seeds)
            wanted = replace(scene.like, prompts=(scene.prompt,) * len(seeds), seeds=own, known_frames=last)
            new = sample_all(sampler, wanted)[:, 0 if last is None else last.shape[1] :][:, :missing]
            last = (new if last is None else np.concatenate([last, new], 1))[:, -prime:]
            parts.append(new)
            missing -= new.shape[1]
            part += 1
        yield np.concatenate(parts, 1)


def _seed(seed: int, part: int) -> int:
    """Of a part: its own, so that not all parts have the same noise; of the first it is the story's."""
    return int(np.random.default_rng((seed, part)).integers(MOST_SEED)) if part else seed
