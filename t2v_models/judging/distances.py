"""Is the set of clips like the set of real clips? Distances on features of each clip: A, a 24-number descriptor with
nothing learned, and B, those of the small network in `features`.

Every distance is the mean over disjoint blocks of clips with a t-interval; a bootstrap would repeat clips and inflate
it. Beside each stands the same distance between two sets of real clips of the same size (`..._real`), for most depend
on the number of clips. Invalid clips are described as read: failures count.

The interval is that of the mean of 8 blocks, 7 degrees of freedom. For real clips, 1,152 a set, it holds the truth in
93.1 to 95.2 % of draws (1,000 of A, 600 of B). Block values of MMD² are skewed to the right, so where it misses 0 it
mostly lies below: wholly above, which would accuse real clips, in 0.5 to 1.8 %; `nn2`, `frechet_excess`: 1.8 to 3 %.

Sets are paired: row i of all of them answers the same prompt. A clip never meets its partner, just as it never meets
itself, so the pairs within and between sets have the same prompts, and equal distributions are 0 apart on average
whatever the prompts are. Without that, sets balanced over prompts would look too alike.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.statistics import Score, block_mean
from t2v_models.judging.verdicts import Verdict

Floats = NDArray[np.float64]

BLOCKS = 8
MOST_CLIPS = 4096
"""Clips used for distances; more only narrow the interval."""
LEAST_BLOCK = 16
"""Fewer clips in a block than this and no distance is given."""
NEIGHBOURS = 5
FARTHEST = 10.0
"""Standard deviations at which a descriptor is cut off, so that one failed clip does not decide a distance."""
LEAST_SCALE = np.array([0.5] * 10 + [0.5] * 2 + [1.0, 0.02, 0.1] + [0.25] * 3 + [0.02] + [30.0] * 3 + [0.2, 0.3])
"""Least standard deviation of each number, so that what is constant in real clips is not blown up:
a faint blur must not outweigh a broken motion."""

_PLACE_INK_DAMAGE = 3, 3, 2
LEAST_FEATURE_SCALE = np.concatenate(
    [np.repeat(least, _PLACE_INK_DAMAGE) for least in ((0.3, 0.1, 0.3), (0.1,) * 3, (0.02, 0.1, 0.1), (0.02, 0.1, 0.1))]
)
"""The same for the mean, slope, second and third differences of what the network sees, in its own units: half frames,
darkness, strengths. 0.02 of half a frame is 0.6 px at 64 px, and darkness that flickers by less than a tenth is not
blown up."""


def descriptor(verdicts: Sequence[Verdict]) -> Floats:
    """`(n, 24)`, lengths in px at 64 px.

    It rests on what the reader read, and the reader takes faint noise off before it measures: noise of 2 % of the range
    leaves it as it is. That is for features B to see.

    Start and end (4), mean and standard deviation of the step along each axis (4), mean |second difference| (2), turns
    along each axis (2), path length, straightness, total turning in radians, radius at both ends with its slope and
    variation (4), colour (3), opacity, overlap with the asked shape.
    """
    unit = np.array([v.unit for v in verdicts])[:, None]
    x, y, radius = (np.array([getattr(v, name) for v in verdicts]) / unit for name in ("x", "y", "radius"))
    colour = np.nan_to_num(np.array([v.colour for v in verdicts]))
    dx, dy = np.diff(x, axis=1), np.diff(y, axis=1)
    path = np.hypot(dx, dy).sum(1)
    columns = [x[:, 0], y[:, 0], x[:, -1], y[:, -1], dx.mean(1), dy.mean(1), dx.std(1), dy.std(1)]
    columns += [np.abs(np.diff(d, axis=1)).mean(1) for d in (dx, dy)]
    columns += [(d[:, 1:] * d[:, :-1] < -0.01).sum(1) for d in (dx, dy)]
    columns += [path, np.hypot(x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]) / np.maximum(path, 1), _turning(dx, dy)]
    columns += [radius[:, 0], radius[:, -1], np.diff(radius, axis=1).mean(1)]
    columns += [radius.std(1) / np.maximum(radius.mean(1), 0.1), *colour.T]
    columns += [np.nan_to_num(np.array([getattr(v, name) for v in verdicts])) for name in ("opacity", "shape_iou")]
    return np.stack(columns, 1).astype(np.float64)


def _turning(dx: Floats, dy: Floats) -> Floats:
    """Sum of the signed angles between steps, radians; steps shorter than a tenth of a pixel do not turn."""
    step = np.where(np.hypot(dx, dy) > 0.1, dx + 1j * dy, 0)
    return np.asarray(np.angle(step[:, 1:] * step[:, :-1].conj()).sum(1))


def whiten(points: Floats, real: Floats, least: Floats | float) -> Floats:
    """Centre and scale each number by its mean and standard deviation in `real`.

    Numbers are not decorrelated: several are sums of others, and full whitening would divide by almost nothing.
    """
    return np.asarray(np.clip((points - real.mean(0)) / np.maximum(real.std(0), least), -FARTHEST, FARTHEST))


def squared(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances `(len(a), len(b))`."""
    return np.asarray(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0))


def _unbiased(within_a: Floats, within_b: Floats, between: Floats) -> float:
    """MMD² without any of the diagonals (Gretton 2012, eq. 4): zero on average for equal distributions."""
    n = len(within_a)
    inner_a, inner_b, across = ((m.sum() - np.trace(m)) / (n * (n - 1)) for m in (within_a, within_b, between))
    return float(inner_a + inner_b - 2 * across)


