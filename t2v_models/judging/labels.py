"""A classifier of clips by how they move, learnt from the real clips of a dataset whose captions have a label: the
verbs of sprites ("attack", "die"). It sees no colour and nothing of a single frame: a frozen clip is as any other.

A second judge beside `reference`, on other features, linear, and with other errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2v_models.judging.distances import Floats
from t2v_models.judging.encoders import SIZE, Views

PLACES = 4
"""Rows and columns of a clip in which changes are summed."""
PENALTY = 0.01
"""Of the squared weights, beside the mean cross-entropy."""
LARGEST = 4.0
"""Standard deviations beyond which a number is cut."""


def movement(views: Views) -> Floats:
    """How clips move, `(n, k)`: over time the ink, its place and width, its changes from the frame before and from the
    first one, all over the usual ink; and where changes lie. Ink is the distance from the usual colour of the rim."""
    rim = np.concatenate([views[..., [0, -1], :], views[..., [0, -1]].swapaxes(-1, -2)], -2)  # (n, t, 3, 4, side)
    ground = np.median(rim, axis=(1, 3, 4)).astype(np.float32)[:, None, :, None, None]
    ink = np.abs(views - ground).mean(2) / 255  # (n, t, h, w)
    n, t = ink.shape[:2]
    place, mass = np.arange(SIZE) + 0.5, ink.sum((2, 3)) + 1e-6
    usual = mass.mean(1, keepdims=True)
    curves = [mass / usual]
    for lines, both_ways in ((ink.sum(2), True), (ink.sum(3), False)):  # left or right is all the same, up is not
        middle = lines @ place / mass
        width = np.sqrt(np.maximum(lines @ place**2 / mass - middle**2, 0))
        away = middle - middle.mean(1, keepdims=True)
        curves += [np.abs(away) if both_ways else away, width - width[:, :1]]
    steps = np.abs(np.diff(ink, axis=1)) / usual[..., None, None]
    curves += [steps.sum((2, 3)), np.abs(ink - ink[:, :1]).sum((2, 3)) / usual]
    spread = np.stack([f(curve, axis=1) for curve in curves for f in (np.mean, np.std, np.max)], 1)
    side = SIZE // PLACES
    where = steps.reshape(n, t - 1, PLACES, side, PLACES, side).mean((3, 5)).reshape(n, -1)
    return np.concatenate([*curves, spread, where], 1).astype(np.float64)


@dataclass(frozen=True)
class LabelReader:
    """Names the label of a clip: logistic regression on its movement."""

    labels: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    """`(k + 1, labels)`; the last row is added to all."""

    @classmethod
    def learnt(cls, views: Views, labels: Sequence[str]) -> "LabelReader":
        """From clips as they are looked at, and the label of each. Equal clips give an equal reader."""
        names = tuple(sorted(set(labels)))
        moved = movement(views)
        fresh = cls(names, moved.mean(0), moved.std(0) + 1e-6, np.zeros((moved.shape[1] + 1, len(names))))
        numbers, wanted = torch.from_numpy(fresh._numbers(moved)), torch.tensor([names.index(name) for name in labels])
        weights = torch.zeros(fresh.weights.shape, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            found = torch.nn.functional.cross_entropy(numbers @ weights, wanted) + PENALTY * (weights[:-1] ** 2).sum()
            torch.autograd.backward(found)
            return found

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return cls(names, fresh.mean, fresh.scale, weights.detach().numpy())

    def read(self, views: Views) -> list[str]:
        """The label that each clip shows best."""
        found: NDArray[np.intp] = (self._numbers(movement(views)) @ self.weights).argmax(1)
        return [self.labels[i] for i in found]

    def _numbers(self, moved: Floats) -> Floats:
        """Of deviation 1 and mean 0 over the clips it learnt from, and a 1."""
        cut = np.clip((moved - self.mean) / self.scale, -LARGEST, LARGEST)
        return np.concatenate([cut, np.ones((len(cut), 1))], 1)
