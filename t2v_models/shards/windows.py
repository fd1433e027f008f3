"""One source to clips: decode, resample, fit, and cut its excerpts into windows."""

import hashlib
import math
import warnings
from dataclasses import dataclass

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.codec import packed
from t2v_models.shards.decode import fitted, resampled, shown
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.picture import Told
from t2v_models.shards.sources import Excerpt, Source
from t2v_models.shards.told import Reject

MOST_FRAMES = 200_000
"""Of one file, at the rate of the dataset: more would fill the memory with its clips."""


@dataclass(frozen=True)
class Window:
    """A clip cut out of a source file."""

    first: int
    """Its first frame, counted at the rate of the dataset."""
    caption: str
    """One a line, where it has several."""
    frames: bytes
    sha256: bytes
    """Of its pixels."""


Windows = list[Window | Reject] | str
"""The clips of a source and the parts that are none, or why there are none at all."""


def windows(options: IngestOptions, source: Source) -> Windows:
    """Decode one source and cut its excerpts into clips."""
    spec = options.spec
    cutters = [_Cutter(excerpt, options) for excerpt in source.excerpts]
    found: list[Window | Reject] = []
    total = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file may have much to say before it fails
            for picture in resampled(shown(source.file, options.source_fps or spec.fps, Told()), spec.fps):
                if total >= max(cutter.end for cutter in cutters):
                    break
                if takers := [cutter for cutter in cutters if cutter.next <= total < cutter.end]:
                    frame = fitted(picture, spec, options.fit)
                    found += [window for cutter in takers if (window := cutter.window(frame))]
                total += 1
                if total > MOST_FRAMES:
                    raise ValueError(f"it has more than {MOST_FRAMES:,} frames: cut it into several files")
    except Exception as error:  # decoders of foreign bytes raise anything; whatever it is, it is a fact about the file
        text = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
        return text if type(error) is ValueError else f"it cannot be decoded ({type(error).__name__}: {text})"
    for cutter in cutters:
        if not cutter.count and (cutter.start or cutter.end < math.inf):
            reason = f"its excerpt has {max(0, min(total, cutter.end) - cutter.start)} frames"
            found.append(Reject(source.path, cutter.start, f"{reason} {_needs(spec)}"))
    return found or f"it has {total} frames {_needs(spec)}"


def _needs(spec: ClipSpec) -> str:
    return f"at {spec.fps} frames per second; a clip needs {spec.frames}"


class _Cutter:
    """Cuts an excerpt into clips."""

    def __init__(self, excerpt: Excerpt, options: IngestOptions) -> None:
        fps = options.spec.fps
        self.caption, self._options = excerpt.caption, options
        self.start = self.next = round(excerpt.start * fps)
        self.end = math.inf if excerpt.end is None else round(excerpt.end * fps)
        self.count = 0
        self._held: list[np.ndarray] = []  # frames from `next`, the first of the next clip, on

    def window(self, frame: np.ndarray) -> Window | None:
        """The clip that this frame completes, if it does."""
        spec, stride = self._options.spec, self._options.stride or self._options.spec.frames
        self._held.append(frame)
        if len(self._held) < spec.frames:
            return None
        pixels = np.stack(self._held)
        stored = packed(pixels, spec, self._options.codec)
        found = Window(self.next, self.caption, stored, hashlib.sha256(pixels.data).digest())
        self._held = self._held[stride:]
        self.next += stride
        self.count += 1
        return found
