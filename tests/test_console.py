"""What is printed for people, where it is read from a file or a pipe."""

import re

import pytest
from rich.box import SIMPLE
from rich.table import Table

from tasks.report.console import console, print_table, say


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
