"""How many of its codes a tokenizer uses."""

import torch
from torch import Tensor, nn

from t2v_models.batch import Metrics
from t2v_models.distributed.collectives import all_reduce_tensor

KEPT = 0.99
"""Share of the counts that is kept with each update."""


class Usage(nn.Module):
    """How often each code was seen of late; it changes between updates only, however a batch is shared."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(vocabulary))
        self.register_buffer("sums", torch.zeros(vocabulary), persistent=False)
        self.counts: Tensor
        self.sums: Tensor

    def note(self, tokens: Tensor) -> None:
        """Keep tokens of any shape for when the update is done."""
        self.sums += torch.bincount(tokens.flatten(), minlength=len(self.sums))

    def remember(self) -> None:
        """Learn from what all ranks have noted."""
        self.counts.mul_(KEPT).add_(all_reduce_tensor(self.sums))
        self.sums.zero_()

    def figures(self, tokens: int) -> Metrics:
        """Share of the codes seen in the last hundred updates or so; perplexity, the number of equally frequent codes
        that would be as hard to guess; and the bits of a clip of so many tokens, each guessed by its frequency."""
        share = self.counts / self.counts.sum().clamp_min(1)
        entropy = -(share * share.clamp_min(1e-12).log2()).sum()
        used = (self.counts > KEPT**100).to(share).mean()
        return {"codes/used": used, "codes/perplexity": entropy.exp2(), "codes/bits_per_clip": tokens * entropy}
