"""What a world is: prompts that mean something, scenes drawn from a meaning, their pixels, and the way back.

A world is one file and one line in `listed`. All else (shards, training, judging, the pages) goes through what is here,
so it knows neither what a scene holds nor how many objects there are.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny

from t2v_models.clips.spec import UNIT_SIZE, ClipSpec
from t2v_models.config import Config, LabError, near
from t2v_models.text.split import words
from t2v_models.worlds.splits import HELD_OUT, SPLITS, Coverage, Split
from t2v_models.worlds.synonyms import has_synonyms

Frames = NDArray[np.uint8]
Case = tuple[str, str, str]
"""Motion, shape and colour: what a clip can be a case of."""
TOGETHER, THEN = " + ", " then "
"""Between what a case or a reading says of two objects, and of motions in sequence."""


class Scene(Config):
    """The ground truth of one clip: a record for each of its objects, the first drawn first."""

    objects: tuple[SerializeAsAny[Config], ...]


class Reading(Config, allow_inf_nan=True):
    """What one clip shows beside what it should. Numbers are nan where it is invalid or its prompt does not ask for
    them; a world leaves out what it does not measure."""

    asked: str
    """Motion the prompt asks for."""
    shown: str
    """Motion read from the pixels; `still`, `other` or `invalid` when there is none."""
    right: bool
    """The motion is the asked one."""
    valid: bool
    reason: str
    """Why the motion is wrong; empty when it is right."""
    rmse: float = math.nan
    """px between the object's path and the law it was read as."""
    success: bool = False
    """Motion, shape, colour, size and speed are all right."""
    fault: str = ""
    """The first of these that is wrong, with its figure; empty when none is."""
    asked_shape: str = ""
    asked_colour: str = ""
    shown_shape: str = ""
    shown_colour: str = ""
    """All four empty in a world that has no such words."""
    size: int = UNIT_SIZE
    """Height and width of the clip, px."""
    permanent: bool = False
    """Exactly one object in every frame."""
    traj_rmse: float = math.nan
    """px between the path and the best fit of the asked law."""
    speed: float = math.nan
    """px/frame along the asked law."""
    speed_err: float = math.nan
    """px/frame outside the band that is asked for, or the trained range."""
    step_err: float = math.nan
    """px/frame, mean over steps, between the step and that of the fitted law."""
    angle: float = math.nan
    """Degrees, counter-clockwise from the right."""
    angle_err: float = math.nan
    radius_err: float = math.nan
    """px outside the band that is asked for, or the trained range."""
    radius_cv: float = math.nan
    """Standard deviation of the radius over its mean."""
    shape_iou: float = math.nan
    colour_err: float = math.nan
    """RGB distance of the object's mean colour from the asked one, 0 to 442."""
    colour_change: float = math.nan
    """RGB distance of the frame whose colour is farthest from the mean of all frames, 0 to 442."""
    opacity: float = math.nan
    path: float = math.nan
    """px travelled in the whole clip."""
    back: float = math.nan
    front: float = math.nan
    """Of two objects: whether that one is right in all, 0 or 1, as all that follows here."""
    binding: float = math.nan
    """Colours, shapes and motions are at the objects they were asked for; known where the clip has them at all."""
    occlusion: float = math.nan
    """The object in front is the one that should be; known where they overlap."""
    counted: float = math.nan
    """There are as many objects as asked for, in every frame."""
    related: float = math.nan
    """One is where it should be, seen from the other, in every frame."""
    parts: float = math.nan
    """Of motions in sequence: share of them that are the asked ones, 0 to 1."""
    in_order: float = math.nan
    """They are in the order asked for, 0 or 1; known where all of them are there."""
    kept: float = math.nan
    """Shape, colour and size go on from one to the next, 0 or 1."""
    jump: float = math.nan
    """px by which the longest step from one to the next exceeds every step of the laws on both sides."""
    bg_err: float = math.nan
    flicker: float = math.nan
    """Error of the background and its change from frame to frame, 0 to 1; measured in invalid clips too."""
    colour: tuple[float, ...] = ()
    """Mean RGB of the object, 0 to 255."""
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    radius: tuple[float, ...] = ()
    """Centre and radius in every frame, px, also where the clip is invalid; empty where there is no path."""
    objects: tuple["Reading", ...] = Field((), exclude=True)
    """Of two objects, what was read of each, with its path; empty of one, and not kept in files."""


class Choice(Protocol):
    """What a dataset says of its world; a `DatasetConfig` does."""

    @property
    def spec(self) -> ClipSpec: ...

    @property
    def hold_out(self) -> tuple[str, ...]:
        """What is never rendered, under any wording."""

    @property
    def coverage(self) -> Coverage | None:
        """Which pairs of an object and a motion are rendered; all if it is None."""

    @property
    def bands(self) -> bool:
        """Captions also say how large and how fast."""


