"""The judge's eye for two objects of two colours: from a clip to one layer for each, which the eye for one then reads.

Every dark pixel is of the colour of the palette that is nearest at some opacity; two colours are the objects, any other
that is more than the seam where two objects meet is a third one. Where they meet, the object that shows less than its
size elsewhere leads to expect is behind. Its centre is then the one whose visible part would have the centroid that is
seen, and its size the expected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import UNIT_SIZE
from t2v_models.worlds.appearance import SHAPES, Colour
from t2v_models.worlds.cores import BACKGROUND_LEVELS, COLOURS, DARKNESS, cores_of
from t2v_models.worlds.moments import FOREGROUND, measure, name_shapes
from t2v_models.worlds.outlines import EXTENTS, cover
from t2v_models.worlds.overlaps import overlaps_with
from t2v_models.worlds.pixels import Flags, Pixels, Places, background_of, choose, labels_of, third_object
from t2v_models.worlds.reader import GREATEST_RADIUS, TRACE_RADIUS, Floats, Seen, dilate, per_clip

CHUNK = 32
"""Clips looked at together."""
MARGIN = 4
"""px that are looked at on every side of an object."""
STRAY = 0.05
"""Share of an object's pixels that may lie outside its window."""
HIDDEN, LOST = 0.04, 0.15
"""Share of an object's area from which what it lacks is hidden by the other; and of which less shows no place."""
SEAM, OVERLAP = 3.0, 8.0
"""px² that may lack in a frame because pixels where two objects meet count for one of them; and px² in all frames
together from which it is asked who is in front."""
CLEARLY = 3.0
"""One of two that overlap is behind if it lacks so many times as much as the other."""
STEPS, STEP = 8, 1.3
"""Of the search for a centre: the visible part moves by less than the centre does."""
SIDES = 8
"""px: windows of one size are looked at together."""


@dataclass(frozen=True)
class Layers:
    """What n clips show as two layers each."""

    seen: Seen
    """Of 2 n layers: clip i has 2 i, of the first colour that was asked for, and 2 i + 1."""
    third: list[str]
    """Colour of a third object in some frame; empty where there is none."""
    hides: list[int]
    """1 where the second object hides part of the first, -1 where that is hidden, 0 where they do not overlap in the
    frames that were read, 2 where they overlap and neither is in front."""


def look(frames: NDArray[np.uint8], colours: Sequence[tuple[Colour, Colour]], asked: Places) -> Layers:
    """Take clips `(n, t, h, w, 3)` apart; clip i should show `colours[i]` and the shapes at `asked[i]`, `(n, 2)`.

    Another colour stands for one that is nowhere to be seen.
    """
    wanted = np.array([[COLOURS.index(c) for c in pair] for pair in colours], np.intp).reshape(-1, 2)
    parts = [_look(frames[i : i + CHUNK], wanted[i : i + CHUNK], asked[i : i + CHUNK])
             for i in range(0, len(frames), CHUNK)]  # fmt: skip
    return Layers(
        Seen.together([p.seen for p in parts]), [c for p in parts for c in p.third], [h for p in parts for h in p.hides]
    )


def _look(frames: NDArray[np.uint8], wanted: Places, asked: Places) -> Layers:
    n, t, height, width = frames.shape[:4]
    unit = min(height, width) / UNIT_SIZE
    planes = np.stack([frames[..., c] for c in range(3)])
    pixels = Pixels.of(planes)
    palette = choose(pixels, wanted, n, t, unit)
    label = labels_of(pixels, palette, frames.shape[:4])
    error, flicker = background_of(planes, label)
    layers = _Layer(frames, label, pixels, palette)
    third = third_object(pixels, palette, label.shape, unit)
    hides = layers.uncover()
    shape, core = layers.shape, layers.core
    seen_at = asked.reshape(-1)
    there = (layers.radius.min(1) >= TRACE_RADIUS * unit) & (layers.radius.max(1) <= GREATEST_RADIUS * unit)
    overlap = layers.overlaps(np.where(there, np.where(seen_at < 0, shape, seen_at), -1))
    colour, change, name = layers.colours()
    along = np.where(name[:, None] >= 0, DARKNESS[name] / (DARKNESS[name] ** 2).sum(1, keepdims=True), 0)
    opacity = np.where(name >= 0, (np.nan_to_num(colour) * along).sum(1) / core, 0)
    spread = layers.spread * np.clip(opacity, FOREGROUND, 1)[:, None]
    seen = Seen(
        layers.x, layers.y, layers.radius, np.where(layers.clear, spread, 1.0), error.repeat(2, 0), flicker.repeat(2),
        np.where(there, shape, -1), overlap, np.clip(BACKGROUND_LEVELS - colour / core[:, None], 0, 255),
        change, name, opacity,
    )  # fmt: skip
    return Layers(seen, third, hides)


