"""What can make clips: a trained model, a baseline, an archive, somebody else's pipeline. Imports no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec, in_a_row
from t2v_models.config import LabError

Frames = NDArray[np.uint8]
Clips = Callable[[Sequence[str], Sequence[int]], Frames]
"""Of prompts and seeds."""
MOST_SEED = 2**62
"""A seed has 63 bits, and there is one for each of many clips."""
PIPELINE = "diffusers:"
"""Stands before the folder of a pipeline."""


def is_uri(name: str) -> bool:
    """Whether this names a model elsewhere, as `models:/name@champion` does: neither a path nor a pipeline."""
    return ":/" in name and not name.startswith(PIPELINE)


@dataclass(frozen=True)
class Request:
    """Clips that are wanted, one for each prompt and seed, and wishes that not every sampler can meet."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    frames: int | None = None
    """Length of the clips, if another than the sampler's own."""
    size: tuple[int, int] | None = None
    """Height and width, px, if others than the sampler's own."""
    known_frames: Frames | None = None
    """uint8 `(b, k, h, w, 3)`: frames of each clip that are known, by default those it begins with."""
    places: tuple[int, ...] | None = None
    """Where those k frames stand, if not from the first on: from 0, or counted from the end, -1 is the last. Once the
    request is `settled`: from 0, in order, and None where those are the first."""
    guidance: float | None = None
    """How strongly the prompt counts; 1 is as learnt."""
    steps: int | None = None
    """Evaluations of the network for one clip."""
    temperature: float | None = None
    """Of the draw of tokens; 1 is as learnt, 0 takes the likeliest."""
    avoid: str | None = None
    """What none of the clips should show: a negative prompt."""
    motion: tuple[float, float] | None = None
    """px a frame to the right and down that what an image model shows is to move."""

    def __post_init__(self) -> None:
        assert len(self.prompts) == len(self.seeds), (len(self.prompts), len(self.seeds))
        if self.known_frames is None:
            assert self.places is None
        else:
            assert len(self.known_frames) == len(self.seeds)
            assert self.places is None or len(self.places) == self.known_frames.shape[1]

    @property
    def wishes(self) -> frozenset[str]:
        """Names of the fields, beside prompts and seeds, that ask for something."""
        return frozenset(f.name for f in fields(self)[2:] if getattr(self, f.name) is not None)

    def part(self, first: int, end: int) -> "Request":
        """The same of clips `first` to `end`, without the last."""
        known = None if self.known_frames is None else self.known_frames[first:end]
        return replace(self, prompts=self.prompts[first:end], seeds=self.seeds[first:end], known_frames=known)


NO_WISHES = Request((), ())


@runtime_checkable  # a flow that is given a subject checks what it holds
class Sampler(Protocol):
    """Makes clips. Clip i depends on `prompts[i]`, `seeds[i]` and the wishes alone, not on its batch mates."""

    @property
    def spec(self) -> ClipSpec:
        """Of the clips it makes unless asked for others."""

    @property
    def name(self) -> str:
        """What error sentences and tables call it."""

    @property
    def sample_batch(self) -> int:
        """The most clips it is asked for at a time."""

    def check(self, request: Request) -> None:
        """See that the request can be met.

        Raises:
            LabError: it cannot: what was asked, what is possible and what to do.
        """

    def sample(self, request: Request) -> Frames:
        """uint8 `(b, t, h, w, 3)`, for a request that was checked."""


@runtime_checkable
class Strides(Protocol):
    """A sampler that makes the frames behind the first several at a time. Of first frames that are known it goes on
    from the first and whole strides behind it, so some of others are lost on it."""

    @property
    def stride(self) -> int:
        """Frames at a time."""


