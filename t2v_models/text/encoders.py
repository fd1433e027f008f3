"""The text encoders there are; adding one is one file and its name here."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from t2v_models.text.encoder import TextConfig
from t2v_models.text.static import StaticConfig
from t2v_models.text.words import WordsConfig

ENCODERS: dict[str, type[TextConfig]] = {"words": WordsConfig, "static": StaticConfig}
"""The configuration of each, by the name it is chosen with."""


def _by_name(value: object) -> object:
    """A name alone stands for the defaults of that encoder, settings without a name for those of `words`."""
    if isinstance(value, Mapping):
        return {"name": "words"} | dict(value)
    return {"name": value} if isinstance(value, str) else value


AnyConfig = Annotated[WordsConfig | StaticConfig, Field(discriminator="name")]
EncoderConfig = Annotated[AnyConfig, BeforeValidator(_by_name, json_schema_input_type=str | AnyConfig)]
"""The settings of an encoder, told apart by `name`."""
