"""The command line: a user's mistake is one sentence and exit code 2, and nothing is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from flows.cli.main import app
from flows.cli.profiles import profile
from flows.cli.settings import lab_config, model_config
from flows.lab_config import check
from t2v_models import checkpoint as checkpoints
from t2v_models.clips.media import load_npz
from t2v_models.config import Config, LabError
from t2v_models.families.build import FAMILIES
from t2v_models.judging.statistics import Score
from t2v_models.text.encoders import ENCODERS
from t2v_models.worlds.splits import SPLITS
from t2v_models.worlds.world import Reading
from tests.commands import ended
from tests.runs import train


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a GAN that has learned nothing."""
    run_dir = tmp_path_factory.mktemp("runs") / "gan"
    train(data, run_dir, 1)
    return run_dir


@pytest.mark.parametrize("name", FAMILIES | ENCODERS)
def test_settings_names_all_that_set_may_change(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("settings", name, "--json") == 0
    *table, schema = capsys.readouterr().out.splitlines()
    head = next(line for line in table if "setting" in line)
    setting, default, allowed = map(head.index, ("setting", "default", "allowed"))
    shown: dict[str, str] = {}
    for line in table[table.index(head) + 2 :]:  # a long default goes on in the next line
        if key := line[setting:default].strip():
            shown[key] = ""
        if shown:
            last = list(shown)[-1]
            shown[last] = f"{shown[last]} {line[default:allowed].strip()}".strip()
    config, prefix = (FAMILIES[name], "") if name in FAMILIES else (ENCODERS[name], "text_encoder.")
    fields = config.model_fields.keys()
    assert shown.keys() == {prefix + field for field in fields - {"name"}}
    family = name if name in FAMILIES else "gan"
    chosen = [f"{key}={value}" for key, value in shown.items()]
    found = model_config(family, chosen if name in FAMILIES else [f"text_encoder.name={name}", *chosen])
    assert found == FAMILIES[family]() if name in FAMILIES else found.text_encoder == config(name=name)
    assert json.loads(schema)["properties"].keys() == fields


def test_settings_of_no_model_are_the_families_and_text_encoders_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("settings", "--json") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    names = [*FAMILIES, *ENCODERS, *SPLITS]
    assert [line.split()[0] for line in lines if line.startswith(" ")] == names
    told = json.loads(last)
    assert [*told["models"], *told["text_encoders"], *told["splits"]] == names
    for config in (FAMILIES | ENCODERS).values():
        assert any(line.endswith(config.about) for line in lines)


def test_every_text_encoder_can_be_chosen() -> None:
    assert {type(model_config("gan", [f"text_encoder={name}"]).text_encoder) for name in ENCODERS} == set(
        ENCODERS.values()
    )


@pytest.mark.parametrize("order", [1, -1])
def test_settings_of_a_text_encoder_stand_beside_its_name(order: int) -> None:
    given = ["text_encoder=static", "text_encoder.positions=4", "text_encoder.folder=vectors"][::order]
    static = model_config("gan", given).text_encoder
    assert static.model_dump() == {"name": "static", "positions": 4, "folder": Path("vectors"), "sha256": None}
    with pytest.raises(LabError, match="text_encoder: names two folders, there and vectors: give one"):
        model_config("gan", ["text_encoder=static:there", "text_encoder.folder=vectors"][::order])
    network = ["text_encoder=transformers:bert", "text_encoder.positions=4"][::order]
    found = lab_config(profile("smoke"), [f"models.gan.{setting}" for setting in network]).models[0].text_encoder
    assert found.model_dump() == {"name": "transformers", "positions": 4, "folder": Path("bert"), "sha256": None}


def test_a_setting_within_a_setting_is_set_with_a_dot_and_the_rest_stays() -> None:
    found, default = model_config("diffusion", ["training_levels.mean=3"]), model_config("diffusion", [])
    levels = found.model_dump()["training_levels"]
    assert levels == default.model_dump()["training_levels"] | {"mean": 3}
    assert levels["curve"] == "lognormal"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("render", "OUT", "--size", "8"), r"spec\.height: .*greater than or equal to 16 \(found 8\)"),
        (("render", "FILE/a"), "out .*/a: .*test_cli.py is no folder you may write to"),
        (("export", "DATA", "FILE/a"), "out .*/a: .*test_cli.py is no folder you may write to"),
        (("ingest", "DATA", "FILE/a"), "out .*/a: .*test_cli.py is no folder you may write to"),
        (("render", "OUT", "--frames", "3"), r"have 4 frames or more, .*\(found 3\)"),
        (("render", "OUT", "--sizes", "16,32", "--lengths", "4,x"), "--lengths '4,x' holds 'x', which is no number"),
        (("render", "OUT", "--lengths", "²"), "--lengths '²' holds '²', which is no number"),
        (("render", "OUT", "--world", "shapes", "--coverage", "²"), "coverage"),
        (("render", "OUT", "--sizes", ""), "--sizes '' is no size: write 64"),
        (("ingest", "DATA", "OUT", "--sizes", "", "--lengths", "8"), "--sizes '' is no size: write 64"),
        (("render", "OUT", "--sizes", "16,16"), "the shape 16x16x10 is named twice: name each once"),
        (("train", "DATA", "--mix", "64x64x9=1"), "has no clips of the shape 64x64x9"),
        (("render", "OUT", "--hold-out", "none,left"), "--hold-out none,left says none and some"),
        (("render", "OUT", "--hold-out", "upright"), "unknown motion 'upright'.*did you mean 'up-right'"),
        (("render", "OUT", "--world", "spheres"), "unknown world 'spheres': did you mean 'shapes'"),
        (("render", "OUT", "--bands", "--frames", "11"), "bands of 11 frames.*use 10 frames or fewer"),
        (("evaluate", "RUN", "--split", "s4"), "split s4 .* the dataset says nothing of size or speed.*--bands"),
        (("train", "OUT/none", "--out", "OUT", "--steps", "1"), "there is no folder .*t2v render"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--minutes", "1"), "either steps or minutes"),
        (
            ("train", "DATA", "--out", "OUT", "--steps", "1", "--model", "gam"),
            "unknown model 'gam': did you mean 'gan'",
        ),
        (("train", "DATA", "--out", "OUT", "--minutes", "1e400"), r"minutes: .*finite"),
        (("train", "DATA", "--out", "DATA/run", "--steps", "1"), "lies in the dataset .*name a folder beside it"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--set", "batchsize=3"), "'batch_size'"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--set", "width=0"), r"width: .*\(found 0\)"),
        (
            ("train", "DATA", "--out", "OUT", "--steps", "1", "--set", "background=#80808"),
            r"no such colour: .* \(found '#80808'\)",
        ),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--set", "width"), "is not KEY=VALUE"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--set", "width=[1"), "is not a number, a word or a list"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--work", "FILE"), "--work .*is no folder"),
        (("train", "DATA", "--out", "OUT", "--steps", "1", "--device", "tpu"), r"device: .*\(found 'tpu'\)"),
        (("generate", "OUT/none", "circle moving left", "--out", "OUT/x.npz"), "does not exist.*t2v train"),
        (("generate", "RUN", "circle moving lefft", "--out", "OUT/x.npz"), "'lefft'.*did you mean 'left'"),
        (("generate", "RUN", "circle moving left", "--out", "OUT/x.avi"), r"'\.avi'.*\.mp4"),
        (
            ("generate", "RUN", "circle moving left", "--out", "/proc/x.mp4"),
            "--out /proc/x.mp4 would lie in /proc: /proc is no folder you may write to; name another one",
        ),
        (("generate", "RUN", "circle moving left", "--to", "", "--out", "OUT/x.npz"), "'' has no words"),
        (("generate", "DATA", "circle moving left", "--out", "OUT/x.npz"), "is a dataset: train .* 't2v train .*/tiny"),
        (("generate", "FILE", "circle moving left", "--out", "OUT/x.npz"), "is a file: name a run folder"),
        (("train", "RUN", "--out", "OUT", "--steps", "1"), "gan is a run: name the folder of a dataset"),
        (("evaluate", "DATA"), "is a dataset: train a model"),
        (("clean", "--older-than", "month", "--work", "OUT/w"), "--older-than 'month' is no age"),
        (("clean", "--older-than", "999999w", "--work", "OUT/w"), "'999999w' is before all years"),
        (("clean", "--work", "OUT/w"), "--work .* does not exist"),
        (("serve", "RUN", "--work", "OUT/w"), "is no model URI: name a registered model"),
        (("evaluate", "OUT/none"), "does not exist"),
        (("evaluate", "RUN", "--steps", "4"), "gan cannot take a number of steps: leave --steps out"),
        (("evaluate", "oracle", "--like", "RUN", "--guidance", "2"), "oracle cannot take guidance"),
        (("evaluate", "RUN", "--split", "s9"), "there is no split 's9': rendered clips have s0, .*, own clips own"),
        (("verify", "OUT/none"), "there is no folder"),
        (("run", "--profile", "quik", "--work", "OUT/work"), "unknown profile 'quik': did you mean 'quick'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], sentence: str, data: Path, run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"OUT": str(tmp_path / "out"), "DATA": str(data), "RUN": str(run), "FILE": __file__}
    filled = [next((a.replace(k, v) for k, v in places.items() if a.startswith(k)), a) for a in arguments]
    assert ended(*filled) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0, said
    assert re.search(sentence, said), said
    assert not (tmp_path / "out").exists()


def test_a_lab_is_varied_from_the_command_line() -> None:
    """Any key of a profile, models by name, and what the profile leaves to its default."""
    given = ["training.steps=7", "dataset.spec.size=32", "models.gan.batch_size=48", "gate.floor=null", "workers=3"]
    changed = lab_config(profile("smoke"), given)
    plain = lab_config(profile("smoke"), [])
    assert (changed.training.steps, changed.dataset.spec.size, changed.gate.floor, changed.workers) == (7, 32, None, 3)
    assert (changed.models[0].batch_size, changed.models[1]) == (48, plain.models[1])
    assert (plain.training.steps, changed.dataset.clips) == (40, plain.dataset.clips)
    assert plain.gate.floor == "unconditional", "models of the smoke lab never become champion"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("models.gan.text_encoder.positons=3", "models.0: unknown key 'text_encoder.positons': did you mean"),
        ("training.minuts=3", "unknown key 'training.minuts': did you mean 'training.minutes'?"),
        ("models.gam.width=3", "--set models.gam.width: there is no 'gam', did you mean 'gan'"),
        ("models.gan.widht=3", "models.0: unknown key 'widht': did you mean 'width'"),
        ("training.minutes=3", "training: give either steps or minutes"),
        ("dataset.clips.x=3", "--set dataset.clips.x: 360 has no 'x' in it"),
        ("training.seed=2024-13-45", "--set 'training.seed=2024-13-45' is not a number, a word or a list"),
        ("minutes.gan=.inf", "minutes.gan: should be a finite number"),
        ("models.gan.name=[1]", "models.0: unknown model [1]: allowed: gan"),
        ("evaluation.guidance=.nan", "evaluation.guidance: should be a finite number"),
        ("evaluation.steps=0", "evaluation.steps: should be greater than or equal to 1"),
        ("models.gan.lr=.inf", "lr: should be a finite number"),
        ("gate.floor=unconditionl", "no baseline beside models: did you mean 'unconditional'"),
    ],
)
def test_a_mistake_in_what_is_varied_is_one_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(LabError, match=re.escape(sentence)):
        lab_config(profile("smoke"), [setting])


