"""How long and how a model is trained."""

from operator import not_
from typing import Literal

from pydantic import Field, model_validator

from t2v_models.config import Config
from t2v_models.shards.augment import NOTHING, AugmentConfig


class TrainConfig(Config):
    """How long and how a model is trained; what it learns is the model's and the data's business."""

    steps: int | None = Field(None, ge=1, description="updates to make; give this or minutes")
    minutes: float | None = Field(None, gt=0, description="minutes to train, wall clock; give this or steps")
    seed: int = Field(0, ge=0, description="of weights, order and noise")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one")
    ranks: int = Field(1, ge=1, description="processes on each machine that share every batch; torchrun starts them")
    oversubscribe: bool = Field(
        False, exclude_if=not_, description="allow more ranks than CPU cores, which then wait for each other"
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="of the networks' arithmetic; auto: bfloat16 where the machine is fast in it and the family gains",
    )
    probe_seconds: float = Field(1, ge=0, description="seconds to measure the matrix rate; 0 counts no arithmetic")
    log_every: int = Field(50, ge=1, description="steps between logged figures")
    save_seconds: float = Field(30, gt=0, description="seconds between checkpoints: the most a kill can lose")
    watch_seconds: float = Field(5, gt=0, description="least seconds between samples and their scores")
    mix: dict[str, float] = Field({}, exclude_if=not_, description="shares of batches by shape, as 64x36x1: 0.2")
    augment: AugmentConfig = Field(
        NOTHING, exclude_if=NOTHING.__eq__, description="how clips are varied: see 't2v settings augment'"
    )
    cache_gib: float = Field(10, gt=0, description="disk space for shards that come from a URL")
    keep: int = Field(2, ge=2, description="checkpoints kept, newest first")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 1 or more at its end."""
        return step / self.steps if self.steps else seconds / (60 * self.minutes)  # type: ignore[operator]
