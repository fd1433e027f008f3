"""A tokenizer of clips: few tokens each, from which a decoder makes the clip again.

Like C-ViViT (Villegas et al. 2022, arXiv:2210.02399, section 2.1) it sees the first frame by itself and never looks
ahead: tokens and pixels of the first slots of a clip are those of a clip that ends there. It is small convolutions
instead of transformers, and knows nothing of what clips show; the median colour is measured from the first batch.

Letters in shapes: b clips, t frames, h and w pixels, s slots, y and x patches, d numbers of a code.
"""

from collections.abc import Mapping, Sequence
from math import log2
from operator import not_
from typing import Literal, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from t2v_models.batch import Batch, Metrics, to_video
from t2v_models.clips.spec import ClipSpec, in_a_row
from t2v_models.config import LabError
from t2v_models.distributed.collectives import all_reduce_tensor
from t2v_models.families.ema import Average, power_share
from t2v_models.families.muon import BETAS, Muon
from t2v_models.families.rates import Fall, PacedConfig
from t2v_models.families.round_trips import RoundTripModel
from t2v_models.families.tokens.adversary import Adversary, Perceptual, adversary_loss
from t2v_models.families.tokens.autoencoder import Autoencoder, Decoder, Encoder
from t2v_models.families.tokens.grid import Grid
from t2v_models.families.tokens.quantise import Fsq, Lfq, Quantiser, Vq
from t2v_models.families.tokens.usage import Usage
from t2v_models.machine import threads
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Frames

ADVERSARY_LR = 1e-3
ADVERSARY_BETAS = (0.5, 0.9)
"""As of VQGAN (Esser et al. 2021, arXiv:2012.09841)."""
MOST_CODES = 2**16
VQ_WIDTH = 8
"""Numbers of a code of a codebook: few, so that codes are used (Yu et al. 2021, arXiv:2110.04627, section 3.2)."""
AROUND = 9
"""px: a place counts as much as the one within this square that is least like the median colour. Where the square is
small, a place counts more in clips that show something there, so that it is drawn there too often: a faint halo."""


class VideoTokenizerConfig(PacedConfig):
    """What kept motion and shape of rendered clips best after a minute on a core."""

    about = "a tokenizer of clips: the first stage of ar_tokens and phenaki, judged by what becomes of real clips"

    name: Literal["video_tokenizer"] = "video_tokenizer"
    batch_size: int = Field(16, ge=1, description="clips per update, over all ranks")
    patch: int = Field(8, ge=1, le=64, description="most pixels on a side of a patch, which has a token a slot")
    slot: int = Field(3, ge=1, le=64, description="frames that share their tokens; the first frame has its own")
    quantiser: Literal["fsq", "lfq", "vq"] = Field(
        "fsq", exclude_if="fsq".__eq__, description="numbers rounded to levels, their signs, or a codebook"
    )
    levels: tuple[int, ...] = Field((5, 5, 5), min_length=1, description="of fsq, of each number; codes: their product")
    codes: int = Field(
        1024, ge=2, le=MOST_CODES, exclude_if=(1024).__eq__, description="of lfq, a power of two, and of vq"
    )
    codes_weight: float = Field(
        0.1, ge=0, le=100, exclude_if=(0.1).__eq__, description="of what lfq and vq pay so that codes are met and used"
    )
    encoder: Literal["local", "convolutional"] = Field(
        "local", exclude_if="local".__eq__, description="whether a token sees its own patch alone or those around too"
    )
    encoder_width: int = Field(256, ge=8, le=8192, description="channels of the encoder")
    decoder_width: int = Field(96, ge=8, le=8192, description="channels of the decoder, a patch at a time")
    fine_width: int = Field(48, ge=4, le=8192, description="channels of its layers at half a patch")
    foreground: float = Field(4.0, ge=0, le=1000, description="how much more counts what is unlike the median colour")
    absolute: float = Field(1.0, ge=0, le=100, description="weight of sizes of errors beside their squares")
    perceptual: float = Field(
        0.0,
        ge=0,
        le=100,
        exclude_if=not_,
        description="weight of how unlike frames look by features that nothing taught",
    )
    frame_adversary: float = Field(
        0.0, ge=0, le=100, exclude_if=not_, description="weight of what a network says that tells frames from real ones"
    )
    clip_adversary: float = Field(
        0.0, ge=0, le=100, exclude_if=not_, description="the same of a network that sees frames with their neighbours"
    )
    adversary_width: int = Field(32, ge=4, le=1024, exclude_if=(32).__eq__, description="channels of either")
    adversary_from: float = Field(
        0.3, ge=0, lt=1, exclude_if=(0.3).__eq__, description="share of the run, its beginning, without them"
    )
    decoder_alone: float = Field(
        0.4, ge=0, lt=1, description="share of the run, its end, in which only the decoder learns"
    )
    muon_lr: float = Field(0.02, gt=0, le=1, description="Muon step of hidden weights")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    decay: Fall = 0.5
    ema_power: float = Field(
        8.0, gt=0, le=1000, description="of the decoder's averaged weights: higher looks back less far"
    )

    @field_validator("levels")
    @classmethod
    def _some_of_each(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 2 <= count <= 1024 for count in levels):
            raise ValueError("2 to 1024 levels are possible for each number")
        if torch.tensor(levels).double().prod() > MOST_CODES:
            raise ValueError(f"more than {MOST_CODES:,} codes are too many for a transformer here: use fewer levels")
        return levels

    @model_validator(mode="after")
    def _signs_make_so_many_codes(self) -> Self:
        if self.quantiser == "lfq" and self.codes.bit_count() != 1:
            near = 2 ** round(log2(self.codes))
            raise ValueError(f"signs of numbers make 2, 4, 8, … codes, not {self.codes}: use codes {near}")
        return self

    def new_quantiser(self) -> Quantiser:
        """With fresh codes."""
        match self.quantiser:
            case "fsq":
                return Fsq(self.levels)
            case "lfq":
                return Lfq(self.codes)
            case "vq":
                return Vq(self.codes, VQ_WIDTH)

    @classmethod
    def tiny(cls) -> "VideoTokenizerConfig":
        against = {"perceptual": 0.1, "frame_adversary": 0.01, "clip_adversary": 0.01, "adversary_width": 4}
        small = {"levels": (8, 5), "encoder_width": 16, "decoder_width": 16, "fine_width": 8}
        return cls.model_validate(small | against | {"batch_size": 4, "adversary_from": 0, "threads": 1})

    def plan(self, spec: ClipSpec) -> str:
        grid = Grid.of(spec, self.slot, self.patch)
        slots = grid.slots(spec.frames)
        return (
            f"{slots * grid.rows * grid.columns} tokens a clip: {slots} slots of {grid.rows} x {grid.columns} patches "
            f"of {grid.patch} px"
        )

    def for_shapes(self, shapes: Sequence[ClipSpec]) -> Self:
        """Clips of any lengths and one frame size."""
        if len({(spec.height, spec.width) for spec in shapes}) > 1:
            raise LabError(
                f"video_tokenizer learns from clips of one frame size and the dataset has {in_a_row(shapes)}: make a "
                "dataset of one size, which may have several lengths"
            )
        return self

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "VideoTokenizer":
        return VideoTokenizer(self, spec)