def mmd_rbf(points: Floats, real: Floats) -> float:
    """Unbiased MMD² with a Gaussian kernel as wide as the median distance of real pairs; about 0 to 2."""
    among = squared(real, real)
    width = float(np.median(among[np.triu_indices(len(real), 1)])) or 1.0
    return _unbiased(*(np.exp(-d / (2 * width)) for d in (squared(points, points), among, squared(points, real))))


def mmd_cubic(points: Floats, real: Floats) -> float:
    """Unbiased MMD² with the kernel (x·y / d + 1)³ (Bińkowski 2018, KID); 0 and more."""
    pairs = ((points, points), (real, real), (points, real))
    return _unbiased(*((a @ b.T / a.shape[1] + 1) ** 3 for a, b in pairs))


def frechet(points: Floats, real: Floats) -> float:
    """Fréchet distance of Gaussians fitted to both sets (Heusel 2017); grows with dimension² / clips for equal sets."""
    cov_a, cov_b = np.cov(points, rowvar=False), np.cov(real, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    crossed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    gap = ((points.mean(0) - real.mean(0)) ** 2).sum()
    return float(max(gap + np.trace(cov_a) + np.trace(cov_b) - 2 * crossed, 0.0))


def _in_balls(points: Floats, real: Floats) -> NDArray[np.bool_]:
    """Whether point j lies nearer to real clip i than its `NEIGHBOURS`-th real neighbour, `(real, points)`."""
    among = np.sort(squared(real, real), axis=1)[:, NEIGHBOURS]  # the first is the clip itself
    return squared(real, points) <= among[:, None]


def coverage(points: Floats, real: Floats) -> float:
    """Share of real clips with a judged clip among their 5 nearest (Naeem 2020), 0 to 1."""
    return float(_in_balls(points, real).any(1).mean())


def density(points: Floats, real: Floats) -> float:
    """How many real neighbourhoods hold a judged clip, over 5 (Naeem 2020); 1 for equal sets, may exceed it."""
    return float(_in_balls(points, real).sum() / (NEIGHBOURS * len(points)))


def nearest_neighbour(points: Floats, real: Floats) -> float:
    """Share of clips whose nearest other clip is of their own set, partners apart (Lopez-Paz 2017); 0.5 if equal."""
    apart = np.diag(np.full(len(points), np.inf))
    between = squared(points, real) + apart
    own = [(squared(s, s) + apart).min(1) for s in (points, real)]
    return float(np.mean([own[0] < between.min(1), own[1] < between.min(0)]))


DISTANCES: dict[str, Callable[[Floats, Floats], float]] = {
    "mmd_rbf": mmd_rbf, "mmd_cubic": mmd_cubic, "frechet": frechet, "coverage": coverage, "density": density,
    "nn2": nearest_neighbour,
}  # fmt: skip


def distances(
    points: Floats, real: Floats, other: Floats, suffix: str, least: Floats | float, least_blocks: int = BLOCKS
) -> dict[str, Score]:
    """Every distance of `points` from `real`, and of `other` real clips from `real` as `<name>_real`.

    `frechet_excess` is the one less the other, block by block. A Fréchet distance grows as clips get fewer, so its own
    interval never holds 0; in the excess that bias cancels, and for real clips, which could change places with the
    others, it is 0 on average at any number of clips. The ratio of the two has no interval: for real clips it scatters
    by 0.1 at 1,152 clips.

    Args:
        points: features of the judged clips `(n, d)`.
        real: of real clips of the same prompts, row by row; all are whitened by these.
        other: of other real clips of the same prompts.
        suffix: of the names: which features these are, as in `mmd_rbf_a`.
        least: least standard deviation of each feature.
        least_blocks: where clips do not fill `BLOCKS`, so many will do.
    """
    assert points.shape == real.shape == other.shape, (points.shape, real.shape, other.shape)
    order = np.random.default_rng(list(b"blocks")).permutation(len(real))  # so that every block is a sample of all
    points, real, other = (whiten(s[order], real, least) for s in (points, real, other))
    count = min(BLOCKS, len(real) // LEAST_BLOCK)
    if count < least_blocks:
        return {}
    size = min(len(real), MOST_CLIPS) // count
    blocks = [slice(i * size, (i + 1) * size) for i in range(count)]
    scores: dict[str, Score] = {}
    for name, distance in DISTANCES.items():
        judged, usual = (np.array([distance(s[b], real[b]) for b in blocks]) for s in (points, other))
        for label, values in ((f"{name}_{suffix}", judged), (f"{name}_{suffix}_real", usual)):
            scores[label] = block_mean(values.tolist(), count * size)
        if distance is frechet:
            scores[f"{name}_excess_{suffix}"] = block_mean((judged - usual).tolist(), count * size)
    return scores


def trajectory_distances(
    verdicts: Sequence[Verdict], real: Sequence[Verdict], other: Sequence[Verdict]
) -> dict[str, Score]:
    """Distances on the trajectory descriptor (features A); none of a world whose objects have no path."""
    if not real[0].x:
        return {}
    return distances(descriptor(verdicts), descriptor(real), descriptor(other), "a", LEAST_SCALE)


def feature_distances(points: Floats, real: Floats, other: Floats) -> dict[str, Score]:
    """Distances on the features of the network (features B)."""
    return distances(points, real, other, "b", LEAST_FEATURE_SCALE)
