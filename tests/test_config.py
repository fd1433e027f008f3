"""Configurations refuse what they do not know, and errors read as sentences."""

import pytest
from pydantic import TypeAdapter, ValidationError

from flows.lab_config import LabConfig
from t2v_models.config import flatten, in_words, near
from t2v_models.families.build import FAMILIES, ModelConfig
from t2v_models.worlds.dataset import DatasetConfig


def test_a_misspelt_key_is_refused_with_the_key_that_was_meant() -> None:
    with pytest.raises(ValidationError) as error:
        DatasetConfig.model_validate({"clip": 3})
    assert in_words(error.value, DatasetConfig) == "unknown key 'clip': did you mean 'clips'?"


def test_a_value_out_of_range_is_named_with_what_was_found() -> None:
    with pytest.raises(ValidationError) as error:
        DatasetConfig.model_validate({"spec": {"size": 8}})
    assert in_words(error.value) == (
        "spec.height: should be greater than or equal to 16 (found 8); "
        "spec.width: should be greater than or equal to 16 (found 8)"
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"training": {}}, "training: give either steps or minutes"),
        ({"training": {"steps": 1e30}}, "training.steps: is too large a number (found 1e+30)"),
        ({"models": []}, "models: should have at least 1 of them, not 0"),
        ({"models": {"name": "gan"}}, "models: should be a list"),
        ({"models": [{"name": "gam"}]}, "models.0: unknown model 'gam': did you mean 'gan'?"),
        ({"models": [{"width": 3}]}, "models.0: has no key 'name': say which model"),
        ({"models": [{"name": "gan", "widht": 3}]}, "models.0: unknown key 'widht': did you mean 'width'?"),
        (
            {"dataset": {"spec": {"heigth": 3}}},
            "unknown key 'dataset.spec.heigth': did you mean 'dataset.spec.height'?",
        ),
        ({"dataset": 3}, "dataset: should be keys with their values (found 3)"),
        ({"evaluation": {"splits": {"s0": 1}}}, "evaluation.splits: should be a list"),
        ({"evaluation": {"splits": "s0"}}, "evaluation.splits: should be a list, as [s0] (found 's0')"),
        (
            {"evaluation": {"splits": "(s0, s1)"}},
            "evaluation.splits: should be a list, as [s0,s1] (found '(s0, s1)')",
        ),
    ],
)
def test_a_mistake_deep_inside_is_one_sentence_without_braces(values: dict[str, object], sentence: str) -> None:
    whole = {"models": [{"name": "gan"}], "training": {"steps": 1}} | values
    with pytest.raises(ValidationError) as error:
        LabConfig.model_validate(whole)
    assert in_words(error.value, LabConfig) == sentence


def test_every_family_is_chosen_by_its_name_and_round_trips() -> None:
    adapter = TypeAdapter(ModelConfig)
    for name, family in FAMILIES.items():
        config = adapter.validate_python({"name": name})
        assert isinstance(config, family)
        assert adapter.validate_json(adapter.dump_json(config)) == config
    with pytest.raises(ValidationError) as error:
        adapter.validate_python({"name": "vae"})
    assert "unknown model 'vae': allowed: gan" in in_words(error.value)
    with pytest.raises(ValidationError) as error:
        adapter.validate_python({"name": "gan", "widht": 3})
    assert in_words(error.value) == "unknown key 'widht': did you mean 'width'?"
    assert len(adapter.json_schema()["anyOf"]) == len(FAMILIES)


def test_digests_follow_the_content() -> None:
    one, same, other = DatasetConfig(), DatasetConfig(clips=10_000), DatasetConfig(seed=1)
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == 16


def test_flatten_and_near() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": (1, 2)}, "e": None}) == {"a.b.c": 1, "a.d": (1, 2), "e": None}
    assert near("lft", ["left", "right"]) == "did you mean 'left'?"
    assert near("xyz", ["left", "right"]) == "allowed: left, right"