BUCKETS = "{buckets: [{spec: {size: 16}, clips: 20}, {spec: {size: 32}, clips: 40}]}"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["workers=999"], "999 workers on .* cores would wait for each other"),
        (["evaluation.splits=[s4]"], "split s4 .* the dataset says nothing of size or speed"),
        (["evaluation.splits=[s0]", "gate.figure=s3/valid"], "the gate decides by s3/valid, and s3 is not judged"),
        (["evaluation.guidance=2"], "gan cannot take guidance"),
        (["training.mix={16x16x9: 1}"], "the dataset has no clips of the shape 16x16x9"),
        (
            ["models=[{name: diffusion, batch_size: 24, network: factorised}]", f"dataset={BUCKETS}"],
            "16x16x10 has 20 clips, fewer than",
        ),
        (["training.augment.flip=true"], "the caption 'circle moving left' names a side .*: leave flip out"),
        (["training.augment.offset=2"], "training.augment.offset: .* leave it out"),
        (["models=[{name: phenaki, tokenizer: nowhere}]"], "nowhere .*does not exist"),
    ],
)
def test_what_a_lab_names_and_asks_for_is_looked_at_before_anything_starts(
    settings: list[str], sentence: str, tmp_path: Path
) -> None:
    config = lab_config(profile("smoke"), settings)
    with pytest.raises(LabError, match=sentence):
        check(config, tmp_path)


