"""What an ingested dataset is, beside a rendered one. Both are shards with a manifest; models train on either."""

import hashlib
from collections.abc import Hashable
from itertools import pairwise
from operator import not_
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag

from t2v_models.clips.spec import ClipSpec, Codec
from t2v_models.config import Config
from t2v_models.text.split import sorted_words
from t2v_models.worlds.dataset import DatasetConfig

INGESTED: Final = "ingested"
"""What stands where a rendered dataset names its world."""
INGEST_VERSION = "4"
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
    codec: Codec = Field("lz4", description="how pixels are stored: lz4 is fast, webp plays in any browser")


class Before(Config):
    """What a dataset was before clips were added to it."""

    source_sha256: str
    clips: int
    prompts: tuple[str, ...]


class IngestConfig(IngestOptions):
    """Everything that decides the clips of an ingested dataset; it says of itself what a rendered one does."""

    command: ClassVar[str] = "ingest"
    columns: ClassVar[dict[str, str]] = {"source": "word", "source_frame": "count"}
    """What is known of a clip is its file and its first frame, at the rate of the dataset."""
    known: ClassVar[str] = "caption, source file and first frame"
    about: ClassVar[str] = "Some of the captions"
    truth: ClassVar[None] = None
    """Nobody knows what its clips should show, so those of a model cannot be judged by it."""

    world: Literal["ingested"] = INGESTED
    split: Literal["train", "validation"]
    source_sha256: str = Field(description="of the paths, captions and bytes of the files that came last")
    clips: int = Field(ge=1, description="number of clips")
    prompts: tuple[str, ...] = Field(description="some of the captions, to sample a model with while it trains")
    before: tuple[Before, ...] = Field((), exclude_if=not_, description="what it was each time clips were added")

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
        """Equal for captions of the same words in any order."""
        return sorted_words(caption)

    @property
    def shards(self) -> int:
        """Number of tar files: each time clips are added, they begin one of their own."""
        ends = [0, *(state.clips for state in self.before), self.clips]
        return sum(-(-(end - start) // self.clips_per_shard) for start, end in pairwise(ends))

    def of_shard(self, index: int) -> "IngestConfig":
        """What the dataset was when this shard was written."""
        return next((state for state in self.states if index < state.shards), self)

    @property
    def now(self) -> tuple[Before, ...]:
        """What it was each time, and is, for one to which clips are added."""
        return *self.before, Before(source_sha256=self.source_sha256, clips=self.clips, prompts=self.prompts)

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
