"""What the README and docs/ name exists: files, links, commands with their options, entries of the log."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.main import app
from flows.lab_config import LabConfig
from t2v_models.families.build import FAMILIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = [path for path in ROOT.iterdir() if path.name[0] != "." or path.name == ".ci"]  # .venv is no part of it
FILES = [
    path.relative_to(ROOT).as_posix()
    for place in PLACES
    for path in (place.rglob("*") if place.is_dir() and place.name != "work" else [place])
]
LOGS = sorted((ROOT / "docs" / "log").glob("*.md"))
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
OPTION = r"(?<![\w-])--[a-z][a-z-]*"


def anchor(heading: str) -> str:
    """What GitHub calls a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def options(command: str) -> set[str]:
    """All options of a command of t2v."""
    return {option for parameter in COMMANDS[command].params for option in parameter.opts} | {"--help"}


def shown(page: Path) -> list[str]:
    """What a page sets as code: lines of its blocks, continued ones joined, and spans."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```\n.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for name in re.findall(r"(?<![\w.*<>/-])[\w./-]+\.(?:py|md|yaml|toml|lock)\b", page.read_text()):
        assert any(f"/{file}".endswith(f"/{name}") for file in FILES), name


@pytest.mark.parametrize("page", PAGES + LOGS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        other = page.parent / target if target else page
        assert other.exists(), target
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in map(anchor, headings), heading


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    for line in shown(page):
        for name, rest in re.findall(r"\bt2v ([a-z]\w*)([^&|;]*)", line):
            assert name in COMMANDS, line
            command, _, about = rest.partition("   ")  # a column of explanations may follow
            assert set(re.findall(OPTION, command.split(" #")[0])) <= options(name), line
            assert set(re.findall(OPTION, about)) <= set().union(*map(options, COMMANDS)), line
            for setting in re.findall(r"--set (\w+)=", rest):
                of = [LabConfig] if name == "run" else FAMILIES.values()
                assert any(setting in config.model_fields for config in of), line
        for target in re.findall(r"^make (\w+)", line):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_every_raw_number_belongs_to_an_entry_of_its_date(log: Path) -> None:
    dates: dict[str, str] = {}
    day = ""
    for line in log.read_text().splitlines():
        day = line[3:13] if line.startswith("## ") else day
        if line.startswith("### "):
            entry = anchor(line[4:])
            assert entry not in dates, f"two entries are called {entry!r}"
            dates[entry] = day
    for line in log.with_suffix(".jsonl").read_text().splitlines():
        number = json.loads(line)
        assert dates[number["entry"]] == number["date"], line
        assert number["what"], line
        assert {"value", "values", "low", "row"} & set(number), line
