"""The reader's eye made visible: the path it read, drawn over an enlarged clip as it happens."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.media import MARKS, PAPER, enlarge
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.world import Reading

SUBPIXELS = 4
"""Bits of a pixel's fraction that the drawing keeps."""
LEAST_RADIUS = 0.5
"""px at the clip's own size: where less was read, there was nothing."""


def draw_verdict(frames: NDArray[np.uint8], verdict: Verdict, scale: int) -> NDArray[np.uint8]:
    """The clip `(t, h, w, 3)` enlarged by `scale`, with the path up to each frame and a ring round what was read there,
    of every object.

    In the colour of the verdict's mark; frames in which nothing was read stay bare.
    """
    drawn = np.ascontiguousarray(enlarge(frames, scale))
    colour = MARKS[verdict.mark]
    for reading in verdict.objects or (verdict,):
        seen = _seen(reading)
        for t, frame in enumerate(drawn):
            path = [(x, y) for when, x, y, _ in seen if when <= t]
            ring = [(x, y, radius) for when, x, y, radius in seen if when == t]
            for stroke, halo in ((PAPER, 3), (colour, 0)):  # a pale halo first, so that it shows on any background
                _path(frame, path, stroke, halo, scale)
                for x, y, radius in ring:
                    cv2.circle(frame, _place(x, y, scale), round((radius + 1.5) * scale) << SUBPIXELS, stroke,
                               2 + halo, cv2.LINE_AA, SUBPIXELS)  # fmt: skip
    return drawn


def _seen(reading: Reading) -> list[tuple[int, float, float, float]]:
    """Frames in which something was read, and its centre and radius, px."""
    places = zip(reading.x, reading.y, reading.radius, strict=True)
    return [
        (t, x, y, radius)
        for t, (x, y, radius) in enumerate(places)
        if all(map(math.isfinite, (x, y, radius))) and radius > LEAST_RADIUS
    ]


def _path(
    frame: NDArray[np.uint8], path: list[tuple[float, float]], stroke: tuple[int, int, int], halo: int, scale: int
) -> None:
    points = np.array([_place(x, y, scale) for x, y in path], np.int32).reshape(-1, 1, 2)
    cv2.polylines(frame, [points], False, stroke, 2 + halo, cv2.LINE_AA, SUBPIXELS)
    for (point,) in points:
        cv2.circle(
            frame, point.tolist(), (3 << SUBPIXELS) + (halo << SUBPIXELS) // 2, stroke, -1, cv2.LINE_AA, SUBPIXELS
        )


def _place(x: float, y: float, scale: int) -> tuple[int, int]:
    """A place in the clip, px from its corner, as one in the enlarged frame; cv2 counts from a pixel's centre."""
    return round((x * scale - 0.5) * 2**SUBPIXELS), round((y * scale - 0.5) * 2**SUBPIXELS)