@final
class VideoTokenizer(RoundTripModel):
    """An encoder, its codes and a decoder. Towards the end of a run the encoder stands still, so that tokens mean the
    same from then on, and the decoder learns on; clips are decoded by its averaged weights.

    Raises:
        LabError: a frame size that is not made of patches.
    """

    serves = "ar_tokens or phenaki with --set tokenizer=RUN"
    measured = ("median", "is_measured", "usage")

    def __init__(self, config: VideoTokenizerConfig, spec: ClipSpec):
        super().__init__()
        self.config: VideoTokenizerConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.grid = Grid.of(spec, config.slot, config.patch)
        quantiser = config.new_quantiser()
        encoder = Encoder(self.grid, quantiser, config.encoder_width, around=config.encoder == "convolutional")
        decoder = Decoder(self.grid, quantiser.width, config.decoder_width, config.fine_width)
        self.autoencoder = Autoencoder(encoder, decoder)
        self.average = Average([decoder])
        self.perceptual = Perceptual() if config.perceptual else None
        self.frame_adversary = Adversary(config.adversary_width, clips=False) if config.frame_adversary else None
        self.clip_adversary = Adversary(config.adversary_width, clips=True) if config.clip_adversary else None
        self.usage = Usage(quantiser.vocabulary)
        self.register_buffer("median", torch.zeros(3, 1, 1, 1))
        self.register_buffer("is_measured", torch.tensor(False))
        self.median: Tensor
        self.is_measured: Tensor

    @property
    def decoder(self) -> Decoder:
        """What learns alone in the end."""
        return self.autoencoder.decoder

    @property
    def quantiser(self) -> Quantiser:
        """Codes and their tokens."""
        return self.autoencoder.encoder.quantiser

    @property
    def adversaries(self) -> dict[str, tuple[float, Adversary]]:
        """Those there are, by the names of their networks, and how much what each says counts."""
        both = {
            "frame_adversary": (self.config.frame_adversary, self.frame_adversary),
            "clip_adversary": (self.config.clip_adversary, self.clip_adversary),
        }
        return {name: (weight, network) for name, (weight, network) in both.items() if network}

    def tokens(self, video: Tensor) -> Tensor:
        """int64 `(b, s, y, x)` of clips `(b, 3, t, h, w)` in [-1, 1] of any length."""
        numbers = self.autoencoder.encoder(self._unlike(video))
        return self.quantiser.tokens(self.quantiser(numbers))

    def video(self, tokens: Tensor, frames: int) -> Tensor:
        """The clips of so many frames that tokens `(b, s, y, x)` stand for, `(b, 3, t, h, w)` in [-1, 1]."""
        codes = self.quantiser.codes(tokens)
        found: Tensor = self.average[0](codes.to(self.median), frames)
        return (2 * found.float() + self.median).clamp(-1, 1)

    def again(self, video: Tensor) -> Tensor:
        """By their tokens."""
        return self.video(self.tokens(video), video.shape[2])

    def tokenize(self, frames: Frames) -> NDArray[np.int64]:
        """Tokens `(b, s, y, x)` of clips, uint8 `(b, t, h, w, 3)`."""
        with torch.inference_mode(), threads(self.config.threads):
            return self.tokens(to_video(torch.from_numpy(frames).to(self.device))).cpu().numpy()

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One for both networks, and one for when the decoder learns alone."""
        networks: dict[str, nn.Module] = {"autoencoder": self.autoencoder, "decoder": self.decoder}
        optimizers: dict[str, Optimizer] = {}
        ends = {"encoder.layers.0", "encoder.layers.4", "encoder.quantiser.turn"}
        ends |= {"decoder.enter", "decoder.leave", "enter", "leave"}
        for key, network in networks.items():
            named = dict(network.named_parameters())
            hidden = [w for name, w in named.items() if w.ndim > 1 and name.removesuffix(".weight") not in ends]
            others = [w for w in named.values() if not any(w is matrix for matrix in hidden)]
            optimizers[key] = Muon(hidden, others, self.config.muon_lr, self.config.lr, BETAS)
        for key, (_, adversary) in self.adversaries.items():
            optimizers[key] = AdamW(adversary.parameters(), ADVERSARY_LR, ADVERSARY_BETAS, weight_decay=0.0)
        return optimizers

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step; the very first looks at the data."""
        if not self.is_measured:
            self.median.copy_(median_colour(batch.frames).view(3, 1, 1, 1))
            self.is_measured.fill_(True)
        metrics = super().training_step(batch, step, progress)
        tokens = self.grid.slots(batch.frames.shape[1]) * self.grid.rows * self.grid.columns
        return metrics | {name: batch.weight * value for name, value in self.usage.figures(tokens).items()}

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of encoder and decoder as one, or of the decoder by codes that no longer change; of adversaries."""
        alone = progress >= 1 - self.config.decoder_alone
        clip = self._unlike(to_video(part.frames))
        with torch.set_grad_enabled(not alone):
            numbers = self.autoencoder.encoder(clip)
            codes = self.quantiser(numbers)
        self.usage.note(self.quantiser.tokens(codes.detach()))
        made = self.decoder(codes, clip.shape[2])
        error = made - clip
        counted = (error.square() + self.config.absolute * error.abs()) * self._weight(clip)
        squares = error.detach().square().mean((1, 2, 3, 4)).sum()
        paid = self.config.codes_weight * self.quantiser.cost(numbers, self.usage.counts).mean((1, 2, 3)).sum()
        against = self.adversaries if progress >= self.config.adversary_from else {}
        total = counted.mean((1, 2, 3, 4)).sum() + paid + self._looks(made, clip)
        for weight, adversary in against.values():
            total = total - weight * adversary(made).mean(1).sum()
        losses = {"decoder" if alone else "autoencoder": Loss(total, len(clip), {"error": squares})}
        return losses | {name: adversary_loss(name, network, made, clip) for name, (_, network) in against.items()}

    def _looks(self, made: Tensor, clip: Tensor) -> Tensor | float:
        """How unlike clips look, in sum, as much as that counts."""
        return self.config.perceptual * self.perceptual(made, clip).sum() if self.perceptual else 0.0

    def _unlike(self, video: Tensor) -> Tensor:
        """How unlike the median colour: 0 where it is that, at most 1 in size."""
        return (video - self.median) / 2

    def _weight(self, clip: Tensor) -> Tensor:
        """How much each pixel counts, `(b, 1, t, h, w)`."""
        unlike = clip.abs().amax(1, keepdim=True)
        around = F.max_pool3d(unlike, (1, AROUND, AROUND), stride=1, padding=(0, AROUND // 2, AROUND // 2))
        return 1 + self.config.foreground * around

    def after_step(self, step: int, progress: float) -> None:
        """Averages of weights, and which codes were used."""
        self.average.update(power_share(step, self.config.ema_power))
        self.usage.remember()


def median_colour(frames: Tensor) -> Tensor:
    """The median of each channel over the clips of all ranks, uint8 `(b, t, h, w, 3)`: `(3,)` in [-1, 1]."""
    bytes_ = frames.flatten(0, 3).long() + 256 * torch.arange(3, device=frames.device)
    counts = all_reduce_tensor(torch.bincount(bytes_.flatten(), minlength=768).double()).view(3, 256)
    before = counts.cumsum(1)
    middle = (before < before[:, -1:] / 2).sum(1)
    return (middle / 127.5 - 1).to(torch.get_default_dtype())
