"""ModelScope's text-to-video (Wang et al. 2023, arXiv:2308.06571) from scratch: classes of diffusers, our training.

`UNet3DConditionModel` learns to take noise from the latents of a frozen autoencoder of frames; it looks at the words
of the prompt, vectors of a `CLIPTextModel` that learns with it. What makes clips here is `TextToVideoSDPipeline`
itself, so a folder that `save_pipeline` writes makes the same ones where this package is not.

Unlike the paper's, its network says v (Salimans & Ho 2022, arXiv:2202.00512, appendix D), and its last noise level
holds no clip at all (Lin et al. 2023, arXiv:2305.08891): clips of one even background are known from far noise.

Letters in shapes as in `autoencoder`; l tokens of a text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from t2v_models import library
from t2v_models.batch import Batch, Metrics, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.parts import stratified
from t2v_models.families.ema import Average, power_share
from t2v_models.families.layers import at_least_float32
from t2v_models.families.modelscope.autoencoder import GROUPS, FrameAutoencoder, by_muon
from t2v_models.families.modelscope.config import ModelscopeSettings
from t2v_models.families.modelscope.folder import save_whole
from t2v_models.families.modelscope.latents import Changes, Standard
from t2v_models.families.modelscope.words import tokenizer_of
from t2v_models.families.parents import fitting
from t2v_models.families.rates import PacedModel
from t2v_models.families.texts import check_guidance
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.split import words

ENDS = ("conv_in", "conv_out", "time_embedding", "embedding")
"""Layers that see latents, noise levels or words, which are not Muon's."""
LEVELS = 1000
SPREAD = 1.3
"""Deviation of ln sigma of the noise levels learnt at."""
SMALL = 0.01
"""Of the usual size are weights that diffusers begins at 0: those before them then learn from the first update on."""


class ModelscopeConfig(ModelscopeSettings):
    """The settings, and what is made of them."""

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Modelscope":
        return Modelscope(self, spec, parents["autoencoder"])


