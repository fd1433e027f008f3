"""Video diffusion: a general model that knows nothing of what its clips show.

A cascade: a denoiser makes small clips with every frame, and an upsampler draws their frames at full size. What is
even, bright or still in the data is measured from the first batch (`standardise`); the papers' equations are in
`precondition`, `noise_levels`, `samplers`, `guidance` and `loss`, the networks in `folded` and `upsampler`.

Letters in shapes: b clips, t frames, h and w pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, final

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from t2v_models.batch import Batch, Metrics, to_frames, to_video
from t2v_models.clips.spec import ClipSpec, sides
from t2v_models.config import LabError
from t2v_models.families.diffusion.given import Given, drawn, keep, reconstruct
from t2v_models.families.diffusion.guidance import Guidance, dynamic_threshold
from t2v_models.families.diffusion.loss import Distance, ExpectedError, Weight, distance
from t2v_models.families.diffusion.networks import Network, NetworkName, network_of
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.parts import one_frame, stratified
from t2v_models.families.diffusion.precondition import Preconditioned, Prediction
from t2v_models.families.diffusion.samplers import CHURNED, Churn, Denoise, Draw, SamplerName, sample, steps_of
from t2v_models.families.diffusion.standardise import Standardise
from t2v_models.families.diffusion.texts import beside, left_out, mixed, none_like
from t2v_models.families.diffusion.upsampler import Upsampler, enlarge, shrink
from t2v_models.families.ema import Average, power_share
from t2v_models.families.muon import Muon
from t2v_models.machine import threads
from t2v_models.model import FamilyConfig, Loss, LossModel, VideoModel
from t2v_models.sampler import Frames, Request
from t2v_models.text.encoder import Text

BETAS = (0.9, 0.98)
BLUR = 0.1
"""How far off a known frame may be made, in deviations of the data, before it is put in place."""
FORGIVEN = 0.1
"""The most noise on the upsampler's input, of the half range of values: about what errors the denoiser makes."""


