"""A text-conditioned GAN of clips: an adversarial model of motion at 8x8 and a painter that draws full frames.

The cascade: a generator and a discriminator play over clips averaged down to 8x8 with every frame kept, where small
matrices suffice and the caption is a sum of word vectors; a painter shared by all frames learns by regression to draw
8x8 frames at full size, and never sees a fake. The generator composes a frame of a few Gaussian blobs, so that moving a
thing is moving a number; discriminator and painter read the moments of a frame, so that place and size are numbers to
them as well. All this suits one compact thing on an even background, whose place and mass survive averaging; textures
and scenes are out of its reach.

The loss is the relativistic pairing with R1 and R2 of R3GAN (Huang et al. 2024, arXiv:2501.05441); the conditional
score is the projection of Miyato and Koyama (2018), which makes wrong captions as cheap as a dot product.

Letters in shapes: b clips, t frames, s the frame's size, v words of the vocabulary, d features of the discriminator.
Inside the model a pixel is its signed opacity, (background - value) / 255 in each channel: 0 is background.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from t2v_models.batch import Batch, Metrics, weighted
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.distributed.collectives import is_rank_zero
from t2v_models.families.ema import Average, half_life_share
from t2v_models.families.gan.bounded_adam import BoundedAdam
from t2v_models.families.gan.config import GanSettings
from t2v_models.families.gan.networks import Discriminator, Generator
from t2v_models.families.gan.painter import SMALL, Painter, draw_pixel_sample, shrink, warn_of_other_background
from t2v_models.families.interpolation import interpolate, noise_of
from t2v_models.model import VideoModel
from t2v_models.sampler import Frames, Request
from t2v_models.text.words import same_meaning

CACHED = 65_536
"""Pixels looked at together: what the painter has in hand stays in a core's cache."""


class GanConfig(GanSettings):
    """The settings, and what is made of them."""

    @classmethod
    def tiny(cls) -> "GanConfig":
        return cls(batch_size=8, group=2, width=16, frame_width=16, features=8, painter_per_run=2)

    @property
    def told(self) -> Literal["tokens", "sum", "order"]:
        return "sum"

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> VideoModel:
        return Gan(self, spec)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(-(D(x_r, c) - D(x_f, c))), pairs of one caption (R3GAN, eq. 2). Scores `(b,)`."""
    return F.softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(-(D(x_f, c) - D(x_r, c))): the generator wants every fake above its real partner."""
    return F.softplus(real - fake).mean()


