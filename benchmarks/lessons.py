"""What learns for the same CPU seconds from our shards: families of ours, and packages of others, for `peers.py`.

What had to be bent to make the others run, and is no fault of their methods:

- Both ask the network for a text encoder (BERT, T5). Both get the same instead: a fixed random vector for each word, to
  video-diffusion-pytorch their mean, as its condition is one vector.
- phenaki-pytorch forgets to drop conditions in training (`cond_drop_prob` is 0 whatever is asked for), so its guidance
  would be by a null text that it never saw: it samples without.
- Its discriminator needs the weights of VGG: the tokenizer is trained by squared errors and its own losses alone.
- A clip has 1 + 3 n frames for it (patches of 3 frames after the first): 10, as ours have by default.
- video-diffusion-pytorch samples by as many steps as it was trained with: 10, not 1000. With its own 8 heads of 32 on
  every pixel a guided step of 16 clips of 32 px took 15 CPU seconds: it gets 4 heads of 16, and makes half the clips.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from t2v_models.checkpoint import RunConfig
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.sampler import Frames, sample_frames
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.text.split import words
from t2v_models.text.words import vocabulary_of
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tasks.samplers import source

BATCH, TEXT = 8, 64
"""Clips an update of a peer; width of a word's vector."""
TRIALS = 2, 2, 18
"""Updates of three short runs of ours: the first warms up, the others tell how many fit into the time."""
Sample = Callable[[Sequence[str], Sequence[int]], Frames]
"""Of prompts and seeds."""


class Words:
    """A fixed random vector for each word."""

    def __init__(self, captions: tuple[str, ...]) -> None:
        random = torch.Generator().manual_seed(0)
        self._vectors = {word: torch.randn(TEXT, generator=random) for word in vocabulary_of(captions)}

    def each(self, prompts: Sequence[str]) -> Tensor:
        """`(b, l, d)`, zeros behind short ones."""
        found = [torch.stack([self._vectors[word] for word in words(prompt)]) for prompt in prompts]
        return pad_sequence(found, batch_first=True)

    def mean(self, prompts: Sequence[str]) -> Tensor:
        """`(b, d)`, of length about 1 a number."""
        return torch.stack([self.each([prompt])[0].sum(0) / len(words(prompt)) ** 0.5 for prompt in prompts])


@dataclass
class Lesson:
    """Our shards, the CPU seconds to learn from them, and what was seen so far."""

    store: ClipStore
    seconds: float
    tiny: bool
    folder: Path
    """For runs of ours."""
    updates: int = 0
    clips: int = 0
    trials: float = 0.0
    """CPU seconds of trials, in which nothing is learnt."""
    text: Words = field(init=False)

    def __post_init__(self) -> None:
        self.text = Words(tuple(self.store.captions))

    def during(self, share: float = 1.0) -> Iterator[tuple[Tensor, list[str]]]:
        """Clips `(b, 3, t, h, w)` in [0, 1] with captions for a share of the time, one batch at least."""
        end = time.process_time() + share * self.seconds
        for batch in batches(self.store, BATCH, 1, 0):
            yield batch.frames.permute(0, 4, 1, 2, 3).float() / 255, list(batch.captions)
            self.updates, self.clips = self.updates + 1, self.clips + BATCH
            if time.process_time() > end:
                return

    def run_of(self, name: str, share: float = 1.0, **settings: Any) -> tuple[Path, Any]:
        """A family of ours after a share of the time, and its run folder."""
        family = FAMILIES[name]
        settings |= {"threads": torch.get_num_threads()}
        config = (family.tiny() if self.tiny else family()).model_copy(update=settings)
        run, times = new_run(self.store.manifest, config, 0), []
        for number, steps in enumerate(TRIALS):
            start = time.process_time()
            self._fitted(run, steps, self.folder / f"{name}-{number}")
            times.append(time.process_time() - start)
        self.trials += sum(times)
        each = (times[2] - times[1]) / (TRIALS[2] - TRIALS[1])
        updates = max(1, round(share * self.seconds / max(each, 1e-3)))
        self.updates, self.clips = self.updates + updates, self.clips + updates * config.batch_size
        return self.folder / name, self._fitted(run, updates, self.folder / name)

    def _fitted(self, run: RunConfig, steps: int, folder: Path) -> Any:
        fit(run, self.store, TrainConfig(steps=steps, probe_seconds=0), folder, lambda step, figures: None)
        return source(folder).sampler


