"""What a rendered dataset holds: clip i is a pure function of (config, i)."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from itertools import accumulate
from operator import not_
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from t2v_models.clips.spec import Bucket, ClipSpec, Codec, check_shapes, most_common
from t2v_models.config import Config, LabError
from t2v_models.text.split import words
from t2v_models.worlds.listed import WORLDS, world_named
from t2v_models.worlds.on_background import OPTIONS, Option, on_background
from t2v_models.worlds.splits import Coverage, Split
from t2v_models.worlds.world import Scene, World

RENDERER_VERSION = "3"
"""Part of every dataset's digest: raise it whenever a pixel or a drawn number changes."""
SHAPE_COLUMNS = "frames", "height", "width"
PHILOX_BLOCK = 4
"""Numbers that the generator gives for each value of its counter."""


class DatasetConfig(Config):
    """Everything that decides the clips of a rendered dataset, and nothing that does not."""

    command: ClassVar[str] = "render"
    """Of `t2v`: what makes such a dataset."""
    split: ClassVar[Literal["train"]] = "train"
    known: ClassVar[str] = "caption, the motion and the path in pixels"
    """The same in words."""
    tars: ClassVar[tuple[()]] = ()
    """Foreign ones that are learnt from where they lie: none."""

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
    background: Option = Field(
        "plain", exclude_if=lambda option: option == "plain", description="pattern behind the objects"
    )
    drifting: bool = Field(False, exclude_if=not_, description="the background drifts by a pixel a frame")
    background_named: bool = Field(False, exclude_if=not_, description="captions end with their background")
    clips_per_shard: int = Field(500, ge=1, le=100_000, description="clips in one tar file")
    codec: Codec = Field(
        "lz4", description="how pixels are stored: lz4 is fast, webp plays in any browser, npy is plain"
    )
    buckets: tuple[Bucket, ...] = Field(
        (), exclude_if=not_, description="several shapes and how many clips of each, in place of spec and clips"
    )
    first: int = Field(0, ge=0, exclude_if=not_, description="number of the first clip, in the order they are drawn")

    @model_validator(mode="before")
    @classmethod
    def _all_of_the_buckets(cls, values: Any) -> Any:
        """Shape and number of clips follow from the buckets."""
        if not isinstance(values, dict) or not values.get("buckets"):
            return values
        buckets = [Bucket.model_validate(bucket) for bucket in values["buckets"]]
        check_shapes(bucket.spec for bucket in buckets)
        found = {"clips": sum(bucket.clips for bucket in buckets), "spec": most_common(buckets)}
        spec = ClipSpec.model_validate(values.get("spec", found["spec"]))
        if not all(bucket.clips for bucket in buckets):
            raise ValueError("a bucket of 0 clips: leave it out")
        if {"clips": values.get("clips", found["clips"]), "spec": spec} != found:
            raise ValueError("buckets are given beside spec or clips that are not theirs: leave those two out")
        return values | found

    @model_validator(mode="before")
    @classmethod
    def _as_the_world_has_it(cls, values: Any) -> Any:
        """What a world holds out, and how long its clips are, is its own unless it is told otherwise."""
        if not isinstance(values, dict) or values.get("world") not in WORLDS:
            return values
        world, spec = WORLDS[values["world"]], values.get("spec", {})
        own = {"hold_out": values.get("hold_out", world.hold_out)}
        if isinstance(spec, dict) and not values.get("buckets"):
            own["spec"] = {"frames": world.frames} | spec
        return values | own

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
        if self.background == "plain" and (self.drifting or self.background_named):
            what = "drift" if self.drifting else "be named in captions"
            raise LabError(f"a plain background cannot {what}: choose one of {', '.join(OPTIONS[1:])}")
        for one in self.one_shape:
            if one.spec.frames < self.rules.least_frames:
                raise LabError(
                    f"clips of the {self.world} world have {self.rules.least_frames} frames or more, to show what they "
                    f"do (found {one.spec.frames}): use longer ones"
                )
            self.rules.check(one)
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Of the manifest: what is known of a clip beside its caption, its objects as JSON; and of which kind it is."""
        return shape_columns(self.buckets) | {"truth": "text"}

    @property
    def one_shape(self) -> tuple[Self, ...]:
        """The datasets of one shape that it is made of, in the order of their clips."""
        starts = accumulate((bucket.clips for bucket in self.buckets), initial=self.first)
        return tuple(
            self.model_copy(update={"spec": bucket.spec, "clips": bucket.clips, "buckets": (), "first": start})
            for bucket, start in zip(self.buckets, starts, strict=False)
        ) or (self,)

    @property
    def rules(self) -> World:
        """The world itself: what prompts mean, how scenes are drawn and how clips are read."""
        return on_background(self.world, self.background, drifting=self.drifting, named=self.background_named)

    @property
    def unshown_words(self) -> tuple[str, ...]:
        """Words of captions that no clip has, since there are fewer clips than captions."""
        shown: set[str] = set()
        for one in self.one_shape:
            few = one.prompts if one.clips >= len(one.prompts) else drawn_captions(one, range(one.clips))
            shown |= {word for prompt in few for word in words(prompt)}
        every = (word for prompt in self.prompts for word in words(prompt))
        return tuple(dict.fromkeys(word for word in every if word not in shown))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The captions of the dataset; clip i has prompt i modulo their number, so each is equally frequent. Of one
        with several shapes, those of each."""
        return tuple(dict.fromkeys(caption for one in self.one_shape for caption in self.rules.captions(one)))

    def of_shard(self, index: int) -> Self:
        """What the dataset was when this shard was written: no clips are added to a rendered one."""
        return self

    @property
    def states(self) -> list[Self]:
        """What it was each time clips were added, and what it is."""
        return [self]

    @property
    def watched(self) -> tuple[str, ...]:
        """Prompts to sample a model with while it trains: s0, or the captions of so few clips that they do not show all
        of its words."""
        if not self.unshown_words:
            return self.truth.asked("s0")
        return tuple(dict.fromkeys(drawn_captions(self.truth, range(self.truth.clips))))

    @property
    def truth(self) -> Self:
        """What draws and reads its clips, those of the shape most have, so that a model's can be judged."""
        return next(one for one in self.one_shape if one.spec == self.spec)

    @property
    def about(self) -> str:
        """What its card says of the captions, above them."""
        return f"Held out, under every wording: {', '.join(self.hold_out) or 'nothing'}.\n\nCaptions"

    @property
    def conditions(self) -> tuple[str, ...]:
        """What decides what is asked and drawn beside world, shape and held out motions, in words; usual things not."""
        options = {
            f"coverage {self.coverage}": self.coverage, "bands": self.bands,
            f"background {self.background}": self.background != "plain", "drifting": self.drifting,
            "named": self.background_named,
        }  # fmt: skip
        return tuple(said for said, holds in options.items() if holds)

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
        """Number of tar files; each has clips of one shape."""
        return sum(-(-one.clips // self.clips_per_shard) for one in self.one_shape)

    def in_shard(self, index: int) -> tuple[Self, range]:
        """The dataset of one shape that a shard is of, and which of its clips lie in it."""
        for one in self.one_shape:
            first = index * self.clips_per_shard
            if first < one.clips:
                return one, range(first, min(first + self.clips_per_shard, one.clips))
            index -= one.shards
        raise AssertionError(f"shard {index} behind the last")

    @property
    def digest(self) -> str:
        """16 hex digits that change when any clip would."""
        text = f"renderer {RENDERER_VERSION} {self.model_dump_json(exclude_none=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def shape_columns(buckets: Sequence[object]) -> dict[str, str]:
    """Of the manifest of a dataset of several shapes: the shape of every clip."""
    return dict.fromkeys(SHAPE_COLUMNS, "count") if buckets else {}


def draw_clip(config: DatasetConfig, index: int) -> tuple[str, Scene]:
    """Caption and ground truth of clip `index`."""
    ((caption, scene),) = draw_clips(config, range(index, index + 1))
    return caption, scene


def draw_clips(config: DatasetConfig, indices: range) -> list[tuple[str, Scene]]:
    """`draw_clip` of consecutive clips of one shape at once.

    A counter-based generator gives clip i its own `World.numbers` numbers: a function of (seed, i) alone, at a
    hundredth of the cost of a generator for every clip.
    """
    assert not config.buckets, "ask one of `one_shape`"
    world, captions = config.rules, drawn_captions(config, indices)
    indices = range(config.first + indices.start, config.first + indices.stop)
    bits = np.random.Philox(config.seed, counter=indices.start * world.numbers // PHILOX_BLOCK)
    whole = bits.random_raw(len(indices) * world.numbers) >> np.uint64(11)  # 53 bits, as many as a float64 tells apart
    numbers = np.ldexp(whole, -53).reshape(-1, world.numbers)
    scenes = world.draw([world.parse(caption) for caption in captions], config.spec, numbers)
    return list(zip(captions, scenes, strict=True))


def drawn_captions(config: DatasetConfig, indices: range) -> list[str]:
    """Of clips of one shape."""
    prompts = config.prompts
    return [prompts[(config.first + i) % len(prompts)] for i in indices]


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
