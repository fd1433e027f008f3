"""What needs no learning: clips beside the real clips of their captions that were kept for validation.

Is the real clip of the caption nearer than other real ones, by pixels and by motion? How much moves, how sharp is it?
A judge that learns says more (`reference`); this is had at once, also of a model that is in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.copies import thumbnails
from t2v_models.judging.encoders import Views, looked_at
from t2v_models.judging.own_clips import Frames, OwnClips

OTHERS = 31
"""Real clips of other captions that the own one is set against."""
CHUNK = 256
"""Real clips at once."""


@dataclass(frozen=True)
class Seen:
    """What is measured of clips, a row each."""

    views: Views
    thumbnails: NDArray[np.float32]
    steps: NDArray[np.float32]
    """Grey changes from frame to frame, their mean over steps and pixels taken off, of length 1."""
    energy: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    """Mean absolute change from frame to frame and root mean square change from pixel to pixel, 0 to 255: blur leaves
    the sum of absolute ones as it is."""

    @classmethod
    def of(cls, frames: Frames) -> "Seen":
        """Of clips `(n, t, h, w, 3)`."""
        views = looked_at(frames)
        steps = np.diff(views.mean(2, dtype=np.float32), axis=1).reshape(len(frames), -1)
        steps = steps - steps.mean(1, keepdims=True)
        length = np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)
        energy, sharpness = np.array([_changes(clip) for clip in frames]).T
        return cls(views, thumbnails(views), steps / length, energy, sharpness)


def _changes(clip: Frames) -> tuple[float, float]:
    pixels = clip.astype(np.int16)
    energy = float(np.abs(np.diff(pixels, axis=0)).mean()) if len(clip) > 1 else 0.0
    return energy, float(
        np.sqrt(np.mean([np.square(np.diff(pixels, axis=axis), dtype=np.float64).mean() for axis in (1, 2)]))
    )


@dataclass(frozen=True)
class Beside:
    """The real clips of a dataset that were kept for validation."""

    own: OwnClips

    @cached_property
    def real(self) -> Seen:
        """In the order of `own.captions`."""
        count = len(self.own.captions)
        found = [Seen.of(self.own.real(range(i, min(i + CHUNK, count)))) for i in range(0, count, CHUNK)]
        return Seen(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Seen)))

    def numbers(self, found: Seen, prompts: Sequence[str], seeds: Sequence[int]) -> list[dict[str, float]]:
        """Of each clip, named as in `Verdict`; those of its own real clip are left out where no caption means the
        same."""
        return [self._of(found, i, *asked) for i, asked in enumerate(zip(prompts, seeds, strict=True))]

    def _of(self, found: Seen, i: int, prompt: str, seed: int) -> dict[str, float]:
        told = {
            "energy": found.energy[i] / self.real.energy.mean(),
            "sharpness": found.sharpness[i] / self.real.sharpness.mean(),
        }
        place = self.own.own(prompt, seed)
        if place is None:
            return told
        order = np.random.default_rng([seed, *b"clips"]).permutation(len(self.own.captions))
        same = set(self.own.of_meaning[self.own.config.meaning(prompt)])
        others = [j for j in order if j not in same][:OTHERS]
        pixels = ((self.real.thumbnails[[place, *others]] - found.thumbnails[i]) ** 2).mean(1)
        steps = self.real.steps[[place, *others]] @ found.steps[i]
        off = self.real.views[place].astype(np.float32) - found.views[i]
        return told | {
            "own_pixels": float(pixels[0] < pixels[1:].min()), "own_motion": float(steps[0] > steps[1:].max()),
            "own_rmse": float(np.sqrt((off**2).mean())) / 255, "motion_corr": float(steps[0]),
        }  # fmt: skip
