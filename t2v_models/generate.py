"""From a run folder to clips."""

from pathlib import Path
from typing import cast

from t2v_models import checkpoint
from t2v_models.config import LabError
from t2v_models.model import VideoModel
from t2v_models.sampler import Frames, Interpolates, Request, Sampler


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


def interpolation_names(
    prompts: tuple[str, str], seeds: tuple[int, int], count: int
) -> tuple[list[str], list[int]]:  # fmt: skip
    """What the clips of `interpolate` are called, and their seeds: a clip that no seed alone gives has -1."""
    what = " to ".join(dict.fromkeys(prompts))
    noise = f", seed {seeds[0]} to {seeds[1]}" if seeds[0] != seeds[1] else ""
    names = [f"{what}{noise}, {100 * i / (count - 1):.3g} %" for i in range(count)]
    inner = seeds[0] if seeds[0] == seeds[1] else -1
    return names, [seeds[0], *[inner] * (count - 2), seeds[1]]
