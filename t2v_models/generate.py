"""From a run folder to clips."""

from pathlib import Path
from typing import cast

import numpy as np

from t2v_models import checkpoint
from t2v_models.config import LabError
from t2v_models.model import VideoModel
from t2v_models.sampler import Dissolves, Frames, Interpolates, Request, Sampler


def load_run(run_dir: Path) -> VideoModel:
    """The model of a run folder at its newest checkpoint, ready to sample.

    Raises:
        LabError: no such folder, or no whole checkpoint in it.
    """
    model, _ = checkpoint.load(run_dir)
    return model


def interpolate(sampler: Sampler, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
    """Clips on the way from one prompt and seed to another, both ends included: uint8 `(count, t, h, w, 3)`.

    Raises:
        LabError: a sampler without such a way, a prompt that it refuses, fewer than two clips.
    """
    if not hasattr(sampler, "interpolate"):
        raise LabError(f"{sampler.name} knows no way between prompts or seeds: leave --to and --to-seed out")
    sampler.check(Request(prompts, seeds))
    if count < 2:
        raise LabError(f"a way has two ends and --count {count} clip was asked for: use 2 or more")
    return cast(Interpolates, sampler).interpolate(prompts, seeds, count)


def dissolve(
    sampler: Sampler, clips: tuple[Frames, Frames], noise: float, prompts: tuple[str, str], seed: int, count: int
) -> Frames:
    """Clips on the way from near one clip `(t, h, w, 3)` to near another, as `sampler.Dissolves` says.

    Raises:
        LabError: a sampler without such a way, clips of another length, a prompt that it refuses, fewer than two clips,
            too little noise.
    """
    if not isinstance(sampler, Dissolves):
        raise LabError(f"{sampler.name} knows no way between clips: leave --from-clip and --to-clip out")
    for clip in clips:
        if len(clip) != sampler.spec.frames:
            raise LabError(
                f"a clip of {len(clip)} frames and {sampler.name} makes {sampler.spec.frames}: cut it to that"
            )
    sampler.check(Request(prompts, (seed, seed)))
    if count < 2:
        raise LabError(f"a way has two ends and --count {count} clip was asked for: use 2 or more")
    return sampler.dissolve(np.stack(clips), noise, prompts, seed, count)


def interpolation_names(
    prompts: tuple[str, str], seeds: tuple[int, int], count: int
) -> tuple[list[str], list[int]]:  # fmt: skip
    """What the clips of `interpolate` are called, and their seeds: a clip that no seed alone gives has -1."""
    what = " to ".join(dict.fromkeys(prompts))
    noise = f", seed {seeds[0]} to {seeds[1]}" if seeds[0] != seeds[1] else ""
    names = [f"{what}{noise}, {100 * i / (count - 1):.3g} %" for i in range(count)]
    inner = seeds[0] if seeds[0] == seeds[1] else -1
    return names, [seeds[0], *[inner] * (count - 2), seeds[1]]
