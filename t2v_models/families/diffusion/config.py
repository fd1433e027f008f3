"""The settings of `diffusion`."""

from collections.abc import Mapping, Sequence
from operator import not_
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from t2v_models.clips.spec import ClipSpec, in_a_row, sides
from t2v_models.config import LabError
from t2v_models.families.diffusion.loss import Distance, Weight
from t2v_models.families.diffusion.networks import NetworkName
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.precondition import Prediction
from t2v_models.families.diffusion.samplers import CHURNED, SamplerName
from t2v_models.families.diffusion.unet import Norm
from t2v_models.families.diffusion.upsampler import BaseSize, Every, check_shapes, reduction
from t2v_models.families.rates import Fall, PacedConfig
from t2v_models.families.texts import check_dropout

KEPT = "4,10,24,60"
"""Averages of which any of a power from 4 to 60 is made within 2.3 % of its profile's root mean square."""


_WHY = {
    "folded": "a network of all frames side by side, the cheapest for clips of one shape,",
    "factorised": "a network of frames and attention over time, which takes all lengths and single frames,",
    "transformer": "a transformer of patches",
}


class DiffusionSettings(PacedConfig):
    """The recipe that learnt most in a CPU's minutes, on rendered and on real clips."""

    about = "video diffusion: a cascade of a text-conditioned denoiser of small clips and an upsampler of frames"
    gains_by_bfloat16 = True

    parent_families: ClassVar[Mapping[str, str]] = {"upsampler": "upsampler"}
    by_tokens = "cross_attention=true"
    earlier: ClassVar[Mapping[str, object]] = {"space_attention": False, "norm": "place"}
    name: Literal["diffusion"] = "diffusion"
    batch_size: int = Field(64, ge=1, description="clips per update, over all ranks")
    base_size: BaseSize = 16
    every: Every = 1
    upsampler: Path | None = Field(
        None,
        exclude_if=not_,
        description="run folder of an upsampler, or its name in the same lab: taken from there and not learnt",
    )
    network: NetworkName | Literal["auto"] = Field(
        "auto",
        description="of the denoiser: time in channels, frames and attention over time, or patches; auto is folded, "
        "or factorised where clips have several shapes or frames stand alone",
    )
    patch: int = Field(2, ge=1, le=64, description="pixels on a side that the denoiser's first layer takes together")
    widths: tuple[int, ...] = Field(
        (64, 128), min_length=1, description="channels at each halving of the resolution; the last is a transformer's"
    )
    blocks: int = Field(2, ge=1, le=64, description="residual blocks at each resolution, down and up; layers")
    condition: int = Field(256, ge=8, le=8192, multiple_of=2, description="length of the vector of level and text")
    cross_attention: bool = Field(False, description="folded looks at every word, as the other networks always do")
    space_attention: bool = Field(True, description="folded, factorised: places of a picture look at each other")
    norm: Norm = Field(
        "picture",
        description="folded, factorised: of what mean and variance are taken: a picture, or the channels of each place",
    )
    upsampler_width: int = Field(24, ge=4, le=1024, description="channels of the upsampler")
    balance: float = Field(0.5, ge=0, le=1, description="how far quick changes are made as large as what is still")
    prediction: Prediction = Field("x0", description="what the denoiser's network says: clip, noise, v or velocity")
    weight: Weight = Field("even", description="how much each noise level counts")
    distance: Distance = Field("l2", description="how errors are measured")
    training_levels: NoiseLevels = Field(
        NoiseLevels(curve="lognormal", low=0.02, high=200, mean=1.0, std=1.4), description="noise levels learnt at"
    )
    dropout: float = Field(0.1, ge=0, le=1, description="share of captions left out, which guidance needs; 1: all")
    given: float = Field(0.0, ge=0, le=1, description="share of clips learnt with some of their frames known")
    reconstruction: int = Field(
        1, ge=1, le=100, description="gradients a call that lead to known frames where given is 0"
    )
    images: float = Field(0.0, ge=0, le=1, description="share of updates that learn single frames; not for folded")
    images_first: float = Field(0.0, ge=0, lt=1, description="share of the run, its beginning, that learns only these")
    alone: float = Field(0.0, ge=0, le=1, description="share of clips learnt without time; not for folded")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="of the denoiser's hidden matrices")
    muon_lr: float = Field(0.02, gt=0, le=1, description="Muon step of these")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    decay: Fall = 0.7
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")
    ema_kept: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        (), description=f"powers of averages kept beside, as {KEPT}, of which 't2v average' makes any between them"
    )
    weaker: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=not_,
        description="share of the run after which the averaged weights are kept as they are, weaker than those of the "
        "end: guidance leads away from their clip without text, which keeps more variety; 0: of the same ones",
    )
    sampler: SamplerName = Field("dpm2m", description="how clips are made of noise")
    churn: float = Field(0.0, ge=0, description="noise that euler and heun add on the way, S_churn over all steps")
    steps: int = Field(8, ge=1, le=1000, description="evaluations of the denoiser for one clip")
    sampling_levels: NoiseLevels = Field(NoiseLevels(low=0.05, high=80), description="noise levels of these steps")
    guidance: float = Field(1.5, ge=0, le=100, description="how strongly the prompt counts; 1 is as learnt")
    guidance_low: float = Field(0.0, ge=0, description="noise levels up to here are not guided")
    guidance_high: float = Field(1e6, gt=0, description="nor those above")
    guidance_rescale: float = Field(0.0, ge=0, le=1, description="share of the way back to the plain contrast")
    threshold: float | None = Field(
        None, gt=0, le=1, description="share of a clip's values that stay in range at each step, the rest is pressed in"
    )

    @field_validator("training_levels", "sampling_levels", mode="before")
    @classmethod
    def _rest_as_here(cls, value: object, about: ValidationInfo) -> object:
        """What some settings of the levels leave open is as in the defaults of this family, not of all curves."""
        default = cls.model_fields[str(about.field_name)].default
        return default.model_dump() | value if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _churn_where_it_belongs(self) -> Self:
        if self.churn and self.sampler not in CHURNED:
            raise ValueError(f"churn is for {' and '.join(CHURNED)}: use 0 with {self.sampler}")
        return self

    @model_validator(mode="after")
    def _no_captions_no_guidance(self) -> Self:
        check_dropout(self.dropout, self.guidance)
        return self

    @model_validator(mode="after")
    def _frames_apart_where_they_can_be(self) -> Self:
        if self.network == "folded" and (self.images or self.images_first or self.alone):
            raise ValueError(
                "images, images_first and alone need a network whose frames can be without each other: use network "
                "factorised or transformer"
            )
        return self

    @model_validator(mode="after")
    def _weaker_of_clips(self) -> Self:
        if 0 < self.weaker <= self.images_first:
            raise ValueError(
                f"weaker {self.weaker:g} is before any clip is learnt, from {self.images_first:g} of the run on "
                "(images_first): use more"
            )
        return self

    @field_validator("ema_kept")
    @classmethod
    def _kept_differ(cls, powers: tuple[float, ...]) -> tuple[float, ...]:
        if len(powers) == 1 or len(set(powers)) < len(powers):
            raise ValueError(f"another average is blended from two or more, of powers that differ, as {KEPT}")
        return powers

    @model_validator(mode="after")
    def _pictures_have_none_between(self) -> Self:
        if self.every > 1 and self.images == 1:
            raise ValueError(
                f"images 1 learns single frames, which have none between: use every 1 (found {self.every})"
            )
        return self

    @property
    def told(self) -> Literal["tokens", "sum", "order"]:
        return "sum" if self.network in ("auto", "folded") and not self.cross_attention else "tokens"

    @classmethod
    def tiny(cls) -> Self:
        small = {"base_size": 8, "widths": (8, 16), "blocks": 1, "condition": 16, "upsampler_width": 8}
        return cls.model_validate(
            small | {"batch_size": 4, "prediction": "v", "dropout": 0.5, "steps": 2, "threads": 1, "ema_kept": (4, 24)}
        )

    def for_shapes(self, shapes: Sequence[ClipSpec]) -> Self:
        """As every family; the network that is left open is the cheapest that can learn what it is to learn."""
        check_shapes(self.name, shapes, self.base_size, self.every)
        apart = len(shapes) > 1 or self.images or self.images_first or self.alone
        network = self.network if self.network != "auto" else "factorised" if apart else "folded"
        if network == "folded" and len(shapes) > 1:
            raise LabError(
                f"diffusion with network=folded learns from clips of one shape and the dataset has "
                f"{in_a_row(shapes)}: use --set network=factorised or transformer"
            )
        return self.model_copy(update={"network": network})

    def plan(self, spec: ClipSpec) -> str:
        if self.network == "auto":
            return self.for_shapes([spec]).plan(spec)
        factor = reduction(spec.height, spec.width, self.base_size)
        few = f"{(spec.frames - 1) // self.every + 1} of {spec.frames} frames, " if self.every > 1 else ""
        small = f"{_WHY[self.network]} denoises {few}clips of {sides(spec.height // factor, spec.width // factor)} px"
        if factor == 1:
            return f"{small}, their own size, which base_size {self.base_size} leaves no whole part of"
        by = f" by {self.upsampler}" if self.upsampler else ""
        return f"{small} and enlarges their frames {factor} times{by}: the least from base_size {self.base_size} on"
