"""Where the tokens of a clip lie: patches of its frames, in slots of a few frames.

The first slot shows the first frame alone, as if it had stood there before; an image is a clip of that slot. The last
slot is filled by holding the last frame. So clips of any length have slots, and none depends on frames after its own.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_models.clips.spec import ClipSpec, sides
from t2v_models.config import LabError


@dataclass(frozen=True)
class Grid:
    """How clips of one frame size are cut. Letters in shapes: s slots, y and x patches down and across."""

    slot: int
    """Frames in a slot."""
    patch: int
    """Pixels on a side of a patch."""
    rows: int
    """y: patches down a frame."""
    columns: int
    """x: patches across it."""

    @classmethod
    def of(cls, spec: ClipSpec, slot: int, most: int) -> Self:
        """With the largest patch of at most `most` pixels a side that frames are made of.

        Raises:
            LabError: that would be less than half as large.
        """
        patch = max(p for p in range(1, most + 1) if spec.height % p == spec.width % p == 0)
        if 2 * patch < most:
            near = sides(*(max(most, round(side / most) * most) for side in (spec.height, spec.width)))
            raise LabError(
                f"frames of {spec.width} x {spec.height} px are not made of patches of {most} px a side, nor of ones "
                f"half as large: use clips of {near} px, or --set patch={patch}"
            )
        return cls(slot, patch, spec.height // patch, spec.width // patch)

    def slots(self, frames: int) -> int:
        """s, of a clip of so many frames."""
        return 1 + -(-(frames - 1) // self.slot)

    def frames(self, slots: int) -> int:
        """The most frames that so many slots show."""
        return 1 + (slots - 1) * self.slot

    def beside(self, frame: int, frames: int) -> range:
        """The frames of a clip of so many that share their slot with this one, itself included."""
        if not frame:
            return range(1)
        first = frame - (frame - 1) % self.slot
        return range(first, min(first + self.slot, frames))

    def pictures(self, video: Tensor) -> Tensor:
        """A picture of each slot, its frames side by side in channels: `(b, c, t, h, w)` to `(b, s, slot c, h, w)`."""
        slots = self.slots(video.shape[2])
        held = [video[:, :, :1]] * (self.slot - 1), [video[:, :, -1:]] * (self.frames(slots) - video.shape[2])
        whole = torch.cat([*held[0], video, *held[1]], 2)
        b, c, _, h, w = whole.shape
        apart = whole.view(b, c, slots, self.slot, h, w).permute(0, 2, 3, 1, 4, 5)
        return apart.reshape(b, slots, self.slot * c, h, w)

    def whole(self, known: Tensor) -> Tensor:
        """Of which slots all frames are known, `(b, s)` bool, where those frames are, `(b, t)` bool."""
        return self.pictures(known[:, None, :, None, None]).flatten(2).all(2)

    def video(self, pictures: Tensor, frames: int) -> Tensor:
        """And back: `(b, s, slot c, h, w)` to `(b, c, t, h, w)`."""
        b, slots, channels, h, w = pictures.shape
        whole = pictures.reshape(b, slots * self.slot, channels // self.slot, h, w).transpose(1, 2)
        return whole[:, :, self.slot - 1 :][:, :, :frames]


def previous(slots: Tensor) -> Tensor:
    """Of each slot `(b, s, …)` the one before it; of the first there is nothing, 0."""
    return F.pad(slots, (0, 0) * (slots.ndim - 2) + (1, 0))[:, :-1]
