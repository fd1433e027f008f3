"""From motions to pixels: anti-aliased, drawing only the window the object is in, many clips at once.

What a shape covers of each pixel is in `shapes`: within 1 % of the true area for a disc of radius 2 px or more. Here it
is rounded to 1/255. No state, no randomness; a clip is the same whichever others are drawn with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.worlds.appearance import BACKGROUND, PALETTE, Colour, Shape
from t2v_models.worlds.motions import Motion, Trace, trace
from t2v_models.worlds.outlines import EXTENTS, cover

WINDOW_PIXELS = 100_000
"""Drawn in one go: so few that the numbers of one step are still in the cache in the next."""


@dataclass(frozen=True)
class Sprite:
    """A clip but for its background: in every frame the square window that holds the object."""

    windows: NDArray[np.uint8]
    """The rows of all windows, `(t, side, 3 * side)`: RGB, RGB, ..."""
    places: NDArray[np.intp]
    """Where each row begins in the bytes of a clip, `(t, side)`."""
    opacity: NDArray[np.uint8]
    """`(t, side, side)`, 255 where nothing shows through."""

    def paint(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make a clip of contiguous `(t, h, w, 3)`, the background and the object on it, and return it."""
        frames.fill(BACKGROUND[0])  # the same in all channels
        self._runs(frames)[self.places] = self.windows  # one assignment for all rows of all frames
        return frames

    def paint_over(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw the object over what is in a clip already, and return it."""
        import cv2

        runs = self._runs(frames)
        shade = cv2.bitwise_not(runs[self.places].reshape(-1, self.windows.shape[2]))
        runs[self.places] = self.windows
        if cv2.hasNonZero(shade):
            through = cv2.cvtColor(cv2.bitwise_not(self.opacity.reshape(-1, self.opacity.shape[2])), cv2.COLOR_GRAY2RGB)
            shade = cv2.multiply(shade, through.reshape(shade.shape), scale=1 / 255)  # rounded; no product is a tie
            runs[self.places] = self.windows - np.asarray(shade, np.uint8).reshape(self.windows.shape)
        return frames

    def _runs(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run i is the bytes of a clip from i on, as many as a row of a window has."""
        width = self.windows.shape[2]
        return np.ndarray((frames.size - width + 1, width), np.uint8, frames.data, strides=(1, 1))


def render(motion: Motion, spec: ClipSpec) -> NDArray[np.uint8]:
    """Draw a clip: uint8, shape `(t, h, w, 3)`, RGB."""
    return paint(trace(motion, spec), motion.shape, motion.colour, spec)


def paint(path: Trace, shape: Shape, colour: Colour, spec: ClipSpec) -> NDArray[np.uint8]:
    """Draw an object wherever it is in each frame: uint8, shape `(t, h, w, 3)`, RGB."""
    frames = np.empty(spec.shape, np.uint8)
    paths = Trace(path.x[None], path.y[None], path.radius[None])
    return sprites([(shape, colour)], paths, spec)[0].paint(frames)


def sprites(objects: Sequence[tuple[Shape, Colour]], paths: Trace, spec: ClipSpec) -> list[Sprite]:
    """Draw the objects of n clips, whose paths are `(n, t)`."""
    import cv2  # here: where a model is served nothing is drawn, and OpenCV is not installed

    reach = np.array([EXTENTS[shape].greatest for shape, _ in objects]) * paths.radius.max(1)
    sides = np.minimum(np.ceil(2 * reach) + 2, spec.short_side)  # of windows that hold the edge's ramp as well
    column, row = (
        np.clip(np.floor(p - sides[:, None] / 2), 0, length - sides[:, None])
        for p, length in ((paths.x, spec.width), (paths.y, spec.height))
    )
    x, y, radius = (p.astype(np.float32) for p in (column + 0.5 - paths.x, row + 0.5 - paths.y, paths.radius))
    corner = 3 * ((np.arange(spec.frames) * spec.height + row) * spec.width + column).astype(np.intp)
    found: dict[int, Sprite] = {}
    for shape, side, here in _alike(objects, sides, spec):
        pixel = np.arange(side, dtype=np.float32)
        dx, dy = x[here, :, None, None] + pixel, y[here, :, None, None] + pixel[:, None]
        inside = cover(shape, dx, dy, radius[here, :, None, None])
        inside *= 255
        inside += 0.5
        opacity = inside.astype(np.uint8)
        places = corner[here, :, None] + np.arange(side) * (3 * spec.width)
        for i, clip, place in zip(here, opacity, places, strict=True):
            windows = np.asarray(cv2.applyColorMap(clip.reshape(-1, side), _shades(objects[i][1])), np.uint8)
            found[i] = Sprite(windows.reshape(-1, side, 3 * side), place, clip)
    return [found[i] for i in range(len(objects))]


def _alike(
    objects: Sequence[tuple[Shape, Colour]], sides: NDArray[np.float64], spec: ClipSpec
) -> Iterator[tuple[Shape, int, list[int]]]:
    """Clips that are drawn in one go: their shape, the side of their windows, and which they are."""
    alike: dict[tuple[Shape, int], list[int]] = {}
    for i, ((shape, _), side) in enumerate(zip(objects, sides.astype(int).tolist(), strict=True)):
        alike.setdefault((shape, side), []).append(i)
    for (shape, side), here in alike.items():
        step = max(1, WINDOW_PIXELS // (spec.frames * side**2))
        for start in range(0, len(here), step):
            yield shape, side, here[start : start + step]


@cache
def _shades(colour: Colour) -> NDArray[np.uint8]:
    """The colour of a pixel by its opacity, 0-255: `(256, 1, 3)`."""
    background, full = np.array(BACKGROUND, np.float64), np.array(PALETTE[colour], np.float64)
    return np.rint(background + (full - background) * np.linspace(0, 1, 256)[:, None]).astype(np.uint8)[:, None]
