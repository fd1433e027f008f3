"""Does the model copy its training clips? Judged against how near real clips it has never seen come to them.

Distances are root mean squares over frames of (Δx, Δy, Δradius) to the nearest training clip, px at 64 px.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.statistics import Z95, Score, wilson
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.dataset import DatasetConfig, draw_clips

Floats = NDArray[np.float64]

CHUNK = 256
NEAREST_SHARE = 0.01
"""Quantile of the distances of unseen real clips within which a clip counts as a copy: 1 % of real ones do."""
MOST_TRAINING_CLIPS = 20_000
"""Training clips compared with, the first ones; the share found is then a lower bound."""
UNSEEN_PER_CLIP = 4
"""Unseen real clips for each judged one: with these a tenth of copies among 1,000 clips reads -5, with one -3.9."""


def training_paths(config: DatasetConfig) -> Floats:
    """The exact (x, y, radius) of training clips, `(clips, 3 t)`, drawn again from the dataset's seed."""
    drawn = draw_clips(config, range(min(config.clips, MOST_TRAINING_CLIPS)))
    return config.rules.paths([scene for _, scene in drawn], config.spec) / config.spec.unit


def unseen_paths(config: DatasetConfig, prompts: Sequence[str]) -> Floats:
    """The exact (x, y, radius) of real clips of the prompts that are no training clips, `(k n, 3 t)`.

    There are `UNSEEN_PER_CLIP` for each prompt, all prompts once, then all again. They are not read from pixels: what
    reading adds is a fiftieth of a pixel, and training clips lie a pixel and more apart.
    """
    world, spec = config.rules, config.spec
    meanings = [world.parse(p) for _ in range(UNSEEN_PER_CLIP) for p in prompts]
    numbers = np.random.default_rng(list(b"unseen")).random((len(meanings), world.numbers))
    return world.paths(world.draw(meanings, spec, numbers), spec) / spec.unit


def paths_of(verdicts: Sequence[Verdict]) -> Floats:
    """The (x, y, radius) read from judged clips, `(n, 3 t)`."""
    paths = np.array([v.x + v.y + v.radius for v in verdicts], np.float64)
    return np.asarray(paths / np.array([[v.unit] for v in verdicts]))


def nearest(paths: Floats, training: Floats) -> Floats:
    """Distance of each path to the nearest training clip, `(n,)` px at 64 px."""
    frames = paths.shape[1] / 3
    # |a - b|² = a·a + (b·b - 2 a·b); only the bracket has a least b, and one product makes it for all
    table = np.hstack([-2 * training, (training**2).sum(1, keepdims=True)]).T
    rows = np.hstack([paths, np.ones((len(paths), 1))])
    least = np.concatenate([(rows[i : i + CHUNK] @ table).min(1) for i in range(0, len(rows), CHUNK)])
    return np.asarray(np.sqrt(np.maximum(least + (paths**2).sum(1), 0) / frames))


def ct_z(judged: Floats, unseen: Floats, prompts: Sequence[str]) -> Score:
    """Mann-Whitney z of the distances of judged against unseen real clips, prompt by prompt (C_T, Meehan 2020).

    About 0 for a faithful model; far below -3 it copies, far above 3 it does not fit. The interval is z ± 1.96.

    Args:
        judged: distances of judged clips from the training clips, `(n,)`.
        unseen: of real clips, `(k, n)`; column i has the prompt of judged clip i.
        prompts: the prompt of each judged clip.
    """
    gain, variance, groups = 0.0, 0.0, np.array(prompts)
    for prompt in dict.fromkeys(prompts):
        near, far = judged[groups == prompt], np.sort(unseen[:, groups == prompt], axis=None)
        pairs = len(near) * len(far)
        gain += np.searchsorted(far, near).sum() - pairs / 2
        variance += pairs * (len(near) + len(far) + 1) / 12
    z = float(gain / math.sqrt(variance))
    return Score(value=z, low=z - Z95, high=z + Z95, n=len(judged))


def copy_rate(judged: Floats, unseen: Floats) -> Score:
    """Share of judged clips as near to a training clip as the nearest 1 % of unseen real clips, 0 to 1; real: 0.01."""
    limit = np.quantile(unseen, NEAREST_SHARE)
    return wilson(int((judged <= limit).sum()), len(judged))


def memorisation(verdicts: Sequence[Verdict], unseen: Floats, training: Floats) -> dict[str, Score]:
    """`ct_z` and `copy_rate` of the valid clips; nothing where there are none, or none with a path.

    Args:
        verdicts: of the judged clips.
        unseen: distances of `unseen_paths` of all their prompts from the training clips, `(k, n)`.
        training: `training_paths`.
    """
    rows = [i for i, v in enumerate(verdicts) if v.valid and v.x]
    if not rows:
        return {}
    near, far = nearest(paths_of([verdicts[i] for i in rows]), training), unseen[:, rows]
    return {"ct_z": ct_z(near, far, [verdicts[i].prompt for i in rows]), "copy_rate": copy_rate(near, far)}
