"""Generator and discriminator over clips at 8x8.

Letters in shapes: b clips, t frames, v length of the text vectors, d features of the discriminator.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.gan.blobs import draw_blobs
from t2v_models.families.gan.config import GanSettings
from t2v_models.families.gan.painter import SMALL, moments
from t2v_models.families.layers import SLOPE, full_precision, he_normal, perceptron, word_table

WORDS = 0.03
"""Deviation of fresh word vectors: small, so that unseen sums of words start near seen ones."""


class Generator(nn.Module):
    """From Gaussian noise `(b, noise, 2)` and bags of words `(b, v)` to opacity at 8x8, `(b, t, 3, 8, 8)`.

    A perceptron plans the clip as one code a frame; a decoder shared by all frames turns a code into blobs. Of each
    pair of noise only the angle is read, because a phase has no ends; the plan is made of slow waves first, because
    things move smoothly.
    """

    def __init__(self, config: GanSettings, frames: int, vocabulary: int):
        super().__init__()
        self.frames = frames
        self.words = word_table(vocabulary, config.text, WORDS)
        width = config.width
        self.plan = perceptron(2 * config.noise + config.text, width, width, frames * config.frame_code)
        self.decode = perceptron(config.frame_code, config.frame_width, 7 * config.blobs)
        self.register_buffer("waves", slow_waves(frames), persistent=False)
        self.waves: Tensor

    def forward(self, noise: Tensor, bags: Tensor) -> Tensor:
        """One clip for each row."""
        angles = math.sqrt(2) * F.normalize(noise, dim=-1)
        known = torch.cat([angles.flatten(1), self.words(bags)], 1)
        return self.draw(self.plan(known).view(len(noise), self.frames, -1))

    @full_precision
    def draw(self, plan: Tensor) -> Tensor:
        """Clips of plans `(b, t, code)`: waves to frames, frames to blobs, blobs to opacity."""
        blobs = self.decode(F.leaky_relu(self.waves @ plan, SLOPE))
        return draw_blobs(blobs.view(*plan.shape[:2], -1, 7))


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

    It reads every frame with one network, as the generator draws them: a small perceptron for its look, and its
    moments, which say exactly where things are. It judges the readings, their changes and the changes of those, so that
    velocity and acceleration are plain to see; and it sees how far the features of clips with one caption scatter, so
    that a generator without variety is found out.
    """

    def __init__(self, config: GanSettings, frames: int, vocabulary: int):
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
