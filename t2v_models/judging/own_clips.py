"""Clips of people's own, as a judge without truth needs them: those to learn from, those kept for validation, and what
is made of the latter without learning: the ceiling and the floors of every table.

A clip that is judged answers a prompt. Its own real clip is one of the validation part whose caption means the same.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.copies import nearest_to, thumbnails
from t2v_models.judging.encoders import Views, looked_at
from t2v_models.shards.ingested import DataConfig
from t2v_models.shards.manifest import MANIFEST, VALIDATION, Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.text.split import words

Frames = NDArray[np.uint8]
Rows = NDArray[np.int64]

MOST_TRAINING, MOST_VALIDATION = 4000, 2048
"""Clips that are looked at, drawn by chance from larger datasets."""
LEAST_CLIPS, LEAST_VALIDATION, LEAST_CAPTIONS = 100, 8, 4
"""Fewer clips in all, or for validation, or captions that differ in meaning, and nothing is judged."""
LEFT_OUT = "no figure of samples is told (own caption, own clip, motion, sharpness, variety, distances, copies, loss)"
"""What a dataset without a judge goes without."""
BLUR = 1 / 24
"""Standard deviation of the blur of blurred clips, of the frame's side."""


@dataclass(frozen=True)
class OwnClips:
    """Both parts of a dataset whose truth nobody knows."""

    config: DataConfig
    digest: str
    """Changes with any byte of either part."""
    training: ClipStore
    validation: ClipStore
    training_rows: Rows
    rows: Rows
    """Of the validation part."""

    @classmethod
    def of(cls, folder: Path, spec: ClipSpec | None = None) -> "OwnClips":
        """The dataset in a folder, or its clips of one shape; of several the most common one is judged.

        Raises:
            LabError: it was rendered, has no validation part, too few clips, or too few captions to tell apart; its
                clips are pictures.
        """
        manifest = Manifest.load(folder)
        if manifest.config.truth is not None:
            raise LabError(f"{folder} was rendered: its clips are judged by what is true of them")
        if not (folder / VALIDATION / MANIFEST).is_file():
            raise LabError(
                f"{folder} keeps no clips for validation, so {LEFT_OUT}: all are taken beside such clips; ingest them "
                "again with --validation 0.1"
            )
        training, validation = ClipStore(manifest), ClipStore(Manifest.load(folder / VALIDATION))
        spec = spec or manifest.spec
        if spec.frames == 1:
            raise LabError(
                f"clips of {spec.name} in {folder} are pictures, and their judge asks about motion as well: ask for a "
                "shape of several frames, see `t2v evaluate --help`"
            )
        config = next(one for one in (manifest.config, *manifest.config.one_shape) if one.spec == spec)
        learnt, held = (_of_shape(store.manifest, spec) for store in (training, validation))
        count, kept = len(learnt) + len(held), len(held)
        if count < LEAST_CLIPS or kept < LEAST_VALIDATION:
            raise LabError(
                f"{_where(folder, manifest, spec)} has {count:,} clips, {kept:,} of them for validation, so {LEFT_OUT}"
                f": their judge takes {LEAST_CLIPS} and {LEAST_VALIDATION} to learn and to be proven; add clips or "
                "keep a larger share with --validation"
            )
        meanings = {manifest.config.meaning(validation.captions[row]) for row in held}
        if len(meanings) < LEAST_CAPTIONS:
            raise LabError(
                f"the captions of {folder} kept for validation say {_things(len(meanings))}, so {LEFT_OUT}: it takes "
                f"{LEAST_CAPTIONS} to tell clips apart by; caption clips by what each shows"
            )
        digest = f"{manifest.digest}-{validation.manifest.digest}{'' if spec == manifest.spec else spec.name}"
        some = (learnt[_some(len(learnt), MOST_TRAINING)], held[_some(kept, MOST_VALIDATION)])
        return cls(config, digest, training, validation, *some)

    @property
    def spec(self) -> ClipSpec:
        return self.config.spec

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Of the validation clips that are looked at; of several lines the first."""
        return tuple(self.validation.captions[row].split("\n")[0] for row in self.rows)

    @cached_property
    def training_captions(self) -> tuple[str, ...]:
        """Of the training clips that are looked at, each with all of its lines."""
        return tuple(self.training.captions[row] for row in self.training_rows)

    @cached_property
    def of_meaning(self) -> dict[Hashable, list[int]]:
        """Places in `captions` by what they mean."""
        found: dict[Hashable, list[int]] = {}
        for i, caption in enumerate(self.captions):
            found.setdefault(self.config.meaning(caption), []).append(i)
        return found

    def own(self, prompt: str, seed: int) -> int | None:
        """The place of the real clip that a judged one is set beside; None where no caption means the same."""
        places = self.of_meaning.get(self.config.meaning(prompt))
        return places[seed % len(places)] if places else None

    def alone(self, prompt: str) -> bool:
        """Whether one clip kept for validation has this meaning: there is no other real one to set beside it."""
        return len(self.of_meaning.get(self.config.meaning(prompt), ())) == 1

    def real(self, places: Sequence[int]) -> Frames:
        """Validation clips `(n, t, h, w, 3)`."""
        return self.validation.frames(self.rows[list(places)])

    @cached_property
    def training_views(self) -> Views:
        """The training clips as they are looked at."""
        parts = np.array_split(self.training_rows, -(-len(self.training_rows) // 256))
        return np.concatenate([looked_at(self.training.frames(part)) for part in parts])

    def asked(self, clips_per_prompt: int) -> list[str]:
        """Every caption of the validation part, as often as it stands there, and all of that again, `clips_per_prompt`
        times at most and no more than `MOST_VALIDATION` in all."""
        return list(self.captions) * max(1, min(clips_per_prompt, MOST_VALIDATION // len(self.captions)))


def _things(count: int) -> str:
    return "all the same" if count == 1 else f"{count} different things"


def _where(folder: Path, manifest: Manifest, spec: ClipSpec) -> str:
    return f"the bucket {spec.name} of {folder}" if len(manifest.shapes) > 1 else str(folder)


def _of_shape(manifest: Manifest, spec: ClipSpec) -> Rows:
    """The clips of a shape."""
    shapes = list(manifest.shapes)
    return manifest.buckets[shapes.index(spec)] if spec in shapes else np.zeros(0, np.int64)


def _some(count: int, most: int) -> Rows:
    chosen = np.random.default_rng(list(b"looked at")).permutation(count)[:most]
    return np.sort(chosen).astype(np.int64)


Control = Callable[[OwnClips, Sequence[str], Sequence[int]], Frames]


def _places(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> list[int]:
    """A real clip of each prompt, another one than the clip is set beside where there are several.

    Raises:
        LabError: a prompt that no clip of the validation part answers.
    """
    found = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        place = own.own(prompt, seed + 1)
        if place is None:
            raise LabError(f"no clip kept for validation shows {prompt!r}: ask for {own.captions[0]!r} or another one")
        found.append(place)
    return found


def real(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips of the prompts that no model was trained on."""
    return own.real(_places(own, prompts, seeds))


