"""Two-dimensional convolutions for each frame, attention over the frames at each place: space and time apart.

Clips of any length, and pictures, which are clips of one frame. Where frames stand alone, they hear nothing of each
other, nor of when they are, so that they are learnt as pictures are (Ho et al. 2022, arXiv:2204.03458, section 3.1 and
4.2; arXiv:2210.02303, section 2.5). Letters as in `folded`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from t2v_models.families.diffusion.attention import WAVES, Attention, positions
from t2v_models.families.diffusion.folded import Shape
from t2v_models.families.diffusion.unet import Normed, Recipe, Sight, Stage, Told, Unet, beside
from t2v_models.text.encoder import Text


class Factorised(Unet):
    """F(x, level, text): clips `(b, c, t, h, w)` of any length to the same shape; arguments as of `Folded`."""

    any_length = True

    def __init__(
        self, shape: Shape, text: int, patch: int, widths: Sequence[int], recipe: Recipe,
        given: bool = False,
    ) -> None:  # fmt: skip
        channels, _, *size = shape
        more = (channels + 1) if given else 0
        both = channels + more, channels
        super().__init__(both, (size[0], size[1]), text, patch, widths, recipe, True, TimedStage)
        self.given = more
        width = recipe.condition
        self.when = nn.Sequential(nn.Linear(width + 2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, x: Tensor, level: Tensor, text: Text, given: Tensor | None = None, alone: Tensor | None = None,
        sight: Sight = "own",
    ) -> Tensor:  # fmt: skip
        """As of `Folded`; frames of clips that are `alone`, `(b,)` or `(1,)` bool, do not depend on each other but by
        what the `sight` of their places adds."""
        frames = x.shape[2]
        condition = self.condition(level, text)[:, None].expand(-1, frames, -1)  # (b, t, m)
        if frames > 1:
            place = positions(frames, condition).expand(len(x), -1, -1)
            condition = condition + _unless(alone, self.when(torch.cat([condition, place], 2)))
        told = Told(condition.flatten(0, 1), text, frames, alone, sight)
        pictures = beside(x, given, self.given).transpose(1, 2).flatten(0, 1)  # (b t, c, h, w)
        return self.pictures(pictures, told).view(len(x), frames, *x.shape[1:2], *x.shape[3:]).transpose(1, 2)


class TimedStage(Stage):
    """A stage for each frame, then attention over the frames at each place."""

    def __init__(self, width: int, size: tuple[int, int], recipe: Recipe) -> None:
        super().__init__(width, size, recipe)
        self.modulate = Normed(width, recipe)
        self.attention = Attention(width, width)

    def forward(self, h: Tensor, told: Told) -> Tensor:
        """`(b t, width, h, w)`."""
        h = super().forward(h, told)
        if told.frames == 1:
            return h
        inner = self.modulate(h, told.vector).unflatten(0, (-1, told.frames))  # (b, t, width, h, w)
        rows = inner.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (b h w, t, width)
        found = self.attention(rows, rows).unflatten(0, (len(inner), *h.shape[2:])).permute(0, 3, 4, 1, 2)
        return h + _unless(told.alone, found).flatten(0, 1)


def _unless(alone: Tensor | None, added: Tensor) -> Tensor:
    """`(b, …)`, with nothing in the rows that are alone."""
    return added if alone is None else torch.where(alone.view(-1, *[1] * (added.ndim - 1)), 0, added)