def learn(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One update."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def one_run(name: str, lesson: Lesson) -> Sample:
    """A family of ours by its defaults."""
    return partial(sample_frames, lesson.run_of(name)[1])


def two_runs(name: str, lesson: Lesson) -> Sample:
    """A transformer of ours, after its tokenizer has had half of the time."""
    tokenizer, _ = lesson.run_of("video_tokenizer", 0.5)
    return partial(sample_frames, lesson.run_of(name, 0.5, tokenizer=tokenizer)[1])


def video_diffusion(name: str, lesson: Lesson) -> Sample:
    """Ho et al. 2022 by video-diffusion-pytorch: a space-time U-Net that denoises pixels."""
    from video_diffusion_pytorch import GaussianDiffusion, Unet3D

    spec, text = lesson.store.manifest.spec, lesson.text
    mults = (1, 2) if lesson.tiny else (1, 2, 4)
    unet = Unet3D(dim=16, cond_dim=TEXT, dim_mults=mults, attn_heads=4, attn_dim_head=16)
    steps = 4 if lesson.tiny else 10
    diffusion = GaussianDiffusion(unet, image_size=spec.size, num_frames=spec.frames, timesteps=steps)
    optimiser = torch.optim.Adam(diffusion.parameters(), 1e-3)
    for videos, captions in lesson.during():
        learn(diffusion(videos, cond=text.mean(captions)), optimiser)
    diffusion.eval()
    return lambda prompts, seeds: to_bytes(diffusion.sample(cond=text.mean(prompts), cond_scale=2.0))


def phenaki(name: str, lesson: Lesson) -> Sample:
    """Villegas et al. 2022 by phenaki-pytorch: clips as tokens for half of the time, masked tokens for the other."""
    from phenaki_pytorch import CViViT, MaskGit, Phenaki
    from phenaki_pytorch.t5 import DEFAULT_T5_NAME, T5_CONFIGS
    from transformers import T5Config

    spec, text, tiny = lesson.store.manifest.spec, lesson.text, lesson.tiny
    T5_CONFIGS[DEFAULT_T5_NAME] = {"config": T5Config(d_model=TEXT)}  # asked for, also where it is not used
    width, codes, patch = 64, 1024, 8
    shape = {"heads": 4, "dim_head": 16}
    tokenizer = CViViT(
        dim=width, codebook_size=codes, image_size=spec.size, patch_size=patch, temporal_patch_size=3,
        spatial_depth=1 if tiny else 2, temporal_depth=1 if tiny else 2, use_vgg_and_gan=False, **shape,
    )  # fmt: skip
    optimiser = torch.optim.Adam(tokenizer.parameters(), 1e-3)
    for videos, _ in lesson.during(0.5):
        learn(tokenizer(videos), optimiser)
    tokens = (spec.size // patch) ** 2 * (1 + (spec.frames - 1) // 3)
    network = MaskGit(
        dim=width, num_tokens=codes, max_seq_len=tokens, dim_context=TEXT, depth=1 if tiny else 4, **shape
    )
    model = Phenaki(maskgit=network, cvivit=tokenizer, steps=8, text_embed_dim=TEXT)
    model.encode_texts = lambda texts, output_device: text.each(texts)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for videos, captions in lesson.during(0.5):
        learn(model(videos, text_embeds=text.each(captions)), optimiser)
    return lambda prompts, seeds: to_bytes(model.sample(texts=list(prompts), num_frames=spec.frames, cond_scale=1.0))


LEARNERS: dict[str, Callable[[str, Lesson], Sample]] = {
    "gan": one_run, "diffusion": one_run, "ar_tokens": two_runs, "phenaki": two_runs,
    "video-diffusion-pytorch": video_diffusion, "phenaki-pytorch": phenaki,
}  # fmt: skip
"""What learns for the same time, by the name of its row."""
OTHERS = video_diffusion, phenaki
"""Of packages that are not ours, which have the names of their rows."""


def to_bytes(videos: Tensor) -> Frames:
    """uint8 `(b, t, h, w, 3)`."""
    return (videos.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 4, 1).contiguous().numpy()


def check_learner(name: str, store: ClipStore) -> None:
    """See that it can learn here.

    Raises:
        LabError: its package is not installed, or the clips are not square.
    """
    if LEARNERS[name] in OTHERS:
        if find_spec(name.replace("-", "_")) is None:
            raise LabError(
                f"{name} is not installed: install the packages that --help names, or leave it out of --learn"
            )
        if store.spec.height != store.spec.width:
            raise LabError(f"{name} learns square clips and these have {store.spec.sides} px: leave it out of --learn")