class World(ABC):
    """Prompts, scenes and their pixels; all of it the same for equal arguments, on any machine."""

    name: ClassVar[str]
    about: ClassVar[str]
    """In a few words, for `t2v render --help`."""
    numbers: ClassVar[int] = 12
    """Uniform random numbers that a scene is drawn from: a multiple of 4."""
    frames: ClassVar[int] = 10
    """Of a clip, unless the user says otherwise."""
    least_frames: ClassVar[int] = 4
    """The shortest clip that shows what it is about."""
    hold_out: ClassVar[tuple[str, ...]] = ()
    """What is never rendered unless the user says otherwise."""
    background: ClassVar[tuple[int, int, int]] = (255, 255, 255)

    @property
    def made_of(self) -> tuple["World", ...]:
        """The worlds whose code draws and reads it."""
        return (self,)

    def checked_hold_out(self, names: Iterable[str]) -> tuple[str, ...]:
        """What is to be held out, in an order that does not depend on the user's.

        Raises:
            LabError: there is no such thing in this world.
        """
        if asked := [name for name in names if name not in self.hold_out]:
            raise LabError(f"the {self.name} world cannot hold out {asked[0]!r}: {near(asked[0], self.hold_out)}")
        return tuple(name for name in self.hold_out if name in set(names))

    def check(self, choice: Choice) -> None:
        """Refuse what cannot be drawn.

        Raises:
            LabError: in one sentence.
        """
        for key in ("coverage", "bands"):
            if getattr(choice, key):
                raise LabError(f"the {self.name} world has no {key}: leave it out, or choose another world")

    @abstractmethod
    def captions(self, choice: Choice) -> tuple[str, ...]:
        """What a dataset is rendered for; clip i has caption i modulo their number."""

    @abstractmethod
    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        """The prompts of a split; none where it asks nothing of this dataset."""

    @abstractmethod
    def parse(self, prompt: str) -> Hashable:
        """What a prompt asks for: equal for prompts that ask for the same.

        Raises:
            LabError: it asks for nothing in this world.
        """

    def split_of(self, choice: Choice, prompt: str) -> Split:
        """The split of a prompt by what it means; any wording will do.

        Raises:
            LabError: it means nothing in this world, or nothing that any split asks.
        """
        meaning = self.parse(prompt)
        for split in SPLITS:
            if meaning in {self.parse(p) for p in self.asked(choice, split)}:
                return split
        raise LabError(f"no split of this dataset asks for {prompt!r}: ask for something in its captions")

    def wording_of(self, choice: Choice, prompt: str) -> Split:
        """The split of a prompt that means what is trained, by what is new in its wording."""
        if prompt in self.captions(choice):
            return "s0"
        return "s7" if has_synonyms(words(prompt)) else "s1"

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        """Refuse captions of a dataset that mean something held out, before they are rendered.

        Raises:
            LabError: naming the caption.
        """
        held_out = {self.parse(p) for split in HELD_OUT for p in self.asked(choice, split)}
        for caption in captions:
            if self.parse(caption) in held_out:
                raise LabError(f"training caption {caption!r} means something that is held out: drop one of the two")

    @abstractmethod
    def draw(self, meanings: Sequence[Any], spec: ClipSpec, numbers: NDArray[np.float64]) -> Sequence[Scene]:
        """A scene of each meaning, a function of its row of `numbers`: uniform in [0, 1), `(n, self.numbers)`."""

    @abstractmethod
    def render(self, scenes: Sequence[Any], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        """Draw each scene into the next of `into`, uint8 `(t, h, w, 3)` and contiguous, and yield that."""

    @abstractmethod
    def read(self, frames: Frames, meanings: Sequence[Any]) -> Sequence[Reading]:
        """What clips `(n, t, h, w, 3)` show, each beside what it should."""

    def stored(self, scenes: Sequence[Scene], spec: ClipSpec) -> list[dict[str, Any]]:
        """What the JSON member of a clip tells of its scene."""
        return [scene.model_dump() for scene in scenes]

    def paths(self, scenes: Sequence[Any], spec: ClipSpec) -> NDArray[np.float64]:
        """x, y and radius in every frame, px, as a `Reading` has them: `(n, 3 t)`, or `(n, 0)` if it has none."""
        return np.zeros((len(scenes), 0))

    def case(self, meaning: Any) -> Case:
        """What a reading of a clip that obeys has as `shown`, `shown_shape` and `shown_colour`."""
        return str(meaning), "", ""


def drawn(world: World, scenes: Sequence[Scene], spec: ClipSpec) -> Frames:
    """The clips of scenes, uint8 `(n, t, h, w, 3)`."""
    frames = np.empty((len(scenes), *spec.shape), np.uint8)
    for _ in world.render(scenes, spec, frames):
        pass
    return frames
