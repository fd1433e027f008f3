"""How wrong a denoised clip is, and how much each noise level counts.

The error is first divided by how large it is expected to be at its noise level, then measured: so a distance means the
same at every level, and weighting is one choice of that expectation.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from t2v_models.distributed.collectives import all_reduce_tensor

Distance = Literal["l2", "l1", "huber"]
Weight = Literal["even", "min_snr", "edm"]
"""All levels alike, by the errors seen so far; min(SNR, 5) (Hang et al. 2023, arXiv:2303.09556); 1 + SNR, which makes
the errors of an untrained network alike (Karras et al. 2022, table 1). SNR is 1 / sigma²."""
BINS = 40
KEPT = 0.95
"""Share of what is remembered of the errors of a bin with each update that has clips in it."""
MAX_SNR = 5.0


def distance(error: Tensor, kind: Distance) -> Tensor:
    """Of each number its square, its size, or sqrt(1 + e²) - 1: half the square below 1, the size far above."""
    match kind:
        case "l2":
            return error.square()
        case "l1":
            return error.abs()
        case "huber":
            return (1 + error.square()).sqrt() - 1


class ExpectedError(nn.Module):
    """The root mean square error to expect at each noise level; for the weight "even" as seen so far.

    The mean squared error is remembered in bins of ln sigma. It starts from sigma² / (1 + sigma²), that of the best
    linear denoiser of white data, and changes between updates only, so it is no matter how a batch is shared.
    """

    def __init__(self, weight: Weight, low: float, high: float) -> None:
        super().__init__()
        self.weight = weight
        edges = torch.linspace(math.log(low), math.log(high), BINS + 1).exp()
        middle = (edges[1:] * edges[:-1]).sqrt()
        self.register_buffer("inner_edges", edges[1:-1], persistent=False)
        self.register_buffer("sums", torch.zeros(2, BINS), persistent=False)
        self.register_buffer("mean_square", middle**2 / (1 + middle**2))
        self.inner_edges: Tensor
        self.sums: Tensor
        self.mean_square: Tensor

    def forward(self, sigma: Tensor) -> Tensor:
        """Like the noise levels."""
        match self.weight:
            case "even":
                return self.mean_square[self.bins(sigma)].sqrt()
            case "min_snr":
                return sigma.clamp_min(MAX_SNR**-0.5)
            case "edm":
                return (1 + sigma**-2).rsqrt()

    def bins(self, sigma: Tensor) -> Tensor:
        """The bin of each noise level."""
        return torch.bucketize(sigma, self.inner_edges)

    def note(self, sigma: Tensor, squares: Tensor) -> None:
        """Keep the mean squared errors `(b,)` of clips at these levels for when the update is done."""
        both = torch.stack([squares.detach(), torch.ones_like(squares)])
        self.sums.index_add_(1, self.bins(sigma), both)

    def remember(self) -> None:
        """Learn from what all ranks have noted."""
        total, count = all_reduce_tensor(self.sums)
        seen = self.mean_square.lerp(total / count.clamp_min(1), 1 - KEPT)
        self.mean_square.copy_(torch.where(count > 0, seen, self.mean_square))
        self.sums.zero_()
