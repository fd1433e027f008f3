"""The text encoders there are; adding one is one file and its name here."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from t2v_models.text.encoder import TextConfig
from t2v_models.text.network import TransformersConfig
from t2v_models.text.numbers import NumbersConfig
from t2v_models.text.static import StaticConfig
from t2v_models.text.words import WordsConfig

ENCODERS: dict[str, type[TextConfig]] = {
    "words": WordsConfig, "numbers": NumbersConfig, "static": StaticConfig, "transformers": TransformersConfig
}  # fmt: skip
"""The configuration of each, by the name it is chosen with."""


def _by_name(value: object) -> object:
    """A name alone stands for the defaults of that encoder, `name:FOLDER` for those beside its folder, settings without
    a name for those of `words`.

    Raises:
        ValueError: it names two folders.
    """
    if isinstance(value, Mapping):
        value = {"name": "words"} | dict(value)
        named = _named(value["name"]) if isinstance(value["name"], str) else {}
        both = [str(found["folder"]) for found in (named, value) if found.get("folder")]
        if len(set(both)) > 1:
            raise ValueError(f"names two folders, {both[0]} and {both[1]}: give one")
        return value | named
    return _named(value) if isinstance(value, str) else value


def _named(value: str) -> dict[str, str]:
    name, colon, folder = value.partition(":")
    return {"name": name, "folder": folder} if colon else {"name": name}


AnyConfig = Annotated[WordsConfig | NumbersConfig | StaticConfig | TransformersConfig, Field(discriminator="name")]
EncoderConfig = Annotated[AnyConfig, BeforeValidator(_by_name, json_schema_input_type=str | AnyConfig)]
"""The settings of an encoder, told apart by `name`."""
