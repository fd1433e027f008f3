"""Clips of which some frames are known, and the others are to be made.

Letters in shapes: b clips, t frames, k of them known, h and w pixels.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from t2v_models.batch import to_video
from t2v_models.sampler import Request


@dataclass(frozen=True)
class KnownFrames:
    """Such clips."""

    video: Tensor
    """`(b, 3, t, h, w)` in [-1, 1]; unknown frames are of no account."""
    known: Tensor
    """`(b, t)` bool."""

    @classmethod
    def of(cls, request: Request, length: int, device: torch.device) -> Self | None:
        """What is known of the clips of so many frames that a settled request asks for; None where that is nothing."""
        if request.known_frames is None:
            return None
        given = to_video(request.known_frames).to(device)  # (b, 3, k, h, w)
        b, colours, k, *size = given.shape
        places = list(request.places or range(k))
        video = given.new_zeros(b, colours, length, *size)
        video[:, :, places] = given
        known = torch.zeros(b, length, dtype=torch.bool, device=device)
        known[:, places] = True
        return cls(video, known)

    def over(self, video: Tensor) -> Tensor:
        """The clips with the known frames in place."""
        return torch.where(self.known[:, None, :, None, None], self.video, video)

    def channels(self, pictures: Tensor) -> Tensor:
        """What a network sees of them, `(b, c + 1, t, h, w)`: the known of its frames, and which those are."""
        mask = self.known[:, None, :, None, None].to(pictures).expand_as(pictures[:, :1])
        return torch.cat([pictures * mask, mask], 1)
