"""The judge of clips whose truth nobody knows: it learnt from the real clips of a dataset what captions look like.

Whether a clip shows its caption is told as text-to-motion does (R-precision, Guo et al. 2022): of the own caption and
31 others, which lies nearest to the clip? Two pairs of encoders that see different things (`encoders`) say so, each for
itself and both together, for one learned judge can be fooled. What needs no learning stands beside it: whether the real
clip of the caption is nearer than other real clips, motion, sharpness, copies of training clips.

The judge is proven on real clips before it judges any other (`proof`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from t2v_models.judging.distances import Floats, distances
from t2v_models.judging.encoders import VIEWS, WIDTH, Encoders, Views, looked_at
from t2v_models.judging.memorisation import copy_rate
from t2v_models.judging.metrics import summarise
from t2v_models.judging.own_clips import OwnClips, nearest_to, thumbnails
from t2v_models.judging.spread import caption_spread, diversity
from t2v_models.judging.statistics import Score
from t2v_models.judging.truth import Judged
from t2v_models.judging.verdicts import Verdict
from t2v_models.shards.ingested import DataConfig

Frames = NDArray[np.uint8]

CANDIDATES = 32
"""Captions that a clip is set beside, its own included; fewer where fewer differ in meaning."""
CALLED = {"appearance": "looks", "motion": "motion"}
"""What a person calls the views."""
LEAST_SCALE = 0.02
"""Least standard deviation of a number of an embedding, whose length is 1."""
LEAST_BLOCKS = 2
"""Fewer blocks of clips and no distance is given."""


@dataclass(frozen=True)
class Measured:
    """What is measured of clips without a caption, a row each."""

    embeddings: dict[str, Floats]
    views: Views
    thumbnails: NDArray[np.float32]
    steps: NDArray[np.float32]
    """Grey changes from frame to frame, their mean over steps and pixels taken off, of length 1."""
    energy: Floats
    sharpness: Floats
    """Mean absolute change from frame to frame and root mean square change from pixel to pixel, 0 to 255: blur leaves
    the sum of absolute ones as it is."""

    @classmethod
    def of(cls, frames: Frames, encoders: Encoders) -> "Measured":
        """Of clips `(n, t, h, w, 3)`."""
        views = looked_at(frames)
        steps = np.diff(views.mean(2, dtype=np.float32), axis=1).reshape(len(frames), -1)
        steps = steps - steps.mean(1, keepdims=True)
        length = np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)
        energy, sharpness = np.array([_changes(clip) for clip in frames]).T
        return cls(encoders.see(views), views, thumbnails(views), steps / length, energy, sharpness)


def _changes(clip: Frames) -> tuple[float, float]:
    pixels = clip.astype(np.int16)
    energy = float(np.abs(np.diff(pixels, axis=0)).mean()) if len(clip) > 1 else 0.0
    return energy, float(
        np.sqrt(np.mean([np.square(np.diff(pixels, axis=axis), dtype=np.float64).mean() for axis in (1, 2)]))
    )


@dataclass(frozen=True)
class Reference:
    """A `judge.Judge` of one ingested dataset."""

    own: OwnClips
    encoders: Encoders

    @property
    def data(self) -> DataConfig:
        """The dataset it judges clips of."""
        return self.own.config

    @cached_property
    def real(self) -> Measured:
        """The validation clips, in the order of `own.captions`."""
        parts = [range(i, min(i + 256, len(self.own.captions))) for i in range(0, len(self.own.captions), 256)]
        found = [Measured.of(self.own.real(part), self.encoders) for part in parts]
        joined = {name: np.concatenate([part.embeddings[name] for part in found]) for name in VIEWS}
        columns = ("views", "thumbnails", "steps", "energy", "sharpness")
        return Measured(joined, *(np.concatenate([getattr(part, name) for part in found]) for name in columns))

    @cached_property
    def known(self) -> NDArray[np.float32]:
        """The training clips as thumbnails."""
        return thumbnails(self.own.training_views)

    @cached_property
    def unseen(self) -> Floats:
        """Distances of the validation clips from the nearest training clips."""
        return nearest_to(self.real.thumbnails, self.known)[1]

    @cached_property
    def said(self) -> list[str]:
        """One caption of each meaning: those kept for validation first, others where these are few."""
        first = {self.own.config.meaning(caption): caption for caption in reversed(self.own.captions)}
        if len(first) < CANDIDATES:
            more = [line for caption in self.own.training_captions for line in caption.split("\n")]
            first = {self.own.config.meaning(caption): caption for caption in reversed(more)} | first
        return [first[key] for key in sorted(first, key=repr)]

    @cached_property
    def _said(self) -> dict[str, Floats]:
        return self.encoders.read(self.said)

    @cached_property
    def _meanings(self) -> list[object]:
        return [self.own.config.meaning(caption) for caption in self.said]

    def judge(self, frames: Frames, prompts: Sequence[str], seeds: Sequence[int]) -> Judged:
        """Verdicts, and embeddings of both views side by side."""
        found = Measured.of(frames, self.encoders)
        asked = self.encoders.read(prompts)
        far = nearest_to(found.thumbnails, self.known)[1]
        verdicts = [
            Verdict.model_validate(
                self._ranks(found, asked, i, prompt, seed)
                | self._beside(found, i, prompt, seed)
                | {
                    "asked": prompt, "valid": True, "prompt": prompt, "split": "own", "seed": int(seed),
                    "size": frames.shape[2], "far": far[i], "energy": found.energy[i] / self.real.energy.mean(),
                    "sharpness": found.sharpness[i] / self.real.sharpness.mean(),
                }
            )
            for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]  # fmt: skip
        return Judged(verdicts, np.concatenate([found.embeddings[name] for name in VIEWS], 1))

    def _ranks(self, found: Measured, asked: dict[str, Floats], i: int, prompt: str, seed: int) -> dict[str, object]:
        """Where the own caption stands among the others."""
        meaning = self.own.config.meaning(prompt)
        order = np.random.default_rng([seed, *b"captions"]).permutation(len(self.said))
        others = [j for j in order if self._meanings[j] != meaning][: CANDIDATES - 1]
        seen = {name: found.embeddings[name][i] for name in VIEWS}
        nearness = {name: (float(seen[name] @ asked[name][i]), self._said[name][others] @ seen[name]) for name in VIEWS}
        rank = {name: 1 + int((other >= own).sum()) for name, (own, other) in nearness.items()}
        own = sum(own for own, _ in nearness.values())
        other = np.sum([other for _, other in nearness.values()], axis=0)
        joint, best = 1 + int((other >= own).sum()), self.said[others[int(other.argmax())]]
        reason = "" if joint == 1 else f"nearer to {best!r}"
        doubt = [name for name in VIEWS if rank[name] > 1]
        fault = reason or (f"by {CALLED[doubt[0]]} alone another caption is nearer" if doubt else "")
        return {
            "rank": joint, "rank_appearance": rank["appearance"], "rank_motion": rank["motion"],
            "match": own / len(VIEWS), "right": joint == 1, "reason": reason, "success": not fault, "fault": fault,
            "shown": prompt if joint == 1 else best,
        }  # fmt: skip

    def _beside(self, found: Measured, i: int, prompt: str, seed: int) -> dict[str, float]:
        """The clip beside the real one of its caption; nothing where there is none."""
        place = self.own.own(prompt, seed)
        if place is None:
            return {}
        order = np.random.default_rng([seed, *b"clips"]).permutation(len(self.own.captions))
        same = set(self.own.of_meaning[self.own.config.meaning(prompt)])
        others = [j for j in order if j not in same][: CANDIDATES - 1]
        pixels = ((self.real.thumbnails[[place, *others]] - found.thumbnails[i]) ** 2).mean(1)
        steps = self.real.steps[[place, *others]] @ found.steps[i]
        off = self.real.views[place].astype(np.float32) - found.views[i]
        return {
            "own_pixels": float(pixels[0] < pixels[1:].min()), "own_motion": float(steps[0] > steps[1:].max()),
            "own_rmse": float(np.sqrt((off**2).mean())) / 255, "motion_corr": float(steps[0]),
        }  # fmt: skip

    def figures(self, judged: Judged, beside: Judged) -> dict[str, Score]:
        """All figures, beside real clips of the same prompts; distances where there are clips enough for them."""
        others = self._distances(judged)
        others["copy_rate"] = copy_rate(np.array([v.far for v in judged.verdicts]), self.unseen)
        others |= diversity(judged, beside)
        others |= caption_spread(judged, self.own.config.meaning, beside)
        return summarise(judged.verdicts, others=others)

    def _distances(self, judged: Judged) -> dict[str, Score]:
        """From one half of the validation clips: of judged clips, and of the other half, whose captions these answer.

        No real clip is on both sides, and as many are judged as stand beside them.
        """
        meaning, captions = self.own.config.meaning, self.own.captions
        waiting: dict[object, list[int]] = {}
        for row, verdict in reversed(list(enumerate(judged.verdicts))):
            waiting.setdefault(meaning(verdict.prompt), []).append(row)
        order = np.random.default_rng(list(b"halves")).permutation(len(captions))
        half = len(order) // 2
        pairs = [(waiting[key].pop(), b) for b in order[half:] if waiting.get(key := meaning(captions[b]))][:half]
        if not pairs:
            return {}
        rows, other = zip(*pairs, strict=True)
        scores: dict[str, Score] = {}
        for k, name in enumerate(VIEWS):
            real, seen = self.real.embeddings[name], judged.features[:, k * WIDTH : (k + 1) * WIDTH]
            parts = seen[list(rows)], real[order[: len(pairs)]], real[list(other)]
            scores |= distances(*parts, name, LEAST_SCALE, LEAST_BLOCKS)
        return scores
