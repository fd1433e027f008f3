"""Any world, its objects in front of a pattern that stays or drifts, and that its captions may name."""

import re
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.worlds.listed import world_named
from t2v_models.worlds.splits import Split
from t2v_models.worlds.textures import DIRECTIONS, KINDS, PALE, Background, Kind, behind, taken_off, texture
from t2v_models.worlds.world import Case, Choice, Frames, Reading, Scene, World

Option = Literal["plain", "gradient", "stripes", "checker", "noise", "mixed"]
OPTIONS: tuple[Option, ...] = Option.__args__  # type: ignore[attr-defined]

NUMBERS = 8
NAMES: dict[Kind, str] = {
    "plain": "plain", "gradient": "shaded", "stripes": "striped", "checker": "checkered", "noise": "cloudy",
}  # fmt: skip
"""In captions."""
_SUFFIX = re.compile(
    rf"(.*?[^\W_])[\W_]+on[\W_]+a[\W_]+({'|'.join(NAMES.values())})[\W_]+background[\W_]*", re.IGNORECASE | re.DOTALL
)
"""The end of a prompt and what stands before it, whatever lies between their words."""
_KINDS = {name: kind for kind, name in NAMES.items()}


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for that names its background."""

    meaning: Any
    kind: Kind


class OnBackground(World):
    """See the module. Of a reading, only what is said of the background is its own."""

    def __init__(self, world: World, option: Option, *, drifting: bool, named: bool) -> None:
        self.world, self.option, self.drifting, self.named = world, option, drifting, named
        self.kinds: tuple[Kind, ...] = KINDS if option == "mixed" else (option,)

    @property
    def made_of(self) -> tuple[World, ...]:
        return (self, self.world)

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.world.name

    @property
    def numbers(self) -> int:  # type: ignore[override]
        return self.world.numbers + NUMBERS

    @property
    def least_frames(self) -> int:  # type: ignore[override]
        return self.world.least_frames

    def check(self, choice: Choice) -> None:
        self.world.check(choice)

    def captions(self, choice: Choice) -> tuple[str, ...]:
        return self._named(self.world.captions(choice), self.kinds)

    def asked(self, choice: Choice, split: Split) -> tuple[str, ...]:
        asked = self.world.asked(choice, split)
        if not self.named:
            return asked
        return tuple(_say(prompt, self.kinds[k % len(self.kinds)]) for k, prompt in enumerate(asked))

    def _named(self, prompts: tuple[str, ...], kinds: Sequence[Kind]) -> tuple[str, ...]:
        return tuple(_say(prompt, kind) for prompt in prompts for kind in kinds) if self.named else prompts

    def parse(self, prompt: str) -> Hashable:
        plain, kind = self._apart(prompt)
        return Asked(self.world.parse(plain), kind) if kind else self.world.parse(plain)

    def _apart(self, prompt: str) -> tuple[str, Kind | None]:
        """A prompt of the world, and the background that it names.

        Raises:
            LabError: it names none where all captions do, or one that the dataset has not.
        """
        if not self.named:
            return prompt, None
        match = _SUFFIX.fullmatch(unicodedata.normalize("NFKC", prompt))
        kind = _KINDS[match[2].lower()] if match else None
        if not match or kind not in self.kinds:
            some = " or ".join(f"'on a {NAMES[k]} background'" for k in self.kinds)
            raise LabError(f"prompt {prompt!r} does not end with its background: say {some}")
        return match[1], kind

    def split_of(self, choice: Choice, prompt: str) -> Split:
        plain, kind = self._apart(prompt)
        split = self.world.split_of(choice, plain)
        return "s1" if split == "s0" and kind and prompt not in self.captions(choice) else split

    def check_no_leak(self, choice: Choice, captions: Iterable[str]) -> None:
        self.world.check_no_leak(choice, dict.fromkeys(self._apart(caption)[0] for caption in captions))

    def draw(self, meanings: Sequence[Any], spec: ClipSpec, numbers: NDArray[np.float64]) -> list[Scene]:
        drawn = self.world.draw([_inner(m) for m in meanings], spec, numbers[:, : self.world.numbers])
        return [
            Scene.model_construct(objects=(self._background(meaning, row[self.world.numbers :]), *scene.objects))
            for meaning, scene, row in zip(meanings, drawn, numbers, strict=True)
        ]

    def _background(self, meaning: Any, row: NDArray[np.float64]) -> Background:
        kind, first, second, way, count, drift = (int(u * n) for u, n in zip(
            row[:6], (len(self.kinds), len(PALE), len(PALE) - 1, 3, 3, len(DIRECTIONS)), strict=True
        ))  # fmt: skip
        seed = int(row[6] * 2**32)
        return Background(
            kind=meaning.kind if isinstance(meaning, Asked) else self.kinds[kind],
            colours=(first, second + (second >= first)), way=way, count=count + 2, phase=(float(row[6]), float(row[7])),
            drift=DIRECTIONS[drift] if self.drifting else (0, 0), seed=seed,
        )  # fmt: skip

    def render(self, scenes: Sequence[Scene], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        clips = self.world.render([_without(scene) for scene in scenes], spec, into)
        for scene, clip in zip(scenes, clips, strict=False):
            behind(clip, texture(scene.objects[0], spec))  # type: ignore[arg-type]
            yield clip

    def stored(self, scenes: Sequence[Scene], spec: ClipSpec) -> list[dict[str, Any]]:
        told = self.world.stored([_without(scene) for scene in scenes], spec)
        return [one | {"background": s.objects[0].model_dump()} for one, s in zip(told, scenes, strict=True)]

    def paths(self, scenes: Sequence[Scene], spec: ClipSpec) -> NDArray[np.float64]:
        return self.world.paths([_without(scene) for scene in scenes], spec)

    def case(self, meaning: Any) -> Case:
        return self.world.case(_inner(meaning))

    def read(self, frames: Frames, meanings: Sequence[Any]) -> list[Reading]:
        apart = [taken_off(clip, drifting=self.drifting) for clip in frames]
        alone = np.stack([clip for clip, _ in apart]) if apart else frames
        found = self.world.read(alone, [_inner(m) for m in meanings])
        return [_judged(r, m, kind) for r, m, (_, kind) in zip(found, meanings, apart, strict=True)]


def _judged(reading: Reading, meaning: Any, shown: Kind) -> Reading:
    """The reading with what is wrong with the background, where a prompt names one and all else is right."""
    if not isinstance(meaning, Asked) or not reading.success or meaning.kind == shown:
        return reading
    fault = f"the background is {NAMES[shown]}, asked for {NAMES[meaning.kind]}"
    return reading.model_copy(update={"success": False, "fault": fault})


def _say(prompt: str, kind: Kind) -> str:
    return f"{prompt} on a {NAMES[kind]} background"


def _inner(meaning: Any) -> Any:
    return meaning.meaning if isinstance(meaning, Asked) else meaning


def _without(scene: Scene) -> Scene:
    return Scene.model_construct(objects=scene.objects[1:])


@cache
def on_background(name: str, option: Option, *, drifting: bool, named: bool) -> World:
    """The world of that name with backgrounds; on plain ones it is the world itself."""
    world = world_named(name)
    if option == "plain":
        return world
    return OnBackground(world, option, drifting=drifting, named=named)
