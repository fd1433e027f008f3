"""Two pairs of encoders of clips and captions, trained from scratch on the clips of one dataset.

Each pair has one space for both: a clip lies near its own caption and far from others (InfoNCE, van den Oord et al.
2018; CLIP, Radford et al. 2021). One sees what a clip looks like and nothing of the order of its frames; the other sees
grey differences from frame to frame and nothing that stands still. A model that fools one need not fool the other.
Captions that mean the same count as one.

Equal clips and seeds give equal weights on one machine; another may round otherwise.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from t2v_models.text.split import words
from t2v_models.text.words import vocabulary_of

Frames = NDArray[np.uint8]
Views = NDArray[np.uint8]
"""Clips as they are looked at, `(n, FRAMES, 3, SIZE, SIZE)`."""

FRAMES, SIZE = 10, 32
"""What is looked at: clips of another length show the nearest frames, of another size are averaged."""
STILLS = 3
"""Frames that say what a clip looks like."""
WIDTH = 32
"""Numbers of an embedding."""
CHANNELS = 32
LONGEST = 48
"""Words of a caption that are read."""
STEPS, BATCH, LEARNING_RATE = 180, 128, 2e-3
SHIFT = 4
"""px of `SIZE` by which a batch is moved about: where the frame ends says nothing."""


def looked_at(frames: Frames) -> Views:
    """Clips `(n, t, h, w, 3)` as they are looked at, uint8 `(n, 10, 3, 32, 32)`."""
    n, t, h, w, _ = frames.shape
    chosen = frames[:, np.rint(np.linspace(0, t - 1, FRAMES)).astype(np.intp)]
    pixels = torch.from_numpy(np.ascontiguousarray(chosen)).permute(0, 1, 4, 2, 3).reshape(-1, 3, h, w)
    parts = [F.adaptive_avg_pool2d(part.float(), SIZE).round().byte() for part in torch.split(pixels, 256)]
    return np.asarray(torch.cat(parts).reshape(n, FRAMES, 3, SIZE, SIZE).numpy())


def scaled(views: Views) -> Tensor:
    """-1 to 1, float32."""
    return torch.from_numpy(views).float() / 127.5 - 1


def appearance(clips: Tensor) -> Tensor:
    """A few frames, `(n, 3, 3, 32, 32)`: pictures of a clip, in no order."""
    return clips[:, np.linspace(0, FRAMES - 1, STILLS).round().astype(int)]


def motion(clips: Tensor) -> Tensor:
    """Grey differences from frame to frame, `(n, 1, 9, 32, 32)`: one picture with a channel a step."""
    return clips.mean(2).diff(dim=1)[:, None]


VIEWS = {"appearance": (appearance, 3), "motion": (motion, FRAMES - 1)}
"""What each pair sees, and the channels of its pictures."""


class ClipEncoder(nn.Module):
    """Pictures of a clip `(n, k, c, 32, 32)` to unit vectors `(n, WIDTH)`; in which order they come does not matter."""

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, CHANNELS, 2 * CHANNELS, 3 * CHANNELS)
        stages: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            kernel = 5 if i == 0 else 3
            stages += [nn.Conv2d(before, after, kernel, 2, kernel // 2), nn.GroupNorm(8, after), nn.ReLU()]
        self.stages = nn.Sequential(*stages)
        self.out = nn.Linear(widths[-1] * (SIZE // 8) ** 2, WIDTH)

    def forward(self, pictures: Tensor) -> Tensor:
        n, k = pictures.shape[:2]
        seen = self.stages(pictures.flatten(0, 1)).reshape(n, k, -1).mean(1)
        return F.normalize(self.out(seen), dim=1)


class CaptionEncoder(nn.Module):
    """Captions to unit vectors `(n, WIDTH)`: which words, and which words stand near each other."""

    def __init__(self, vocabulary: Sequence[str]):
        super().__init__()
        self.place = {word: i + 1 for i, word in enumerate(vocabulary)}
        self.table = nn.Embedding(len(vocabulary) + 1, 2 * WIDTH, padding_idx=0)
        self.near = nn.Conv1d(2 * WIDTH, 4 * WIDTH, 5, padding=2)
        self.out = nn.Linear(6 * WIDTH, WIDTH)

    def forward(self, captions: Sequence[str]) -> Tensor:
        rows = [[self.place.get(word, 0) for word in words(caption)][:LONGEST] or [0] for caption in captions]
        said = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        known = (said > 0)[..., None]
        vectors = self.table(said)
        phrases = F.relu(self.near(vectors.transpose(1, 2))).transpose(1, 2) * known
        total = torch.cat([vectors, phrases], 2).sum(1) / known.sum(1).clamp(min=1).sqrt()
        return F.normalize(self.out(total), dim=1)


class Pair(nn.Module):
    """An encoder of clips as one view shows them, and one of captions, with one space for both."""

    def __init__(self, view: str, vocabulary: Sequence[str]):
        super().__init__()
        self.view, channels = VIEWS[view]
        self.clips, self.captions = ClipEncoder(channels), CaptionEncoder(vocabulary)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def loss(self, clips: Tensor, captions: Sequence[str], same: Tensor) -> Tensor:
        """Cross-entropy of finding the own caption among all of the batch, and the own clip.

        Args:
            clips: `(b, 10, 3, 32, 32)`.
            captions: of them.
            same: `(b, b)`, whether two captions mean the same; the target is shared evenly among those.
        """
        scores = self.clips(self.view(clips)) @ self.captions(captions).T * self.log_scale.exp()
        wanted = same / same.sum(1, keepdim=True)
        found: Tensor = -(wanted * (scores.log_softmax(1) + scores.T.log_softmax(1))).sum(1).mean()
        return found


@dataclass(frozen=True)
class Encoders:
    """The trained pairs by the name of their view."""

    vocabulary: tuple[str, ...]
    pairs: dict[str, Pair]

    @classmethod
    def fresh(cls, captions: Sequence[str]) -> "Encoders":
        """Untrained, with the words of the captions."""
        return cls.of(vocabulary_of(captions))

    @classmethod
    def of(cls, vocabulary: Sequence[str]) -> "Encoders":
        """Untrained; weights are drawn from torch's current seed."""
        return cls(tuple(vocabulary), {name: Pair(name, vocabulary) for name in VIEWS})

    def see(self, views: Views) -> dict[str, NDArray[np.float64]]:
        """Embeddings `(n, WIDTH)` of clips as they are looked at, by what sees them."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.pairs}
        with torch.no_grad():
            for i in range(0, len(views), BATCH):
                clips = scaled(views[i : i + BATCH])
                for name, pair in self.pairs.items():
                    found[name].append(pair.clips(pair.view(clips)))
        return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}

    def read(self, captions: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Embeddings `(n, WIDTH)` of captions, by view; words that were never trained say nothing."""
        with torch.no_grad():
            return {name: pair.captions(captions).double().numpy() for name, pair in self.pairs.items()}


