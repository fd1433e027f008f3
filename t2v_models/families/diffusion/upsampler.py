"""The second step of a cascade: small frames to full ones, and to those between them where not every frame was made.

It works frame by frame and adds what regression can know: where an edge lies within a coarse pixel, and where it is on
the way from one frame to the next (Ho et al. 2022, arXiv:2210.02303, section 2.3, where both are diffusions). What is
made of nothing, motion first of all, is the base's. Its input is slightly noisy in training, so that it forgives the
base its errors (Ho et al. 2022, arXiv:2106.15282, conditioning augmentation).
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.model import Loss

BLOCKS = 3
FORGIVEN = 0.1
"""The most noise on its input, of the half range of values: about what errors the denoiser makes."""

BaseSize = Annotated[int, Field(ge=4, le=512, description="least height of the small clips that are made first")]
Every = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        exclude_if=(1).__eq__,
        description="small clips have each so many-th frame; the upsampler draws those between",
    ),
]


class Upsampler(nn.Module):
    """Frames `(n, 3, h, w)` in [-1, 1] to `(n, 3, factor h, factor w)`; at the start little more than enlarged.

    Args:
        factor: of both sides.
        width: channels.
        between: whether it draws frames on the way from one to another, of which it sees both.
    """

    def __init__(self, factor: int, width: int, between: bool = False) -> None:
        super().__init__()
        self.factor = factor
        self.enter = nn.Conv2d(7 if between else 3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(BLOCKS)
        )
        self.leave = nn.Conv2d(width, 3 * factor**2, 3, padding=1)
        self.leave.weight.data.mul_(0.01)

    def forward(self, frames: Tensor, others: Tensor | None = None, share: Tensor | None = None) -> Tensor:
        """Each frame by itself, or the one that is a share `(n,)` of the way on from it to the other."""
        seen = frames
        if others is not None and share is not None:
            way = share.to(frames).view(-1, 1, 1, 1)
            seen = torch.cat([frames, others, way.expand_as(frames[:, :1])], 1)
            frames = torch.lerp(frames, others, way)
        h = self.enter(seen.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = h + block(h)
        enlarged = F.interpolate(frames, scale_factor=self.factor, mode="bilinear")
        return enlarged + F.pixel_shuffle(self.leave(F.silu(h)), self.factor).to(frames.dtype)


def enlarge(upsampler: nn.Module, video: Tensor, every: int = 1) -> Tensor:
    """Clips `(b, 3, t, h, w)` at full size and with all frames, of which each `every`-th is there; one at a time, which
    stays in a core's cache."""
    if every == 1:
        return torch.stack([upsampler(clip.transpose(0, 1)).transpose(0, 1) for clip in video])
    frames = torch.arange((video.shape[2] - 1) * every + 1, device=video.device)
    before, after, share = on_the_way(frames, every)
    clips = (clip.transpose(0, 1) for clip in video)
    return torch.stack([upsampler(clip[before], clip[after], share).transpose(0, 1) for clip in clips])


def upsampler_loss(upsampler: Upsampler, part: Batch, small: Tensor, video: Tensor, every: int) -> Loss:
    """At one frame a clip: squares of errors of what is made of small clips, which are under some noise."""
    rows = torch.arange(len(video), device=video.device)
    frame = (part.rand() * video.shape[2]).long()
    before, after, share = on_the_way(frame, every)

    def seen(place: Tensor) -> Tensor:
        noise = FORGIVEN * part.rand()[:, None, None, None] * part.randn(*small.shape[1:2], *small.shape[3:])
        return small[rows, :, place] + noise

    made = upsampler(seen(before), seen(after), share) if every > 1 else upsampler(seen(frame))
    error = made - video[rows, :, frame]
    return Loss(error.square().mean((1, 2, 3)).sum(), len(video))


def on_the_way(frames: Tensor, every: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the numbers of frames `(n,)` those of the small frames before and after, and how far it is from one to the
    other, 0 to 1."""
    before = frames // every
    return before, before + (frames % every > 0).long(), (frames % every) / every


def check_length(frames: int, every: int) -> None:
    """See that a clip begins and ends with a frame that is made first.

    Raises:
        LabError: it does not; the nearest lengths that do.
    """
    if (frames - 1) % every:
        less = (frames - 1) // every * every + 1
        raise LabError(
            f"steps of {every} frames (every={every}) do not lead from the first of {frames} to the last: "
            f"use {less} or {less + every} frames, or another every"
        )


def check_shapes(name: str, shapes: Sequence[ClipSpec], base: int, every: int) -> None:
    """See that clips of all these shapes can be made small as those of the first are.

    Raises:
        LabError: they cannot: what would do.
    """
    for spec in shapes:
        check_length(spec.frames, every)
    factor = reduction(shapes[0].height, shapes[0].width, base)
    for spec in shapes[1:]:
        if spec.height % factor or spec.width % factor:
            raise LabError(
                f"{name}: frames of {spec.sides} px cannot be made small {factor} times, as those of "
                f"{shapes[0].sides} are: use multiples of {factor}, or a larger base_size"
            )


def reduction(height: int, width: int, base: int) -> int:
    """The largest divisor of both sides that leaves at least `base` pixels of each."""
    most = max(1, min(height, width) // base)
    return max(factor for factor in range(1, most + 1) if height % factor == width % factor == 0)


def shrink(video: Tensor, factor: int, every: int = 1) -> Tensor:
    """Averages over squares of `factor` pixels a side of each `every`-th frame, of `(b, 3, t, h, w)`."""
    return F.avg_pool3d(video[:, :, ::every], (1, factor, factor)) if factor > 1 else video[:, :, ::every]