class DiffusionConfig(FamilyConfig):
    """The recipe that learnt most in a CPU's minutes, on rendered and on real clips."""

    about = "video diffusion: a cascade of a text-conditioned denoiser of small clips and an upsampler of frames"

    name: Literal["diffusion"] = "diffusion"
    batch_size: int = Field(64, ge=1, description="clips per update, over all ranks")
    base_size: int = Field(16, ge=4, le=512, description="least height of the small clips that are made first")
    network: NetworkName = Field(
        "folded", description="of the denoiser: time in channels, frames and attention over time, or patches"
    )
    patch: int = Field(2, ge=1, le=64, description="pixels on a side that the denoiser's first layer takes together")
    widths: tuple[int, ...] = Field(
        (96, 192), min_length=1, description="channels at each halving of the resolution; the last is a transformer's"
    )
    blocks: int = Field(2, ge=1, le=64, description="residual blocks at each resolution, down and up; layers")
    condition: int = Field(256, ge=8, le=8192, multiple_of=2, description="length of the vector of level and text")
    cross_attention: bool = Field(False, description="folded looks at every word, as the other networks always do")
    upsampler_width: int = Field(24, ge=4, le=1024, description="channels of the upsampler")
    balance: float = Field(0.5, ge=0, le=1, description="how far quick changes are made as large as what is still")
    prediction: Prediction = Field("x0", description="what the denoiser's network says: clip, noise, v or velocity")
    weight: Weight = Field("even", description="how much each noise level counts")
    distance: Distance = Field("l2", description="how errors are measured")
    training_levels: NoiseLevels = Field(
        NoiseLevels(curve="lognormal", low=0.02, high=200, mean=1.0, std=1.4), description="noise levels learnt at"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of captions left out, which guidance needs")
    given: float = Field(0.0, ge=0, le=1, description="share of clips learnt with some of their frames known")
    reconstruction: int = Field(
        1, ge=1, le=100, description="gradients a call that lead to known frames where given is 0"
    )
    images: float = Field(0.0, ge=0, le=1, description="share of updates that learn single frames; not for folded")
    images_first: float = Field(0.0, ge=0, lt=1, description="share of the run, its beginning, that learns only these")
    alone: float = Field(0.0, ge=0, le=1, description="share of clips learnt without time; not for folded")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="of the denoiser's hidden matrices")
    muon_lr: float = Field(0.01, gt=0, le=1, description="Muon step of these")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    warmup_steps: int = Field(30, ge=1, le=100_000, description="updates over which the steps rise from 0")
    decay: float = Field(0.7, gt=0, le=1, description="share of the run, its end, over which they fall to 0")
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")
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
    def _churn_where_it_belongs(self) -> "DiffusionConfig":
        if self.churn and self.sampler not in CHURNED:
            raise ValueError(f"churn is for {' and '.join(CHURNED)}: use 0 with {self.sampler}")
        return self

    @model_validator(mode="after")
    def _frames_apart_where_they_can_be(self) -> "DiffusionConfig":
        if self.network == "folded" and (self.images or self.images_first or self.alone):
            raise ValueError(
                "images, images_first and alone need a network whose frames can be without each other: use network "
                "factorised or transformer"
            )
        return self

    @classmethod
    def tiny(cls) -> "DiffusionConfig":
        small = {"base_size": 8, "widths": (8, 16), "blocks": 1, "condition": 16, "upsampler_width": 8}
        return cls.model_validate(
            small | {"batch_size": 4, "prediction": "v", "dropout": 0.5, "steps": 2, "threads": 1}
        )

    def plan(self, spec: ClipSpec) -> str:
        factor = reduction(spec.height, spec.width, self.base_size)
        small = f"denoises clips of {sides(spec.height // factor, spec.width // factor)} px"
        if factor == 1:
            return f"{small}, their own size, which base_size {self.base_size} leaves no whole part of"
        return f"{small} and enlarges their frames {factor} times: the least from base_size {self.base_size} on"

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Diffusion":
        return Diffusion(self, spec)


