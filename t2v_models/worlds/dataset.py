"""What a rendered dataset holds: clip i is a pure function of (config, i)."""

import hashlib
from collections.abc import Hashable, Sequence
from operator import not_
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from t2v_models.clips.spec import ClipSpec, Codec, World
from t2v_models.config import Config, LabError
from t2v_models.worlds.bands import BEYOND, MOST_FRAMES
from t2v_models.worlds.motions import NUMBERS, Action, Motion, draw_motions
from t2v_models.worlds.prompts import Meaning, check_hold_out, parse
from t2v_models.worlds.splits import Coverage, Split, split_prompts, train_prompts, trained_meanings

RENDERER_VERSION = "3"
"""Part of every dataset's digest: raise it whenever a pixel or a drawn number changes."""
PHILOX_BLOCK = 4
"""Numbers that the generator gives for each value of its counter."""


class DatasetConfig(Config):
    """Everything that decides the clips of a rendered dataset, and nothing that does not."""

    command: ClassVar[str] = "render"
    """Of `t2v`: what makes such a dataset."""
    split: ClassVar[Literal["train"]] = "train"
    columns: ClassVar[dict[str, str]] = {"action": "word", "shape": "word", "colour": "word"} | dict.fromkeys(
        ("radius", "radius_end", "start_x", "start_y", "speed", "swing", "phase", "rate"), "number"
    )
    """Of the manifest: what is known of a clip beside its caption, and of which kind it is."""
    known: ClassVar[str] = "caption, the motion and the path in pixels"
    """The same in words."""

    world: World = Field("circles", description="what is drawn and which prompts there are")
    clips: int = Field(10_000, ge=1, le=10_000_000, description="number of clips")
    spec: ClipSpec = Field(ClipSpec(), description="frames, size and frame rate of every clip")
    seed: int = Field(0, ge=0, description="clip i is drawn from (seed, i)")
    hold_out: tuple[Action, ...] = Field(("up-right",), description="motions never rendered, under any wording")
    coverage: Coverage | None = Field(None, description="per cent of (object, motion) pairs that are rendered; all")
    bands: bool = Field(
        False, exclude_if=not_, description="captions may also say how large and how fast; s4 asks for more of both"
    )
    clips_per_shard: int = Field(500, ge=1, le=100_000, description="clips in one tar file")
    codec: Codec = Field("lz4", description="how pixels are stored: lz4 is fast, webp plays in any browser")

    @field_validator("hold_out", mode="before")
    @classmethod
    def _known_motions(cls, value: object) -> object:
        return check_hold_out([value] if isinstance(value, str) else value)  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.coverage is not None and self.world == "circles":
            raise LabError(
                f"coverage {self.coverage} of the circles world, where every object is a blue circle: "
                "use --world shapes or leave coverage out"
            )
        if self.bands and self.spec.frames > MOST_FRAMES:
            raise LabError(
                f"bands of {self.spec.frames} frames: what is very fast would leave the frame, so use "
                f"{MOST_FRAMES} frames or fewer, or leave bands out"
            )
        return self

    @property
    def prompts(self) -> tuple[str, ...]:
        """The captions of the dataset; clip i has prompt i modulo their number, so each is equally frequent."""
        return train_prompts(self.world, self.hold_out, self.coverage, self.bands)

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
        return parse(caption)

    def split_of(self, prompt: str) -> Split:
        """The split of a prompt by what it means; any wording will do.

        Raises:
            LabError: the prompt means nothing in this world, or its captions never say such a thing.
        """
        meaning = parse(prompt)
        if self.world == "circles" and (meaning.shape, meaning.colour) != ("circle", "blue"):
            raise LabError(
                f"prompt {prompt!r} shows a {meaning.colour} {meaning.shape}, and the circles world has blue circles "
                "only: give --like with a dataset of the shapes world"
            )
        if (meaning.size or meaning.speed) and not self.bands:
            raise LabError(
                f"prompt {prompt!r} says {meaning.size or meaning.speed!r}, and no caption of the dataset names a size "
                "or a speed: give --like with a dataset that was rendered with --bands"
            )
        if meaning.action in self.hold_out:
            return "s3"
        if meaning.size in BEYOND or meaning.speed in BEYOND:
            return "s4"
        if meaning not in trained_meanings(self.world, self.hold_out, self.coverage, self.bands):
            return "s2"
        return "s0" if prompt in self.prompts else "s1"

    def asked(self, split: Split) -> tuple[str, ...]:
        """The prompts of one split; empty where it asks nothing of this dataset."""
        return split_prompts(self.world, split, self.hold_out, self.coverage, self.bands)

    @property
    def shards(self) -> int:
        """Number of tar files."""
        return -(-self.clips // self.clips_per_shard)

    @property
    def digest(self) -> str:
        """16 hex digits that change when any clip would."""
        text = f"renderer {RENDERER_VERSION} {self.model_dump_json(exclude_none=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw(meanings: Sequence[Meaning], spec: ClipSpec, numbers: NDArray[np.float64]) -> list[Motion]:
    """Ground truth of a clip of each meaning, a function of its row of `numbers`: uniform in [0, 1), `(n, NUMBERS)`."""
    return draw_motions(
        [m.action for m in meanings], spec, numbers,
        [m.shape for m in meanings], [m.colour for m in meanings], [m.size for m in meanings],
        [m.speed for m in meanings],
    )  # fmt: skip


def draw_clip(config: DatasetConfig, index: int) -> tuple[str, Motion]:
    """Caption and ground truth of clip `index`."""
    ((caption, motion),) = draw_clips(config, range(index, index + 1))
    return caption, motion


def draw_clips(config: DatasetConfig, indices: range) -> list[tuple[str, Motion]]:
    """`draw_clip` of consecutive clips at once.

    A counter-based generator gives clip i the numbers from `i * NUMBERS` on: a function of (seed, i) alone, at a
    hundredth of the cost of a generator for every clip.
    """
    prompts = config.prompts
    captions = [prompts[i % len(prompts)] for i in indices]
    bits = np.random.Philox(config.seed, counter=indices.start * NUMBERS // PHILOX_BLOCK)
    whole = bits.random_raw(len(indices) * NUMBERS) >> np.uint64(11)  # 53 bits, as many as a float64 tells apart
    numbers = np.ldexp(whole, -53).reshape(-1, NUMBERS)
    return list(zip(captions, draw([parse(caption) for caption in captions], config.spec, numbers), strict=True))