def test_no_setting_takes_a_number_that_is_none() -> None:
    """Figures may be NaN, where nothing is known; settings may not, nor be infinite."""

    def kinds(config: type[Config]) -> set[type[Config]]:
        return {config}.union(*(kinds(kind) for kind in config.__subclasses__()))

    free = {kind for kind in kinds(Config) if kind.model_config.get("allow_inf_nan") is not False}
    assert free <= kinds(Score) | kinds(Reading)


def test_a_half_written_dataset_is_named_with_the_way_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "shard-00000.tar").write_bytes((data / "shard-00000.tar").read_bytes())
    assert ended("train", half, "--out", tmp_path / "run", "--steps", 1) == 2
    assert "half-written: run `t2v render` again" in capsys.readouterr().err


def test_generate_writes_clips_that_do_not_depend_on_their_batch(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["circle moving left", "circle moving up-right"]
    out = tmp_path / "x.npz"
    assert ended("generate", run, *prompts, "--count", 8, "--out", out, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    frames, asked, seeds = load_npz(out)
    spec = checkpoints.load(run)[0].spec
    assert frames.shape == (16, spec.frames, spec.size, spec.size, 3)
    assert frames.dtype == np.uint8
    assert (
        (result["prompts"], result["seeds"])
        == (asked, seeds)
        == ([p for p in prompts for _ in range(8)], [*range(8)] * 2)
    )
    one = tmp_path / "one.npz"
    assert ended("generate", run, prompts[1], "--count", 1, "--seed", 3, "--out", one) == 0
    np.testing.assert_allclose(load_npz(one)[0][0].astype(int), frames[8 + 3].astype(int), atol=1)


def test_generate_goes_from_one_prompt_and_seed_to_another(run: Path, tmp_path: Path) -> None:
    way, ends = tmp_path / "way.npz", tmp_path / "ends.npz"
    one, other = "circle moving left", "circle moving right"
    turn = ("--to", other, "--seed", 3, "--to-seed", 4, "--count", 3)
    assert ended("generate", run, one, *turn, "--out", way) == 0
    assert ended("generate", run, one, other, "--seed", 3, "--count", 2, "--out", ends) == 0
    frames, asked, seeds = load_npz(way)
    assert asked == [f"{one} to {other}, seed 3 to 4, {share} %" for share in (0, 50, 100)]
    assert seeds == [3, -1, 4]
    np.testing.assert_allclose(frames[[0, 2]].astype(int), load_npz(ends)[0][[0, 3]].astype(int), atol=1)
    assert ended("generate", run, one, *turn, "--out", tmp_path / "way.png") == 0


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp", "png"])
def test_generate_writes_every_format(
    suffix: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"clip.{suffix}"
    assert ended("generate", run, "circle shrinking", "--count", 1, "--out", out) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size > 100


def test_verify_names_damage_and_exits_with_1(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in data.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert ended("verify", copy, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["damages"] == []
    shard = copy / "shard-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert ended("verify", copy, "--json") == 1
    assert any("shard-00001.tar" in d for d in json.loads(capsys.readouterr().out.splitlines()[-1])["damages"])
    (copy / "manifest.parquet").unlink()
    (copy / "manifest.parquet").mkdir()
    assert ended("verify", copy, "--json") == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["damages"]
    assert found[0] == "manifest.parquet is no file"
    assert any("shard-00001.tar" in d for d in found[1:])


def test_every_command_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    commands = typer.main.get_command(app).commands
    assert {"run", "ingest", "play"} <= set(commands)
    for command in commands:
        assert ended(command, "--help") == 0
        assert "Usage: " in capsys.readouterr().out


def test_ctrl_c_while_libraries_are_read_is_one_line() -> None:
    code = """
import sys
class Stop:
    def find_spec(self, name, *_):
        if name == 'typer':
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
from flows.cli.command import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "t2v: stopped\n")
