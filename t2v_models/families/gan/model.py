"""A text-conditioned GAN of clips: an adversarial model of motion at 8x8 and a painter that draws full frames.

The cascade: a generator and a discriminator play over clips averaged down to 8x8 with every frame kept, where small
matrices suffice and the caption is a sum of word vectors; a painter shared by all frames learns by regression to draw
8x8 frames at full size, and never sees a fake. The generator composes a frame of a few soft spots, so that moving a
thing is moving a number; discriminator and painter read the moments of a frame, so that place and size are numbers to
them as well. All this suits one compact thing on an even ground, whose place and mass survive averaging; textures and
scenes are out of its reach.

The loss is the relativistic pairing with R1 and R2 of R3GAN (Huang et al. 2024, arXiv:2501.05441); the conditional
score is the projection of Miyato and Koyama (2018), which makes wrong captions as cheap as a dot product.

Letters in shapes: b clips, t frames, s the frame's size, v words of the vocabulary, d features of the discriminator.
Inside the model a pixel is its signed opacity over the ground, (ground - value) / 255 in each channel: 0 is ground.
"""

import copy
import math
from dataclasses import dataclass, field
from typing import Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from t2v_models.batch import Batch, Metrics, weighted
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import RGB, LabError
from t2v_models.distributed.collectives import leads
from t2v_models.families.gan.blobs import draw_spots
from t2v_models.families.gan.bounded_adam import BoundedAdam
from t2v_models.families.gan.painter import SMALL, Painter, draw_lesson, moments, shrink, warn_of_other_ground
from t2v_models.families.layers import SLOPE, full_precision, he_normal, perceptron
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.text.words import bag_of_words, same_meaning, word_table

WORDS = 0.03
"""Deviation of fresh word vectors: small, so that unseen sums of words start near seen ones."""
CACHED = 65_536
"""Pixels looked at together: what the painter has in hand stays in a core's cache."""


class GanConfig(FamilyConfig):
    """The measured recipe: the gamma, learning rates and batch statistics below belong together."""

    name: Literal["gan"] = "gan"
    batch_size: int = Field(144, ge=1, description="clips per update, over all ranks")
    group: int = Field(4, ge=1, description="clips of one caption that stand together, a run")
    threads: int | None = Field(1, ge=1, description="CPU threads, of each rank: small matrices gain from one alone")
    ground: RGB = Field((255, 255, 255), description="colour behind the object in the clips; also by name, or #rrggbb")
    noise: int = Field(6, ge=1, le=4096, description="angles of noise per clip: about as many as a clip has freedoms")
    text: int = Field(64, ge=1, le=4096, description="length of the generator's word vectors")
    width: int = Field(512, ge=8, le=8192, description="width of the hidden layers over whole clips")
    frame_code: int = Field(24, ge=1, le=4096, description="numbers that describe one frame inside the generator")
    frame_width: int = Field(128, ge=8, le=8192, description="width of the layer that decodes one frame")
    spots: int = Field(2, ge=1, le=256, description="soft spots that a frame is the sum of")
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


class Generator(nn.Module):
    """From Gaussian noise `(b, noise, 2)` and bags of words `(b, v)` to opacity at 8x8, `(b, t, 3, 8, 8)`.

    A perceptron plans the clip as one code a frame; a decoder shared by all frames turns a code into spots. Of each
    pair of noise only the angle is read, because a phase has no ends; the plan is made of slow waves first, because
    things move smoothly.
    """

    def __init__(self, config: GanConfig, frames: int, vocabulary: int):
        super().__init__()
        self.frames = frames
        self.words = word_table(vocabulary, config.text, WORDS)
        width = config.width
        self.plan = perceptron(2 * config.noise + config.text, width, width, frames * config.frame_code)
        self.decode = perceptron(config.frame_code, config.frame_width, 7 * config.spots)
        self.register_buffer("waves", slow_waves(frames), persistent=False)
        self.waves: Tensor

    def forward(self, noise: Tensor, bags: Tensor) -> Tensor:
        """One clip for each row."""
        angles = math.sqrt(2) * F.normalize(noise, dim=-1)
        known = torch.cat([angles.flatten(1), self.words(bags)], 1)
        return self.draw(self.plan(known).view(len(noise), self.frames, -1))

    @full_precision
    def draw(self, plan: Tensor) -> Tensor:
        """Clips of plans `(b, t, code)`: waves to frames, frames to spots, spots to opacity."""
        spots = self.decode(F.leaky_relu(self.waves @ plan, SLOPE))
        return draw_spots(spots.view(*plan.shape[:2], -1, 7))


