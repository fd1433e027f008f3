"""What a rendered dataset holds: clip i is a pure function of (config, i)."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from operator import not_
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from t2v_models.clips.spec import ClipSpec, Codec
from t2v_models.config import Config, LabError
from t2v_models.worlds.listed import WORLDS, world_named
from t2v_models.worlds.splits import Coverage, Split
from t2v_models.worlds.world import Scene, World

RENDERER_VERSION = "3"
"""Part of every dataset's digest: raise it whenever a pixel or a drawn number changes."""
PHILOX_BLOCK = 4
"""Numbers that the generator gives for each value of its counter."""


class DatasetConfig(Config):
    """Everything that decides the clips of a rendered dataset, and nothing that does not."""

    command: ClassVar[str] = "render"
    """Of `t2v`: what makes such a dataset."""
    split: ClassVar[Literal["train"]] = "train"
    columns: ClassVar[dict[str, str]] = {"truth": "text"}
    """Of the manifest: what is known of a clip beside its caption, its objects as JSON; and of which kind it is."""
    known: ClassVar[str] = "caption, the motion and the path in pixels"
    """The same in words."""

    world: str = Field(
        "circles", description="what is drawn and which prompts there are", json_schema_extra={"enum": [*WORLDS]}
    )
    clips: int = Field(10_000, ge=1, le=10_000_000, description="number of clips")
    spec: ClipSpec = Field(ClipSpec(), description="frames, size and frame rate of every clip")
    seed: int = Field(0, ge=0, description="clip i is drawn from (seed, i)")
    hold_out: tuple[str, ...] = Field(("up-right",), description="motions never rendered, under any wording")
    coverage: Coverage | None = Field(None, description="per cent of (object, motion) pairs that are rendered; all")
    bands: bool = Field(
        False, exclude_if=not_, description="captions may also say how large and how fast; s4 asks for more of both"
    )
    clips_per_shard: int = Field(500, ge=1, le=100_000, description="clips in one tar file")
    codec: Codec = Field("lz4", description="how pixels are stored: lz4 is fast, webp plays in any browser")

    @model_validator(mode="before")
    @classmethod
    def _hold_out_of_the_world(cls, values: Any) -> Any:
        """What a world holds out unless it is told otherwise is its own."""
        if isinstance(values, dict) and "hold_out" not in values and values.get("world") in WORLDS:
            return values | {"hold_out": WORLDS[values["world"]].hold_out}
        return values

    @field_validator("world")
    @classmethod
    def _known_world(cls, value: str) -> str:
        return world_named(value).name

    @field_validator("hold_out", mode="before")
    @classmethod
    def _known_motions(cls, value: Iterable[str], info: ValidationInfo) -> tuple[str, ...]:
        if "world" not in info.data:
            return tuple(value)  # which is wrong itself, and refused for that
        return world_named(info.data["world"]).checked_hold_out([value] if isinstance(value, str) else value)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        self.rules.check(self)
        return self

    @property
    def rules(self) -> World:
        """The world itself: what prompts mean, how scenes are drawn and how clips are read."""
        return world_named(self.world)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The captions of the dataset; clip i has prompt i modulo their number, so each is equally frequent."""
        return self.rules.captions(self)

    def of_shard(self, index: int) -> Self:
        """What the dataset was when this shard was written: no clips are added to a rendered one."""
        return self

    @property
    def states(self) -> list[Self]:
        """What it was each time clips were added, and what it is."""
        return [self]

    @property
    def watched(self) -> tuple[str, ...]:
        """Prompts to sample a model with while it trains."""
        return self.asked("s0")

    @property
    def truth(self) -> Self:
        """What draws and reads its clips, so that those of a model can be judged."""
        return self

    @property
    def about(self) -> str:
        """What its card says of the captions, above them."""
        return f"Held out, under every wording: {', '.join(self.hold_out) or 'nothing'}.\n\nCaptions"

    def meaning(self, caption: str) -> Hashable:
        """Equal for captions that ask for the same.

        Raises:
            LabError: the caption is none of this world.
        """
        return self.rules.parse(caption)

    def split_of(self, prompt: str) -> Split:
        """The split of a prompt by what it means; any wording will do.

        Raises:
            LabError: the prompt means nothing in this world, or its captions never say such a thing.
        """
        return self.rules.split_of(self, prompt)

    def asked(self, split: Split) -> tuple[str, ...]:
        """The prompts of one split; empty where it asks nothing of this dataset."""
        return self.rules.asked(self, split)

    @property
    def shards(self) -> int:
        """Number of tar files."""
        return -(-self.clips // self.clips_per_shard)

    @property
    def digest(self) -> str:
        """16 hex digits that change when any clip would."""
        text = f"renderer {RENDERER_VERSION} {self.model_dump_json(exclude_none=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw_clip(config: DatasetConfig, index: int) -> tuple[str, Scene]:
    """Caption and ground truth of clip `index`."""
    ((caption, scene),) = draw_clips(config, range(index, index + 1))
    return caption, scene


def draw_clips(config: DatasetConfig, indices: range) -> list[tuple[str, Scene]]:
    """`draw_clip` of consecutive clips at once.

    A counter-based generator gives clip i its own `World.numbers` numbers: a function of (seed, i) alone, at a
    hundredth of the cost of a generator for every clip.
    """
    world, prompts = config.rules, config.prompts
    captions = [prompts[i % len(prompts)] for i in indices]
    bits = np.random.Philox(config.seed, counter=indices.start * world.numbers // PHILOX_BLOCK)
    whole = bits.random_raw(len(indices) * world.numbers) >> np.uint64(11)  # 53 bits, as many as a float64 tells apart
    numbers = np.ldexp(whole, -53).reshape(-1, world.numbers)
    scenes = world.draw([world.parse(caption) for caption in captions], config.spec, numbers)
    return list(zip(captions, scenes, strict=True))


def world_of(prompts: Sequence[str], spec: ClipSpec) -> DatasetConfig:
    """A dataset of the first world in which every prompt is asked for.

    Raises:
        LabError: there is none.
    """
    unknown, faults = [], []
    for name, world in WORLDS.items():
        try:
            for prompt in prompts:
                world.parse(prompt)
        except LabError as error:
            unknown.append(error)
            continue
        for bands in (False, True):
            try:
                data = DatasetConfig(world=name, spec=spec, bands=bands)
                for prompt in prompts:
                    data.split_of(prompt)
                return data
            except LabError as error:
                faults.append(error)
    raise faults[-1] if faults else unknown[0]
