"""Trains the feature network: `python -m t2v_models.evaluation.feature_training` writes `features.safetensors`.

Every clip is drawn for one step and never again: both worlds, all motions, sizes and lengths that vary, half of them
damaged. The network says which motion, shape and colour it sees, where the object is, and how strong each damage is.
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
from torch.nn import functional

from t2v_models import files
from t2v_models.clips.motions import ACTIONS, draw_motion, trace
from t2v_models.clips.render import render
from t2v_models.clips.spec import PALETTE, SHAPES, ClipSpec
from t2v_models.evaluation.features import FOLDS, WEIGHTS, forward, prepare

Frames = NDArray[np.uint8]

SEED = 7
STEPS, BATCH = 2000, 64
LEARNING_RATE = 2e-3
CHANNELS = (3, 24, 48, 48, 64, 32)
WINDOWS = (1, 3, 3, 6, 1)
"""Frames each stage looks at: of 10 they leave 10, 8, 6, 1, 1."""
SIZES, LENGTHS = (32, 64), (10, 10, 10, 4, 6, 16)
DAMAGES = ("blur", "noise", "jitter", "shuffle", "hold", "mix", "tint", "fade")
BREAKS_TIME = frozenset({"jitter", "shuffle", "hold", "mix"})
DAMAGED_SHARE = 0.5


def damage(frames: Frames, kind: str, strength: float, other: Frames, rng: np.random.Generator) -> Frames:
    """A damaged copy of one clip `(t, h, w, 3)`; strength is 0 (as it was) to 1.

    Args:
        frames: the clip.
        kind: one of `DAMAGES`. `blur` up to 1/16 of the frame, `noise` up to 15 %, `jitter` up to 1/16 of the frame
            in each direction, `shuffle`, `hold` and `mix` change that share of the frames (in random order, all the
            last one, of another clip), `tint` and `fade` take up to 70 % of the ink in one channel or in all.
        strength: how much.
        other: another clip of the same object, of the same shape.
        rng: where and which.
    """
    t, size = frames.shape[:2]
    changed = frames.copy()
    hit = np.sort(rng.permutation(t)[: max(2, round(strength * t))])
    if kind == "blur":
        changed = np.stack([cv2.GaussianBlur(f, (0, 0), max(strength * size / 16, 0.1)) for f in frames])
    elif kind == "noise":
        noisy = frames + rng.normal(0, 0.15 * 255 * strength, frames.shape)
        changed = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    elif kind == "jitter":
        for frame, shift in zip(changed, rng.normal(0, strength * size / 32, (t, 2)), strict=True):
            frame[:] = np.roll(frame, np.rint(np.clip(shift, -size / 16, size / 16)).astype(int), (0, 1))
    elif kind == "shuffle":
        changed[hit] = frames[rng.permutation(hit)]
    elif kind == "hold":
        changed[t - len(hit) :] = frames[t - len(hit)]
    elif kind == "mix":
        changed[hit] = other[rng.permutation(hit)]
    else:
        kept = np.ones(3) - 0.7 * strength * (np.ones(3) if kind == "fade" else np.eye(3)[rng.integers(3)])
        changed = np.rint(255 - (255 - frames.astype(np.float64)) * kept).astype(np.uint8)
    return changed


@dataclass(frozen=True)
class Lesson:
    """A batch and what is true of it."""

    ink: Tensor  # (n, 10, 32, 32, 3)
    motion: Tensor  # (n,) place in ACTIONS, -100 where time is broken, and so on
    shape: Tensor
    colour: Tensor
    path: Tensor  # (n, 9) x, y and radius at the first, middle and last frame, about -1 to 1
    damage: Tensor  # (n, damages) strengths


def lesson(rng: np.random.Generator, damaged: float = DAMAGED_SHARE) -> Lesson:
    """`BATCH` clips of one size and length, a share of them damaged. Labels that a damage hides are -100 or nan."""
    size, length = int(rng.choice(SIZES)), int(rng.choice(LENGTHS))
    spec = ClipSpec(size=size, frames=length)
    ink, labels, paths = [], [], []
    strengths = np.zeros((BATCH, len(DAMAGES)), np.float32)
    for i in range(BATCH):
        action = rng.integers(len(ACTIONS))
        in_circles = rng.random() < 0.5
        shape = 0 if in_circles else rng.integers(len(SHAPES))
        colour = 0 if in_circles else rng.integers(len(PALETTE))
        which = ACTIONS[action], spec, rng, SHAPES[shape], list(PALETTE)[colour]
        motion = draw_motion(*which)
        frames, kind = render(motion, spec), ""
        if rng.random() < damaged:
            k = rng.integers(len(DAMAGES))
            kind, strengths[i, k] = DAMAGES[k], rng.random()
            other = render(draw_motion(*which), spec) if kind == "mix" else frames
            frames = damage(frames, kind, float(strengths[i, k]), other, rng)
        broken = kind in BREAKS_TIME
        labels.append((-100 if broken else action, shape, -100 if kind == "tint" else colour))
        path = trace(motion, spec)
        marks = np.array([path.x - size / 2, path.y - size / 2, 4 * path.radius - size / 2])[:, [0, length // 2, -1]]
        paths.append(np.full(9, np.nan) if broken else marks.ravel() * 2 / size)
        ink.append(prepare(frames[None])[0])
    motions, shapes, colours = torch.tensor(labels).T
    return Lesson(
        torch.from_numpy(np.stack(ink)), motions, shapes, colours,
        torch.from_numpy(np.stack(paths)).float(), torch.from_numpy(strengths),
    )  # fmt: skip


def initial_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """Normal weights of variance 2 / inputs (He et al. 2015), zero biases; linear heads on the features."""
    weights = {}
    for k, (fold, window) in enumerate(zip(FOLDS, WINDOWS, strict=True)):
        inputs, outputs = fold * fold * CHANNELS[k], CHANNELS[k + 1]
        scale = (2 / (window * inputs)) ** 0.5
        weights[f"weight{k}"] = torch.randn(window, inputs, outputs, generator=generator) * scale
        weights[f"bias{k}"] = torch.zeros(outputs)
    heads = {"motion": len(ACTIONS), "shape": len(SHAPES), "colour": len(PALETTE), "path": 9, "damage": len(DAMAGES)}
    for name, outputs in heads.items():
        weights[name] = torch.randn(CHANNELS[-1], outputs, generator=generator) / CHANNELS[-1] ** 0.5
        weights[f"{name}_bias"] = torch.zeros(outputs)
    return weights


def losses(weights: dict[str, Tensor], taught: Lesson) -> dict[str, Tensor]:
    """One loss for each question; squared errors weigh as much as the cross-entropies do when both are half learnt."""
    seen: Tensor = forward(taught.ink, weights)

    def answer(name: str) -> Tensor:
        return seen @ weights[name] + weights[f"{name}_bias"]

    known = ~taught.path.isnan().any(1)
    return {
        "motion": functional.cross_entropy(answer("motion"), taught.motion),
        "shape": functional.cross_entropy(answer("shape"), taught.shape),
        "colour": functional.cross_entropy(answer("colour"), taught.colour),
        "path": 10 * functional.mse_loss(answer("path")[known], taught.path[known]),
        "damage": 30 * functional.mse_loss(answer("damage"), taught.damage),
    }


def train(steps: int = STEPS) -> dict[str, NDArray[np.float16]]:
    """The weights of the network, without its heads."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng([SEED, *b"features"])
    weights = initial_weights(torch.Generator().manual_seed(SEED))
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    mean: dict[str, float] = {}
    for step in track(range(steps), "training the feature network"):
        found = losses(weights, lesson(rng))
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(list(found.values())).sum())
        optimiser.step()
        schedule.step()
        mean = {name: 0.98 * mean.get(name, loss.item()) + 0.02 * loss.item() for name, loss in found.items()}
        if (step + 1) % 250 == 0:
            typer.echo(f"step {step + 1}: " + ", ".join(f"{name} {value:.3f}" for name, value in mean.items()))
    whiten(weights)
    stages = [f"{kind}{k}" for k in range(len(FOLDS)) for kind in ("weight", "bias")]
    return {name: weights[name].detach().numpy().astype(np.float16) for name in stages}


@torch.no_grad()
def whiten(weights: dict[str, Tensor]) -> None:
    """Change the last stage so that features of undamaged clips have mean 0 and the unit matrix as covariance.

    What real clips hardly vary in, as signs of damage, then counts as much as where they move. Cholesky whitening: the
    result does not depend on the scale of the features before.
    """
    rng = np.random.default_rng([SEED, *b"whiten"])
    seen = torch.cat([forward(lesson(rng, 0.0).ink, weights) for _ in range(60)]).double()
    triangle = torch.linalg.inv(torch.linalg.cholesky(torch.cov(seen.T)))
    last = len(FOLDS) - 1
    weight, bias = (weights[f"{kind}{last}"].double() for kind in ("weight", "bias"))
    weights[f"weight{last}"] = (weight @ triangle.T).float()
    weights[f"bias{last}"] = ((bias - seen.mean(0)) @ triangle.T).float()


def main(
    out: Annotated[Path, typer.Option(help="file to write")] = WEIGHTS,
    steps: Annotated[int, typer.Option(help="updates; the shipped file is made with the default")] = STEPS,
) -> None:
    """Train the feature network from its seed, and write its weights."""
    files.write(out, save(train(steps)))
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