class Denoiser(nn.Module):
    """The U-Net and the text encoder, which learn as one."""

    def __init__(self, config: ModelscopeSettings, latent: int, side: int, vocabulary: int) -> None:
        super().__init__()
        finest = "CrossAttn" if config.fine_text or len(config.widths) == 1 else ""
        kinds = [finest, *["CrossAttn"] * (len(config.widths) - 1)]
        self.unet: nn.Module = library.of("diffusers", "UNet3DConditionModel")(
            sample_size=side, in_channels=latent, out_channels=latent, block_out_channels=config.widths,
            layers_per_block=config.blocks, norm_num_groups=GROUPS, cross_attention_dim=config.text_width,
            attention_head_dim=config.heads, down_block_types=tuple(f"{kind}DownBlock3D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock3D" for kind in reversed(kinds)),
        )  # fmt: skip
        for layer in self.unet.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # what it drops would depend on how a batch is shared
        for name, weight in self.unet.named_parameters():
            if name.endswith("conv4.3.weight"):  # the last of each convolution over time
                nn.init.kaiming_normal_(weight).data.mul_(SMALL)
        settings = library.of("transformers", "CLIPTextConfig")(
            vocab_size=vocabulary, hidden_size=config.text_width, intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers, num_attention_heads=config.heads, projection_dim=config.text_width,
            max_position_embeddings=config.tokens, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip
        self.text_encoder: nn.Module = library.of("transformers", "CLIPTextModel")(settings)

    def forward(self, noisy: Tensor, level: Tensor, tokens: Tensor) -> Tensor:
        """v of latents `(b, c, t, h / f, w / f)` at levels `(b,)`, told by tokens `(b, l)`."""
        told = self.text_encoder(tokens)[0]
        found: Tensor = self.unet(noisy, level, told, return_dict=False)[0]
        return found


@final
class Modelscope(PacedModel):
    """A frozen autoencoder and a denoiser of its latents; sampling uses averaged weights.

    Raises:
        LabError: diffusers is not installed; what is to be the autoencoder is none, or one of frames of another size.
    """

    able = frozenset({"guidance", "steps", "avoid"})
    frozen = ("autoencoder",)
    measured = ("standard", "changes")

    def __init__(self, config: ModelscopeConfig, spec: ClipSpec, autoencoder: VideoModel):
        super().__init__()
        library.require(config.name)
        self.config: ModelscopeConfig = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.autoencoder = fitting(
            autoencoder, FrameAutoencoder, "frame_autoencoder", "autoencoder", spec, config.autoencoder
        ).requires_grad_(False)
        latent, cell = self.autoencoder.config.latent, self.autoencoder.config.cell
        self.tokenizer = tokenizer_of(self.text.vocabulary, config.tokens)
        self.denoiser = Denoiser(config, latent, spec.height // cell, len(self.tokenizer))
        self.average = Average([self.denoiser])
        self.standard = Standard(latent)
        self.changes = Changes(spec.frames, config.balance) if config.balance else None
        self.scheduler = library.of("diffusers", "DPMSolverMultistepScheduler")(
            num_train_timesteps=LEVELS, beta_schedule="linear", prediction_type="v_prediction",
            timestep_spacing="trailing", rescale_betas_zero_snr=True,
        )  # fmt: skip
        self.levels = NoiseLevels(curve="lognormal", low=0.02, high=5000, mean=config.level, std=SPREAD)
        self.register_buffer("signal", self.scheduler.alphas_cumprod.sqrt(), persistent=False)
        self.signal: Tensor

    @property
    def sample_batch(self) -> int:
        return 16

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One."""
        return {"denoiser": by_muon(self.denoiser, ENDS, self.config.muon_lr, self.config.lr)}

    def training_step(self, batch: Batch, step: int, progress: float) -> Metrics:
        """One step; the very first looks at the data."""
        if not self.standard.is_measured:
            with torch.no_grad():
                latents = self.autoencoder.latents(to_video(batch.frames))
                self.standard.measure(latents)
                if self.changes is not None:
                    self.changes.measure(self.standard(latents))
        return super().training_step(batch, step, progress)

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """The square of the error of v, at one noise level a clip, weighted by how quickly it changes."""
        with torch.no_grad():
            clean = self.standard(at_least_float32(self.autoencoder.latents(to_video(part.frames))))
        level = self._nearest(self.levels.at(stratified(part))).to(clean.device)
        signal = self.signal[level].to(clean).view(-1, 1, 1, 1, 1)
        spread = (1 - signal.square()).sqrt()
        noise = part.randn(*clean.shape[1:])
        out = (part.rand() < self.config.dropout).tolist()
        said = ["" if left else caption for caption, left in zip(part.captions, out, strict=True)]
        v = self.denoiser(signal * clean + spread * noise, level, self._tokens(said))
        error = at_least_float32(v) - (signal * noise - spread * clean)
        squares = self.changes.squares(error) if self.changes is not None else error.square().mean((1, 2, 3, 4))
        return {"denoiser": Loss(squares.sum(), len(clean))}

    def _nearest(self, sigma: Tensor) -> Tensor:
        """Numbers of the levels that have at least so much noise; the last, which has nothing but noise, is not one."""
        signal = self.signal[:-1].cpu().double()
        return torch.searchsorted((1 - signal.square()).sqrt() / signal, sigma.double().cpu())

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        """`(b, l)`; every text is filled to the same length, which no mask hides, as in the pipeline."""
        plain = [" ".join(words(caption)) for caption in captions]
        found: Tensor = self.tokenizer(plain, padding="max_length", return_tensors="pt").input_ids
        return found.to(self.device)

    def after_step(self, step: int, progress: float) -> None:
        """The average of weights."""
        self.average.update(power_share(step, self.config.ema_power))

    def check(self, request: Request) -> None:
        """As every model; the pipeline is guided towards the prompt only.

        Raises:
            LabError: guidance below 1 or without captions left out, less than a step, a prompt of too many words.
        """
        super().check(request)
        guidance = self.config.guidance if request.guidance is None else request.guidance
        check_guidance(self.name, self.text, guidance, self.config.dropout, request.avoid)
        if guidance < 1:
            raise LabError(f"{self.name} takes guidance from 1, as learnt (found {guidance:g})")
        if request.steps is not None and request.steps > LEVELS:
            raise LabError(f"{self.name} makes a clip in 1 to {LEVELS:,} steps (found {request.steps})")
        for prompt in {*request.prompts, *filter(None, [request.avoid])}:
            if len(words(prompt)) > self.config.most_words:
                raise LabError(
                    f"{self.name} reads {self.config.most_words} words, prompt {prompt!r} has more: shorten it"
                )

    def make(self, request: Request) -> Tensor:
        """By the pipeline of the averaged weights. The noise of a clip is drawn by its own seed."""
        guidance = self.config.guidance if request.guidance is None else request.guidance
        prompts = [" ".join(words(prompt)) for prompt in request.prompts]
        away = None if request.avoid is None else [" ".join(words(request.avoid))] * len(prompts)
        with library.unwarned():
            found: Tensor = self._pipeline()(
                prompt=prompts, negative_prompt=away, guidance_scale=guidance,
                num_inference_steps=request.steps or self.config.steps, num_frames=self.spec.frames,
                height=self.spec.height, width=self.spec.width, output_type="pt",
                generator=[torch.Generator().manual_seed(seed) for seed in request.seeds],
            ).frames  # fmt: skip
        return 2 * found.transpose(1, 2) - 1

    def save_pipeline(self, out: Path) -> str:
        """`sampler.AsPipeline`."""
        config = self.config
        return save_whole(self._pipeline(), out, self.spec, config.steps, config.guidance, self.text.vocabulary)

    def _pipeline(self) -> Any:
        """Of averaged weights, on the device of the model."""
        average: Any = self.average[0]
        pipeline = library.of("diffusers", "TextToVideoSDPipeline")(
            self.standard.folded(self.autoencoder.network), average.text_encoder, self.tokenizer, average.unet,
            self.scheduler,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
