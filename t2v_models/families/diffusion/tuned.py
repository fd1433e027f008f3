"""One clip is learnt by a model of images, which then shows its motion of other things (Wu et al. 2022,
arXiv:2212.11565, Tune-A-Video).

The image model's network looks at clips: its convolutions see each frame by itself, places of a frame look at those of
the first frame and of the frame before, and attention over the frames is added, which begins at almost nothing. Only
that and the query projections learn. Unlike there, a clip is not made of the noise that leads back to the one clip,
which keeps its look: noise is laid over it (Meng et al. 2022, arXiv:2108.01073, SDEdit), what was learnt makes the
first step, which decides what is where, and the image model as it was makes the others.

Letters in shapes: b clips, t frames, h and w pixels.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import AdamW, Optimizer

from t2v_models.batch import Batch, Metrics, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.distributed.collectives import all_reduce_tensor
from t2v_models.families.diffusion.guidance import Guidance
from t2v_models.families.diffusion.loss import distance
from t2v_models.families.diffusion.model import Diffusion
from t2v_models.families.diffusion.parts import stratified
from t2v_models.families.diffusion.samplers import Denoise, dpm2m
from t2v_models.families.diffusion.upsampler import shrink
from t2v_models.families.interpolation import noise_of
from t2v_models.families.parents import fitting
from t2v_models.families.rates import Fall, PacedConfig, PacedModel, Rise
from t2v_models.families.texts import beside, check_guidance, left_out, none_like
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.encoder import Text
from t2v_models.text.words import WordsConfig

QUERIES = re.compile(r".*(places|to_text)\.attention\.query\..*")
TIME = re.compile(r"network\.((down|up)\.\d+\.(attention|modulate)|when)\..*")
"""Attention over frames, and what tells a frame its place in the clip."""
ADDED = re.compile(r"network\.((down|up)\.\d+\.attention\.leave|when\.2)\..*")
"""Where these enter the network. An image model never learnt them, so they are no change of its weights."""
SMALL = 0.001
"""Deviation of these at the start: all that learns then does so from the first update on."""
LEARNT = 3.0
"""Noise level above which what was learnt of the clip decides: below, it would hold sizes and colours back as well."""
CONTRASTED = 1.0
"""Noise level down to which a prompt is contrasted with the caption of the clip: nearer, colours would be overdrawn."""
SPREAD = 1.0
"""Deviation of ln sigma of the noise levels learnt at."""


class TunedConfig(PacedConfig):
    """Half a minute of a processor for a clip of 32 px."""

    about = "one clip learnt by a diffusion of images, to show its motion of other things: made by 't2v tune'"

    parent_families: ClassVar[Mapping[str, str]] = {"image": "diffusion"}
    name: Literal["tuned"] = "tuned"
    batch_size: int = Field(2, ge=1, description="noise levels per update at which the clip is learnt, over all ranks")
    image: Path = Field(
        Path("diffusion"),
        description="run folder of a diffusion with images=1 and network=factorised, or its name in the lab",
    )
    lr: float = Field(1e-3, gt=0, le=1, description="AdamW step")
    warmup_steps: Rise = 10
    decay: Fall = 0.5
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of updates without the caption, from which guidance leads"
    )
    level: float = Field(
        2.2, description="mean of ln sigma of the noise learnt at: far, where it is decided what is where"
    )
    noise: float = Field(4.0, ge=1, le=200, description="laid over the clip, to be drawn anew: less keeps more of it")
    steps: int = Field(12, ge=1, le=1000, description="evaluations of the network for one clip")
    guidance: float = Field(2.0, ge=0, le=100, description="how strongly the prompt counts; 1 is as learnt")
    contrast: float = Field(
        8.0, ge=0, le=100, description="how strongly what it says otherwise than the clip's caption counts beside that"
    )
    caption: str = Field("", description="what the clip shows, as its dataset says; none: no contrast")

    @model_validator(mode="after")
    def _the_words_of_the_image_model(self) -> Self:
        if self.text_encoder != WordsConfig():
            raise ValueError("tuned has a text encoder already, its image model's: leave text_encoder out")
        return self

    @classmethod
    def tiny(cls) -> Self:
        return cls.model_validate({"image": "image_model", "batch_size": 4, "steps": 2, "threads": 1})

    @property
    def settings(self) -> dict[str, object]:
        return {name: value for name, value in super().settings.items() if name != "caption"}

    def with_captions(self, captions: Sequence[str]) -> Self:
        """With that of the one clip; what reads it is the image model's.

        Raises:
            LabError: the settings say another one.
        """
        if self.caption not in ("", captions[0]):
            raise LabError(f"caption is {self.caption!r} and the clip's is {captions[0]!r}: leave caption out")
        return self.model_copy(update={"caption": captions[0]})

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Tuned":
        return Tuned(self, spec, parents["image"])


@final
class Tuned(PacedModel):
    """A frozen image model, and what one clip changes of it.

    Raises:
        LabError: what is to be the image model is none, is of another size, or has no attention within frames.
    """

    able = frozenset({"guidance", "steps", "avoid"})
    frozen = ("image",)
    measured = ("clip", "is_seen")

    def __init__(self, config: TunedConfig, spec: ClipSpec, image: VideoModel):
        super().__init__()
        self.config: TunedConfig = config
        self.spec = spec
        self.image = fitting(image, Diffusion, "diffusion", "image", spec, config.image).requires_grad_(False)
        check_image_model(self.image, config.image)
        self.text = self.image.text
        levels = {"curve": "lognormal", "mean": config.level, "std": SPREAD}
        self.levels = self.image.config.training_levels.model_copy(update=levels)
        learnt = {
            name: weight
            for name, weight in self._network.named_parameters()
            if QUERIES.fullmatch(name) or TIME.fullmatch(name)
        }
        self.names = tuple(learnt)
        self.denoiser = nn.ParameterList(
            SMALL * torch.randn_like(weight) if ADDED.fullmatch(name) else torch.zeros_like(weight)
            for name, weight in learnt.items()
        )
        self.register_buffer("clip", torch.zeros(1, *self._shape))
        self.register_buffer("is_seen", torch.tensor(False))
        self.clip: Tensor
        self.is_seen: Tensor

    @property
    def _network(self) -> nn.Module:
        """As a denoiser, of averaged weights."""
        return self.image.average[0]

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        colours, _, height, width = self.image.shape
        return colours, self.spec.frames, height, width

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One."""
        return {"denoiser": AdamW(self.denoiser.parameters(), self.config.lr, (0.9, 0.98), weight_decay=0.0)}

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step; the very first keeps the clip, the first of its batch."""
        if not self.is_seen:
            for caption in dict.fromkeys(batch.all_captions):
                self.text.check(caption)
            self.see(all_reduce_tensor(to_video(batch.frames[:1]) * (batch.bounds[0] == 0)))
        return super().training_step(batch, step, progress)

    def see(self, video: Tensor) -> None:
        """Keep the one clip, `(1, 3, t, h, w)` in [-1, 1]: it begins all others."""
        self.clip.copy_(self._standard(video))
        self.is_seen.fill_(True)

    def _standard(self, video: Tensor) -> Tensor:
        """Clips as the image model has its frames."""
        small: Tensor = self.image.standardise(shrink(video, self.image.factor))
        return small

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """As of `Diffusion`, at one noise level a clip."""
        x0 = self._standard(to_video(part.frames))
        sigma = self.levels.at(stratified(part)).to(x0)
        noisy = x0 + sigma.view(-1, 1, 1, 1, 1) * part.randn(*x0.shape[1:])
        text = left_out(self.text(part.captions), part.rand() < self.config.dropout)
        error = self._denoise(text)(noisy, sigma) - x0
        counted = distance(error / self.image.expected(sigma).view(-1, 1, 1, 1, 1), self.image.config.distance)
        return {"denoiser": Loss(counted.mean((1, 2, 3, 4)).sum(), len(x0))}

    def _denoise(self, text: Text) -> Denoise:
        """The image model's network with what was learnt of the clip."""
        own = dict(self._network.named_parameters())
        changed = {
            name: change if ADDED.fullmatch(name) else own[name] + change
            for name, change in zip(self.names, self.denoiser, strict=True)
        }

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            told = x, sigma, text, None, None, "first and previous"
            clean: Tensor = functional_call(self._network, changed, told)
            return clean

        return denoise

    def _made_by(self, text: Text) -> Denoise:
        """What was learnt of the clip decides what is where, then the image model draws each frame by itself: the look
        of the clip was learnt with its motion, and would stay."""
        learnt, alone = self._denoise(text), torch.ones(1, dtype=torch.bool, device=self.device)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if float(sigma[0]) > LEARNT:
                return learnt(x, sigma)
            clean: Tensor = self._network(x, sigma, text, None, alone)
            return clean

        return denoise

    def check(self, request: Request) -> None:
        """As every model; guidance needs an image model that learnt with captions left out.

        Raises:
            LabError: so.
        """
        super().check(request)
        check_guidance(self.name, self.text, self._guidance(request), self.image.config.dropout, request.avoid)

    @torch.no_grad()
    def make(self, request: Request) -> Tensor:
        """Of the one clip under noise, which a seed draws."""
        text = self.text(request.prompts)
        away = none_like(text) if request.avoid is None else self.text([request.avoid] * len(request.prompts))
        levels = self.image.config.sampling_levels.model_copy(update={"high": self.config.noise})
        sigmas = levels.falling(request.steps or self.config.steps).to(self.device)
        fresh = noise_of(request.seeds, self._shape, self.device)
        denoise = self._guided(text, away, self._guidance(request))
        x = dpm2m(denoise, self.clip + sigmas[0] * fresh, sigmas, lambda: fresh)
        return self.image.enlarged(self.image.standardise.back(x))

    def _guided(self, text: Text, away: Text, scale: float) -> Denoise:
        """Guided away from some texts, and at far noise also from the caption of the clip: what a prompt asks otherwise
        has to stand against what is seen of the clip."""
        near = Guidance(scale)(self._made_by(text), self._made_by(beside(text, away)))
        caption, contrast = self.config.caption, self.config.contrast
        if not caption or not contrast:
            return near
        own = self.text([caption] * len(text.mask))
        far = self._made_by(beside(beside(text, away), own))

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if float(sigma[0]) <= CONTRASTED:
                return near(x, sigma)
            asked, less, shown = far(torch.cat([x, x, x]), torch.cat([sigma, sigma, sigma])).chunk(3)
            return less + scale * (asked - less) + contrast * (asked - shown)

        return denoise

    def _guidance(self, request: Request) -> float:
        return self.config.guidance if request.guidance is None else request.guidance


def check_image_model(image: Diffusion, place: Path) -> None:
    """See that it learnt images, by a network that can be made to look from frame to frame.

    Raises:
        LabError: it did not.
    """
    if not image.is_of_images:
        raise LabError(f"{place} is a diffusion of clips, not of images: train one with --set images=1")
    if image.config.network != "factorised" or not image.config.space_attention:
        raise LabError(
            f"{place} has no attention within frames, which tuning turns to other frames: train it with "
            "--set network=factorised --set space_attention=true"
        )
