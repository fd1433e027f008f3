"""The second stage of a cascade in a run of its own, for as many denoisers as one likes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, final

from pydantic import Field
from torch import Tensor
from torch.optim import AdamW, Optimizer

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.upsampler import (
    BaseSize,
    Every,
    Upsampler,
    check_length,
    check_shapes,
    enlarge,
    reduction,
    shrink,
    upsampler_loss,
)  # fmt: skip
from t2v_models.families.ema import Average, power_share
from t2v_models.families.muon import BETAS
from t2v_models.families.rates import Fall, PacedConfig
from t2v_models.families.round_trips import RoundTripModel
from t2v_models.model import Loss, VideoModel


class UpsamplerConfig(PacedConfig):
    """The same as those of `diffusion` for its upsampler."""

    about = "the upsampler of diffusion in a run of its own, judged by what becomes of real clips made small"

    name: Literal["upsampler"] = "upsampler"
    batch_size: int = Field(64, ge=1, description="clips per update, over all ranks")
    base_size: BaseSize = 16
    every: Every = 1
    width: int = Field(24, ge=4, le=1024, description="channels")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step")
    decay: Fall = 0.7
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")

    @classmethod
    def tiny(cls) -> Self:
        return cls.model_validate({"base_size": 8, "width": 8, "batch_size": 4, "threads": 1})

    def for_shapes(self, shapes: Sequence[ClipSpec]) -> Self:
        check_shapes(self.name, shapes, self.base_size, self.every)
        return self

    def plan(self, spec: ClipSpec) -> str:
        factor = reduction(spec.height, spec.width, self.base_size)
        between = f", and those between each {self.every} are drawn" if self.every > 1 else ""
        return f"frames are made small {factor} times and enlarged again{between}"

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Upsampling":
        return Upsampling(self, spec)


@final
class Upsampling(RoundTripModel):
    """An upsampler; clips are enlarged by averaged weights.

    Raises:
        LabError: a length that `every` does not divide; clips that have no smaller ones.
    """

    serves = "diffusion with --set upsampler=RUN"

    def __init__(self, config: UpsamplerConfig, spec: ClipSpec):
        super().__init__()
        self.config: UpsamplerConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.factor = reduction(spec.height, spec.width, config.base_size)
        self.every = config.every if spec.frames > 1 else 1
        check_length(spec.frames, self.every)
        if self.factor == self.every == 1:
            raise LabError(
                f"base_size {config.base_size} makes frames of {spec.sides} px no smaller, so there is nothing to "
                "enlarge: use a base_size of at most half their sides, or every"
            )
        self.upsampler = Upsampler(self.factor, config.width, self.every > 1)
        self.average = Average([self.upsampler])

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One."""
        return {"upsampler": AdamW(self.upsampler.parameters(), self.config.lr, BETAS, weight_decay=0.0)}

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of one frame a clip."""
        video = to_video(part.frames)
        small = shrink(video, self.factor, self.every)
        return {"upsampler": upsampler_loss(self.upsampler, part, small, video, self.every)}

    def after_step(self, step: int, progress: float) -> None:
        """The average of weights."""
        self.average.update(power_share(step, self.config.ema_power))

    def again(self, video: Tensor) -> Tensor:
        """Made small and enlarged."""
        return self.enlarged(shrink(video, self.factor, self.every))

    def check_enlarges(self, factor: int, every: int, place: Path) -> None:
        """See that it makes whole clips of those of a denoiser.

        Raises:
            LabError: it enlarges by another factor, or draws other frames between.
        """
        if (self.factor, self.every) != (factor, every):
            raise LabError(
                f"the upsampler {place} enlarges frames {self.factor} times (every={self.every}), and here they are "
                f"made small {factor} times (every={every}): use --set base_size={self.config.base_size} "
                f"--set every={self.config.every}"
            )

    def enlarged(self, small: Tensor) -> Tensor:
        """Small clips `(b, 3, t, h, w)` at full size and with all frames, in [-1, 1]."""
        return enlarge(self.average[0], small, self.every).clamp(-1, 1)
