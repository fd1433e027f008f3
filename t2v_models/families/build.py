"""From a configuration to a model. Adding a family is one file, one member of the union and one case."""

from collections.abc import Sequence
from typing import Annotated, assert_never, get_args

from pydantic import Field

from t2v_models.clips.spec import ClipSpec
from t2v_models.families.frame_gan import FrameGan, FrameGanConfig
from t2v_models.families.gan.model import Gan, GanConfig
from t2v_models.model import VideoModel

ModelConfig = Annotated[GanConfig | FrameGanConfig, Field(discriminator="name")]
FAMILIES: dict[str, type[ModelConfig]] = {
    family.model_fields["name"].default: family for family in get_args(get_args(ModelConfig)[0])
}
"""The configuration class of each family, by the name it is chosen with."""


def build(config: ModelConfig, spec: ClipSpec, vocabulary: Sequence[str]) -> VideoModel:
    """A fresh model for clips of `spec` and prompts of `vocabulary`; weights are drawn from torch's current seed."""
    match config:
        case GanConfig():
            return Gan(config, spec, tuple(vocabulary))
        case FrameGanConfig():
            return FrameGan(config, spec, tuple(vocabulary))
        case _:
            assert_never(config)
