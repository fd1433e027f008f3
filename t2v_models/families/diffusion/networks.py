"""The networks there are, by name."""

from collections.abc import Sequence
from typing import Literal

from t2v_models.families.diffusion.factorised import Factorised
from t2v_models.families.diffusion.folded import Folded, Shape
from t2v_models.families.diffusion.transformer import Transformer
from t2v_models.families.diffusion.unet import Recipe

Network = Folded | Factorised | Transformer
NetworkName = Literal["folded", "factorised", "transformer"]


def network_of(
    name: NetworkName, shape: Shape, text: int, patch: int, widths: Sequence[int], recipe: Recipe, sees_frames: bool,
    looks_at_words: bool,
) -> Network:  # fmt: skip
    """A fresh network for clips of a shape and texts of a width; the arguments are explained there."""
    match name:
        case "folded":
            return Folded(shape, text, patch, widths, recipe, sees_frames, looks_at_words)
        case "factorised":
            return Factorised(shape, text, patch, widths, recipe, sees_frames)
        case "transformer":
            return Transformer(shape, text, patch, widths[-1], recipe.blocks, recipe.condition, sees_frames)
