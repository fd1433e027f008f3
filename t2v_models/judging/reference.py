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

from t2v_models.judging.beside import Beside, Seen
from t2v_models.judging.copies import inner, nearest_copy
from t2v_models.judging.distances import LEAST_BLOCK, Floats, distances
from t2v_models.judging.encoders import VIEWS, WIDTH, Encoders
from t2v_models.judging.memorisation import copy_rate
from t2v_models.judging.metrics import summarise
from t2v_models.judging.own_clips import OwnClips
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
LEAST_PAIRS = LEAST_BLOCKS * LEAST_BLOCK


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
    def beside(self) -> Beside:
        """The validation clips, for what needs no learning."""
        return Beside(self.own)

    @cached_property
    def real(self) -> dict[str, Floats]:
        """Embeddings of the validation clips, in the order of `own.captions`."""
        return self.encoders.see(self.beside.real.views)

    @cached_property
    def known(self) -> NDArray[np.float32]:
        """The training clips, as copies are sought among them."""
        return inner(self.own.training_views)

    @cached_property
    def unseen(self) -> Floats:
        """Distances of the validation clips from the nearest training clips."""
        return nearest_copy(self.beside.real.views, self.known)

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
        found = Seen.of(frames)
        embeddings, asked = self.encoders.see(found.views), self.encoders.read(prompts)
        far = nearest_copy(found.views, self.known)
        numbers = self.beside.numbers(found, prompts, seeds)
        verdicts = [
            Verdict.model_validate(
                self._ranks(embeddings, asked, i, prompt, seed)
                | numbers[i]
                | {
                    "asked": prompt, "valid": True, "prompt": prompt, "split": "own", "seed": int(seed),
                    "size": frames.shape[2], "far": far[i],
                }
            )
            for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]  # fmt: skip
        return Judged(verdicts, np.concatenate([embeddings[name] for name in VIEWS], 1))

    def _ranks(
        self, embeddings: dict[str, Floats], asked: dict[str, Floats], i: int, prompt: str, seed: int
    ) -> dict[str, object]:  # fmt: skip
        """Where the own caption stands among the others."""
        meaning = self.own.config.meaning(prompt)
        order = np.random.default_rng([seed, *b"captions"]).permutation(len(self.said))
        others = [j for j in order if self._meanings[j] != meaning][: CANDIDATES - 1]
        seen = {name: embeddings[name][i] for name in VIEWS}
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

    def figures(self, judged: Judged, beside: Judged) -> dict[str, Score]:
        """All figures, beside real clips of the same prompts; distances where there are clips enough for them."""
        others = self._distances(judged, pairs_of(self.own, [v.prompt for v in judged.verdicts]))
        others["copy_rate"] = copy_rate(np.array([v.far for v in judged.verdicts]), self.unseen)
        others |= diversity(judged, beside)
        others |= caption_spread(judged, self.own.config.meaning, beside)
        return summarise(judged.verdicts, others=others)

    def _distances(self, judged: Judged, pairs: Sequence[tuple[int, int, int]]) -> dict[str, Score]:
        """From one half of the validation clips: of judged clips, and of the other half."""
        if len(pairs) < LEAST_PAIRS:
            return {}
        rows, one, other = map(list, zip(*pairs, strict=True))
        scores: dict[str, Score] = {}
        for k, name in enumerate(VIEWS):
            real, seen = self.real[name], judged.features[:, k * WIDTH : (k + 1) * WIDTH]
            scores |= distances(seen[rows], real[one], real[other], name, LEAST_SCALE, LEAST_BLOCKS)
        return scores


def pairs_of(own: OwnClips, prompts: Sequence[str]) -> list[tuple[int, int, int]]:
    """What distances are between: a judged clip, a clip of one half of the validation part, and one of the other half,
    whose caption the judged one answers.

    No real clip is on both sides, and as many are judged as stand beside them. Captions that nobody asked have none.
    """
    waiting: dict[object, list[int]] = {}
    for row in reversed(range(len(prompts))):
        waiting.setdefault(own.config.meaning(prompts[row]), []).append(row)
    meanings = [own.config.meaning(caption) for caption in own.captions]
    order = np.random.default_rng(list(b"halves")).permutation(len(meanings))
    asked = [int(place) for place in order if meanings[place] in waiting]
    half = len(asked) // 2
    found = [(waiting[meanings[place]].pop(), place) for place in asked[half:] if waiting[meanings[place]]]
    return [(row, one, other) for one, (row, other) in zip(asked[:half], found, strict=False)]