def unconditional(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips of the caption that most of them have, whatever is asked; of several such captions, of any: perfect to
    look at, deaf to the prompt, and as often right as anything deaf can be."""
    most = max(map(len, own.of_meaning.values()))
    common = [place for places in own.of_meaning.values() if len(places) == most for place in places]
    return own.real([common[np.random.default_rng([seed, *b"deaf"]).integers(len(common))] for seed in seeds])


def retrieval(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Training clips of the caption that has the most words in common with the prompt (Jaccard): looking up without
    understanding. Of several such clips the seed chooses."""
    said = [frozenset(words(caption)) for caption in own.training_captions]
    near = {prompt: _nearest(frozenset(words(prompt)), said) for prompt in dict.fromkeys(prompts)}
    chosen = [near[prompt][seed % len(near[prompt])] for prompt, seed in zip(prompts, seeds, strict=True)]
    return own.training.frames(own.training_rows[chosen])


def _nearest(asked: frozenset[str], said: Sequence[frozenset[str]]) -> NDArray[np.intp]:
    common = np.array([len(asked & other) / len(asked | other) for other in said])
    return np.flatnonzero(common == common.max())


def copied(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Training clips that look most like a real clip of the prompt: what learning by heart gives."""
    nearest, _ = nearest_to(thumbnails(looked_at(real(own, prompts, seeds))), thumbnails(own.training_views))
    return own.training.frames(own.training_rows[nearest])


def frozen(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """The middle frame of a real clip, held."""
    clips = real(own, prompts, seeds)
    return np.repeat(clips[:, [clips.shape[1] // 2]], clips.shape[1], axis=1)


def unordered(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """The frames of a real clip in any order."""
    clips = real(own, prompts, seeds)
    orders = [np.random.default_rng([s, *b"order"]).permutation(clips.shape[1]) for s in seeds]
    return np.stack([clip[order] for clip, order in zip(clips, orders, strict=True)])


def mirrored(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips with left and right exchanged."""
    return np.ascontiguousarray(real(own, prompts, seeds)[:, :, :, ::-1])


def reversed_(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips backwards."""
    return np.ascontiguousarray(real(own, prompts, seeds)[:, ::-1])


def blurred(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips, out of focus."""
    clips = real(own, prompts, seeds)
    sigma = max(0.5, BLUR * clips.shape[2])
    return np.stack([[cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip] for clip in clips]).astype(np.uint8)


def noise(own: OwnClips, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Every byte drawn evenly."""
    return np.stack([np.random.default_rng([s, *b"noise"]).integers(0, 256, own.spec.shape, np.uint8) for s in seeds])


CONTROLS: dict[str, Control] = {
    "oracle": real, "unconditional": unconditional, "retrieval": retrieval, "copied": copied, "frozen": frozen,
    "unordered": unordered, "mirrored": mirrored, "reversed": reversed_, "blurred": blurred, "noise": noise,
}  # fmt: skip
"""By name; the first is the ceiling, the second the floor."""
OF_THE_OWN = frozenset({"oracle", "frozen", "unordered", "mirrored", "reversed", "blurred"})
"""Those that are made of a real clip of the prompt."""
