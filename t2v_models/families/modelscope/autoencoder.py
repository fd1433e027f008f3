"""An autoencoder of frames, `AutoencoderKL` of diffusers: the first stage of latent diffusion.

Rombach et al. 2022, arXiv:2112.10752, section 3.1, with a slight pull towards a standard normal distribution; there is
no discriminator: what is drawn here has no texture. Each frame is encoded by itself, as ModelScope's is.

Letters in shapes: b clips, t frames, n pictures, h and w pixels, c numbers at each place of a latent, f pixels on a
side that share a place.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self, final

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from t2v_models import library
from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.parts import one_frame
from t2v_models.families.ema import Average, power_share
from t2v_models.families.layers import at_least_float32
from t2v_models.families.muon import BETAS, Muon
from t2v_models.families.rates import Fall, PacedConfig
from t2v_models.families.round_trips import RoundTripModel
from t2v_models.model import Loss, VideoModel

GROUPS = 4
"""Of channels that are normalised together; each has two channels at least."""
ENDS = ("conv_in", "conv_out", "quant_conv")
"""Layers that see pixels or latents, which are not Muon's."""


class FrameAutoencoderConfig(PacedConfig):
    """Small enough for three or four minutes on a core, which keep motion but no colours.

    With four widths and 8 numbers a place colours are kept as well, and what learns from the latents is slower.
    """

    packages = library.PACKAGES
    about = "an autoencoder of frames: the first stage of modelscope, judged by what becomes of real clips"

    name: Literal["frame_autoencoder"] = "frame_autoencoder"
    batch_size: int = Field(8, ge=1, description="clips per update, over all ranks; one frame of each is learnt")
    latent: int = Field(16, ge=1, le=64, description="numbers at each place of a latent")
    widths: tuple[int, ...] = Field(
        (8, 16, 32, 64, 64),
        min_length=1,
        max_length=5,
        description="channels at each halving of the resolution; [8,16,32,64] with latent=8 keeps colours in a few "
        "minutes too, and motion is learnt later from it",
    )
    blocks: int = Field(1, ge=1, le=8, description="residual blocks at each resolution, on the way down and up")
    absolute: float = Field(1.0, ge=0, le=100, description="weight of sizes of errors beside their squares")
    prior: float = Field(1e-3, ge=0, le=10, description="weight of the pull of latents to a standard normal one")
    muon_lr: float = Field(0.02, gt=0, le=1, description="Muon step of kernels between feature maps")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    decay: Fall = 0.6
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")

    @field_validator("widths")
    @classmethod
    def _of_groups(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return in_groups(widths)

    @classmethod
    def tiny(cls) -> Self:
        return cls(batch_size=4, widths=(8, 8, 16), threads=1)

    @property
    def cell(self) -> int:
        """f: pixels on a side that share a place of a latent."""
        return int(2 ** (len(self.widths) - 1))

    def plan(self, spec: ClipSpec) -> str:
        return f"latents of {self.latent} x {spec.height // self.cell} x {spec.width // self.cell} a frame"

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "FrameAutoencoder":
        return FrameAutoencoder(self, spec)


def in_groups(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Widths that groups of channels divide.

    Raises:
        ValueError: one is none.
    """
    if any(width < 2 * GROUPS or width % (2 * GROUPS) for width in widths):
        raise ValueError(f"channels are normalised in groups: use multiples of {2 * GROUPS}")
    return widths


@final
class FrameAutoencoder(RoundTripModel):
    """An encoder and a decoder, which learn as one; averaged weights are used.

    Raises:
        LabError: diffusers is not installed; a frame size that the halvings do not divide.
    """

    serves = "modelscope with --set autoencoder=RUN"

    def __init__(self, config: FrameAutoencoderConfig, spec: ClipSpec):
        super().__init__()
        library.require(config.name)
        if spec.height % config.cell or spec.width % config.cell:
            raise LabError(
                f"{config.name} halves frames {len(config.widths) - 1} times, and {spec.sides} px are no multiple of "
                f"{config.cell}: use fewer widths or other clips"
            )
        self.config: FrameAutoencoderConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        count = len(config.widths)
        self.autoencoder: nn.Module = library.of("diffusers", "AutoencoderKL")(
            block_out_channels=config.widths, layers_per_block=config.blocks, norm_num_groups=GROUPS,
            latent_channels=config.latent, sample_size=spec.height, scaling_factor=1.0, mid_block_add_attention=False,
            down_block_types=("DownEncoderBlock2D",) * count, up_block_types=("UpDecoderBlock2D",) * count,
        )  # fmt: skip
        self.average = Average([self.autoencoder])

    def latents(self, video: Tensor) -> Tensor:
        """The means `(b, c, t, h / f, w / f)` of clips `(b, 3, t, h, w)` in [-1, 1] of any length."""
        means: Tensor = self.network.encode(_pictures(video)).latent_dist.mean
        return _clips(means, video.shape[2])

    def again(self, video: Tensor) -> Tensor:
        """By their latents."""
        decoded: Tensor = self.network.decode(_pictures(self.latents(video))).sample
        return _clips(decoded, video.shape[2]).clamp(-1, 1)

    @property
    def network(self) -> Any:
        """The `AutoencoderKL` of averaged weights."""
        return self.average[0]

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One."""
        optimizer = by_muon(self.autoencoder, ENDS, self.config.muon_lr, self.config.lr)
        return {"autoencoder": optimizer}

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of one frame a clip: sizes and squares of errors, and how far its latent is from a standard normal one."""
        network: Any = self.autoencoder
        pictures = _pictures(one_frame(part, to_video(part.frames)))
        found = network.encode(pictures).latent_dist
        mean, log_variance = at_least_float32(found.mean), at_least_float32(found.logvar)
        latent = mean + (log_variance / 2).exp() * part.randn(*mean.shape[1:])
        error = at_least_float32(network.decode(latent.to(pictures)).sample) - pictures
        away = (mean.square() + log_variance.exp() - 1 - log_variance).mean((1, 2, 3)) / 2
        squares = error.square().mean((1, 2, 3))
        each = squares + self.config.absolute * error.abs().mean((1, 2, 3)) + self.config.prior * away
        figures = {"error": squares.detach().sum(), "prior": away.detach().sum()}
        return {"autoencoder": Loss(each.sum(), len(pictures), figures)}

    def after_step(self, step: int, progress: float) -> None:
        """The average of weights."""
        self.average.update(power_share(step, self.config.ema_power))


def by_muon(network: nn.Module, ends: tuple[str, ...], muon_lr: float, lr: float) -> Muon:
    """An optimiser of a network: Muon for matrices and kernels, but not of layers whose name holds one of `ends`."""
    named = dict(network.named_parameters())
    hidden = [w for name, w in named.items() if w.ndim > 1 and not any(end in name for end in ends)]
    inside = {id(weight) for weight in hidden}
    return Muon(hidden, [w for w in named.values() if id(w) not in inside], muon_lr, lr, BETAS)


def _pictures(clips: Tensor) -> Tensor:
    """`(b, c, t, h, w)` to `(b t, c, h, w)`."""
    return clips.transpose(1, 2).flatten(0, 1)


def _clips(pictures: Tensor, frames: int) -> Tensor:
    """And back."""
    return pictures.view(-1, frames, *pictures.shape[1:]).transpose(1, 2)
