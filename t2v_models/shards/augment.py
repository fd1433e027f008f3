"""Clips that are varied while a model trains: cropped and scaled, brighter or darker, begun later, mirrored.

What becomes of a clip is one draw for all of its frames, a function of (seed, k) and of its place in batch k: not of
ranks or workers. Validation and judging see clips as they are stored.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from t2v_models.config import Config, LabError

if TYPE_CHECKING:  # a served model reads no dataset
    from t2v_models.shards.manifest import Manifest

Stored = Callable[[NDArray[np.int64]], NDArray[np.uint8] | Tensor]
"""Clips of these rows: uint8 `(b, t, h, w, 3)`."""
SIDES = re.compile(
    r"(?:upper|lower|top|bottom|front|back|far|mid|hard|move|turn|go)?(?:left|right)"
    r"(?:wards?|hand(?:ed|er)?|(?:hand)?sided?|most|bound|y|ies)?|(?:up|down)left"
    r"|(?:north|south)?(?:east|west)(?:ern|erly|wards?|bound|most)?"
    r"|(?:anti|counter|contra)?clockwise|a?c?cw|widdershins|sinistral|dextral|starboard|portside"
)
"""English words whose truth changes in a mirror; "upright" and "downright" are none."""
SHORT_SIDES = {"NE", "NW", "SE", "SW"}
"""The same where they are written large."""
SIDE_SIGNS = "左右"
"""The same in Chinese and Japanese, where no blanks part words."""


class AugmentConfig(Config):
    """How clips are varied while a model trains on them; by default they are not."""

    crop: float = Field(1, gt=0, le=1, description="least share of a frame's area that is kept, scaled to the whole")
    colour: float = Field(0, ge=0, lt=1, description="most by which brightness, contrast, saturation change: 0.2 of 1")
    offset: int = Field(0, ge=0, description="most frames that a clip begins later: it ends in the next of its film")
    flip: bool = Field(False, description="half of the clips mirrored; refused where a caption names a side")

    @property
    def on(self) -> bool:
        """Whether anything is varied."""
        return self != AugmentConfig()

    def check(self, manifest: "Manifest") -> None:
        """See that captions stay true and clips can be read.

        Raises:
            LabError: a caption names a side and clips are mirrored; clips begin later and none has one to end in.
        """
        self.check_captions(dict.fromkeys(manifest.captions))
        if self.offset and (following(manifest) < 0).all():
            raise LabError(
                f"no clip of {manifest.folder} has a next one of the same film and caption to end in: leave offset "
                "out, or ingest longer films"
            )

    def check_captions(self, captions: Iterable[str]) -> None:
        """See that captions stay true.

        Raises:
            LabError: one names a side and clips are mirrored.
        """
        for caption in captions if self.flip else ():
            if side := side_in(caption):
                raise LabError(
                    f"the caption {caption!r} names a side ({side}), and mirrored clips would show the other: leave "
                    "flip out"
                )


NOTHING = AugmentConfig()
DRAWS = 8
"""Numbers that are drawn for a clip, whatever is varied: a setting changes none of another's."""


def side_in(caption: str) -> str | None:
    """What names a side in a caption first: a word with the hyphens that it has, or None."""
    text = unicodedata.normalize("NFKC", caption)
    for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)):
        parts = word.casefold().split("-")
        if any(map(SIDES.fullmatch, parts)) or word in SHORT_SIDES or any(sign in word for sign in SIDE_SIGNS):
            return str(word)
    return None


def following(manifest: "Manifest") -> NDArray[np.int64]:
    """Of every clip the one with the frames that come next in its film, of the same shape and caption; -1 for none."""
    table = manifest.table
    if "source" not in table.column_names:
        return np.full(len(table), -1, np.int64)
    source = np.from_dlpack(table["source"].chunk(0).indices)
    kinds = len(manifest.shapes) * manifest.caption_codes.astype(np.int64) + manifest.bucket_of
    films = np.unique(source * (kinds.max() + 1) + kinds, return_inverse=True)[1]
    start = manifest.numbers("source_frame")
    frames = np.array([spec.frames for spec in manifest.shapes])[manifest.bucket_of]
    place = films * (start.max() + frames.max() + 1) + start
    order = np.argsort(place)
    found = np.searchsorted(place, place + frames, sorter=order).clip(max=len(place) - 1)
    return np.where(place[order][found] == place + frames, order[found], -1)


class Varied:
    """The clips of a training, as they are learnt.

    Args:
        config: what is varied.
        manifest: of the clips.
        stored: those of some rows, as they are stored.
        seed: of the draws.
    """

    def __init__(self, config: AugmentConfig, manifest: "Manifest", stored: Stored, seed: int) -> None:
        self._config, self._stored, self._seed = config, stored, seed
        self._next = following(manifest) if config.offset else np.full(len(manifest.table), -1, np.int64)

    def frames(self, rows: NDArray[np.int64], k: int, first: int, end: int) -> Tensor:
        """Of batch k, which has the clips of these rows, those from `first` to `end`: uint8 `(b, t, h, w, 3)`."""
        draws = np.random.default_rng([self._seed, k, len(rows), DRAWS]).random((len(rows), DRAWS))[first:end]
        rows = rows[first:end]
        stored = torch.as_tensor(self._stored(rows))
        latest = min(self._config.offset, stored.shape[1] - 1)
        later = np.where(self._next[rows] < 0, 0, (draws[:, 0] * (latest + 1)).astype(np.int64))
        films = dict(zip(range(len(rows)), stored, strict=True))
        if len(late := np.flatnonzero(later)):
            following = torch.as_tensor(self._stored(self._next[rows[late]]))
            films |= {i: torch.cat([stored[i], clip]) for i, clip in zip(late.tolist(), following, strict=True)}
        made = torch.empty_like(stored, memory_format=torch.contiguous_format)
        for i, draw in enumerate(draws.tolist()):
            made[i] = _varied(films[i][later[i] : later[i] + stored.shape[1]], draw[1:], self._config)
        return made


def _varied(clip: Tensor, draw: list[float], config: AugmentConfig) -> Tensor:
    """A clip `(t, h, w, 3)`. Functions of torchvision, not its classes: those draw from torch's one generator, which
    belongs to the training and not to the threads that read."""
    from torchvision.transforms.v2 import functional  # takes seconds, and most trainings vary nothing

    area, down, across, brightness, contrast, saturation, mirrored = draw
    t, h, w, _ = clip.shape
    side = math.sqrt(1 - area * (1 - config.crop))
    height, width = max(1, round(h * side)), max(1, round(w * side))
    if (height, width) != (h, w):
        top, left = int(down * (h - height + 1)), int(across * (w - width + 1))
        pictures = functional.resized_crop(clip.permute(0, 3, 1, 2), top, left, height, width, [h, w], antialias=True)
        clip = pictures.permute(0, 2, 3, 1)
    if config.colour:  # of the clip as one picture: its frames have one mean, so that nothing flickers
        picture = clip.reshape(t * h, w, 3).permute(2, 0, 1)
        picture = functional.adjust_brightness(picture, _about_1(brightness, config.colour))
        picture = functional.adjust_contrast(picture, _about_1(contrast, config.colour))
        picture = functional.adjust_saturation(picture, _about_1(saturation, config.colour))
        clip = picture.permute(1, 2, 0).reshape(t, h, w, 3)
    return clip.flip(2) if config.flip and mirrored < 0.5 else clip


def _about_1(draw: float, most: float) -> float:
    """From 1 - most to 1 + most."""
    return 1 + most * (2 * draw - 1)
