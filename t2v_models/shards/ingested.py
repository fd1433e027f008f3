"""What an ingested dataset is, beside a rendered one. Both are shards with a manifest; models train on either."""

import hashlib
from collections.abc import Hashable, Sequence
from itertools import pairwise
from operator import not_
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from t2v_models.clips.spec import Bucket, ClipSpec, Codec, check_shapes
from t2v_models.config import Config
from t2v_models.text.split import meaning
from t2v_models.worlds.dataset import DatasetConfig, shape_columns

INGESTED: Final = "ingested"
"""What stands where a rendered dataset names its world."""
INGEST_VERSION = "9"
"""Part of every ingested dataset's digest: raise it whenever the same files would give other clips."""


def is_none(value: object) -> bool:
    """Whether a value is left out of a configuration's digest, so that earlier ones stay what they were."""
    return value is None


class IngestOptions(Config):
    """How people's own files become clips."""

    spec: ClipSpec = Field(ClipSpec(), description="frames, size and frame rate of every clip")
    fit: Literal["crop", "letterbox"] = Field(
        "crop", description="how a frame of another form becomes one of the dataset"
    )
    stride: int | None = Field(None, ge=1, description="frames from one clip's start to the next; none for no overlap")
    source_fps: int | float | None = Field(
        None,
        gt=0,
        le=1000,
        exclude_if=is_none,
        description="frames per second of folders of frames; as many as of a clip",
    )
    validation: float = Field(0.05, ge=0, lt=1, description="share of the source files kept for validation")
    clips_per_shard: int = Field(500, ge=1, le=100_000, description="clips in one tar file")
    codec: Codec = Field(
        "lz4", description="how pixels are stored: lz4 is fast, webp plays in any browser, npy is plain"
    )
    shapes: tuple[ClipSpec, ...] = Field(
        (), exclude_if=not_, description="of clips of several shapes: each file goes to the one nearest to its own"
    )

    @model_validator(mode="before")
    @classmethod
    def _spec_of_shapes(cls, values: Any) -> Any:
        """One of them."""
        if not isinstance(values, dict) or not values.get("shapes"):
            return values
        shapes = [ClipSpec.model_validate(shape) for shape in values["shapes"]]
        check_shapes(shapes)
        return {"spec": shapes[0]} | values

    @property
    def all_shapes(self) -> tuple[ClipSpec, ...]:
        """Several, or one."""
        return self.shapes or (self.spec,)

    @property
    def takes_images(self) -> bool:
        """Whether a picture alone becomes a clip, of one frame."""
        return any(spec.frames == 1 for spec in self.all_shapes)


class Before(Config):
    """What a dataset was before clips were added to it."""

    source_sha256: str
    clips: int
    prompts: tuple[str, ...]
    buckets: tuple[Bucket, ...] = Field((), exclude_if=not_)


def _counts(state: Before) -> list[int]:
    """Clips of each shape."""
    return [bucket.clips for bucket in state.buckets] or [state.clips]


def ingested_columns(buckets: Sequence[object]) -> dict[str, str]:
    """Of the manifest of an ingested dataset, of one shape or of several."""
    return shape_columns(buckets) | {"source": "word", "source_frame": "count"}


class IngestConfig(IngestOptions):
    """Everything that decides the clips of an ingested dataset; it says of itself what a rendered one does."""

    command: ClassVar[str] = "ingest"
    known: ClassVar[str] = "caption, source file and first frame"
    about: ClassVar[str] = "Some of the captions"
    truth: ClassVar[None] = None
    """Nobody knows what its clips should show, so those of a model cannot be judged by it."""
    conditions: ClassVar[tuple[()]] = ()
    """Of its captions and clips, beside its digest: none."""

    world: Literal["ingested"] = INGESTED
    split: Literal["train", "validation"]
    source_sha256: str = Field(description="of the paths, captions and bytes of the files that came last")
    clips: int = Field(ge=1, description="number of clips")
    prompts: tuple[str, ...] = Field(description="some of the captions, to sample a model with while it trains")
    before: tuple[Before, ...] = Field((), exclude_if=not_, description="what it was each time clips were added")
    buckets: tuple[Bucket, ...] = Field((), exclude_if=not_, description="how many clips there are of each shape")
    tars: tuple[int, ...] = Field(
        (), exclude_if=not_, description="clips in each of other people's tars, that are learnt from where they lie"
    )

    @property
    def columns(self) -> dict[str, str]:
        """What is known of a clip is its file and its first frame, at the rate of the dataset."""
        return ingested_columns(self.buckets)

    @property
    def one_shape(self) -> tuple["IngestConfig", ...]:
        """The datasets of one shape that it is made of."""
        return tuple(
            self.model_copy(update={"spec": bucket.spec, "clips": bucket.clips, "buckets": (), "shapes": ()})
            for bucket in self.buckets
            if bucket.clips
        ) or (self,)

    @property
    def hold_out(self) -> tuple[()]:
        """Nothing is held out by meaning: only a grammar can say what a caption means."""
        return ()

    @property
    def watched(self) -> tuple[str, ...]:
        """Prompts to sample a model with while it trains."""
        return self.prompts

    def asked(self, split: str) -> tuple[()]:
        """No split asks anything: they are made on meaning."""
        return ()

    def meaning(self, caption: str) -> Hashable:
        """Equal for captions of the same words in any order, or the same numbers in the same."""
        return meaning(caption)

    @property
    def shards(self) -> int:
        """Number of tar files, each of clips of one shape: each time clips are added, they begin ones of their own."""
        if self.tars:
            return len(self.tars)
        ends = [[0] * max(1, len(self.buckets)), *(_counts(state) for state in self.now)]
        return sum(
            -(-(end - start) // self.clips_per_shard)
            for before, after in pairwise(ends)
            for start, end in zip(before, after, strict=True)
        )

    def of_shard(self, index: int) -> "IngestConfig":
        """What the dataset was when this shard was written."""
        return next((state for state in self.states if index < state.shards), self)

    @property
    def now(self) -> tuple[Before, ...]:
        """What it was each time, and is, for one to which clips are added."""
        now = Before(source_sha256=self.source_sha256, clips=self.clips, prompts=self.prompts, buckets=self.buckets)
        return *self.before, now

    @property
    def states(self) -> list["IngestConfig"]:
        """What it was each time, and what it is."""
        earlier = [
            self.model_copy(update=dict(state) | {"before": self.before[:i]}) for i, state in enumerate(self.before)
        ]
        return [*earlier, self]

    @property
    def digest(self) -> str:
        """16 hex digits that change when any clip would."""
        return config_digest(self.model_dump_json())


def config_digest(config: str) -> str:
    """The digest that this version of the ingest gives to a configuration, as JSON."""
    return hashlib.sha256(f"ingest {INGEST_VERSION} {config}".encode()).hexdigest()[:16]


def _made_by(value: Any) -> str:
    """The command that made what a manifest describes."""
    world = value.get("world") if isinstance(value, dict) else value.world
    return (IngestConfig if world == INGESTED else DatasetConfig).command


DataConfig = Annotated[
    Annotated[DatasetConfig, Tag(DatasetConfig.command)] | Annotated[IngestConfig, Tag(IngestConfig.command)],
    Discriminator(_made_by),
]
"""What a manifest says of its dataset: rendered or ingested."""
