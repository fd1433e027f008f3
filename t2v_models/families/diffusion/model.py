"""Video diffusion: a general model that knows nothing of what its clips show.

A cascade: a denoiser makes small clips, and an upsampler draws their frames at full size, learnt in the same run or in
one of its own (`upsampling`). What is even, bright or still in the data is measured from the first batch
(`standardise`); the papers' equations are in `precondition`, `noise_levels`, `samplers`, `guidance` and `loss`, the
networks in `folded` and `upsampler`.

Letters in shapes: b clips, t frames, h and w pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from t2v_models.batch import Batch, Metrics, to_frames, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.config import KEPT, DiffusionSettings
from t2v_models.families.diffusion.guidance import Guidance, by_two, dynamic_threshold, of_text, of_texts
from t2v_models.families.diffusion.known_frames import check_seen, projected, random_mask, reconstruction_guidance
from t2v_models.families.diffusion.loss import ExpectedError, distance
from t2v_models.families.diffusion.memory import check_memory
from t2v_models.families.diffusion.motion import check_motion, moving
from t2v_models.families.diffusion.networks import Network, network_of
from t2v_models.families.diffusion.parts import one_frame, stratified
from t2v_models.families.diffusion.precondition import Preconditioned
from t2v_models.families.diffusion.samplers import Churn, Denoise, Draw, sample, steps_of
from t2v_models.families.diffusion.standardise import Standardise
from t2v_models.families.diffusion.unet import Recipe, Sight
from t2v_models.families.diffusion.upsampler import (
    Upsampler,
    check_length,
    enlarge,
    reduction,
    shrink,
    upsampler_loss,
)  # fmt: skip
from t2v_models.families.diffusion.upsampling import Upsampling
from t2v_models.families.ema import Average, blend, power_share
from t2v_models.families.known import KnownFrames
from t2v_models.families.muon import BETAS, Muon
from t2v_models.families.parents import fitting
from t2v_models.families.rates import PacedModel
from t2v_models.families.texts import check_guidance, heard, left_out, mixed, none_like
from t2v_models.machine import threads
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Frames, Request
from t2v_models.text.encoder import Text

BLUR = 0.1
"""How far off a known frame may be made, in deviations of the data, before it is put in place."""


class DiffusionConfig(DiffusionSettings):
    """The settings, and what is made of them."""

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Diffusion":
        return Diffusion(self, spec, parents.get("upsampler"))


@final
class Diffusion(PacedModel):
    """A denoiser of small clips and an upsampler, taught together unless that is another run's; sampling uses averaged
    weights.

    Raises:
        LabError: a length that `every` does not divide; an upsampler of other clips, or from others.
    """

    able = frozenset({"guidance", "steps", "known_frames", "places", "avoid"})
    """And other lengths, where the network takes any."""
    measured = ("standardise", "expected")

    def __init__(self, config: DiffusionConfig, spec: ClipSpec, upsampler: VideoModel | None = None):
        super().__init__()
        config = config.for_shapes([spec])
        assert config.network != "auto"
        self.config: DiffusionConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.factor = reduction(spec.height, spec.width, config.base_size)
        height, width = spec.height // self.factor, spec.width // self.factor
        self.every = config.every if spec.frames > 1 else 1
        check_length(spec.frames, self.every)
        self.shape = 3, self._made(spec.frames), height, width
        still = config.images == 1  # pictures have no quick changes, and are the same whatever clip they are from
        self.standardise = Standardise(self.shape[1], height, width, 0.0 if still else config.balance)
        network = network_of(
            config.network, self.shape, self.text.width, config.patch, config.widths,
            Recipe(config.blocks, config.condition, config.space_attention, config.norm), config.given > 0,
            config.cross_attention,
        )  # fmt: skip
        if network.any_length:
            self.able = self.able | {"frames"}
        if config.space_attention and config.network == "factorised" and self.is_of_images:
            self.able = self.able | {"motion"}
        self.denoiser = Preconditioned(network, config.prediction)
        self.upsampler = self._upsampler(upsampler)
        learnt = [self.denoiser, *([self.upsampler] if isinstance(self.upsampler, Upsampler) else [])]
        self.average = Average(learnt)
        self.kept = nn.ModuleList(Average(learnt) for _ in config.ema_kept)
        self.weaker = Average(learnt) if config.weaker else None
        self.expected = ExpectedError(config.weight, config.training_levels.low, config.training_levels.high)

    def _upsampler(self, other: VideoModel | None) -> Upsampler | Upsampling | None:
        """Another run's, which stays as it is, or a fresh one, or none where small clips are whole."""
        config, spec = self.config, self.spec
        if other and config.upsampler:
            self.frozen = ("upsampler",)
            fit = fitting(other, Upsampling, "upsampler", "upsampler", spec, config.upsampler)
            fit.check_enlarges(self.factor, self.every, config.upsampler)
            return fit.requires_grad_(False)
        if self.factor == self.every == 1:
            return None
        return Upsampler(self.factor, config.upsampler_width, self.every > 1)

    def _made(self, frames: int) -> int:
        """How many of so many frames the denoiser makes."""
        return (frames - 1) // self.every + 1

    @property
    def is_of_images(self) -> bool:
        """Whether it has learnt single frames only: those of a clip then know nothing of each other."""
        return self.config.images == 1 or self.spec.frames == 1

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One a network."""
        config, network = self.config, self.denoiser.network
        assert isinstance(network, Network)
        hidden = network.hidden if config.optimizer == "muon" else []
        named = {id(weight) for weight in hidden}
        others = [weight for weight in self.denoiser.parameters() if id(weight) not in named]
        optimizers: dict[str, Optimizer] = {"denoiser": Muon(hidden, others, config.muon_lr, config.lr, BETAS)}
        if isinstance(self.upsampler, Upsampler):
            optimizers["upsampler"] = AdamW(self.upsampler.parameters(), config.lr, BETAS, weight_decay=0.0)
        return optimizers

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step of what learns; the very first looks at the data."""
        if not self.standardise.is_measured:
            self.standardise.measure(shrink(to_video(batch.frames), self.factor, self.every))
        return super().training_step(batch, step, progress)

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of the denoiser at one noise level a clip; of the upsampler at one frame a clip."""
        video = to_video(part.frames)
        small = shrink(video, self.factor, self.every)
        learnt = one_frame(part, small) if self._learns_images(step, progress) else small
        found = {"denoiser": self._denoiser_loss(part, learnt)}
        if isinstance(self.upsampler, Upsampler):
            found["upsampler"] = upsampler_loss(self.upsampler, part, small, video, self.every)
        return found

    def _learns_images(self, step: int, progress: float) -> bool:
        """Whether this update is of single frames, so that the share of those so far is as it should be."""
        share = self.config.images
        return progress < self.config.images_first or int((step + 1) * share) > int(step * share)

    def _denoiser_loss(self, part: Batch, small: Tensor) -> Loss:
        config, frames = self.config, small.shape[2]
        x0 = self.standardise(small)
        sigma = config.training_levels.at(stratified(part)).to(x0)
        noisy = x0 + sigma.view(-1, 1, 1, 1, 1) * part.randn(*x0.shape[1:])
        text = left_out(self.text(part.captions), part.rand() < config.dropout)
        known = KnownFrames(small, random_mask(part, frames, config.given)) if config.given and frames > 1 else None
        alone = part.rand() < config.alone if config.alone and frames > 1 else None
        error = self.denoiser(noisy, sigma, text, self._channels(known), alone) - x0
        counted = distance(error / self.expected(sigma).view(-1, 1, 1, 1, 1), config.distance)
        squares = error.detach().square().mean((1, 2, 3, 4))
        self.expected.note(sigma, squares)
        return Loss(counted.mean((1, 2, 3, 4)).sum(), len(x0), {"error": squares.sum()})

    def after_step(self, step: int, progress: float) -> None:
        """Averages of weights, and what errors to expect."""
        powers = self.config.ema_power, *self.config.ema_kept
        for average, power in zip(self._averages, powers, strict=True):
            average.update(power_share(step, power))
        if self.weaker and progress <= self.config.weaker:
            self.weaker.become([self.average], [1])
        self.expected.remember()

    @property
    def _averages(self) -> list[Average]:
        return [self.average, *(kept for kept in self.kept if isinstance(kept, Average))]

    @property
    def stride(self) -> int:
        """`sampler.Strides`: from a frame that is made first to the next."""
        return self.every

    def choose_average(self, power: float) -> None:
        """`ChoosesAverage`."""
        kept = self.config.ema_kept
        if not kept:
            raise LabError(
                f"this run kept no averages to choose from: train with --set ema_kept={KEPT}, which costs as much "
                "memory as so many models"
            )
        if not min(kept) <= power <= max(kept):
            raise LabError(
                f"the power is between those that were kept, {min(kept):g} and {max(kept):g} (found {power:g})"
            )
        self.average.become(self._averages[1:], blend(kept, power))
        self.config = self.config.model_copy(update={"ema_power": power})

    def check(self, request: Request) -> None:
        """As every model; guidance needs captions that were left out in training.

        Raises:
            LabError: so.
        """
        super().check(request)
        frames, size = request.frames or self.spec.frames, request.size or (self.spec.height, self.spec.width)
        check_length(frames, self.every)
        widest = max(self.config.widths) / (self.factor * self.config.patch) ** 2
        check_memory(min(self.sample_batch, len(request.seeds)), frames, size, widest, self.device)
        check_seen(self.settled(request), self.every)
        if request.motion is not None:
            check_motion(request.motion, frames, request.known_frames is not None)
        check_guidance(self.name, self.text, self._guidance(request), self.config.dropout, request.avoid)

    def make(self, request: Request) -> Tensor:
        """By the averaged weights. The noise of a clip, what a sampler adds included, is drawn by its own seed."""
        with torch.inference_mode(False), torch.no_grad():  # some gradients are taken
            given = KnownFrames.of(request, request.frames or self.spec.frames, self.device)
            draw = self.noise(request.seeds, request.frames, request.size)
            text = heard(self.text(request.prompts), self.config.dropout)
            away = none_like(text) if request.avoid is None else self.text([request.avoid] * len(request.prompts))
            scale = self._guidance(request)
            if request.motion is not None:
                return self._moved(text, away, draw, scale, request.steps, request.motion)
            return self.sampled(text, away, draw, scale, request.steps, given)

    def interpolate(self, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
        """`sampler.Interpolates`: tokens are mixed in proportion, noises along a quarter circle."""
        share = torch.linspace(0, 1, count, device=self.device)
        turn = (share * torch.pi / 2 if seeds[0] != seeds[1] else 0 * share).view(-1, 1, 1, 1, 1)
        one, other = (self.noise([seed] * count) for seed in seeds)
        return self._on_the_way(prompts, share, lambda: one() * turn.cos() + other() * turn.sin())

    def dissolve(self, clips: Frames, noise: float, prompts: tuple[str, str], seed: int, count: int) -> Frames:
        """`sampler.Dissolves`: both are dissolved in the same noise, mixed in proportion and made clear again (as in Ho
        et al. 2020, arXiv:2006.11239, section 4.4, where each has its own, of which a mixture has less)."""
        if not noise > (least := self.config.sampling_levels.low):
            raise LabError(f"noise {noise:g} dissolves nothing, for the last step is at {least:g}: use more")
        share = torch.linspace(0, 1, count, device=self.device)
        with torch.inference_mode():
            video = to_video(torch.from_numpy(clips).to(self.device))
            one, other = self.standardise(shrink(video, self.factor, self.every))
            mixture = torch.lerp(one, other, share.view(-1, 1, 1, 1, 1))
        return self._on_the_way(prompts, share, self.noise([seed] * count, *clips.shape[1:2]), mixture, noise)

    def _on_the_way(
        self, prompts: tuple[str, str], share: Tensor, draw: Draw, begin: Tensor | None = None,
        noise: float | None = None,
    ) -> Frames:  # fmt: skip
        with torch.inference_mode(), threads(self.config.threads):
            text = mixed(heard(self.text(prompts), self.config.dropout), share)
            video = self.sampled(text, none_like(text), draw, self.config.guidance, begin=begin, noise=noise)
            return to_frames(video)

    def noise(self, seeds: Sequence[int], frames: int | None = None, size: tuple[int, int] | None = None) -> Draw:
        """What draws standard noise for small clips, of their own length and size or others, row i by `seeds[i]`."""
        colours, length, *small = self.shape
        shape = (
            colours,
            self._made(frames) if frames else length,
            *((side // self.factor for side in size) if size else small),
        )
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return lambda: torch.stack([torch.randn(shape, generator=own) for own in generators]).to(self.device)

    def sampled(
        self, text: Text, away: Text, draw: Draw, scale: float, calls: int | None = None,
        given: KnownFrames | None = None, begin: Tensor | None = None, noise: float | None = None,
    ) -> Tensor:  # fmt: skip
        """Clips of texts, guided away from others, at full size; `calls` of the denoiser, by default as configured.

        They may begin with small clips under so much noise.
        """
        config = self.config
        small = given and KnownFrames(shrink(given.video, self.factor, self.every), given.known[:, :: self.every])
        denoise = self._denoise(text, away, scale, small)
        steps = steps_of(config.sampler, calls or config.steps)
        levels = config.sampling_levels if noise is None else config.sampling_levels.model_copy(update={"high": noise})
        sigmas = levels.falling(steps).to(self.device)
        x = sigmas[0] * draw() + (0 if begin is None else begin)
        x = sample(config.sampler, denoise, x, sigmas, draw, Churn(config.churn))
        video = self.enlarged(self.standardise.back(x))
        return given.over(video) if given else video

    def _moved(
        self, text: Text, away: Text, draw: Draw, scale: float, calls: int | None, motion: tuple[float, float]
    ) -> Tensor:
        """Clips whose frames are pictures that look at the first one, which begins each moved by so many px a frame."""
        config = self.config
        sigmas = config.sampling_levels.falling(calls or config.steps).to(self.device)
        sights: tuple[Sight, Sight] = ("own", "first")
        first, looking = (self._denoise(text, away, scale, None, sight) for sight in sights)
        x = moving(first, looking, draw, sigmas, (motion[0] / self.factor, motion[1] / self.factor))
        return self.enlarged(self.standardise.back(x))

    def enlarged(self, small: Tensor) -> Tensor:
        """Clips at full size, in [-1, 1]."""
        if isinstance(self.upsampler, Upsampling):
            return self.upsampler.enlarged(small)
        return (enlarge(self.average[1], small, self.every) if self.upsampler else small).clamp(-1, 1)

    def _denoise(
        self, text: Text, away: Text, scale: float, given: KnownFrames | None, sight: Sight = "own"
    ) -> Denoise:
        """The averaged denoiser with all that the configuration, the text and small known frames ask of it."""
        config, denoiser, back = self.config, self.average[0], self.standardise.back
        guidance = Guidance(scale, config.guidance_low, config.guidance_high, config.guidance_rescale)
        channels = self._channels(given)
        apart = self.is_of_images and "frames" in self.able
        alone = torch.ones(1, dtype=torch.bool, device=self.device) if apart else None
        towards = of_text(denoiser, text, channels, alone, sight)
        if self.weaker:
            both = by_two(towards, of_text(self.weaker[0], away, channels, alone, sight))
        else:
            both = of_texts(denoiser, text, away, channels, alone, sight)
        denoise = guidance(towards, both)
        if share := config.threshold:
            denoise = projected(denoise, lambda x: self.standardise(dynamic_threshold(back(x), share)))
        if given and not config.given:
            known = given.known[:, None, :, None, None]
            look: Callable[[Tensor], Tensor] = lambda x: self.standardise.pictures(back(x)) * known  # noqa: E731
            denoise = reconstruction_guidance(
                denoise, look, look(self.standardise(given.video)), config.reconstruction, BLUR
            )
        return projected(denoise, lambda x: self.standardise(given.over(back(x)))) if given else denoise

    def _channels(self, given: KnownFrames | None) -> Tensor | None:
        """What the network sees of known frames, if it was trained so."""
        return given.channels(self.standardise.pictures(given.video)) if given and self.config.given else None

    def _guidance(self, request: Request) -> float:
        return self.config.guidance if request.guidance is None else request.guidance
