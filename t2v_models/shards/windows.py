"""One source to clips: decode, resample, fit, cut its excerpts into windows, and lay them in a file."""

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.codec import packed
from t2v_models.shards.decode import fitted, resampled, shown
from t2v_models.shards.ingest_report import Notice, Reject
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.picture import Shown, Told
from t2v_models.shards.sources import Excerpt, Source
from t2v_models.shards.spool import Spool, spooling

MOST_FRAMES = 2_000_000
"""Of one file, at the rate of the dataset: a damaged one may seem to go on for ever."""


@dataclass(frozen=True)
class Job:
    """A source, and the file that its clips are laid in."""

    source: Source
    spool: Path


@dataclass(frozen=True)
class Window:
    """A clip cut out of a source file."""

    first: int
    """Its first frame, counted at the rate of the dataset."""
    caption: str
    """One a line, where it has several."""
    place: int
    size: int
    """Of its bytes in the spool."""
    sha256: bytes
    """Of its bytes, which are the same for the same pixels."""


Windows = list[Window | Reject | Notice] | str
"""The clips of a source, the parts that are none and what is told of it, or why there are none at all."""


def windows(options: IngestOptions, job: Job) -> Windows:
    """Decode one source and cut its excerpts into clips.

    Raises:
        LabError: they cannot be written.
        MemoryError: there is too little memory to decode it.
    """
    spec, source, told, total = options.spec, job.source, Told(), 0
    found: list[Window | Reject | Notice] = []
    with spooling(job.spool) as spool:
        cutters = [_Cutter(source.path, excerpt, options, spool) for excerpt in source.excerpts]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a damaged file may have much to say before it fails
                for picture in resampled(shown(source.file, options.source_fps or spec.fps, told), spec.fps):
                    if total >= max(cutter.end for cutter in cutters):
                        break
                    if takers := [cutter for cutter in cutters if cutter.next <= total < cutter.end]:
                        frame = fitted(picture, spec, options.fit)
                        found += [window for cutter in takers if (window := cutter.window(picture, frame))]
                    total += 1
                    if total > MOST_FRAMES:
                        raise ValueError(f"it has more than {MOST_FRAMES:,} frames: cut it into several files")
        except (LabError, MemoryError):
            raise
        except Exception as error:  # decoders of foreign bytes raise anything; whatever it is, it is about the file
            text = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
            return text if type(error) is ValueError else f"it cannot be decoded ({type(error).__name__}: {text})"
    for cutter in cutters:
        if not cutter.count and (cutter.start or cutter.end < math.inf):
            reason = f"its excerpt has {max(0, min(total, cutter.end) - cutter.start)} frames"
            found.append(Reject(source.path, cutter.start, f"{reason} {_needs(spec)}"))
    if told.lost:
        found.append(Reject(source.path, total, told.lost))
    if not any(isinstance(item, Window | Reject) for item in found):
        return f"it has {total} frames {_needs(spec)}"
    return [*found, *(Notice(source.path, text) for text in told.notices)]


def _needs(spec: ClipSpec) -> str:
    return f"at {spec.fps} frames per second; a clip needs {spec.frames}"


class _Cutter:
    """Cuts an excerpt into clips."""

    def __init__(self, path: str, excerpt: Excerpt, options: IngestOptions, spool: Spool) -> None:
        fps = options.spec.fps
        self._path, self._caption, self._options, self._spool = path, excerpt.caption, options, spool
        self.start = self.next = round(excerpt.start * fps)
        self.end = math.inf if excerpt.end is None else round(excerpt.end * fps)
        self.count = 0
        self._held: list[tuple[np.ndarray, str | None]] = []  # from `next`, the first of the next clip, on

    def window(self, picture: Shown, frame: np.ndarray) -> Window | Reject | None:
        """The clip that this frame completes, if it does, or why it is none."""
        spec, stride = self._options.spec, self._options.stride or self._options.spec.frames
        self._held.append((frame, picture.damage))
        if len(self._held) < spec.frames:
            return None
        first, damage = self.next, next((damage for _, damage in self._held if damage), None)
        pixels = np.stack([frame for frame, _ in self._held])
        self._held = self._held[stride:]
        self.next += stride
        self.count += 1
        if damage:
            return Reject(self._path, first, f"its pictures are damaged ({damage})")
        stored = packed(pixels, spec, self._options.codec)
        place = self._spool.add(stored, picture.done)
        return Window(first, self._caption, place, len(stored), hashlib.sha256(stored).digest())
