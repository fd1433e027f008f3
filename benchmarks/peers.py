"""Packages of others, trained on our shards for as long as our families, their clips left for our judge.

    pip install --no-deps video-diffusion-pytorch==0.7.0 phenaki-pytorch==0.5.0 einops einops-exts einx ema-pytorch \
        frozendict loguru rotary-embedding-torch sacremoses sentencepiece torch-einops-utils torchtyping \
        typeguard==2.13.3 vector-quantize-pytorch==1.32.0 transformers accelerate
    python benchmarks/peers.py data/c32 --seconds 600 --out peers
    t2v evaluate peers/phenaki.npz --like data/c32

In an environment of its own, for it brings what ours need not. One JSON line a peer: updates, and by seconds of CPU,
for a machine may be busy, clips/s in training and what a clip costs in sampling. What had to be bent to make them run,
and is no fault of their methods:

- Both ask the network for a text encoder (BERT, T5). Both get the same instead: a fixed random vector for each word, to
  video-diffusion-pytorch their mean, as its condition is one vector.
- phenaki-pytorch forgets to drop conditions in training (`cond_drop_prob` is 0 whatever is asked for), so its guidance
  would be by a null text that it never saw: it samples without.
- Its discriminator needs the weights of VGG: the tokenizer is trained by squared errors and its own losses alone.
- A clip has 1 + 3 n frames for it (patches of 3 frames after the first): 10, as ours have by default.
- video-diffusion-pytorch samples by as many steps as it was trained with, and a guided one takes seconds of a core for
  4 clips of 32 px: 10 steps, not 1000.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from figures import Figure, tell
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from t2v_models.clips.media import save_clips
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.sampler import Frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.text.split import words
from t2v_models.text.words import vocabulary_of

BATCH, TEXT = 8, 64
"""Clips an update; width of a word's vector."""
AT_ONCE = 16
"""Clips sampled together."""
Sample = Callable[[list[str]], Tensor]
"""Clips `(b, 3, t, h, w)` in [0, 1]."""


class Words:
    """A fixed random vector for each word."""

    def __init__(self, captions: tuple[str, ...]) -> None:
        random = torch.Generator().manual_seed(0)
        self._vectors = {word: torch.randn(TEXT, generator=random) for word in vocabulary_of(captions)}

    def each(self, prompts: list[str]) -> Tensor:
        """`(b, l, d)`, zeros behind short ones."""
        found = [torch.stack([self._vectors[word] for word in words(prompt)]) for prompt in prompts]
        return pad_sequence(found, batch_first=True)

    def mean(self, prompts: list[str]) -> Tensor:
        """`(b, d)`, of length about 1 a number."""
        return torch.stack([self.each([prompt])[0].sum(0) / len(words(prompt)) ** 0.5 for prompt in prompts])


class Clips:
    """Our shards as others want them: `(b, 3, t, h, w)` in [0, 1] with captions, until the time is over."""

    def __init__(self, store: ClipStore) -> None:
        self._stream = batches(store, BATCH, 1, 0)
        self.updates = 0

    def during(self, seconds: float) -> Iterator[tuple[Tensor, list[str]]]:
        """Batches for so long, one at least."""
        end = time.monotonic() + seconds
        for batch in self._stream:
            yield batch.frames.permute(0, 4, 1, 2, 3).float() / 255, list(batch.captions)
            self.updates += 1
            if time.monotonic() > end:
                return


