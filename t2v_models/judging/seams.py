"""How a story goes on from one prompt to the next: whether each is obeyed, and whether objects jump between them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t2v_models.judging.statistics import Score, wilson
from t2v_models.worlds.world import Frames, Reading, World

FAR = 2.0
"""px: a step at a seam that is no longer is no jump, nor one up to so many times the usual step of what follows."""


@dataclass(frozen=True)
class Told:
    """What became of one prompt of a story."""

    prompt: str
    right: Score
    """Stories in which its motion is the asked one."""
    jumps: Score | None
    """Stories in which the object jumps into it, of those that show one object; of the first prompt there are none."""


def tell(world: World, prompts: Sequence[str], parts: Iterable[Frames]) -> Iterator[Told]:
    """Judge the new frames `(b, t, h, w, 3)` of each prompt, as `story` makes them."""
    before: Frames | None = None
    for prompt, frames in zip(prompts, parts, strict=True):
        yield tell_one(world, prompt, before, frames)
        before = frames[:, -1:]


def tell_one(world: World, prompt: str, before: Frames | None, frames: Frames) -> Told:
    """The same of one prompt, read from the last frame before it on, `(b, 1, h, w, 3)`, where its first step begins."""
    seen = frames if before is None else np.concatenate([before, frames], 1)
    readings = world.read(seen, [world.parse(prompt)] * len(seen))
    leaps = [] if before is None else [leap for leap in map(_jumps, readings) if leap is not None]
    return Told(
        prompt,
        wilson(sum(reading.right for reading in readings), len(readings)),
        None if before is None else wilson(sum(leaps), len(leaps)),
    )


def _jumps(reading: Reading) -> bool | None:
    """Whether the first step is a jump; None where there is no path, or none after the first step."""
    if not reading.valid or len(reading.x) < 3:
        return None
    steps = np.hypot(np.diff(reading.x), np.diff(reading.y))
    return bool(steps[0] > FAR * max(1.0, float(np.median(steps[1:]))))
