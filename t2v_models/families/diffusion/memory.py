"""Whether there is room for the clips of a batch while they are made."""

import torch

from t2v_models.config import LabError
from t2v_models.machine import free_memory

MAPS = 4
"""Feature maps, or clips at full size, that sampling holds at a time."""


def check_memory(clips: int, frames: int, size: tuple[int, int], widest: float, device: torch.device) -> None:
    """See that a batch has room: of both halves of guidance some feature maps, and clips at full size.

    Args:
        clips: of the batch.
        frames: of each.
        size: height and width, px.
        widest: channels of the widest feature map, for each pixel of a clip.
        device: where they are made.

    Raises:
        LabError: it has not; by how much.
    """
    height, width = size
    needed = int(4 * clips * frames * height * width * MAPS * (2 * widest + 3))
    if needed > (free := free_memory(device)):
        raise LabError(
            f"{clips} clips of {frames} frames need about {needed / 2**30:.0f} GiB and {free / 2**30:.0f} GiB of "
            "memory are free: ask for shorter clips, or for a long one by 't2v story'"
        )
