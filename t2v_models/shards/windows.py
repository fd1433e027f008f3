"""One source to clips: decode, resample, fit, cut its excerpts into windows, and lay them in a file."""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.codec import packed
from t2v_models.shards.decode import fitted, resampled, shown, shown_size
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
    shape: int = 0
    """Which of `IngestOptions.all_shapes` it has."""


Windows = list[Window | Reject | Notice] | str
"""The clips of a source, the parts that are none and what is told of it, or why there are none at all."""


def windows(options: IngestOptions, job: Job) -> Windows:
    """Decode one source and cut its excerpts into clips.

    Raises:
        LabError: they cannot be written.
        MemoryError: there is too little memory to decode it.
    """
    source, told, total, pictures, last = job.source, Told(), 0, 0, None
    fps, size, ends_in = options.spec.fps, None, None
    found: list[Window | Reject | Notice] = []
    with spooling(job.spool) as spool:
        cutters: list[_Cutter] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a damaged file may have much to say before it fails
                for picture in resampled(shown(source.file, options.source_fps or fps, told), fps):
                    pictures, last = pictures + (picture is not last), picture
                    cutters = cutters or [_Cutter(source.path, e, options, spool, told) for e in source.excerpts]
                    if total >= max(cutter.end for cutter in cutters):
                        break
                    if takers := [cutter for cutter in cutters if cutter.next <= total < cutter.end]:
                        size = size or _size(options.all_shapes, picture)
                        frame = fitted(picture, size, options.fit)
                        for cutter in takers:
                            found += cutter.take(picture, frame, size)
                    total += 1
                    if total > MOST_FRAMES:
                        raise ValueError(f"it has more than {MOST_FRAMES:,} frames: cut it into several files")
                else:
                    ends_in = last and last.damage
                for cutter in cutters:
                    found += cutter.rest(alone=pictures == 1)
        except (LabError, MemoryError):
            raise
        except Exception as error:  # decoders of foreign bytes raise anything; whatever it is, it is about the file
            text = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
            return text if type(error) is ValueError else f"it cannot be decoded ({type(error).__name__}: {text})"
    for cutter in cutters:
        if not cutter.count and (cutter.start or cutter.end < math.inf):
            reason = f"its excerpt has {max(0, min(total, cutter.end) - cutter.start)} frames"
            found.append(Reject(source.path, cutter.start, f"{reason} {_needs(options)}"))
    if any(cutter.count and math.inf > cutter.end > total + 1 for cutter in cutters):
        told.note("a part of it is said to end after it does: its clips end with it")
    if ends_in and not any(isinstance(item, Reject) for item in found):
        told.lost = told.lost or f"it breaks off: its last pictures, too few for a clip, are damaged ({ends_in})"
    if told.lost:
        found.append(Reject(source.path, total, told.lost))
    if not any(isinstance(item, Window | Reject) for item in found):
        return f"it has {total} frames {_needs(options)}"
    return [*found, *(Notice(source.path, text) for text in told.notices)]


def nearest(shapes: Sequence[ClipSpec], width: float, height: float) -> ClipSpec:
    """The shape, of whatever length, whose form is nearest to that of a picture; of several sizes of one form the
    largest that does not enlarge it, or the smallest."""

    def far(spec: ClipSpec) -> tuple[float, float, float]:
        form = abs(math.log(width / height * spec.height / spec.width))
        larger = math.log(spec.width * spec.height / (width * height))
        return round(form, 3), max(0.0, larger), -larger

    return min(shapes, key=far)


def _size(shapes: Sequence[ClipSpec], picture: Shown) -> ClipSpec:
    """A shape of the size that a source is given, by its first picture; one alone needs no look at it."""
    return nearest(shapes, *shown_size(picture)) if len({spec.sides for spec in shapes}) > 1 else shapes[0]


def _needs(options: IngestOptions) -> str:
    lengths = [spec.frames for spec in options.all_shapes if spec.frames > 1]
    least = f"a clip needs {min(lengths)}" if lengths else "an image is a picture alone"
    return f"at {options.spec.fps} frames per second; {least}"


class _Cutter:
    """Cuts an excerpt into clips of one size: as long as they can be, what is left into shorter ones."""

    def __init__(self, path: str, excerpt: Excerpt, options: IngestOptions, spool: Spool, told: Told) -> None:
        fps, before = options.spec.fps, told.before or 0.0
        if told.before is None and (excerpt.start or excerpt.end is not None):
            told.note("where the file begins is not told: its parts are counted from the first picture")
        self._path, self._caption, self._options, self._spool = path, excerpt.caption, options, spool
        # a film may show a picture before the time at which it says to begin: all of it is from its first picture on
        self.start = self.next = max(0, round((excerpt.start - before) * fps)) if excerpt.start else 0
        self.end = math.inf if excerpt.end is None else round((excerpt.end - before) * fps)
        self.count = 0
        self._shapes: list[ClipSpec] = []  # of the size, the longest first
        self._held: list[tuple[np.ndarray, str | None]] = []  # from `next`, the first of the next clip, on
        self._done = 0.0

    def take(self, picture: Shown, frame: np.ndarray, size: ClipSpec) -> list[Window | Reject]:
        """The clip that this frame completes, if it does, or why it is none."""
        if not self._shapes:
            alike = [s for s in self._options.all_shapes if (s.height, s.width) == (size.height, size.width)]
            self._shapes = sorted(alike, key=lambda spec: -spec.frames)
        self._held.append((frame, picture.damage))
        self._done = picture.done
        longest = self._shapes[0]
        if longest.frames == 1 or len(self._held) < longest.frames:  # whether it is a picture shows at its end
            self._held = self._held[:1] if longest.frames == 1 else self._held
            return []
        return [self._cut(longest, self._options.stride or longest.frames)]

    def rest(self, alone: bool) -> list[Window | Reject]:
        """Shorter clips of the frames that no clip has; an image only of a source that is one picture (`alone`)."""
        found: list[Window | Reject] = []
        if self._shapes and self._options.stride and self.count:
            over = max(0, self._shapes[0].frames - self._options.stride)
            self._held, self.next = self._held[over:], self.next + over
        for spec in self._shapes:
            while len(self._held) >= spec.frames and (spec.frames > 1 or (alone and not self.count)):
                found.append(self._cut(spec, spec.frames))
        return found

    def _cut(self, spec: ClipSpec, stride: int) -> Window | Reject:
        """A clip of the first frames that are held."""
        held, first = self._held[: spec.frames], self.next
        damage = next((damage for _, damage in held if damage), None)
        pixels = np.stack([frame for frame, _ in held])
        self._held = self._held[stride:]
        self.next += stride
        self.count += 1
        if damage:
            return Reject(self._path, first, f"its pictures are damaged ({damage})")
        stored = packed(pixels, spec, self._options.codec)
        place = self._spool.add(stored, self._done)
        shape = self._options.all_shapes.index(spec)
        return Window(first, self._caption, place, len(stored), hashlib.sha256(stored).digest(), shape)
