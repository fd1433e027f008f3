"""The families there are. Adding one is one folder and one member here; all else follows from its configuration."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny, ValidationError, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from t2v_models.config import LabError, in_words, near
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.families.diffusion.tuned import TunedConfig
from t2v_models.families.diffusion.upsampling import UpsamplerConfig
from t2v_models.families.frame_gan import FrameGanConfig
from t2v_models.families.gan.model import GanConfig
from t2v_models.families.modelscope.autoencoder import FrameAutoencoderConfig
from t2v_models.families.modelscope.model import ModelscopeConfig
from t2v_models.families.tokens.ar import ArTokensConfig
from t2v_models.families.tokens.phenaki import PhenakiConfig
from t2v_models.families.tokens.tokenizer import VideoTokenizerConfig
from t2v_models.model import KEPT_RUN, FamilyConfig

FAMILIES: dict[str, type[FamilyConfig]] = {
    "gan": GanConfig, "frame_gan": FrameGanConfig, "diffusion": DiffusionConfig, "upsampler": UpsamplerConfig,
    "tuned": TunedConfig, "video_tokenizer": VideoTokenizerConfig, "ar_tokens": ArTokensConfig,
    "phenaki": PhenakiConfig, "frame_autoencoder": FrameAutoencoderConfig, "modelscope": ModelscopeConfig,
}  # fmt: skip
"""The configuration of each family, by the name it is chosen with."""


def family(name: object) -> type[FamilyConfig]:
    """The configuration of a family.

    Raises:
        LabError: there is none of that name.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise LabError(f"unknown model {name!r}: {near(str(name), FAMILIES)}")
    return FAMILIES[name]


def _of_its_family(value: object, about: ValidationInfo) -> object:
    """Settings as the configuration of the family they name. What a kept run leaves open is as it was then."""
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise PydanticCustomError("family", "has no key 'name': say which model")
    try:
        config = family(value["name"])
        return config.model_validate({**config.earlier, **value} if about.context == KEPT_RUN else value)
    except LabError as error:
        raise PydanticCustomError("family", "{reason}", {"reason": str(error)}) from error
    except ValidationError as error:
        raise PydanticCustomError("family", "{reason}", {"reason": in_words(error, config)}) from error


class _AnyFamily:
    """For forms and documentation: the settings of each family."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found: list[Any] = [handler(config.__pydantic_core_schema__) for config in FAMILIES.values()]
        return {"anyOf": found}


ModelConfig = Annotated[SerializeAsAny[FamilyConfig], BeforeValidator(_of_its_family), _AnyFamily]
"""The configuration of any family, told apart by `name`."""
