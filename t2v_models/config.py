"""What every configuration shares, and the one exception that is meant for the user's eyes."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError


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


class Config(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A frozen record that refuses unknown keys, so that a misspelt key never falls back to a default, and numbers that
    are none."""


def near(word: str, allowed: Iterable[str], before: str = "") -> str:
    """The allowed words, those spelt most like `word` first: for error sentences.

    Args:
        word: what was found.
        allowed: what may stand in its place.
        before: what those that are proposed begin with, as `training.`.
    """
    allowed = list(allowed)
    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(before + c) for c in close)}?"
    return f"allowed: {', '.join(allowed)}"


def in_words(error: ValidationError, config: type[BaseModel] | None = None) -> str:
    """A pydantic error as one sentence: each bad field with what was found and what is allowed.

    Args:
        error: what pydantic says.
        config: what was to be made, whose keys are named where one is misspelt.
    """
    faults = error.errors()
    # a list with a bad item is said to be too short as well
    outer = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return "; ".join(_in_words(fault, config) for fault in faults if fault["loc"] not in outer)


def _in_words(fault: ErrorDetails, config: type[BaseModel] | None) -> str:
    owner, inside = _config_at(config, fault["loc"][:-1]) or (None, [*map(str, fault["loc"][:-1])])
    where, about, found = ".".join([*inside, *map(str, fault["loc"][-1:])]), fault.get("ctx", {}), fault["input"]
    match fault["type"]:
        case "extra_forbidden":
            word = str(fault["loc"][-1])
            hint = near(word, owner.model_fields, where.removesuffix(word)) if owner else "see --help for the keys"
            return f"unknown key '{where}': {hint}"
        case "missing":
            return f"{where}: is missing"
        case "value_error":
            what = str(about["error"])
        case "union_tag_invalid":
            key, names = about["discriminator"].strip("'"), re.findall("'([^']+)'", about["expected_tags"])
            return f"{where}: unknown {key} {about['tag']!r}: {near(about['tag'], names)}"
        case "union_tag_not_found":
            what = f"has no key {about['discriminator']}"
        case "too_short" | "too_long" as kind:
            bound = f"at least {about['min_length']}" if kind == "too_short" else f"at most {about['max_length']}"
            what = f"should have {bound} of them, not {about['actual_length']}"
        case "tuple_type" | "list_type":
            items = re.findall(r"[^\s,()\[\]]+", str(found)) if isinstance(found, str | int | float) else []
            what = f"should be a list, as [{','.join(items)}]" if items else "should be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            what = "should be keys with their values"
        case "int_parsing_size":
            what = "is too large a number"
        case _:
            what = fault["msg"].removeprefix("Input ")
    shown = f" (found {found!r:.60})" if found is None or isinstance(found, str | int | float) else ""
    return f"{where}: {what}{shown}" if where else f"{what}{shown}"


def _config_at(config: object, place: Sequence[int | str]) -> tuple[type[BaseModel], list[str]] | None:
    """The configuration at a place inside another one, and the keys that lead there.

    Pydantic writes places as keys, positions, and the names of configurations that may stand in the same place, which
    nobody writes.
    """
    if isinstance(config, type) and issubclass(config, BaseModel):
        if not place:
            return config, []
        field = config.model_fields.get(str(place[0]))
        return _after(str(place[0]), _config_at(field.annotation, place[1:])) if field else None
    parts = get_args(config)
    if place and isinstance(place[0], int):
        return next(filter(None, (_after(str(place[0]), _config_at(part, place[1:])) for part in parts)), None)
    named = [part for part in parts if place and _name_of(part) == place[0]]
    return next(filter(None, (_config_at(part, place[1:] if named else place) for part in named or parts)), None)


def _after(key: str, found: tuple[type[BaseModel], list[str]] | None) -> tuple[type[BaseModel], list[str]] | None:
    return found and (found[0], [key, *found[1]])


def _name_of(config: object) -> object:
    """By which a configuration is told from others in its place."""
    fields = getattr(config, "model_fields", {})
    return fields["name"].default if "name" in fields else None


def changes(then: BaseModel, now: BaseModel) -> list[str]:
    """What differs between two configurations, as `seed was 0, now 1`; a name first, for much follows from it."""
    one, other = flatten(then.model_dump(mode="json")), flatten(now.model_dump(mode="json"))
    keys = sorted((k for k in one | other if one.get(k) != other.get(k)), key=lambda k: (not k.endswith("name"), k))
    return [f"{key} was {one.get(key)!r}, now {other.get(key)!r}" for key in keys]


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level with dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
