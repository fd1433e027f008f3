"""Clips longer than a sampler makes, of one prompt or of several: parts that begin with the last frames before them.

(Villegas et al. 2023, arXiv:2210.02399, section 2.3.) It works with every sampler that takes first frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from t2v_models.config import LabError
from t2v_models.sampler import MOST_SEED, Frames, Request, Sampler, sample_all


def story(
    sampler: Sampler, prompts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int], prime: int, like: Request
) -> Iterator[Frames]:
    """The new frames of prompt after prompt, uint8 `(b, length, h, w, 3)`; memory does not grow with their number.

    A length beyond what the sampler makes at a time is made in several parts. The first part of all is the clip that
    the sampler makes of the prompt and the seed.

    Args:
        sampler: one that takes first frames.
        prompts: what is shown, one after the other.
        lengths: new frames for each of them.
        seeds: one for each of b stories.
        prime: frames that the next part begins with, as far as there are so many before it.
        like: wishes of all parts, such as guidance; its own prompts and seeds are of no account.

    Raises:
        LabError: before anything is made: no prompt, a length of 0, what the sampler refuses.
    """
    if not prompts:
        raise LabError("a story has no prompt: give one or more")
    if len(lengths) != len(prompts):
        raise LabError(f"{len(prompts)} prompts and {len(lengths)} lengths: give one length, or one for each prompt")
    if min(lengths) < 1:
        raise LabError(f"a prompt is shown for {min(lengths)} frames: give 1 or more")
    begun = np.zeros((len(prompts), prime, sampler.spec.height, sampler.spec.width, 3), np.uint8)
    sampler.check(replace(like, prompts=tuple(prompts), seeds=(0,) * len(prompts), first_frames=begun))
    return _told(sampler, prompts, lengths, seeds, prime, like)


def _told(
    sampler: Sampler, prompts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int], prime: int, like: Request
) -> Iterator[Frames]:
    last: Frames | None = None
    part = 0
    for prompt, length in zip(prompts, lengths, strict=True):
        parts: list[Frames] = []
        missing = length
        while missing:
            own = tuple(_seed(seed, part) for seed in seeds)
            wanted = replace(like, prompts=(prompt,) * len(seeds), seeds=own, first_frames=last)
            new = sample_all(sampler, wanted)[:, 0 if last is None else last.shape[1] :][:, :missing]
            last = (new if last is None else np.concatenate([last, new], 1))[:, -prime:]
            parts.append(new)
            missing -= new.shape[1]
            part += 1
        yield np.concatenate(parts, 1)


def _seed(seed: int, part: int) -> int:
    """Of a part: its own, so that not all parts have the same noise; of the first it is the story's."""
    return int(np.random.default_rng((seed, part)).integers(MOST_SEED)) if part else seed
