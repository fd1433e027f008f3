"""Models that are no models: the ceiling and the floors every score table is read against."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.motions import draw_motion
from t2v_models.clips.prompts import parse
from t2v_models.clips.render import render
from t2v_models.clips.spec import ClipSpec


def oracle(spec: ClipSpec, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Real clips of the prompts, `(n, t, h, w, 3)`: what a perfect model would score.

    Drawn from (seed, position of the prompt) in a stream of their own, so none of them is a training clip.
    """
    clips = []
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        meaning = parse(prompt)
        rng = np.random.default_rng([seed, i, *b"oracle"])
        clips.append(render(draw_motion(meaning.action, spec, rng, meaning.shape, meaning.colour), spec))
    return np.stack(clips)
