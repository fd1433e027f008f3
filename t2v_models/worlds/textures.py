"""Pale patterns behind objects, which repeat at the edges of the frame so that they may drift, and the way back.

Objects of all worlds are dark in some channel, patterns are not, so each pixel of a clip shows its background in the
frame in which it is palest, once drifting frames are moved back. With the background known, the clip on white follows
in closed form, and is read as always.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config
from t2v_models.worlds.reader import dilate

Kind = Literal["plain", "gradient", "stripes", "checker", "noise"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

PALE = np.array([(0, 0, 0), (40, 28, 0), (0, 36, 36), (36, 6, 36), (0, 18, 44), (24, 36, 6), (40, 40, 40)], np.float32)
"""Darkness (255 - RGB) of what patterns are made of."""
FULL = 215.0
"""Darkness of the darkest channel of every colour that objects have, at least: from there nothing shows through."""
MOST_PALE = 62
"""Darkness up to which a pixel may be background."""
PALEST = 0.2
"""Share of the frames, the palest, in the last of which a pixel's background is taken: the palest of all is noise."""
WITHIN = 4.0
STEP_OF_NOISE = 0.954
"""Standard deviations by which frames are as pale as the palest; and the median of the absolute difference of two
numbers with normal noise of 1."""
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Along x and y: of drifting patterns, px a frame."""
CELLS = 8
"""Of a noise, along either side."""
FIVE_PER_CENT = 1.645
"""Standard deviations beyond which a twentieth of normal noise lies."""
EVEN, ONE_WAY, BETWEEN = 2.0, 0.05, 0.1
"""Of a pattern as it is seen: range, in levels, of one that is plain; share of its variance that is left in one
that changes along one direction only; share of its pixels that lie between its two colours in one that has two."""
PARTS = 4
"""Of a pixel of the longer side, lines along the diagonal of a frame that is no square: edges of stripes lie anywhere
in a pixel, and lines a pixel wide would hold both colours."""


class Background(Config):
    """The ground truth of what is behind the objects."""

    kind: Kind
    colours: tuple[int, int]
    """Places in `PALE`."""
    way: int
    """Along x, along y, or along both."""
    count: int
    """Repetitions along a side."""
    phase: tuple[float, float]
    """Of a repetition, 0 to 1."""
    drift: tuple[int, int]
    """px a frame, along x and y."""
    seed: int


def texture(background: Background, spec: ClipSpec) -> Floats:
    """Darkness of the background in every frame, `(t, h, w, 3)` or `(1, h, w, 3)` where it stays."""
    first, second = PALE[list(background.colours)]
    share = _share(background, spec)[..., None]
    still = first + (second - first) * share
    if background.drift == (0, 0):
        return np.asarray(still[None])
    return np.stack([moved(still, background.drift, t) for t in range(spec.frames)])


def _share(background: Background, spec: ClipSpec) -> Floats:
    """How much of the second colour there is, 0 to 1: `(h, w)`."""
    across, down = ((np.arange(side, dtype=np.float32) + 0.5) / side for side in (spec.width, spec.height))
    x, y = np.broadcast_to(across, (spec.height, spec.width)), np.broadcast_to(down[:, None], (spec.height, spec.width))
    along = (x, y, x + y)[background.way]
    count, (phase, other) = background.count, background.phase
    if background.kind == "gradient":
        return np.asarray(np.abs(2 * ((along + phase) % 1) - 1))
    if background.kind == "stripes":
        return np.asarray((along * count + phase) % 1 < 0.5, np.float32)
    if background.kind == "checker":
        return np.asarray(((x * count + phase) % 1 < 0.5) != ((y * count + other) % 1 < 0.5), np.float32)
    if background.kind == "noise":
        cells = np.random.default_rng(background.seed).random((CELLS, CELLS)).astype(np.float32)
        return np.asarray(_blend(down, cells) @ cells @ _blend(across, cells).T)
    return np.zeros((spec.height, spec.width), np.float32)


def _blend(place: NDArray[np.floating], cells: Floats) -> Floats:
    """How much each cell counts at places between 0 and 1, `(places, cells)`: it fades linearly, round the edge too."""
    away = np.abs(place[:, None] * len(cells) - np.arange(len(cells)))
    return np.asarray(np.maximum(0, 1 - np.minimum(away, len(cells) - away)), np.float32)


def moved(still: NDArray[np.generic], drift: tuple[int, int], t: int) -> NDArray[np.generic]:
    """A frame `(h, w, 3)` after t frames."""
    return np.roll(still, (t * drift[1], t * drift[0]), (0, 1))


def behind(clip: Frames, pattern: Floats) -> None:
    """Put a pattern behind the objects of a clip on white, `(t, h, w, 3)`, in place."""
    dark = 255 - clip.astype(np.float32)
    dark += pattern * (1 - np.minimum(dark.max(-1, keepdims=True) / FULL, 1))
    clip[:] = 255 - np.rint(np.minimum(dark, 255)).astype(np.uint8)


def taken_off(clip: Frames, *, drifting: bool) -> tuple[Frames, Kind]:
    """A clip `(t, h, w, 3)` on white, and the kind of pattern that was behind its objects."""
    dark = 255 - clip
    drift = _drift(dark) if drifting else (0, 0)
    still = np.stack([moved(frame, drift, -t) for t, frame in enumerate(dark)]) if drift != (0, 0) else dark
    pattern, noise = _palest(still)
    hidden = dilate(pattern.max(-1)[None, None] > MOST_PALE)
    pattern = _filled(pattern, hidden[0, 0])
    shown = np.stack([moved(pattern, drift, t) for t in range(len(clip))]) if drift != (0, 0) else pattern[None]
    share = ((dark - shown) / (FULL - shown)).max(-1, keepdims=True)
    alone = dark - shown * (1 - np.clip(share, 0, 1))
    return 255 - np.rint(np.clip(alone, 0, 255)).astype(np.uint8), kind_of(pattern, ~dilate(hidden)[0, 0], noise)


def _palest(still: NDArray[np.uint8]) -> tuple[Floats, float]:
    """The pattern `(h, w, 3)` that frames `(t, h, w, 3)` show where they are palest, and the noise left in it, levels.

    In noise the mean of all frames that are as pale as those, within `WITHIN` standard deviations; else those alone.
    """
    darkest = still.max(-1).astype(np.int16)
    palest = np.partition(darkest, int(PALEST * (len(still) - 1)), 0)[int(PALEST * (len(still) - 1))]
    steps = np.abs(np.diff(darkest, axis=0))
    noise = float(np.median(steps)) / STEP_OF_NOISE if len(steps) else 0.0
    seen = (np.abs(darkest - palest) <= WITHIN * noise).astype(np.float32)
    count = seen.sum(0)
    pattern = np.einsum("thwc,thw->hwc", still.astype(np.float32), seen) / count[..., None]
    return pattern, noise / float(np.sqrt(np.median(count)))


def _filled(pattern: Floats, hidden: NDArray[np.bool_]) -> Floats:
    """A pattern `(h, w, 3)` that is the nearest seen where an object hides it in all frames."""
    if not hidden.any() or hidden.all():
        return np.zeros_like(pattern) if hidden.any() else pattern
    from scipy.ndimage import distance_transform_edt  # takes long, and most datasets have no patterns

    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return np.asarray(pattern[rows, columns])


def _drift(dark: NDArray[np.uint8]) -> tuple[int, int]:
    """The way that a clip's pattern goes from frame to frame; of equal ones none."""
    pale = np.minimum(dark, MOST_PALE).astype(np.int16)

    def change(drift: tuple[int, int]) -> float:
        return float(np.abs(np.roll(pale[:-1], drift[::-1], (1, 2)) - pale[1:]).mean())

    best = min(DIRECTIONS, key=change)
    return best if change(best) < change((0, 0)) else (0, 0)


def kind_of(pattern: Floats, known: NDArray[np.bool_], noise: float = 0.0) -> Kind:
    """What a pattern `(h, w, 3)` of darkness with so much noise looks like, where it is known."""
    if not known.any():
        return "plain"
    rows, columns = np.nonzero(known)
    away = pattern[known] - pattern[known].mean(0)
    value = away @ np.linalg.eigh(away.T @ away)[1][:, -1]  # along the line between its colours
    low, high = np.percentile(value, [5, 95]) + FIVE_PER_CENT * noise * np.array([1, -1])
    if high - low < EVEN + 2 * noise:
        return "plain"
    between = ((value > low + (high - low) / 4) & (value < high - (high - low) / 4)).mean()
    height, width = known.shape
    lines = PARTS * max(height, width)
    diagonal = (rows * width + columns * height) * lines // (height * width) % lines
    left = min(
        float((value - (np.bincount(line, value) / np.maximum(np.bincount(line), 1))[line]).var())
        for line in (rows, columns, diagonal)
    )
    if left - noise**2 < ONE_WAY * (float(value.var()) - noise**2):
        return "stripes" if between < BETWEEN else "gradient"
    return "checker" if between < BETWEEN else "noise"