class _Layer:
    """Two layers of every clip, each seen through a window that moves with its object. Layer 2 i + k is k of clip i."""

    def __init__(self, frames: NDArray[np.uint8], label: NDArray[np.uint8], pixels: Pixels, palette: Places) -> None:
        n, t, height, width = label.shape
        self.frames, self.label, self.pixels, self.palette = frames, label, pixels, palette.reshape(-1)
        which = label.reshape(-1)[pixels.place]
        cell = (2 * (pixels.frame // t) + which) * t + pixels.frame % t
        row, column = pixels.place // width % height, pixels.place % width
        area, across, down = (
            np.bincount(cell, part, 2 * n * t).reshape(2 * n, t) for part in (None, column + 0.5, row + 0.5)
        )
        at = np.stack([across, down]) / np.maximum(area, 1)
        at = np.where(area > 0, at, np.array([width / 2, height / 2])[:, None, None])
        reach = np.minimum(np.sqrt(area.max(1) / np.pi), 2 * GREATEST_RADIUS * min(height, width) / UNIT_SIZE)
        greatest = max(extent.greatest for extent in EXTENTS.values())
        side = np.ceil(2 * (greatest * reach + MARGIN) / SIDES) * SIDES
        self.side = np.minimum(side, min(height, width)).astype(int)
        self.left, self.top = (
            np.clip(np.floor(p - self.side[:, None] / 2), 0, length - self.side[:, None]).astype(np.intp)
            for p, length in zip(at, (width, height), strict=True)
        )
        self._which, self._cell, self._area = which, cell, area
        self._weigh()

    def _weigh(self) -> None:
        """Opacity in all windows, and what follows from it: `mass`, `x`, `y`, `spread`, the frames that are `clear` of
        the other object, the `shape` and its `core`."""
        layers, t = self.left.shape
        self.windows: list[tuple[Places, NDArray[np.float32]]] = []
        """Layers with windows of one size, and their opacity."""
        self.weight: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * layers
        self.other: list[Flags] = [np.zeros(0, bool)] * layers
        self.mass, self.x, self.y, self.spread = (np.zeros((layers, t)) for _ in range(4))
        self.clear, look = np.ones((layers, t), bool), np.zeros((layers, 6))
        for side in np.unique(self.side).tolist():
            here = np.flatnonzero(self.side == side)
            dark, label = self._windows(here, side)
            along = (DARKNESS / (DARKNESS**2).sum(1, keepdims=True))[self.palette[here]].astype(np.float32)
            alpha = np.einsum("ltyxc,lc->ltyx", dark, along, optimize=True)
            np.clip(alpha, 0, 1, out=alpha)
            mine, other = (label == which[:, None, None, None] for which in (here % 2, 1 - here % 2))
            touched, beside = dilate(mine), dilate(other)
            near = dilate(touched)
            background = (~dilate(near | beside)).astype(np.float32)
            haze = (alpha * background).sum((1, 2, 3)) / np.maximum(background.sum((1, 2, 3)), 1)
            weight = alpha - per_clip(haze)
            weight *= (mine | (near & ~beside)).astype(np.float32)
            self.clear[here] = ~(touched & other).any((2, 3))
            looked_at = self.clear[here] | ~self.clear[here].any(1, keepdims=True)
            found = measure(weight, looked_at)
            self.mass[here], self.spread[here], look[here] = found.mass, found.spread, found.look
            self.x[here], self.y[here] = found.x + self.left[here], found.y + self.top[here]
            self.windows.append((here, weight))
            inside = mine.sum((2, 3))
            self.spread[here] = np.where(inside < (1 - STRAY) * self._area[here], np.inf, self.spread[here])
            for k, layer in enumerate(here):
                self.weight[layer], self.other[layer] = weight[k], other[k]
        self.looked_at = self.clear | ~self.clear.any(1, keepdims=True)
        self.radius = np.sqrt(np.maximum(self.mass, 0) / np.pi)
        self.shape, self.core = name_shapes(look)

    def _windows(self, here: Places, side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Darkness `(l, t, side, side, 3)` and label `(l, t, side, side)` of the windows of some layers."""
        t, height, width = self.label.shape[1:]
        first = (here // 2 * t)[:, None] + np.arange(t)
        corner = (first * height + self.top[here]) * width + self.left[here]
        start = corner[..., None] + np.arange(side) * width
        flat = np.ascontiguousarray(self.frames).reshape(-1)
        runs = np.lib.stride_tricks.as_strided(flat, (flat.size - 3 * side + 1, 3 * side), (1, 1))
        dark = 255 - runs[3 * start].reshape(*start.shape, side, 3)
        flat = self.label.reshape(-1)
        return dark.astype(np.float32), np.lib.stride_tricks.as_strided(flat, (flat.size - side + 1, side), (1, 1))[
            start
        ]

    def uncover(self) -> list[int]:
        """Give what is hidden its place and size; who hides whom in each clip, as `Layers.hides` says it."""
        layers = len(self.x)
        expected = _line(self.radius, self.looked_at)
        area = np.pi * expected**2
        met = ~self.clear | ~self.clear[np.arange(layers) ^ 1] | self._under(expected)
        lacks = np.where(met, np.maximum(area - self.mass, 0), 0)
        hidden = lacks > np.maximum(HIDDEN * area, SEAM)
        total = (lacks * hidden).sum(1)
        other = total[np.arange(layers) ^ 1]
        behind = hidden & (total > other)[:, None]
        hides = [_order(*both) for both in total.reshape(-1, 2).tolist()]
        for layer in np.flatnonzero(behind.any(1)).tolist():
            self._place(layer, np.flatnonzero(behind[layer]), expected[layer], area[layer])
        self.radius = np.where(behind, expected, self.radius)
        return hides

    def _under(self, expected: Floats) -> Flags:
        """Frames in which an object that is not to be seen should be where the other one is."""
        gone = self.mass < LOST * np.pi * expected**2
        if not gone.any():
            return gone
        x, y = (_filled(p, ~gone) for p in (self.x, self.y))
        pair = np.arange(len(x)) ^ 1
        return np.asarray(gone & (np.hypot(x - self.x[pair], y - self.y[pair]) < self.radius[pair]))

    def _place(self, layer: int, hidden: Places, expected: Floats, area: Floats) -> None:
        """Find the centre of one object in the frames in which part of it is hidden."""
        weight, open_ = self.weight[layer][hidden], (~self.other[layer][hidden]).astype(np.float64)
        pixel = np.arange(self.side[layer]) + 0.5
        mass = np.maximum(weight.sum((1, 2)), 1e-3)
        seen_x, seen_y = (weight.sum(1) @ pixel) / mass, (weight.sum(2) @ pixel) / mass
        x, y, shape = seen_x.copy(), seen_y.copy(), SHAPES[self.shape[layer]]
        count_and_place = np.stack([np.ones_like(pixel), pixel], 1)
        for _ in range(STEPS):
            dx, dy = pixel - x[:, None], pixel - y[:, None]
            ideal = cover(shape, dx[:, None, :], dy[:, :, None], expected[hidden][:, None, None])
            ideal *= open_
            in_rows = ideal @ count_and_place
            shown, along = np.moveaxis(in_rows.sum(1), -1, 0)
            shown = np.maximum(shown, 1e-3)
            x += STEP * (seen_x - along / shown)
            y += STEP * (seen_y - (in_rows[..., 0] @ pixel) / shown)
        known = np.ones(len(expected), bool)
        known[hidden] = mass > LOST * area[hidden]
        self.x[layer, hidden], self.y[layer, hidden] = x + self.left[layer, hidden], y + self.top[layer, hidden]
        self.x[layer], self.y[layer] = (
            _filled(self.x[None, layer], known[None])[0],
            _filled(self.y[None, layer], known[None])[0],
        )

    def overlaps(self, shape: Places) -> Floats:
        """Of each object `(2 n,)` with the shape at a place, -1 for none, where nothing hides it."""
        found = np.zeros(len(shape))
        x, y = self.x - self.left, self.y - self.top
        for here, weight in self.windows:
            state = (numbers[here] for numbers in (x, y, self.radius, self.mass))
            found[here] = overlaps_with(shape[here], weight, self.looked_at[here], *state)
        return found

    def colours(self) -> tuple[Floats, Floats, Places]:
        """`cores_of` the objects where they are looked at."""
        seen = np.flatnonzero(self.looked_at.reshape(-1)[self._cell])
        return cores_of(self.pixels.darkness.take(seen, 1), self._cell[seen], *self.x.shape)


def _order(first: float, second: float) -> int:
    """Who hides whom, given the px² that each lacks in all frames."""
    if max(first, second) < OVERLAP:
        return 0
    if max(first, second) < CLEARLY * min(first, second):
        return 2
    return 1 if first > second else -1


def _line(values: Floats, known: Flags) -> Floats:
    """The best straight line through the known values of each row: `(n, t)`, level where only one is known."""
    time, count = np.arange(values.shape[1]), known.sum(1, keepdims=True)
    middle = (time * known).sum(1, keepdims=True) / count
    mean = (values * known).sum(1, keepdims=True) / count
    away = (time - middle) * known
    return np.asarray(
        mean + (away * values).sum(1, keepdims=True) / np.maximum((away**2).sum(1, keepdims=True), 1) * (time - middle)
    )


def _filled(values: Floats, known: Flags) -> Floats:
    """Rows `(n, t)` with straight lines between the values that are known."""
    out, time = values.copy(), np.arange(values.shape[1])
    for row in np.flatnonzero(~known.all(1) & known.any(1)):
        out[row] = np.interp(time, time[known[row]], values[row, known[row]])
    return out