class Interpolates(Protocol):
    """A sampler that also knows the way between prompts and between seeds."""

    def interpolate(self, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
        """`count` clips from one prompt and seed to another, both ends included: uint8 `(count, t, h, w, 3)`."""


@runtime_checkable
class Dissolves(Protocol):
    """A sampler that knows the way between two clips that somebody has."""

    def dissolve(self, clips: Frames, noise: float, prompts: tuple[str, str], seed: int, count: int) -> Frames:
        """`count` clips from near the one to near the other, as prompts say: uint8 `(count, t, h, w, 3)`.

        Args:
            clips: both, uint8 `(2, t, h, w, 3)` as it makes them.
            noise: in which they are dissolved, in deviations of the data: the more, the less they count.
            prompts: of both ends, mixed on the way.
            seed: of the noise, the same all the way.
            count: clips.

        Raises:
            LabError: too little noise.
        """


@runtime_checkable
class RoundTrip(Protocol):
    """A sampler that takes clips apart and makes them again, none of a prompt: it is judged by what becomes of real
    ones."""

    def round_trip(self, frames: Frames) -> Frames:
        """uint8 `(b, t, h, w, 3)` to the same shape."""


@runtime_checkable
class ChoosesAverage(Protocol):
    """A sampler whose weights are an average over training that can still be chosen after it."""

    def choose_average(self, power: float) -> None:
        """Sample by the average of another power: higher looks back less far.

        Raises:
            LabError: a power that cannot be made of what the run has kept.
        """


@runtime_checkable
class AsPipeline(Protocol):
    """A sampler that can be written as a pipeline of diffusers."""

    def save_pipeline(self, out: Path) -> str:
        """Into an empty folder, whole or not at all.

        Returns:
            The options that ask a pipeline for the clips that this one makes: `frames=10,size=32`.

        Raises:
            LabError: the folder holds something, or cannot be written.
        """


WISHES = {
    "frames": "another length than {0.frames} frames: leave --frames out",
    "size": "another size than {0.width} x {0.height} px: leave --size out",
    "known_frames": "frames that are known, as for --first-frame, --frame and stories: choose a model that takes them, "
    "as diffusion",
    "places": "known frames but first ones: choose a model that takes them, as diffusion",
    "guidance": "guidance: leave --guidance out",
    "steps": "a number of steps: leave --steps out",
    "temperature": "a temperature: leave --temperature out",
    "avoid": "a negative prompt: leave --avoid out",
    "motion": "a motion: leave --motion out",
}


def settled(request: Request, spec: ClipSpec, shapes: Sequence[ClipSpec] = ()) -> Request:
    """The request as a sampler is to read it, of one shape or of several: with a size and length where those depend on
    each other, and with the places of known frames in order, from 0 on.

    Raises:
        LabError: a place beyond the clip, or two pictures of one frame.
    """
    request = _of_a_shape(request, spec, shapes)
    return request if request.places is None else _in_order(request, request.frames or spec.frames)


def _of_a_shape(request: Request, spec: ClipSpec, shapes: Sequence[ClipSpec]) -> Request:
    """The request with the size and length that it leaves open, of a sampler that makes clips of several shapes: those
    of the first shape that is as asked, `spec` before all; a length that none has is that of clips of the size."""
    if len(shapes) < 2:
        return request
    ranked = sorted((spec, *shapes), key=lambda shape: request.frames not in (None, shape.frames))
    for shape in ranked:
        if request.size in (None, (shape.height, shape.width)):
            return replace(request, frames=request.frames or shape.frames, size=(shape.height, shape.width))
    return request


def _in_order(request: Request, length: int) -> Request:
    """The request with the places of known frames as indices of a clip of so many, in order, and the frames with
    them."""
    assert request.places is not None and request.known_frames is not None
    given: dict[int, int] = {}  # place to number of the picture
    for number, place in enumerate(request.places):
        if not -length <= place < length:
            raise LabError(f"clips of {length} frames have no frame {place}: use 0 to {length - 1}, or -1 for the last")
        if (before := given.setdefault(place % length, number)) != number:
            other = request.places[before]
            also = f", also as {other}" if other != place else ""
            raise LabError(f"frame {place} of clips of {length} is given twice{also}: give one picture for it")
    places = tuple(sorted(given))
    known = request.known_frames[:, [given[place] for place in places]]
    return replace(request, known_frames=known, places=None if places == tuple(range(len(places))) else places)


def refuse_wishes(
    name: str, spec: ClipSpec, request: Request, able: frozenset[str] = frozenset(), shapes: Sequence[ClipSpec] = ()
) -> None:
    """Refuse every wish but those that a sampler is able to meet; its own length and size are none, nor are those of
    any of its shapes.

    Raises:
        LabError: the first wish that cannot be met, or that no sampler could.
    """
    request = settled(request, spec, shapes)
    own = {"frames"} if request.frames == spec.frames else set()
    own |= {"size"} if request.size in [(shape.height, shape.width) for shape in (spec, *shapes)] else set()
    own |= {"frames"} if (request.frames, request.size) in [(s.frames, (s.height, s.width)) for s in shapes] else set()
    for wish in sorted(request.wishes - able - own):
        if wish in ("frames", "size") and len(shapes) > 1:
            width, height = request.size[::-1] if request.size else (spec.width, spec.height)
            asked = f"{width}x{height}x{request.frames or spec.frames}"
            raise LabError(f"{name} has not learnt the shape {asked}: ask for one of {in_a_row(shapes)}")
        raise LabError(f"{name} cannot take {WISHES[wish].format(spec)}")
    if request.frames is not None and request.frames < 1:
        raise LabError(f"a clip of {request.frames} frames was asked for: ask for 1 or more")
    if request.steps is not None and request.steps < 1:
        raise LabError(f"{name} makes a clip in 1 step or more (found {request.steps})")
    if request.guidance is not None and not isfinite(request.guidance):
        raise LabError(f"guidance is {request.guidance}: give a number, 1 is as learnt")
    if request.temperature is not None and not 0 <= request.temperature < inf:
        raise LabError(f"the temperature is {request.temperature}: give 0, which takes the likeliest token, or more")
    if request.known_frames is not None:
        size, length = request.size or (spec.height, spec.width), request.frames or spec.frames
        _check_known(name, request.known_frames, size, length)


def _check_known(name: str, known: Frames, size: tuple[int, int], length: int) -> None:
    """See that known frames are of clips of such a size and length, and leave some to make."""
    count, height, width = known.shape[1:4]
    if (height, width) != size:
        raise LabError(
            f"a known frame is {width} x {height} px, clips of {name} {size[1]} x {size[0]}: scale it to that"
        )
    if not 0 < count < length:
        raise LabError(f"{count} known frames and clips of {length}: give 1 to {length - 1}")


def sample_all(sampler: Sampler, request: Request) -> Frames:
    """All clips of a request, `sample_batch` at a time: uint8 `(n, t, h, w, 3)`.

    Raises:
        LabError: the sampler cannot do what is asked.
    """
    sampler.check(request)
    size = sampler.sample_batch
    return np.concatenate([sampler.sample(request.part(i, i + size)) for i in range(0, len(request.seeds), size)])


def sample_frames(
    sampler: Sampler, prompts: Sequence[str], seeds: Sequence[int], wishes: Request = NO_WISHES
) -> Frames:
    """`sample_all` of prompts and seeds, with the wishes of another request."""
    return sample_all(sampler, replace(wishes, prompts=tuple(prompts), seeds=tuple(map(int, seeds))))


def clips_of(sampler: Sampler, real: Clips) -> Clips:
    """What a sampler is judged by: its clips of prompts and seeds, or of `real` clips of them what it makes again."""
    if isinstance(sampler, RoundTrip):
        again = sampler.round_trip
        return lambda prompts, seeds: again(real(prompts, seeds))
    return partial(sample_frames, sampler)


def repeat(prompts: Sequence[str], count: int, seed: int) -> tuple[list[str], list[int]]:
    """Every prompt `count` times with seeds `seed`, `seed + 1`, …: the same noises for each prompt.

    Raises:
        LabError: a seed that no generator of noise takes, or no clip at all.
    """
    if not 0 <= seed <= MOST_SEED:
        raise LabError(f"the seed is {seed}: give a whole number from 0 to {MOST_SEED:,}")
    if count < 1:
        raise LabError(f"{count} clips were asked for: ask for 1 or more")
    return [p for p in prompts for _ in range(count)], [seed + i for _ in prompts for i in range(count)]