def slow_waves(frames: int) -> Tensor:
    """Cosines over time, wave k with amplitude 1 / (1 + k), mean square of a row 1: `(t, t)`, invertible.

    Every sequence can be written with them, but small weights mean slow motion, so jitter has to be learnt on purpose.
    """
    time, wave = torch.arange(frames)[:, None] + 0.5, torch.arange(frames)
    basis = torch.cos(math.pi * time * wave / frames) / (1 + wave)
    basis[:, 0] /= math.sqrt(2)
    return basis / basis.square().sum(1).mean().sqrt()


class Discriminator(nn.Module):
    """Features phi of a clip at 8x8, and the scores w·phi + <phi, sum of word vectors> / sqrt(d).

    It reads every frame with the same eyes, as the generator draws them: a small perceptron for its look, and its
    moments, which say exactly where things are. It judges the readings, their changes and the changes of those, so that
    velocity and acceleration are plain to see; and it sees how far the features of clips with one caption scatter, so
    that a generator without variety is found out.
    """

    def __init__(self, config: GanConfig, frames: int, vocabulary: int):
        super().__init__()
        self.group = config.group
        self.words = word_table(vocabulary, config.features, WORDS)
        self.look = perceptron(3 * SMALL**2, config.look_width, config.look)
        seen = (3 * frames - 3) * (config.look + 6)
        self.judge = perceptron(seen, config.width, config.width, config.features)
        self.scatter = nn.Linear(config.features, config.features).apply(he_normal)
        self.realism = nn.Linear(config.features, 1).apply(he_normal)
        self.realism.weight.data.mul_(0.3)
        self.register_buffer("changes", derivatives(frames), persistent=False)
        self.changes: Tensor

    def forward(self, clips: Tensor) -> Tensor:
        """Features `(…, b, d)` of clips `(…, b, t, 3, 8, 8)` that stand in runs of `group` with one caption."""
        looks = F.leaky_relu(self.look(clips.flatten(-3)), SLOPE)
        states = torch.cat([looks, 0.7 * moments(clips)], -1)  # (…, b, t, look + 6)
        phi: Tensor = self.judge(full_precision(torch.matmul)(self.changes, states).flatten(-2))
        runs = phi.view(*phi.shape[:-2], -1, self.group, phi.shape[-1])
        deviation = ((runs - runs.mean(-2, keepdim=True)).square().mean(-2, keepdim=True) + 1e-6).sqrt()
        judged: Tensor = runs + self.scatter(deviation)
        return judged.flatten(-3, -2)

    def score(self, phi: Tensor, bags: Tensor) -> Tensor:
        """Score `(…, b)` of each clip with its own caption."""
        score: Tensor = self.realism(phi)[..., 0] + (phi * self.words(bags)).sum(-1) / math.sqrt(phi.shape[-1])
        return score

    def match(self, phi: Tensor, bags: Tensor) -> Tensor:
        """Scores of clips `(n, d)` with every caption `(m, v)`, `(n, m)`."""
        scores: Tensor = self.realism(phi) + phi @ self.words(bags).T / math.sqrt(phi.shape[-1])
        return scores


def derivatives(frames: int) -> Tensor:
    """Readings along time to themselves, twice their changes and twice the changes of those: `(3 t - 3, t)`."""
    same = torch.eye(frames)
    changes = 2 * same.diff(dim=0)
    return torch.cat([same, changes, changes.diff(dim=0)])