@final
class Diffusion(LossModel):
    """A denoiser of small clips and an upsampler, taught together; sampling uses averaged weights.

    Raises:
        LabError: a frame size that the denoiser's cells do not divide.
    """

    able = frozenset({"guidance", "steps", "first_frames", "avoid"})

    def __init__(self, config: DiffusionConfig, spec: ClipSpec):
        super().__init__()
        self.config: DiffusionConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.factor = reduction(spec.height, spec.width, config.base_size)
        height, width = spec.height // self.factor, spec.width // self.factor
        self.shape = 3, spec.frames, height, width
        self.standardise = Standardise(spec.frames, height, width, config.balance)
        network = network_of(
            config.network, self.shape, self.text.width, config.patch, config.widths, config.blocks, config.condition,
            config.given > 0, config.cross_attention,
        )  # fmt: skip
        self.denoiser = Preconditioned(network, config.prediction)
        self.upsampler = Upsampler(self.factor, config.upsampler_width) if self.factor > 1 else None
        self.average = Average([network for network in (self.denoiser, self.upsampler) if network])
        self.expected = ExpectedError(config.weight, config.training_levels.low, config.training_levels.high)

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One a network."""
        config, network = self.config, self.denoiser.network
        assert isinstance(network, Network)
        hidden = network.hidden if config.optimizer == "muon" else []
        named = {id(weight) for weight in hidden}
        others = [weight for weight in self.denoiser.parameters() if id(weight) not in named]
        optimizers: dict[str, Optimizer] = {"denoiser": Muon(hidden, others, config.muon_lr, config.lr, BETAS)}
        if self.upsampler:
            optimizers["upsampler"] = AdamW(self.upsampler.parameters(), config.lr, BETAS, weight_decay=0.0)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step of both networks; the very first looks at the data."""
        if not self.standardise.is_measured:
            self.standardise.measure(shrink(to_video(batch.frames), self.factor))
        return super().training_step(batch, step, progress)

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of the denoiser at one noise level a clip; of the upsampler at one frame a clip."""
        video = to_video(part.frames)
        small = shrink(video, self.factor)
        learnt = one_frame(part, small) if self._learns_images(step, progress) else small
        found = {"denoiser": self._denoiser_loss(part, learnt)}
        if self.upsampler:
            found["upsampler"] = self._upsampler_loss(self.upsampler, part, small, video)
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
        known = Given(small, drawn(part, frames, config.given)) if config.given and frames > 1 else None
        alone = part.rand() < config.alone if config.alone and frames > 1 else None
        error = self.denoiser(noisy, sigma, text, self._channels(known), alone) - x0
        counted = distance(error / self.expected(sigma).view(-1, 1, 1, 1, 1), config.distance)
        squares = error.detach().square().mean((1, 2, 3, 4))
        self.expected.note(sigma, squares)
        return Loss(counted.mean((1, 2, 3, 4)).sum(), len(x0), {"error": squares.sum()})

    def _upsampler_loss(self, upsampler: Upsampler, part: Batch, small: Tensor, video: Tensor) -> Loss:
        rows = torch.arange(len(video), device=self.device)
        frame = (part.rand() * video.shape[2]).long()
        noise = FORGIVEN * part.rand()[:, None, None, None] * part.randn(*small.shape[1:2], *small.shape[3:])
        error = upsampler(small[rows, :, frame] + noise) - video[rows, :, frame]
        return Loss(error.square().mean((1, 2, 3)).sum(), len(video))

    def before_step(self, step: int, progress: float) -> None:
        """A linear rise by step, a linear fall to 0 at the end by progress."""
        share = min(1.0, (step + 1) / self.config.warmup_steps) * min(1.0, (1 - progress) / self.config.decay)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = share * group["initial_lr"]

    def after_step(self, step: int, progress: float) -> None:
        """Averages of weights, and what errors to expect."""
        self.average.update(power_share(step, self.config.ema_power))
        self.expected.remember()

    def check(self, request: Request) -> None:
        """As every model; guidance needs captions that were left out in training.

        Raises:
            LabError: so.
        """
        super().check(request)
        if request.steps is not None and request.steps < 1:
            raise LabError(f"{self.name} makes a clip in 1 step or more (found {request.steps})")
        guidance = self._guidance(request)
        if request.avoid is not None:
            self.text.check(request.avoid)
            if guidance == 1:
                raise LabError("what to avoid works through guidance, and guidance 1 is none: ask for more, such as 3")
        if guidance != 1 and not self.config.dropout:
            raise LabError(
                f"{self.name} was trained without leaving captions out (dropout 0), so it knows no clip without text "
                f"and guidance {guidance:g} has no meaning: use guidance 1"
            )

    def make(self, request: Request) -> Tensor:
        """By the averaged weights. The noise of a clip, what a sampler adds included, is drawn by its own seed."""
        given = None if request.first_frames is None else self._begun(to_video(request.first_frames))
        return self.completed(request, given)

    def completed(self, request: Request, given: Given | None) -> Tensor:
        """The same, of clips of which any frames may be known, at full size."""
        with torch.inference_mode(False), torch.no_grad():  # some gradients are taken
            given = given and Given(given.video.clone(), given.known.clone())
            draw = self._noise(request.seeds)
            text = self.text(request.prompts)
            away = none_like(text) if request.avoid is None else self.text([request.avoid] * len(request.prompts))
            return self._sampled(text, away, draw, self._guidance(request), request.steps, given)

    def _begun(self, frames: Tensor) -> Given:
        """Clips that begin with these frames `(b, 3, k, h, w)`."""
        video = frames.new_zeros(*frames.shape[:2], self.spec.frames, *frames.shape[3:])
        video[:, :, : frames.shape[2]] = frames
        known = torch.arange(self.spec.frames) < frames.shape[2]
        return Given(video.to(self.device), known.expand(len(video), -1).to(self.device))

    def interpolate(self, prompts: tuple[str, str], seeds: tuple[int, int], count: int) -> Frames:
        """`sampler.Interpolates`: tokens are mixed in proportion, noises along a quarter circle."""
        share = torch.linspace(0, 1, count, device=self.device)
        turn = (share * torch.pi / 2 if seeds[0] != seeds[1] else 0 * share).view(-1, 1, 1, 1, 1)
        one, other = (self._noise([seed] * count) for seed in seeds)
        with torch.inference_mode(), threads(self.config.threads):
            text = mixed(self.text(prompts), share)
            draw: Draw = lambda: one() * turn.cos() + other() * turn.sin()  # noqa: E731
            return to_frames(self._sampled(text, none_like(text), draw, self.config.guidance, None, None))

    def _noise(self, seeds: Sequence[int]) -> Draw:
        """What draws standard noise `(b, *shape)`, row i by `seeds[i]`."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return lambda: torch.stack([torch.randn(self.shape, generator=own) for own in generators]).to(self.device)

    def _sampled(
        self, text: Text, away: Text, draw: Draw, scale: float, calls: int | None, given: Given | None
    ) -> Tensor:
        """Clips of texts, guided away from others, at full size; `calls` of the denoiser, by default as configured."""
        config = self.config
        upsampler = self.average[1] if self.upsampler else None
        denoise = self._denoise(text, away, scale, given and Given(shrink(given.video, self.factor), given.known))
        steps = steps_of(config.sampler, calls or config.steps)
        sigmas = config.sampling_levels.falling(steps).to(self.device)
        x = sample(config.sampler, denoise, sigmas[0] * draw(), sigmas, draw, Churn(config.churn))
        video = self.standardise.back(x)
        video = (enlarge(upsampler, video) if upsampler else video).clamp(-1, 1)
        return given.over(video) if given else video

    def _denoise(self, text: Text, away: Text, scale: float, given: Given | None) -> Denoise:
        """The averaged denoiser with all that the configuration, the text and small known frames ask of it."""
        config, denoiser, back = self.config, self.average[0], self.standardise.back
        guidance = Guidance(scale, config.guidance_low, config.guidance_high, config.guidance_rescale)
        channels = self._channels(given)
        twice = channels if channels is None else torch.cat([channels, channels])
        denoise = guidance(_with(denoiser, text, channels), _with(denoiser, beside(text, away), twice))
        if share := config.threshold:
            denoise = keep(denoise, lambda x: self.standardise(dynamic_threshold(back(x), share)))
        if given and not config.given:
            known = given.known[:, None, :, None, None]
            look: Callable[[Tensor], Tensor] = lambda x: self.standardise.pictures(back(x)) * known  # noqa: E731
            denoise = reconstruct(denoise, look, look(self.standardise(given.video)), config.reconstruction, BLUR)
        return keep(denoise, lambda x: self.standardise(given.over(back(x)))) if given else denoise

    def _channels(self, given: Given | None) -> Tensor | None:
        """What the network sees of known frames, if it was trained so."""
        return given.channels(self.standardise.pictures(given.video)) if given and self.config.given else None

    def _guidance(self, request: Request) -> float:
        return self.config.guidance if request.guidance is None else request.guidance


def reduction(height: int, width: int, base: int) -> int:
    """The largest divisor of both sides that leaves at least `base` pixels of each."""
    most = max(1, min(height, width) // base)
    return max(factor for factor in range(1, most + 1) if height % factor == width % factor == 0)


def _with(denoiser: nn.Module, text: Text, given: Tensor | None) -> Denoise:
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        clean: Tensor = denoiser(x, sigma, text, given)
        return clean

    return denoise