def learn(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One update."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def video_diffusion(clips: Clips, text: Words, spec: ClipSpec, seconds: float, tiny: bool) -> Sample:
    """Ho et al. 2022 by video-diffusion-pytorch: a space-time U-Net that denoises pixels."""
    from video_diffusion_pytorch import GaussianDiffusion, Unet3D

    unet = Unet3D(dim=16, cond_dim=TEXT, dim_mults=(1, 2) if tiny else (1, 2, 4))
    steps = 4 if tiny else 10
    diffusion = GaussianDiffusion(unet, image_size=spec.size, num_frames=spec.frames, timesteps=steps)
    optimiser = torch.optim.Adam(diffusion.parameters(), 1e-3)
    for videos, captions in clips.during(seconds):
        learn(diffusion(videos, cond=text.mean(captions)), optimiser)
    return lambda prompts: diffusion.eval().sample(cond=text.mean(prompts), cond_scale=2.0)


def phenaki(clips: Clips, text: Words, spec: ClipSpec, seconds: float, tiny: bool) -> Sample:
    """Villegas et al. 2022 by phenaki-pytorch: clips as tokens for half of the time, masked tokens for the other."""
    from phenaki_pytorch import CViViT, MaskGit, Phenaki
    from phenaki_pytorch.t5 import DEFAULT_T5_NAME, T5_CONFIGS
    from transformers import T5Config

    T5_CONFIGS[DEFAULT_T5_NAME] = {"config": T5Config(d_model=TEXT)}  # asked for, also where it is not used
    width, codes, patch = 64, 1024, 8
    shape = {"heads": 4, "dim_head": 16}
    tokenizer = CViViT(
        dim=width, codebook_size=codes, image_size=spec.size, patch_size=patch, temporal_patch_size=3,
        spatial_depth=1 if tiny else 2, temporal_depth=1 if tiny else 2, use_vgg_and_gan=False, **shape,
    )  # fmt: skip
    optimiser = torch.optim.Adam(tokenizer.parameters(), 1e-3)
    for videos, _ in clips.during(seconds / 2):
        learn(tokenizer(videos), optimiser)
    tokens = (spec.size // patch) ** 2 * (1 + (spec.frames - 1) // 3)
    network = MaskGit(
        dim=width, num_tokens=codes, max_seq_len=tokens, dim_context=TEXT, depth=1 if tiny else 4, **shape
    )
    model = Phenaki(maskgit=network, cvivit=tokenizer, steps=8, text_embed_dim=TEXT)
    model.encode_texts = lambda texts, output_device: text.each(texts)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for videos, captions in clips.during(seconds / 2):
        learn(model(videos, text_embeds=text.each(captions)), optimiser)
    return lambda prompts: model.sample(texts=prompts, num_frames=spec.frames, cond_scale=1.0)


PEERS = {"video-diffusion": video_diffusion, "phenaki": phenaki}


def measured(name: str, store: ClipStore, out: Path, seconds: float, count: int, tiny: bool) -> Figure:
    """Train a peer and leave its clips, `count` for every prompt of the dataset, in an archive."""
    spec, config = store.manifest.spec, store.manifest.config
    asked = [prompt for prompt in config.prompts for _ in range(count)]
    torch.manual_seed(0)
    clips, text = Clips(store), Words(tuple(store.captions))
    start, busy = time.monotonic(), time.process_time()
    sample = PEERS[name](clips, text, spec, seconds, tiny)
    trained, cpu = time.monotonic() - start, time.process_time() - busy
    frames = [to_bytes(sample(asked[i : i + AT_ONCE])) for i in range(0, len(asked), AT_ONCE)]
    sampled = time.process_time() - busy - cpu
    archive = out / f"{name}.npz"
    save_clips(archive, np.concatenate(frames), asked, list(range(len(asked))), spec.fps)
    return {
        "figure": f"{name}, trained for {trained:.0f} s on {torch.get_num_threads()} threads",
        "updates": clips.updates, "cpu_seconds": cpu, "clips_per_cpu_second": clips.updates * BATCH / cpu,
        "cpu_seconds_per_clip": sampled / len(asked), "clips": len(asked), "archive": str(archive),
    }  # fmt: skip


def to_bytes(videos: Tensor) -> Frames:
    """uint8 `(b, t, h, w, 3)`."""
    return (videos.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 4, 1).contiguous().numpy()


def main() -> None:
    """Tell one line a peer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="a rendered dataset of square clips of 10 frames, or 1 + 3 n")
    parser.add_argument("--out", type=Path, default=Path("peers"), help="folder of the archives")
    parser.add_argument("--seconds", type=float, default=600, help="of training, for each peer")
    parser.add_argument("--clips", type=int, default=8, help="for each prompt, as the tier smoke of t2v evaluate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help=f"peers whose name contains this: {', '.join(PEERS)}")
    parser.add_argument("--tiny", action="store_true", help="small networks, to see whether all runs")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        store = ClipStore(Manifest.load(asked.data))
    except LabError as error:
        parser.error(str(error))
    for name in PEERS:
        if asked.only in name:
            tell(measured(name, store, asked.out, asked.seconds, asked.clips, asked.tiny))


if __name__ == "__main__":
    main()