def train(
    clips: Views,
    captions: Sequence[str],
    meaning: Callable[[str], Hashable],
    tell: Callable[[float, str], None] = lambda share, note: None,
    steps: int = STEPS,
    batch: int = BATCH,
    seed: int = 0,
) -> Encoders:
    """Encoders of the clips of one dataset: about a minute on one core, however many clips there are.

    Args:
        clips: as `looked_at` gives them.
        captions: of the clips; of several lines, one is drawn each time.
        meaning: equal for captions that mean the same.
        tell: told the share done and a note.
        steps: updates of each pair.
        batch: clips of each.
        seed: of weights and batches.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would be other weights
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoders = Encoders.fresh([line for caption in captions for line in caption.split("\n")])
            for i, (name, pair) in enumerate(encoders.pairs.items()):
                rng = np.random.default_rng([seed, i])
                for step in _train(pair, clips, captions, meaning, rng, steps, batch):
                    tell((i * steps + step) / (len(encoders.pairs) * steps), f"{name} of real clips")
    finally:
        torch.set_num_threads(threads)
    return encoders


def _train(
    pair: Pair, clips: Views, captions: Sequence[str], meaning: Callable[[str], Hashable], rng: np.random.Generator,
    steps: int, batch: int,
) -> Iterator[int]:  # fmt: skip
    """Yields the number of updates after each."""
    optimiser = torch.optim.AdamW(pair.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1, (k + 1) / 20) * (1 - k / steps))
    for step in range(steps):
        rows = rng.permutation(len(clips))[:batch]
        said = [str(rng.choice(captions[row].split("\n"))) for row in rows]
        means = [meaning(caption) for caption in said]
        same = torch.tensor([[a == b for b in means] for a in means], dtype=torch.float32)
        moved = scaled(clips[rows]).roll(tuple(rng.integers(-SHIFT, SHIFT + 1, 2).tolist()), (3, 4))
        optimiser.zero_grad()
        torch.autograd.backward(pair.loss(moved, said, same))
        nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield step + 1
    pair.eval()
