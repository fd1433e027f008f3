"""Which colour every dark pixel of a clip has, which two colours are its objects, and what else there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_models.worlds.cores import COLOURS, DARKNESS
from t2v_models.worlds.moments import FOREGROUND
from t2v_models.worlds.reader import LEAST_RADIUS, Floats, dilate

THIRD, WHOLE = 8.0, 3.0
"""px² at 64 px, of what is one px inside of its edge: more of another colour is a third object; and so many times as
much that is not within two px of both objects."""

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Pixels:
    """The k pixels of n clips that are part of any object."""

    place: Places  # (k,) in all pixels of all clips
    frame: Places  # (k,) in all frames of all clips
    darkness: NDArray[np.uint8]  # (3, k)
    colour: Places  # (k,) nearest of the palette
    misfit: NDArray[np.float32]  # (6, k) squared distance from each colour at the best opacity

    @staticmethod
    def of(planes: NDArray[np.uint8]) -> "Pixels":
        """From the three channels of the clips, `(3, n, t, h, w)`."""
        place = np.flatnonzero(planes.min(0) < np.uint8(np.ceil(255 * (1 - FOREGROUND))))
        dark = np.stack([255 - plane.reshape(-1).take(place) for plane in planes])
        full, own = DARKNESS.astype(np.float32), (DARKNESS**2).sum(1, keepdims=True).astype(np.float32)
        misfit = full @ dark.astype(np.float32)
        share = np.clip(misfit / own, FOREGROUND, 1)
        misfit *= -2
        misfit += share * own
        misfit *= share
        return Pixels(place, place // math.prod(planes.shape[3:]), dark, _least(misfit), misfit)


def _least(misfit: NDArray[np.float32]) -> Places:
    """The first row with the least number of each column: by rows it takes a quarter of the time of `argmin`."""
    least, row = misfit[0].copy(), np.zeros(misfit.shape[1], np.intp)
    for k, other in enumerate(misfit[1:], 1):
        row[other < least] = k
        np.minimum(least, other, out=least)
    return row


def choose(pixels: Pixels, wanted: Places, n: int, t: int, unit: float) -> Places:
    """The two colours of each clip `(n, 2)`: those asked for where they are there, else what else there is most of."""
    clip = pixels.frame // t
    area = np.bincount(clip * len(COLOURS) + pixels.colour, minlength=n * len(COLOURS)).reshape(n, -1) / t
    found = wanted.copy()
    for i in range(n):
        there = [c for c in (-area[i]).argsort().tolist() if area[i, c] > np.pi * (LEAST_RADIUS * unit) ** 2 / 2]
        others = [c for c in there if c not in wanted[i]]
        for k, c in enumerate(wanted[i].tolist()):
            if c not in there and others:
                found[i, k] = others.pop(0)
    return found


def labels_of(pixels: Pixels, palette: Places, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Of every pixel `(n, t, h, w)`: 0 or 1 for the layers of its clip, 2 for the background."""
    pixel, clip = np.arange(len(pixels.place)), pixels.frame // shape[1]
    first, second = (pixels.misfit[colour[clip], pixel] for colour in palette.T)
    label = np.full(shape, 2, np.uint8)
    label.reshape(-1)[pixels.place] = second < first
    return label


def third_object(pixels: Pixels, palette: Places, shape: Sequence[int], unit: float) -> list[str]:
    """The colour of a third object of each clip. A seam may have any colour, but lies between the two and is thinner
    than 3 px: its inside is empty, and both of them are near."""
    n, t, height, width = shape
    clip, shown, least = pixels.frame // t, [""] * n, THIRD * unit**2
    which = np.where(pixels.colour == palette[clip, 0], 0, np.where(pixels.colour == palette[clip, 1], 1, 2))
    area = np.bincount(pixels.frame[which == 2], minlength=n * t).reshape(n, t)
    for i in np.flatnonzero((area > least).any(1)):
        here = np.flatnonzero(clip == i)
        mask = np.zeros((3, t, height, width), bool)
        mask.reshape(3, -1)[which[here], pixels.place[here] - i * t * height * width] = True
        first, second = dilate(dilate(mask[:2]))
        inside = (~dilate(~mask[2:])[0]).sum((1, 2))
        away = (mask[2] & ~(first & second)).sum((1, 2))
        if (inside > least).any() or (away > WHOLE * least).any():
            shown[i] = COLOURS[np.bincount(pixels.colour[here[which[here] == 2]]).argmax()]
    return shown


def background_of(planes: NDArray[np.uint8], label: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Error of the background in every frame `(n, t)` and its flicker `(n,)`, 0 to 1, as for one object."""
    outside = ~dilate(dilate(dilate(label < 2)))
    grey = np.add(planes[0], planes[1], dtype=np.int16)
    grey += planes[2]
    np.subtract(3 * 255, grey, out=grey)
    grey *= outside
    error = _sum(grey, (2, 3)) / np.maximum(_sum(outside, (2, 3)), 1) / (3 * 255)
    both = outside[:, 1:] & outside[:, :-1]
    change = np.subtract(grey[:, 1:], grey[:, :-1])
    np.abs(change, out=change)
    change *= both
    return error, _sum(change, (2, 3)).sum(1) / np.maximum(_sum(both, (2, 3)).sum(1), 1) / (3 * 255)


def _sum(numbers: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.int32]:
    """Of a frame: 32 bits hold it, and take half the time of NumPy's 64."""
    return np.asarray(numbers.sum(axes, dtype=np.int32))
