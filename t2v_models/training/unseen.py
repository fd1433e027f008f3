"""What a model makes of clips that it never saw: its loss on them, and its own clips of their captions beside them."""

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_models.batch import Batch
from t2v_models.config import LabError
from t2v_models.judging.beside import Beside, Seen
from t2v_models.judging.own_clips import OwnClips, Rows, real
from t2v_models.judging.statistics import Score, block_mean
from t2v_models.machine import threads
from t2v_models.model import LossModel, VideoModel
from t2v_models.sampler import RoundTrip, clips_of
from t2v_models.shards.store import ClipStore
from t2v_models.worlds.splits import evenly

MOST, PART, PASSES = 512, 16, 4
"""Clips that are looked at; of each part, which is a block of the interval; and draws of noise for each."""


def beside_real(model: VideoModel, beside: Beside, most: int) -> dict[str, float]:
    """Means of `Beside.numbers` over a clip for each of up to `most` captions kept for validation, evenly of those that
    the model takes: of every family, without a judge that learns. Nothing where it takes none."""
    own = beside.own
    prompts = evenly([c for c in dict.fromkeys(own.captions) if takes(model, c)], most)
    if not prompts:
        return {}
    seeds = range(len(prompts))
    sample = clips_of(model, lambda prompts, seeds: real(own, prompts, [s - 1 for s in seeds]))  # those set beside
    found = beside.numbers(Seen.of(sample(prompts, seeds)), prompts, seeds)
    return {name: float(np.mean([numbers[name] for numbers in found])) for name in found[0]}


def takes(model: VideoModel, caption: str) -> bool:
    """Whether its text encoder knows the words of a caption, or it needs none."""
    try:
        if not isinstance(model, RoundTrip):
            model.text.check(caption)
    except LabError:
        return False
    return True


def losses_of(model: object, own: OwnClips, most: int = MOST) -> dict[str, Score]:
    """`unseen_loss`, the mean loss of the networks together on clips kept for validation, and `loss_ratio`, that over
    the loss on training clips with the same noise. Nothing of models that follow no loss, or make nothing of captions,
    or know the words of too few clips.

    Of the weights as they learn, not of their average; a model in training goes on as if it had not been asked.
    """
    if not isinstance(model, LossModel) or isinstance(model, RoundTrip):
        return {}
    held = _taken(model, own.validation, own.rows)
    known = _taken(model, own.training, own.training_rows)
    n = min(len(held), len(known), most)
    if n < 2 * PART:
        return {}
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    unseen = _losses(model, own.validation, held[_spread(len(held), n)])
    seen = _losses(model, own.training, known[_spread(len(known), n)])
    for name, buffer in model.named_buffers():  # what a family notes of its errors
        buffer.copy_(before[name])
    ratio = float(unseen.mean() / seen.mean())
    off = block_mean(((unseen - ratio * seen) / seen.mean()).tolist(), n)
    return {
        "unseen_loss": block_mean(unseen.tolist(), n),
        "loss_ratio": Score(value=ratio, low=ratio + off.low, high=ratio + off.high, n=n),
    }


def _taken(model: LossModel, store: ClipStore, rows: Rows) -> Rows:
    """The clips whose caption the model takes."""
    return np.array([row for row in rows if takes(model, _caption(store, row))], np.int64)


def _caption(store: ClipStore, row: int) -> str:
    return store.captions[row].split("\n")[0]


def _spread(count: int, n: int) -> Rows:
    return np.linspace(0, count - 1, n).round().astype(np.int64)


def _losses(model: LossModel, store: ClipStore, rows: Rows) -> NDArray[np.float64]:
    """Of each part the mean over draws of noise."""
    parts = np.array_split(rows, len(rows) // PART)
    with torch.no_grad(), threads(model.config.threads):
        return np.array([np.mean([_loss(model, store, part, seed) for seed in range(PASSES)]) for part in parts])


def _loss(model: LossModel, store: ClipStore, rows: Rows, seed: int) -> float:
    frames = torch.from_numpy(store.frames(rows)).to(model.device)
    captions = tuple(_caption(store, row) for row in rows)
    found = model.losses(Batch(frames, captions, seed=seed), 0, 1.0)
    return sum(float(loss.total) / max(loss.count, 1.0) for loss in found.values())
