"""A U-Net of frames side by side: time folded into channels.

For short clips of one length the cheapest network there is: two-dimensional convolutions see all frames at once, at a
quarter to a tenth of the arithmetic of layers that know time. Letters in shapes: b clips, c channels, t frames, h and w
pixels, d the text's width, m the width of the condition.
"""

from collections.abc import Sequence

from torch import Tensor

from t2v_models.families.diffusion.unet import Recipe, Told, Unet, beside
from t2v_models.text.encoder import Text

Shape = tuple[int, int, int, int]
"""(c, t, h, w)."""


class Folded(Unet):
    """F(x, level, text): clips `(b, c, t, h, w)` to the same shape; near 0 at the start.

    Args:
        shape: (c, t, h, w) of a clip.
        text: d.
        patch: pixels on a side that the first layer takes together.
        widths: channels at each resolution, each half as fine as the one before.
        recipe: of what is done at each resolution.
        given: whether it sees known frames.
        looks: whether it looks at every token of the text.
    """

    any_length = False

    def __init__(
        self, shape: Shape, text: int, patch: int, widths: Sequence[int], recipe: Recipe, given: bool = False,
        looks: bool = False,
    ) -> None:  # fmt: skip
        channels, frames, height, width = shape
        more = (channels + 1) if given else 0
        folded = (channels + more) * frames, channels * frames
        super().__init__(folded, (height, width), text, patch, widths, recipe, looks)
        self.given = more

    def forward(
        self, x: Tensor, level: Tensor, text: Text, given: Tensor | None = None, alone: Tensor | None = None
    ) -> Tensor:
        """What the preconditioning wants of clips at noise levels `(b,)`.

        Args:
            x: the clips.
            level: ln(sigma) / 4.
            text: of each clip.
            given: `KnownFrames.channels`.
            alone: is for networks whose frames can do without each other.
        """
        assert alone is None
        told = Told(self.condition(level, text), text)
        return self.pictures(beside(x, given, self.given).flatten(1, 2), told).view_as(x)
