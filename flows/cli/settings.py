"""What `--set KEY=VALUE` means: for a model, and for a whole lab, where keys have dots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from t2v_models.config import LabError, in_words, near

if TYPE_CHECKING:
    from flows.lab_config import LabConfig
    from t2v_models.model import FamilyConfig
    from t2v_models.shards.augment import AugmentConfig


def settings(given: Sequence[str], option: str = "--set", example: str = "batch_size=144") -> dict[str, Any]:
    """Values by key, each read as YAML: numbers, words, lists, null."""
    values: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise LabError(f"{option} {setting!r} is not KEY=VALUE: write for example {option} {example}")
        if key in values:
            raise LabError(f"{option} {key} is given twice: leave one out")
        try:
            values[key] = value if value.startswith("#") else yaml.safe_load(value)  # to YAML #808080 is a comment
        except (yaml.YAMLError, ValueError) as error:  # the latter of a day that no calendar has
            raise LabError(f"{option} {setting!r} is not a number, a word or a list: put words in quotes") from error
    return values


def model_config(name: str, given: Sequence[str], base: Mapping[str, Any] | None = None) -> "FamilyConfig":
    """The configuration of a family with settings such as `batch_size=144` or `training_levels.mean=2`, on a base."""
    from t2v_models.families.build import family

    config = family(name)
    values: dict[str, Any] = {**(base or {}), "name": name}
    for key, value in _wholes_first(given):
        values = _changed(values, key.split("."), value, key)
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise LabError(in_words(error, config)) from error


def begun_config(begin: Path, out: Path, name: str | None, given: Sequence[str]) -> "FamilyConfig":
    """The configuration of a model that begins as that of another run: the other's settings, but for those given.

    Args:
        begin: run folder of the other.
        out: that of the model, which may have begun there already.
        name: the family, if it was said.
        given: settings.
    """
    from t2v_models.fresh import BEGIN, begun_with

    if BEGIN in settings(given):
        raise LabError(f"--begin {begin} says what to begin with, and so does --set {BEGIN}=RUN: leave one of them out")
    first = begun_with(begin, out).run.model
    if name not in (None, first.name):
        raise LabError(f"{name} cannot begin with {begin}: it is a run of {first.name}, name one of {name}")
    return model_config(first.name, [*given, f"{BEGIN}={json.dumps(str(begin))}"], first.settings)


def augment_config(given: Sequence[str]) -> "AugmentConfig":
    """How clips are varied, of settings such as `crop=0.8`."""
    from t2v_models.shards.augment import AugmentConfig

    try:
        return AugmentConfig.model_validate(settings(given, "--augment", "crop=0.8"))
    except ValidationError as error:
        raise LabError(in_words(error, AugmentConfig)) from error


def lab_config(parameters: dict[str, Any], given: Sequence[str]) -> "LabConfig":
    """The configuration of a lab with settings such as `training.minutes=5` or `models.gan.batch_size=144`."""
    from flows.lab_config import LabConfig

    for key, value in _wholes_first(given):
        parameters = _changed(parameters, key.split("."), value, key)
    try:
        return LabConfig.model_validate(parameters)
    except ValidationError as error:
        raise LabError(in_words(error, LabConfig)) from error


def _wholes_first(given: Sequence[str]) -> list[tuple[str, Any]]:
    """Values by key, those within others after them, so that none is lost whatever order they were given in."""
    return sorted(settings(given).items(), key=lambda setting: setting[0].count("."))


def _changed(tree: Any, path: Sequence[str], value: Any, key: str) -> Any:
    """A copy of the tree in which the value at a path is another one; of a list, items are known by name or place."""
    if not path:
        return value
    head, *rest = path
    if isinstance(tree, list):
        names = [item.get("name", str(i)) if isinstance(item, dict) else str(i) for i, item in enumerate(tree)]
        if head not in names:
            raise LabError(f"--set {key}: there is no {head!r}, {near(head, names)}")
        return [_changed(item, rest, value, key) if n == head else item for n, item in zip(names, tree, strict=True)]
    if isinstance(tree, str) and key.split(".")[: -len(path)][-1:] == ["text_encoder"]:
        tree = {"name": tree}  # a text encoder by its name, or by name:FOLDER
    if not isinstance(tree, dict | None):
        raise LabError(f"--set {key}: {tree!r} has no {head!r} in it, set it as a whole")
    return (tree or {}) | {head: _changed((tree or {}).get(head), rest, value, key)}
