"""Trains the feature network: `python -m t2v_models.judging.feature_training` writes `features.safetensors`.

Every frame is drawn for one step and never again: an object of either world anywhere, in either size of frame, most of
them spoilt. The network is told where the object is, how large, how dark in each channel, how blurred and how noisy.
One thread and one seed: the same machine and torch give the same bytes, others nearly the same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import save
from torch import Tensor

from t2v_models import files
from t2v_models.clips.spec import UNIT_SIZE, ClipSpec
from t2v_models.judging.features import FOLDS, NUMBERS, WEIGHTS, code, darkness
from t2v_models.worlds.appearance import PALETTE, SHAPES, Colour, Shape
from t2v_models.worlds.motions import Trace
from t2v_models.worlds.outlines import EXTENTS
from t2v_models.worlds.render import sprites

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

SEED = 7
STEPS, OBJECTS, PLACES = 1200, 64, 8
"""A step sees so many objects, each in so many places."""
LEARNING_RATE = 3e-3
CHANNELS = (3, 32, 64, 64, len(NUMBERS))
WEIGHT = (100, 100, 100, 10, 10, 10, 15, 15)
"""Of the squared error in each of the numbers: place first, for its differences along time are small."""
RADIUS = (4.0, 14.0)
"""Of the drawn objects, px at 64 px: about what motions have."""
SIZES = (32, 32, 32, 64)
DAMAGES = ("blur", "noise", "red", "green", "blue")
BLUR, NOISE, FADE = 1 / 16, 0.15, 0.7
"""At full strength: standard deviations, of the frame and of the range; share of its darkness that a channel loses."""


def spoil(frames: Frames, strengths: Floats, rng: np.random.Generator) -> Frames:
    """A copy of frames `(t, h, w, 3)` whose pixels are spoilt.

    Args:
        frames: of one object.
        strengths: of the `DAMAGES`, 0 (none) to 1.
        rng: of the noise.
    """
    blur, noise, lost = strengths[0] * BLUR * frames.shape[1], strengths[1] * NOISE * 255, strengths[2:] * FADE
    spoilt = frames.copy()
    if lost.any():
        table = np.rint(255 - (1 - lost) * np.arange(255, -1, -1)[:, None]).astype(np.uint8)
        spoilt = np.asarray(cv2.LUT(spoilt.reshape(1, -1, 3), table[None]), np.uint8).reshape(frames.shape)
    if blur:
        spoilt = np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), max(blur, 0.1)), np.uint8) for f in spoilt])
    if noise:
        added = np.rint(noise * rng.standard_normal(frames.shape, np.float32)).astype(np.int16)
        spoilt = np.clip(spoilt + added, 0, 255).astype(np.uint8)
    return spoilt


def damages(rng: np.random.Generator, count: int) -> Floats:
    """Strengths `(count, 5)`: a third of the rows is whole, a third blurred or noisy, a third fades in all channels."""
    strengths, kind = np.zeros((count, len(DAMAGES))), rng.integers(6, size=count)
    for k in (0, 1):
        strengths[kind == k, k] = rng.random((kind == k).sum())
    faded = np.isin(kind, (2, 3))
    strengths[faded, 2:] = rng.random((faded.sum(), 1)) * rng.random((faded.sum(), 3))
    return strengths


def objects(rng: np.random.Generator, count: int) -> list[tuple[Shape, Colour]]:
    """Half of them blue circles, the others of any shape and colour."""
    in_circles = rng.random(count) < 0.5
    shape, colour = (np.where(in_circles, 0, rng.integers(k, size=count)) for k in (len(SHAPES), len(PALETTE)))
    return [(SHAPES[s], list(PALETTE)[c]) for s, c in zip(shape, colour, strict=True)]


@dataclass(frozen=True)
class Examples:
    """Frames and what is true of them; n is `OBJECTS` times `PLACES`."""

    darkness: Tensor  # (n, 32, 32, 3)
    truth: Tensor  # (n, 8) `features.NUMBERS`


def examples(rng: np.random.Generator) -> Examples:
    """Objects of one frame size, two thirds of them spoilt."""
    side = int(rng.choice(SIZES))
    spec, drawn = ClipSpec(height=side, width=side, frames=PLACES), objects(rng, OBJECTS)
    paths, strengths = places(rng, np.array([EXTENTS[shape].greatest for shape, _ in drawn])), damages(rng, OBJECTS)
    frames = np.empty((OBJECTS, *spec.shape), np.uint8)
    for i, sprite in enumerate(sprites(drawn, Trace(*(spec.unit * paths)), spec)):
        frames[i] = spoil(sprite.paint(frames[i]), strengths[i], rng)
    shown = (1 - np.array([PALETTE[colour] for _, colour in drawn]) / 255) * (1 - FADE * strengths[:, 2:])
    marks = (paths * np.array([1, 1, 4])[:, None, None]).reshape(3, -1).T * 2 / UNIT_SIZE - 1
    truth = np.concatenate([marks, np.concatenate([shown, strengths[:, :2]], 1).repeat(PLACES, 0)], 1)
    return Examples(torch.from_numpy(darkness(frames.reshape(-1, *frames.shape[2:]))), torch.from_numpy(truth).float())


def places(rng: np.random.Generator, reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y and radius of objects wholly in the frame, `(3, OBJECTS, PLACES)`, px at 64 px.

    Args:
        rng: where.
        reach: how far each extends from its centre, in radii.
    """
    radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** rng.random((OBJECTS, PLACES))
    margin = radius * reach[:, None]
    x, y = margin + (UNIT_SIZE - 2 * margin) * rng.random((2, OBJECTS, PLACES))
    return np.stack([x, y, radius])


def initial_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """Normal weights of variance 2 / inputs (He et al. 2015), zero biases."""
    weights = {}
    for k, fold in enumerate(FOLDS):
        inputs, outputs = fold * fold * CHANNELS[k], CHANNELS[k + 1]
        weights[f"weight{k}"] = torch.randn(inputs, outputs, generator=generator) * (2 / inputs) ** 0.5
        weights[f"bias{k}"] = torch.zeros(outputs)
    return weights


def errors(weights: dict[str, Tensor], taught: Examples) -> Tensor:
    """Mean squared error of each of the numbers, `(8,)`."""
    seen: Tensor = code(taught.darkness, weights)
    return ((seen - taught.truth) ** 2).mean(0)


def train(steps: int = STEPS) -> dict[str, NDArray[np.float16]]:
    """The weights of the network."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng([SEED, *b"features"])
    weights = initial_weights(torch.Generator().manual_seed(SEED))
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    mean = torch.ones(len(NUMBERS))
    for step in track(range(steps), "training the feature network"):
        found = errors(weights, examples(rng))
        optimiser.zero_grad()
        torch.autograd.backward((found * torch.tensor(WEIGHT)).sum())
        optimiser.step()
        schedule.step()
        mean = 0.98 * mean + 0.02 * found.detach()
        if (step + 1) % 100 == 0:
            shown = zip(NUMBERS, mean.sqrt().tolist(), strict=True)
            typer.echo(f"step {step + 1}: " + ", ".join(f"{name} {error:.3f}" for name, error in shown))
    return {name: weight.detach().numpy().astype(np.float16) for name, weight in weights.items()}


def main(
    out: Annotated[Path, typer.Option(help="file to write")] = WEIGHTS,
    steps: Annotated[int, typer.Option(help="updates; the shipped file is made with the default")] = STEPS,
) -> None:
    """Train the feature network from its seed, and write its weights."""
    files.write(out, save(train(steps)))
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
