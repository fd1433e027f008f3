"""What is drawn for the clips of a batch, however that is shared."""

import torch
from torch import Tensor

from t2v_models.batch import Batch


def one_frame(part: Batch, video: Tensor) -> Tensor:
    """Of each clip `(b, c, t, h, w)` any one frame, as a clip of one."""
    frame = (part.rand() * video.shape[2]).long()
    return video[torch.arange(len(video), device=video.device), :, frame].unsqueeze(2)


def stratified(part: Batch) -> Tensor:
    """Places in [0, 1) for the clips of this part, one in each of as many equal strata as the whole batch has clips.

    Which clip has which is one fixed shuffle, so that clips of one caption, which may stand together, get all levels.
    """
    count = len(part.all_captions)
    strata = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return (part.own(strata) + part.rand().cpu()) / count