@final
class Gan(VideoModel):
    """Generator, discriminator and painter, all taught in one `training_step`; sampling uses averaged weights.

    Raises:
        LabError: a frame size that is no multiple of 8.
    """

    def __init__(self, config: GanConfig, spec: ClipSpec, vocabulary: tuple[str, ...]):
        super().__init__()
        if spec.size % SMALL:
            raise LabError(f"gan draws frames whose size is a multiple of 8 (found {spec.size}): render such clips")
        self.config: GanConfig = config
        self.spec = spec
        self.vocabulary = vocabulary
        self.generator = Generator(config, spec.frames, len(vocabulary))
        self.painter = Painter(config.painter_width, len(vocabulary), spec.size, config.ground)
        self.discriminator = Discriminator(config, spec.frames, len(vocabulary))
        self.average = nn.ModuleList(copy.deepcopy([self.generator, self.painter])).requires_grad_(False)

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
        if step == 0 and leads():
            warn_of_other_ground(batch.frames, config.ground)
        self._set_learning_rates(step, progress)
        self.forget_gradients()
        captions = bag_of_words(batch.all_captions, self.vocabulary).to(self.device)
        same = same_meaning(batch.all_captions).to(self.device)
        noise = torch.randn(len(captions), *self.noise_shape, device=self.device)
        lesson = draw_lesson(
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
        parts = [
            _Part(part, part.own(captions), shrink(part.frames, self.painter.ground))
            for part in batch.parts(config.accumulate, config.group)
        ]

        for part in parts:
            part.fake = self.generator(part.clips.own(noise), part.bags)
            self.learn(part.clips.weight, discriminator=self._discriminator_loss(part, captions, same, gamma))
        self.update("discriminator")
        for part in parts:
            fake_score = self.discriminator.score(self.discriminator(part.fake), part.bags)
            fooled = generator_loss(part.real_score, fake_score)  # of real clips the scores of before: a pass saved
            painted = lesson.loss(self.painter, part.clips, part.real, part.bags, config.painter_certainty)
            part.metrics |= {"loss/generator": fooled.detach(), "loss/painter": painted.detach()}
            self.learn(part.clips.weight, generator=fooled, painter=painted)
        self.update("generator", "painter")
        self._update_average(step)
        return weighted([part.clips for part in parts], [part.metrics for part in parts])

    def _discriminator_loss(self, part: "_Part", captions: Tensor, same: Tensor, gamma: float) -> Tensor:
        """Pairs, wrong captions, centring and, with a gamma, R1 and R2; notes metrics and the scores of real clips."""
        config = self.config
        clips = torch.stack([part.real, part.fake.detach()]).requires_grad_(gamma > 0)
        phi = self.discriminator(clips)
        scores = self.discriminator.score(phi, part.bags)  # (2, b)
        wrong = wrong_caption_loss(self.discriminator.match(phi[0], captions), scores[0], part.clips.own(same))
        judged = discriminator_loss(*scores)
        loss = judged + config.wrong_captions * wrong + config.centring * scores.sum(0).square().mean()
        if gamma:
            penalty = gradient_penalty(scores, clips, gamma)
            loss = loss + config.penalty_every * penalty
            part.metrics["loss/penalty"] = penalty.detach()
        part.real_score, fake_score = scores.detach()
        gap = (part.real_score - fake_score).mean()
        losses = {"loss/discriminator": judged.detach(), "loss/wrong_captions": wrong.detach()}
        part.metrics |= losses | {"score_gap": gap}
        return loss

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.config.noise, 2

    @torch.no_grad()
    def make(self, bags: Tensor, noise: Tensor) -> Tensor:
        """By the averaged weights: the generator once for all clips, the painter a few frames of a clip at a time."""
        generator, painter = self.average
        assert isinstance(painter, Painter)
        small: Tensor = generator(noise, bags)  # (b, t, 3, 8, 8)
        few = max(1, CACHED // self.spec.size**2)
        opacity = [
            painter.paint(frames, said) for clip, said in zip(small, bags, strict=True) for frames in clip.split(few)
        ]
        clips = torch.cat(opacity).view(*small.shape[:2], *opacity[0].shape[1:])
        return clips.mul_(-2).add_(2 * painter.ground - 1).clamp_(-1, 1).permute(0, 4, 1, 2, 3)

    def _set_learning_rates(self, step: int, progress: float) -> None:
        """Linear warm-up by step, half a cosine by progress."""
        warm = min(1.0, (step + 1) / self.config.warmup_steps)
        for name, optimizer in self.optimizers.items():
            start, end = (self.config.painter_lr, 0.0) if name == "painter" else (self.config.lr, self.config.lr_end)
            for group in optimizer.param_groups:
                group["lr"] = warm * cosine(start, end, progress)

    def _update_average(self, step: int) -> None:
        """Exponential averages with a half-life of 5 % of the steps so far, at most `average_steps`."""
        half_life = min(self.config.average_steps, 0.05 * (step + 1))
        now = [p.detach() for network in (self.generator, self.painter) for p in network.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), now, 1 - 0.5 ** (1 / half_life))


@dataclass
class _Part:
    """What an update holds of one part of its batch."""

    clips: Batch
    bags: Tensor
    real: Tensor
    fake: Tensor = field(init=False)
    real_score: Tensor = field(init=False)
    metrics: Metrics = field(default_factory=dict)
