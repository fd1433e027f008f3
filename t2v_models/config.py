"""What every configuration shares, and the one exception that is meant for the user's eyes."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError


def _colour(value: object) -> object:
    """Red, green and blue of a colour in words, for pydantic."""
    if not isinstance(value, str):
        return value
    from PIL import ImageColor  # seldom needed

    try:
        return ImageColor.getrgb(value)
    except ValueError as error:
        raise PydanticCustomError(
            "colour", "no such colour: give a name as in CSS, #rrggbb or [red, green, blue]"
        ) from error


Channel = Annotated[int, Field(ge=0, le=255)]
Channels = tuple[Channel, Channel, Channel]
RGB = Annotated[Channels, BeforeValidator(_colour, json_schema_input_type=str | Channels)]
"""Red, green and blue; read also from a colour's name in CSS or #rrggbb."""


class LabError(Exception):
    """A fault the user can mend: one sentence with what was found, what is allowed and what to do.

    The command line prints it and exits with code 2; every other exception is a bug and keeps its traceback.
    """


class Config(BaseModel, frozen=True, extra="forbid"):
    """A frozen record that refuses unknown keys, so that a misspelt key never falls back to a default."""


def near(word: str, allowed: Iterable[str]) -> str:
    """The allowed words, those spelt most like `word` first: for error sentences."""
    allowed = list(allowed)
    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"allowed: {', '.join(allowed)}"


def in_words(error: ValidationError, config: type[BaseModel] | None = None) -> str:
    """A pydantic error as one sentence: each bad field with what was found and what is allowed."""
    parts = []
    for e in error.errors():
        where = ".".join(str(p) for p in e["loc"]) or "value"
        if e["type"] == "extra_forbidden":
            hint = near(str(e["loc"][-1]), config.model_fields) if config else "see --help for the keys"
            parts.append(f"unknown key '{where}': {hint}")
        else:
            found = "" if e["type"] == "missing" else f" (found {e['input']!r:.60})"
            parts.append(f"{where}: {e['msg'][0].lower()}{e['msg'][1:]}{found}")
    return "; ".join(parts)


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level with dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
