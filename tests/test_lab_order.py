"""A lab is a graph: a model may build on another of the same lab, which is trained before it."""

from pathlib import Path
from typing import Literal

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from flows.lab import _stages
from flows.lab_config import LabConfig, check
from t2v_models.config import LabError, in_words
from t2v_models.families.build import FAMILIES
from t2v_models.judging.learnt import KEPT
from t2v_models.model import FamilyConfig
from tests.owned import owned


class Pupil(FamilyConfig):
    name: Literal["pupil"] = "pupil"
    batch_size: int = 1
    teacher: Path

    @property
    def parents(self) -> dict[str, Path]:
        return {"teacher": self.teacher}


class Master(Pupil):
    name: Literal["master"] = "master"  # type: ignore[assignment]


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "pupil", Pupil)
    monkeypatch.setitem(FAMILIES, "master", Master)


def lab(*models: dict[str, str], place: str = "here") -> LabConfig:
    return LabConfig.model_validate({"models": models, "training": {"steps": 1}, "place": place})


@pytest.mark.usefixtures("families")
def test_what_others_build_on_is_trained_before_them_and_what_is_apart_waits_for_nobody(tmp_path: Path) -> None:
    config = lab({"name": "pupil", "teacher": "gan"}, {"name": "frame_gan"}, {"name": "gan"})
    runs = config.run_folders(tmp_path)
    assert list(runs) == ["pupil", "frame_gan", "gan"]
    stages = {stage.name: stage for stage in _stages(config, tmp_path / "data", tmp_path / "real", runs, tmp_path)}
    assert stages["train pupil"].after == ("render", "train gan")
    assert (
        stages["train frame_gan"].after == stages["train gan"].after == stages["judge real clips"].after == ("render",)
    )
    assert stages["judge gan"].after == ("train gan",)
    names = list(stages)
    assert all(names.index(needed) < names.index(name) for name, stage in stages.items() for needed in stage.after)
    assert stages["train pupil"].parameters["model"].teacher == runs["gan"]


@pytest.mark.usefixtures("families")
def test_a_run_folder_is_named_by_what_the_run_builds_on_too(tmp_path: Path) -> None:
    one = lab({"name": "pupil", "teacher": "gan"}, {"name": "gan"}).run_folders(tmp_path)
    other = lab({"name": "pupil", "teacher": "gan"}, {"name": "gan", "width": 64}).run_folders(tmp_path)  # type: ignore
    assert one["pupil"] != other["pupil"]


@pytest.mark.usefixtures("families")
def test_models_that_build_on_each_other_are_one_sentence() -> None:
    with pytest.raises(ValidationError) as error:
        lab({"name": "pupil", "teacher": "master"}, {"name": "master", "teacher": "pupil"})
    assert "build on each other" in in_words(error.value)


def test_a_model_may_be_trained_for_minutes_of_its_own(tmp_path: Path) -> None:
    both = {"models": [{"name": "ar_tokens"}, {"name": "video_tokenizer"}], "training": {"steps": 9}}
    config = LabConfig.model_validate(both | {"minutes": {"video_tokenizer": 2}})
    runs = config.run_folders(tmp_path)
    stages = {stage.name: stage for stage in _stages(config, tmp_path / "data", tmp_path / "real", runs, tmp_path)}
    first, second = (stages[f"train {name}"].parameters for name in ("video_tokenizer", "ar_tokens"))
    assert (first["training"].minutes, first["training"].steps) == (2, None) and second["training"].steps == 9
    assert second["model"].tokenizer == runs["video_tokenizer"]
    assert config.plan["train video_tokenizer"] == 130
    assert all(runs[name] != folder for name, folder in LabConfig.model_validate(both).run_folders(tmp_path).items())
    for minutes, sentence in (
        ({"gan": 2}, "minutes of 'gan', which is none of"),
        ({"ar_tokens": 0}, "more than 0"),
    ):
        with pytest.raises(ValidationError, match=sentence):
            LabConfig.model_validate(both | {"minutes": minutes})


def test_run_folders_of_labs_of_before_keep_their_names(tmp_path: Path) -> None:
    found = LabConfig.model_validate({"models": [{"name": "gan"}], "training": {"minutes": 3.5}}).run_folders(tmp_path)
    assert found["gan"].name == "gan-997c9e78"


@pytest.mark.parametrize("name", FAMILIES)
def test_pools_take_the_stages_of_every_family(name: str, tmp_path: Path) -> None:
    """What a lab sends is checked by the server against the form that the deployment shows."""
    model = FAMILIES[name].tiny()
    config = lab({"name": "gan"}).model_copy(update={"models": (model,)})
    runs = {name: tmp_path / name}
    for stage in _stages(config, tmp_path / "data", tmp_path / "real", runs, tmp_path):
        form = parameter_schema(stage.flow).model_dump_for_openapi()
        validate(stage.on_its_pool().parameters, form, raise_on_error=True)


def test_a_lab_on_own_clips_renders_nothing_and_refuses_what_cannot_be_judged(tmp_path: Path) -> None:
    own = owned(tmp_path, 120)
    tiny = {"models": [FAMILIES["gan"].tiny()], "training": {"steps": 1, "probe_seconds": 0}}
    config = LabConfig.model_validate(tiny | {"data": own})
    check(config, tmp_path)
    assert not (own / KEPT).exists(), "their judge learns when all is known to be possible"
    assert config.run_folders(tmp_path) != LabConfig.model_validate(tiny).run_folders(tmp_path)
    stages = {s.name: s for s in _stages(config, own, tmp_path / "real", config.run_folders(tmp_path), tmp_path)}
    assert list(stages) == ["judge real clips", "train gan", "judge gan"]
    assert stages["judge real clips"].parameters["own"] == own == stages["train gan"].parameters["data"]
    assert stages["train gan"].after == ()
    for wrong, sentence in (
        ({"evaluation": {"splits": ["s3"]}}, "split s3 is made on meaning"),
        ({"dask": "tcp://host:1"}, "own clips are there already"),
        ({"data": tmp_path / "none"}, "none"),
    ):
        with pytest.raises(LabError, match=sentence):
            check(LabConfig.model_validate(tiny | {"data": own} | wrong), tmp_path)
