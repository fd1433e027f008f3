"""Does the model copy its training clips? Judged against how near real clips it has never seen come to them.

Distances are root mean squares over frames of (Δx, Δy, Δradius) to the nearest training clip, px at 64 px.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.dataset import DatasetConfig, draw_clip
from t2v_models.clips.motions import trace
from t2v_models.evaluation.distances import squared
from t2v_models.evaluation.statistics import Score, wilson
from t2v_models.evaluation.verdicts import Verdict

Floats = NDArray[np.float64]

CHUNK = 256
NEAREST_SHARE = 0.01
"""Quantile of the distances of unseen real clips within which a clip counts as a copy: 1 % of real ones do."""
MOST_TRAINING_CLIPS = 20_000
"""Training clips compared with, the first ones; the share found is then a lower bound."""


def training_paths(config: DatasetConfig) -> Floats:
    """The exact (x, y, radius) of training clips, `(clips, 3 t)`, drawn again from the dataset's seed."""
    count = min(config.clips, MOST_TRAINING_CLIPS)
    paths = (trace(draw_clip(config, i)[1], config.spec) for i in range(count))
    return np.asarray(np.stack([np.concatenate([p.x, p.y, p.radius]) for p in paths]) / config.spec.unit)


def paths_of(verdicts: Sequence[Verdict]) -> Floats:
    """The (x, y, radius) read from judged clips, `(n, 3 t)`."""
    paths = np.array([v.x + v.y + v.radius for v in verdicts], np.float64)
    return np.asarray(paths / np.array([[v.unit] for v in verdicts]))


def nearest(paths: Floats, training: Floats) -> Floats:
    """Distance of each path to the nearest training clip, `(n,)` px at 64 px."""
    frames = paths.shape[1] / 3
    parts = [squared(paths[i : i + CHUNK], training).min(1) for i in range(0, len(paths), CHUNK)]
    return np.asarray(np.sqrt(np.concatenate(parts) / frames))


def ct_z(judged: Floats, unseen: Floats) -> Score:
    """Mann-Whitney z of the distances of judged against unseen real clips (C_T, Meehan 2020).

    About 0 for a faithful model; far below -3 it copies, far above 3 it does not fit. The interval is z ± 1.96.
    """
    n, m = len(judged), len(unseen)
    together = np.concatenate([judged, unseen])
    order = np.argsort(together, kind="stable")
    ranks = np.empty(n + m)
    ranks[order] = np.arange(1, n + m + 1)
    u = ranks[:n].sum() - n * (n + 1) / 2
    z = float((u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))
    return Score(value=z, low=z - 1.96, high=z + 1.96, n=n)


def copy_rate(judged: Floats, unseen: Floats) -> Score:
    """Share of judged clips as near to a training clip as the nearest 1 % of unseen real clips, 0 to 1; real: 0.01."""
    limit = np.quantile(unseen, NEAREST_SHARE)
    return wilson(int((judged <= limit).sum()), len(judged))


def memorisation(verdicts: Sequence[Verdict], unseen: Sequence[Verdict], training: Floats) -> dict[str, Score]:
    """`ct_z` and `copy_rate` of the valid clips; nothing where there are none."""
    judged, real = [v for v in verdicts if v.valid], [v for v in unseen if v.valid]
    if not judged or not real:
        return {}
    near, far = nearest(paths_of(judged), training), nearest(paths_of(real), training)
    return {"ct_z": ct_z(near, far), "copy_rate": copy_rate(near, far)}
