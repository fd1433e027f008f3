"""The article's own network, kept as it was: the row every other family is measured against.

"AI text-to-video model from scratch" (F. Khan, 2024) trains a generator and a discriminator of single frames. What
keeps it from following a prompt is kept on purpose, so that the table shows what each fault costs:

- every frame has noise of its own and no frame number, so a clip is a heap of unrelated frames;
- the discriminator never sees the prompt, so ignoring the text is the generator's best play;
- word vectors stay at their random start and are averaged;
- a sigmoid with binary cross-entropy, no normalisation, no averaged weights, no schedule.

Only what kept it from running at all is mended: clips are real (the article's renderer draws nothing), the words and
their vectors are saved with the model, and samples are not clipped below mid-grey.
"""

from collections.abc import Mapping
from typing import Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from t2v_models.batch import Batch, Metrics, to_video, weighted
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.interpolation import interpolate, noise_of
from t2v_models.families.layers import full_precision
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.sampler import Frames, Request


class FrameGanConfig(FamilyConfig):
    """The article's numbers."""

    about = "the article's network as published: frames are independent, its discriminator never sees the text"

    name: Literal["frame_gan"] = "frame_gan"
    batch_size: int = Field(16, ge=1, description="clips per update, over all ranks; one random frame of each is used")
    noise: int = Field(100, ge=1, le=4096, description="numbers of noise per frame")
    text: int = Field(10, ge=1, le=4096, description="length of the word vectors")
    width: int = Field(256, ge=4, le=4096, multiple_of=4, description="channels at the smallest size")
    lr: float = Field(2e-4, gt=0, le=1, description="Adam step of both networks")

    @classmethod
    def tiny(cls) -> "FrameGanConfig":
        return cls(batch_size=4, width=16, threads=1)

    @property
    def told(self) -> Literal["tokens", "sum", "order"]:
        return "sum"

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "FrameGan":
        return FrameGan(self, spec)


def generator(config: FrameGanConfig, size: int) -> nn.Sequential:
    """From `(n, noise + text)` to frames `(n, 3, s, s)` in [-1, 1]: 2.5 million weights at 64 px."""
    w, small = config.width, size // 8
    return nn.Sequential(
        nn.Linear(config.noise + config.text, w * small**2),
        nn.ReLU(),
        nn.Unflatten(1, (w, small, small)),
        nn.ConvTranspose2d(w, w // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(w // 2, w // 4, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(w // 4, 3, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def discriminator(config: FrameGanConfig, size: int) -> nn.Sequential:
    """From frames `(n, 3, s, s)` to the probability that each is real, `(n, 1)`: 0.7 million weights at 64 px."""
    w = config.width
    return nn.Sequential(
        nn.Conv2d(3, w // 4, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(w // 4, w // 2, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(w // 2, w, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(w * (size // 8) ** 2, 1),
        Probability(),
    )


class Probability(nn.Sigmoid):
    """The article's sigmoid, in full precision."""

    forward = full_precision(nn.Sigmoid.forward)


@final
class FrameGan(VideoModel):
    """The article's generator and discriminator of single frames.

    Raises:
        LabError: frames that are not square, or of a size that is no multiple of 8.
    """

    def __init__(self, config: FrameGanConfig, spec: ClipSpec):
        super().__init__()
        if spec.height != spec.width or spec.height % 8:
            raise LabError(
                f"frame_gan draws square frames whose sides are multiples of 8 (found {spec.width} x {spec.height} "
                "px): make such clips, or train diffusion"
            )
        self.config: FrameGanConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.register_buffer("words", torch.randn(self.text.width, config.text))  # never trained, but saved
        self.words: Tensor
        self.generator = generator(config, spec.size)
        self.discriminator = discriminator(config, spec.size)

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One for each network."""
        return {
            name: Adam(network.parameters(), self.config.lr, (0.5, 0.999), fused=True)
            for name, network in (("generator", self.generator), ("discriminator", self.discriminator))
        }

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One update of each network on one random frame of each clip: the article's shuffled frames."""
        self.forget_gradients()
        whole = len(batch.all_captions)
        frame = torch.randint(self.spec.frames, (whole,), device=self.device)
        noise = torch.randn(whole, self.config.noise, device=self.device)
        parts, fakes, metrics = batch.parts(self.config.accumulate, self.config.group), [], []
        for part in parts:
            n = len(part.captions)
            chosen = part.frames[torch.arange(n, device=self.device), part.own(frame)]  # (n, s, s, 3)
            real = to_video(chosen[:, None])[:, :, 0]  # (n, 3, s, s)
            bags = self.text.pooled(part.captions)
            fake = self.generator(torch.cat([part.own(noise), self._text(bags)], 1))
            on_real, on_fake = self.discriminator(torch.cat([real, fake.detach()])).split(n)
            judged = cross_entropy(on_real, 1.0) + cross_entropy(on_fake, 0.0)
            self.accumulate_gradients(part.weight, discriminator=judged)
            fakes.append(fake)
            metrics.append({"loss/discriminator": judged.detach(), "score_gap": (on_real - on_fake).mean().detach()})
        self.optimizer_step("discriminator")
        for part, fake, figures in zip(parts, fakes, metrics, strict=True):
            fooled = cross_entropy(self.discriminator(fake), 1.0)
            self.accumulate_gradients(part.weight, generator=fooled)
            figures["loss/generator"] = fooled.detach()
        self.optimizer_step("generator")
        return weighted(parts, metrics)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of one clip."""
        return self.spec.frames, self.config.noise

    def make(self, request: Request) -> Tensor:
        """Each clip from the noise of its own seed."""
        noise = noise_of(request.seeds, self.noise_shape, self.device)
        return self.draw(self.text.pooled(request.prompts), noise)

    def interpolate(self, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
        """`sampler.Interpolates`."""
        return interpolate(self, self.draw, self.noise_shape, prompts, seeds, count)

    @torch.no_grad()
    def draw(self, bags: Tensor, noise: Tensor) -> Tensor:
        """The frames of a clip share its prompt, and each has noise of its own."""
        text = self._text(bags).expand(self.spec.frames, -1, -1).transpose(0, 1)  # (b, t, text)
        clips = [self.generator(torch.cat(parts, 1)) for parts in zip(noise, text, strict=True)]
        return torch.stack(clips).transpose(1, 2)

    def _text(self, bags: Tensor) -> Tensor:
        """The mean of the word vectors of each bag, `(n, text)`."""
        return bags @ self.words / bags.sum(1, keepdim=True).clamp_min(1)


@full_precision
def cross_entropy(probability: Tensor, target: float) -> Tensor:
    """Binary cross-entropy of `(n, 1)` probabilities against one target for all."""
    return F.binary_cross_entropy(probability, torch.full_like(probability, target))
