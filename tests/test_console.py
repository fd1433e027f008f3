"""What is printed for people, where it is read from a file or a pipe."""

import re

import pytest
from rich.box import SIMPLE
from rich.table import Table

from t2v_models.judging.scores import EvaluateConfig, Evaluation
from t2v_models.judging.statistics import Score
from tasks.report.console import console, print_evaluation, print_table, say


def test_no_column_is_cut_where_no_terminal_says_how_wide_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table, row = Table(box=SIMPLE), [f"runs/{i:020d}-[a]" for i in range(9)]
    for head in range(9):
        table.add_column(f"figure {head}", no_wrap=True)
    table.add_row(*row)
    print_table(table)
    assert capsys.readouterr().out.split()[-9:] == row


def test_on_a_narrow_terminal_columns_are_broken_and_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    table = Table("run", "figure", box=None)
    table.add_row("r" * 50, "9" * 30)
    print_table(table)
    shown = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert (shown.count("r"), shown.count("9"), "…" in shown) == (50 + 2, 30, False)
    assert max(map(len, shown.splitlines())) <= 40


def test_a_line_with_a_path_is_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/data/[my runs]/{'long/' * 40}report.html"
    with console.capture() as said:
        say(path)
    assert said.get() == f"{path}\n"


def test_figures_that_are_left_out_stand_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"own": {"energy": Score(value=1, low=0.9, high=1.1, n=9)}}
    left_out = {"own": ("distances (nn2) are left out: 63",)}
    print_evaluation(Evaluation(name="a", source="b", config=EvaluateConfig(), scores=scores, left_out=left_out))
    assert "own: distances (nn2) are left out: 63\n" in capsys.readouterr().out
