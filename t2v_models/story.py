"""Clips longer than a sampler makes, of one prompt or of several: parts that begin with the last frames before them.

(Villegas et al. 2023, arXiv:2210.02399, section 2.3.) It works with every sampler that takes first frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2v_models.config import LabError
from t2v_models.sampler import MOST_SEED, NO_WISHES, Frames, Request, Sampler, Strides, sample_all


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
        LabError: before anything is made: no scene, a length of 0, what the sampler refuses, frames to begin with that
            are no whole strides of it.
    """
    return _whole_scenes(in_parts(sampler, scenes, seeds, prime), [scene.length for scene in scenes])


def in_parts(sampler: Sampler, scenes: Sequence[Scene], seeds: Sequence[int], prime: int) -> Iterator[Frames]:
    """The same, but each part as it is made, so that memory does not grow with the lengths of scenes either."""
    if not scenes:
        raise LabError("a story has no prompt: give one or more")
    begun = np.zeros((1, prime, sampler.spec.height, sampler.spec.width, 3), np.uint8)
    for scene in scenes:
        if scene.length < 1:
            raise LabError(f"a prompt is shown for {scene.length} frames: give 1 or more")
        assert len(scene.seeds) in (0, len(seeds)), (scene.seeds, seeds)
        sampler.check(replace(scene.like, prompts=(scene.prompt,), seeds=(0,), known_frames=begun))
    stride = sampler.stride if isinstance(sampler, Strides) else 1
    if prime != (less := _fitting(prime, stride)):
        near = " or ".join(str(count) for count in (less, less + stride) if count < sampler.spec.frames)
        raise LabError(
            f"{sampler.name} goes on from 1 frame and whole strides of {stride} behind it, which {prime} are not: "
            f"prime with {near}"
        )
    return _parts(sampler, scenes, seeds, prime, stride)


def _whole_scenes(parts: Iterator[Frames], lengths: Sequence[int]) -> Iterator[Frames]:
    for length in lengths:
        scene: list[Frames] = []
        while length:
            scene.append(next(parts))
            length -= scene[-1].shape[1]
        yield np.concatenate(scene, 1)


def _parts(
    sampler: Sampler, scenes: Sequence[Scene], seeds: Sequence[int], prime: int, stride: int
) -> Iterator[Frames]:
    last: Frames | None = None
    part = 0
    for scene in scenes:
        if scene.seeds:
            seeds, part = scene.seeds, 0
        missing = scene.length
        while missing:
            own = tuple(_seed(seed, part) for seed in seeds)
            wanted = replace(scene.like, prompts=(scene.prompt,) * len(seeds), seeds=own, known_frames=last)
            new = sample_all(sampler, wanted)[:, 0 if last is None else last.shape[1] :][:, :missing]
            before = new if last is None else np.concatenate([last, new], 1)
            last = before[:, -_fitting(min(prime, before.shape[1]), stride) :]
            missing -= new.shape[1]
            part += 1
            yield new


def _fitting(count: int, stride: int) -> int:
    """The most frames, up to so many, that are one and whole strides."""
    return 1 + (count - 1) // stride * stride


def _seed(seed: int, part: int) -> int:
    """Of a part: its own, so that not all parts have the same noise; of the first it is the story's."""
    return int(np.random.default_rng((seed, part)).integers(MOST_SEED)) if part else seed
