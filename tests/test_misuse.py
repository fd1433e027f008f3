"""A command line that is misused: one sentence, which says where to read, and exit code 2."""

import warnings
from pathlib import Path

import pytest

from flows.cli.settings import model_config
from t2v_models.config import LabError
from tests.commands import ended
from tests.tiny import prepared


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("generate", "nowhere", "a"), "missing option '--out'; see 't2v generate --help'"),
        (("generat", "a"), "no such command 'generat'. Did you mean 'generate', 'render'?; see 't2v --help'"),
        (("train", "d", "--stepz", "3"), "no such option: --stepz (Possible options: --seed, --set, --steps); see"),
        (("train", "d", "--steps", "x"), "invalid value for '--steps': Input should be a valid integer"),
        (("run", "--profile"), "option '--profile' requires an argument; see 't2v COMMAND --help'"),
    ],
)
def test_a_word_too_few_or_unknown_is_one_sentence(given: tuple[str, ...], said: str, capsys) -> None:
    assert ended(*given) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert errors.startswith(f"t2v: {said}")


def test_a_misspelt_key_of_a_text_encoder_is_answered_by_what_one_types() -> None:
    with pytest.raises(LabError, match=r"key 'text_encoder\.positons': did you mean 'text_encoder\.positions'"):
        model_config("gan", ["text_encoder.positons=3"])
    with pytest.raises(LabError, match=r"^text_encoder\.positions: should be"):
        model_config("gan", ["text_encoder.positions=x"])


def test_a_folder_for_prefect_that_is_not_there_yet_is_no_news(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as said, prepared(tmp_path / "work"):
        warnings.warn("Failed to create the Prefect home directory at there", stacklevel=1)
    assert not said


def test_the_command_alone_is_its_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended() == 2
    out, errors = capsys.readouterr()
    assert "Usage: t2v" in out + errors and "t2v: " not in errors