def gradient_penalty(scores: Tensor, clips: Tensor, gamma: float) -> Tensor:
    """R1 + R2: gamma/2 (|grad D(x_r)|² + |grad D(x_f)|²), exact, for scores `(2, b)` of clips `(2, b, …)`.

    Where clips are scored together, as runs of one caption are, D is the sum of their scores.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), clips, create_graph=True)
    return gamma / 2 * gradient.square().sum() / scores.shape[1]


def wrong_caption_loss(matches: Tensor, own: Tensor, same: Tensor) -> Tensor:
    """softplus(s(x_r, c') - s(x_r, c)), mean over clips of the mean over captions c' that mean something else than c.

    Args:
        matches: row i holds the scores of real clip i with every caption of the batch over all ranks, `(b, n)`.
        own: score of each clip with its own caption, `(b,)`.
        same: which of these captions mean the same as the clip's own, `(b, n)` bool.
    """
    losses = F.softplus(matches - own[:, None]) * ~same
    return (losses.sum(1) / (~same).sum(1).clamp_min(1)).mean()


def cosine(start: float, end: float, progress: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@final
class Gan(VideoModel):
    """Generator, discriminator and painter, all taught in one `training_step`; sampling uses averaged weights.

    Raises:
        LabError: a frame size that is no multiple of 8.
    """

    def __init__(self, config: GanConfig, spec: ClipSpec):
        super().__init__()
        if spec.height != spec.width or spec.height % SMALL:
            raise LabError(
                f"gan draws square frames whose sides are multiples of 8 (found {spec.width} x {spec.height} px): "
                "make such clips, or train diffusion"
            )
        self.config: GanConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.generator = Generator(config, spec.frames, self.text.width)
        self.painter = Painter(config.painter_width, self.text.width, spec.size, config.background)
        self.discriminator = Discriminator(config, spec.frames, self.text.width)
        self.average = Average([self.generator, self.painter])

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One for each network that is not an average."""
        config = self.config
        return {
            "generator": Adam(self.generator.parameters(), config.lr, (0.0, 0.99), fused=True),
            "discriminator": BoundedAdam(self.discriminator.parameters(), config.lr, (0.0, 0.99), fused=True),
            "painter": Adam(self.painter.parameters(), config.painter_lr, (0.9, 0.99), fused=True),
        }

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One update of the discriminator, the generator, the painter and the averaged weights."""
        config = self.config
        if step == 0 and is_rank_zero():
            warn_of_other_background(batch.frames, config.background)
        self._set_learning_rates(step, progress)
        self.forget_gradients()
        captions = self.text.pooled(batch.all_captions)
        same = same_meaning(batch.all_captions, batch.meaning).to(self.device)
        noise = torch.randn(len(captions), *self.noise_shape, device=self.device)
        pixels = draw_pixel_sample(
            len(captions) // config.group,
            config.group,
            config.painter_per_run,
            self.spec.frames,
            config.painter_pixels,
            config.painter_noise,
            self.device,
        )
        penalised = step % config.penalty_every == 0
        gamma = math.exp(cosine(math.log(config.gamma), math.log(config.gamma_end), progress)) if penalised else 0.0
        parts: list[_Part] = []
        metrics: list[Metrics] = []
        real_scores: list[Tensor] = []
        for clips in batch.parts(config.accumulate, config.group):
            bags = clips.own(captions)
            part = _Part(
                clips, bags, shrink(clips.frames, self.painter.background), self.generator(clips.own(noise), bags)
            )
            loss, real_score, figures = self._discriminator_loss(part, captions, same, gamma)
            self.accumulate_gradients(clips.weight, discriminator=loss)
            parts.append(part)
            metrics.append(figures)
            real_scores.append(real_score)
        self.optimizer_step("discriminator")
        for part, real_score, figures in zip(parts, real_scores, metrics, strict=True):
            fake_score = self.discriminator.score(self.discriminator(part.fake), part.bags)
            fooled = generator_loss(real_score, fake_score)  # of real clips the scores of before: a pass saved
            painted = pixels.loss(self.painter, part.clips, part.real, part.bags, config.painter_certainty)
            figures |= {"loss/generator": fooled.detach(), "loss/painter": painted.detach()}
            self.accumulate_gradients(part.clips.weight, generator=fooled, painter=painted)
        self.optimizer_step("generator", "painter")
        self.average.update(half_life_share(step, config.average_steps))
        return weighted([part.clips for part in parts], metrics)

    def _discriminator_loss(
        self, part: "_Part", captions: Tensor, same: Tensor, gamma: float
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Pairs, wrong captions, centring and, with a gamma, R1 and R2; the scores of real clips `(b,)`; metrics."""
        config, metrics = self.config, Metrics()
        clips = torch.stack([part.real, part.fake.detach()]).requires_grad_(gamma > 0)
        phi = self.discriminator(clips)
        scores = self.discriminator.score(phi, part.bags)  # (2, b)
        wrong = wrong_caption_loss(self.discriminator.match(phi[0], captions), scores[0], part.clips.own(same))
        judged = discriminator_loss(*scores)
        loss = judged + config.wrong_captions * wrong + config.centring * scores.sum(0).square().mean()
        if gamma:
            penalty = gradient_penalty(scores, clips, gamma)
            loss = loss + config.penalty_every * penalty
            metrics["loss/penalty"] = penalty.detach()
        real_score, fake_score = scores.detach()
        metrics |= {"loss/discriminator": judged.detach(), "loss/wrong_captions": wrong.detach()}
        return loss, real_score, metrics | {"score_gap": (real_score - fake_score).mean()}

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of one clip: pairs, of each of which only the angle counts."""
        return self.config.noise, 2

    def make(self, request: Request) -> Tensor:
        """Each clip from the noise of its own seed."""
        noise = noise_of(request.seeds, self.noise_shape, self.device)
        return self.paint(self.text.pooled(request.prompts), noise)

    def interpolate(self, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
        """`sampler.Interpolates`."""
        return interpolate(self, self.paint, self.noise_shape, prompts, seeds, count)

    @torch.no_grad()
    def paint(self, bags: Tensor, noise: Tensor) -> Tensor:
        """Clips of text vectors `(b, d)` and noise, by the averaged weights: the generator once for all clips, the
        painter a few frames of a clip at a time."""
        generator, painter = self.average
        assert isinstance(painter, Painter)
        small: Tensor = generator(noise, bags)  # (b, t, 3, 8, 8)
        few = max(1, CACHED // self.spec.size**2)
        opacity = [
            painter.paint(frames, said) for clip, said in zip(small, bags, strict=True) for frames in clip.split(few)
        ]
        clips = torch.cat(opacity).view(*small.shape[:2], *opacity[0].shape[1:])
        return clips.mul_(-2).add_(2 * painter.background - 1).clamp_(-1, 1).permute(0, 4, 1, 2, 3)

    def _set_learning_rates(self, step: int, progress: float) -> None:
        """Linear warm-up by step, half a cosine by progress."""
        warm = min(1.0, (step + 1) / self.config.warmup_steps)
        for name, optimizer in self.optimizers.items():
            start, end = (self.config.painter_lr, 0.0) if name == "painter" else (self.config.lr, self.config.lr_end)
            for group in optimizer.param_groups:
                group["lr"] = warm * cosine(start, end, progress)


@dataclass(frozen=True)
class _Part:
    """What an update holds of one part of its batch."""

    clips: Batch
    bags: Tensor
    real: Tensor
    """At 8x8, as the fakes."""
    fake: Tensor
