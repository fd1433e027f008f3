"""The architecture, kept true: what imports what, and that the recipes and the README's plan name things that exist."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from flows.cli.profiles import profile
from flows.lab_config import LabConfig

ROOT = Path(__file__).parents[1]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def test_light_modules_stay_light() -> None:
    """What needs no torch, whose import takes seconds; that training needs no prefect and mlflow is the next test."""
    modules = (
        "t2v_models.worlds.reader", "t2v_models.shards.verify", "tasks.render", "flows.dataset", "flows.cli.main",
    )  # fmt: skip
    code = f"""
import sys
from importlib import import_module
for module in {modules}:
    import_module(module)
    assert "torch" not in sys.modules, module
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_models_train_and_sample_where_prefect_and_mlflow_are_missing(data: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["prefect"] = sys.modules["mlflow"] = None  # importing them fails
from pathlib import Path
from tests.runs import SMALL, quiet, run_of
from t2v_models.generate import load_run
from t2v_models.sampler import sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.stream import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
data, out = Path({str(data)!r}), Path({str(tmp_path)!r})
fit(run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data)), TrainConfig(steps=1, probe_seconds=0), out, quiet)
print(sample_frames(load_run(out), ["circle moving left"], [0]).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 6, 16, 16, 3)", done.stderr


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint']}-{d['name']}")
def test_every_deployment_resolves_and_its_parameters_are_valid(
    deployment: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    flow.validate_parameters(deployment["parameters"])
    assert deployment["work_pool"]["name"] in ("cpu", "gpu")
    assert deployment["description"]


def test_there_is_a_schedule_and_a_deployment_for_every_flow() -> None:
    assert {d["entrypoint"].split(":")[1] for d in DEPLOYMENTS} == {"lab", "dataset", "train", "evaluate"}
    assert any(d.get("schedules") for d in DEPLOYMENTS)


def test_profiles_are_the_labs_deployments() -> None:
    assert LabConfig.model_validate(profile("quick")).training.minutes
    assert LabConfig.model_validate(profile("smoke")).training.steps == 40


def test_a_lab_has_one_model_of_a_family() -> None:
    twice = {"models": [{"name": "gan"}, {"name": "gan", "width": 64}], "training": {"steps": 1}}
    with pytest.raises(ValueError, match="'gan' is there twice"):
        LabConfig.model_validate(twice)


def test_no_module_needs_one_that_needs_it() -> None:
    """Neither at the top of a file, nor in a function, nor for types only."""
    paths = [
        path.relative_to(ROOT) for folder in ("flows", "tasks", "t2v_models") for path in (ROOT / folder).rglob("*.py")
    ]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    needs: dict[str, set[str]] = {}
    for module, path in modules.items():
        nodes = list(ast.walk(ast.parse((ROOT / path).read_text())))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        named = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
        whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        needs[module] = {name for name in named | whole | {str(node.module) for node in froms} if name in modules}
    assert len([*TopologicalSorter(needs).static_order()]) == len(modules) > 150


def test_only_their_own_rooms_know_worlds_and_own_clips_by_name() -> None:
    """Everyone else asks a dataset: `truth`, `meaning`, `asked`."""
    for folder in ("flows", "tasks", "t2v_models"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.parent.name != "worlds" and path.name != "ingested.py":
                special = re.search(r"isinstance\([^\n]*(IngestConfig|DatasetConfig)|\bworld ==", path.read_text())
                assert special is None, path


def rooms_named(readme: str) -> set[str]:
    """The folders of the README's plan: an indented name lies in the one above it."""
    path: list[str] = []
    rooms = set()
    for indent, name in re.findall(r"^( *)(\w+)/ {2,}\S", readme, re.MULTILINE):
        path[len(indent) // 2 :] = [name]
        rooms.add("/".join(path))
    return rooms


def test_the_readme_is_short_and_its_plan_names_every_room_but_families_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    rooms = {"docs", "docs/log"}
    for top in ("flows", "tasks", "t2v_models", "tests", "benchmarks", "examples"):
        rooms |= {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*.py")}
    families = {room for room in rooms if room.startswith("t2v_models/families/")}  # a new one touches no other file
    assert rooms - families <= rooms_named(readme) <= rooms, "the README's plan has one line for each folder"


def test_what_tests_share_is_in_files_of_its_own() -> None:
    """A test file that another imports cannot be split or changed by itself."""
    for folder in ("tests", "benchmarks"):
        for path in (ROOT / folder).glob("*.py"):
            imported = set(re.findall(r"\b(?:from|import) tests[.](?:test_\w+|conftest)\b", path.read_text()))
            assert imported <= {f"from tests.{path.stem}"}, path  # itself, in a process of its own


def test_files_stay_short() -> None:
    for folder in ("flows", "tasks", "t2v_models"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 350, path


def test_the_lock_holds_names_versions_and_hashes_only() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.match(
            r"^(    --hash=sha256:[0-9a-f]{64}( \\)?|[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+( ; .*)? \\)$", line
        ), line
