"""From a prompt to frames."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_models import checkpoint
from t2v_models.batch import to_frames
from t2v_models.config import LabError
from t2v_models.machine import threads
from t2v_models.model import VideoModel
from t2v_models.text.split import words
from t2v_models.text.words import bag_of_words

MOST_SEED = 2**62
"""A seed has 63 bits, and there is one for each of many clips."""


def load_run(run_dir: Path) -> VideoModel:
    """The model of a run folder at its newest checkpoint, ready to sample.

    Raises:
        LabError: no such folder, or no whole checkpoint in it.
    """
    model, _ = checkpoint.load(run_dir)
    return model


def sample_frames(
    model: VideoModel, prompts: Sequence[str], seeds: Sequence[int], batch_size: int = 64
) -> NDArray[np.uint8]:
    """One clip per (prompt, seed): uint8 `(n, t, h, w, 3)`. The batch size does not change any clip's noise.

    Raises:
        LabError: a prompt without a word, or with one the model was never trained on.
    """
    assert len(prompts) == len(seeds), (len(prompts), len(seeds))
    _check_words(model, prompts)
    with torch.inference_mode(), threads(model.config.threads):
        parts = [
            to_frames(model.sample(prompts[i : i + batch_size], seeds[i : i + batch_size]))
            for i in range(0, len(prompts), batch_size)
        ]
    return np.concatenate(parts)


def repeat(prompts: Sequence[str], count: int, seed: int) -> tuple[list[str], list[int]]:
    """Every prompt `count` times with seeds `seed`, `seed + 1`, …: the same noises for each prompt.

    Raises:
        LabError: a seed that no generator of noise takes, or no clip at all.
    """
    if not 0 <= seed <= MOST_SEED:
        raise LabError(f"the seed is {seed}: give a whole number from 0 to {MOST_SEED:,}")
    if count < 1:
        raise LabError(f"{count} clips were asked for: ask for 1 or more")
    return [p for p in prompts for _ in range(count)], [seed + i for _ in prompts for i in range(count)]


def between(model: VideoModel, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> NDArray[np.uint8]:
    """Clips on the way from one prompt and seed to another, both ends included: uint8 `(count, t, h, w, 3)`.

    Words are mixed in proportion; noises of two seeds along a quarter circle, so that the mixture stays Gaussian.

    Raises:
        LabError: a prompt without a word, or with one the model was never trained on; fewer than two clips.
    """
    _check_words(model, prompts)
    if count < 2:
        raise LabError(f"a way has two ends and --count {count} clip was asked for: use 2 or more")
    share = torch.linspace(0, 1, count, device=model.device)
    first, last = bag_of_words(prompts, model.vocabulary).to(model.device)
    one, other = model.noise(seeds)
    turn = (share * math.pi / 2 if seeds[0] != seeds[1] else 0 * share).view(-1, *(1 for _ in model.noise_shape))
    with torch.inference_mode(), threads(model.config.threads):
        return to_frames(model.make(torch.lerp(first, last, share[:, None]), one * turn.cos() + other * turn.sin()))


def stations(prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> tuple[list[str], list[int]]:
    """What the clips of `between` are called, and their seeds: a clip that no seed alone gives has -1."""
    what = " to ".join(dict.fromkeys(prompts))
    noise = f", seed {seeds[0]} to {seeds[1]}" if seeds[0] != seeds[1] else ""
    names = [f"{what}{noise}, {100 * i / (count - 1):.3g} %" for i in range(count)]
    inner = seeds[0] if seeds[0] == seeds[1] else -1
    return names, [seeds[0], *[inner] * (count - 2), seeds[1]]


def _check_words(model: VideoModel, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if not words(prompt):
            raise LabError(f"prompt {prompt!r} has no words: use some of {', '.join(model.vocabulary[:40])}")
