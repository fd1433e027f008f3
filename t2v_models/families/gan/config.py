"""The settings of `gan`."""

from typing import Literal

from pydantic import AliasChoices, Field

from t2v_models.config import RGB
from t2v_models.model import FamilyConfig


class GanSettings(FamilyConfig):
    """The measured recipe: the gamma, learning rates and batch statistics below belong together.

    `ground` and `spots` are what two settings were called before 2026-11-29: runs of then load, and labs find them.
    """

    about = "a text-conditioned GAN whose discriminator sees the caption and the whole clip"

    name: Literal["gan"] = "gan"
    batch_size: int = Field(144, ge=1, description="clips per update, over all ranks")
    group: int = Field(4, ge=1, description="clips of one caption that stand together, a run")
    threads: int | None = Field(1, ge=1, description="CPU threads, of each rank: small matrices gain from one alone")
    background: RGB = Field(
        (255, 255, 255), validation_alias=AliasChoices("background", "ground"), serialization_alias="ground",
        description="colour behind the object in the clips; also by name, or #rrggbb",
    )  # fmt: skip
    noise: int = Field(6, ge=1, le=4096, description="angles of noise per clip: about as many as a clip has freedoms")
    text: int = Field(64, ge=1, le=4096, description="length of the generator's word vectors")
    width: int = Field(512, ge=8, le=8192, description="width of the hidden layers over whole clips")
    frame_code: int = Field(24, ge=1, le=4096, description="numbers that describe one frame inside the generator")
    frame_width: int = Field(128, ge=8, le=8192, description="width of the layer that decodes one frame")
    blobs: int = Field(
        2, ge=1, le=256, validation_alias=AliasChoices("blobs", "spots"), serialization_alias="spots",
        description="Gaussian blobs that a frame is the sum of",
    )  # fmt: skip
    look_width: int = Field(48, ge=8, le=8192, description="width of the layer that looks at one frame")
    look: int = Field(16, ge=1, le=4096, description="numbers that the discriminator reads from a frame by itself")
    features: int = Field(128, ge=1, le=8192, description="features of the discriminator, length of its word vectors")
    painter_width: int = Field(16, ge=1, le=1024, description="width of the painter's layers at each pixel")
    painter_per_run: int = Field(1, ge=1, le=4096, description="frames of each run that the painter learns from")
    painter_pixels: int = Field(256, ge=4, le=65536, description="pixels of each of them, most of them near the object")
    painter_certainty: float = Field(
        0.1, ge=0, le=100, description="weight of inside against outside, by cross-entropy"
    )
    painter_noise: float = Field(0.01, ge=0, le=1, description="greatest noise on the painter's input, of full opacity")
    painter_lr: float = Field(5e-3, gt=0, le=1, description="Adam step of the painter at the start; falls to 0")
    lr: float = Field(2.2e-3, gt=0, le=1, description="Adam step of generator and discriminator after warm-up")
    lr_end: float = Field(1e-4, gt=0, le=1, description="the same at the end of the run")
    warmup_steps: int = Field(50, ge=1, le=100_000, description="updates over which all learning rates rise from 0")
    gamma: float = Field(0.05, gt=0, le=10_000, description="weight of R1 and R2 at the start")
    gamma_end: float = Field(0.02, gt=0, le=10_000, description="weight of R1 and R2 at the end")
    penalty_every: int = Field(4, ge=1, le=64, description="updates between penalties, whose weight grows by as much")
    wrong_captions: float = Field(0.5, ge=0, le=100, description="weight of real clips against wrong captions")
    centring: float = Field(1e-3, ge=0, le=1, description="weight that keeps the scores of a pair near 0")
    average_steps: float = Field(
        150, gt=0, le=1_000_000, description="longest half-life of the averaged weights, in updates"
    )
