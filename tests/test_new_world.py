"""A world in one file: two dots, one above the other. It is rendered, verified, trained on, judged, compared and
played by the commands; nothing but its name in the list of worlds says that it exists.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import Config, LabError
from t2v_models.judging.real_cache import cached_real
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.judging.suite import judge_parts, together
from t2v_models.judging.truth import Truth
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.training import validation
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.run_log import history
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.listed import WORLDS, described
from t2v_models.worlds.splits import Split
from t2v_models.worlds.world import Frames, Reading, Scene, World
from tasks.play import player, show
from tasks.subjects import asked_of, dataset_like, subject
from tests.commands import t2v
from tests.runs import SMALL, quiet, run_of
from tests.tiny import rendered

COLOURS = {"red": (220, 40, 40), "green": (0, 150, 50), "blue": (30, 90, 220)}
Meaning = tuple[str, ...]
"""The colours, from top to bottom."""


class Dot(Config):
    """Of 4 x 4 px."""

    colour: str
    x: int
    y: int


class Dots(World):
    name, about = "dots", "two dots that stay"
    numbers = 4
    hold_out = ("green above red",)

    def captions(self, config: DatasetConfig) -> tuple[str, ...]:
        pairs = [f"{upper} above {lower}" for upper in COLOURS for lower in COLOURS if upper != lower]
        return tuple(pair for pair in pairs if pair not in config.hold_out)

    def asked(self, config: DatasetConfig, split: Split) -> tuple[str, ...]:
        return {"s0": self.captions(config), "s3": config.hold_out}.get(split, ())

    def parse(self, prompt: str) -> Meaning:
        colours = tuple(prompt.split(" above "))
        if len(colours) != 2 or not set(colours) <= set(COLOURS):
            raise LabError(f"{prompt!r} is no pair of dots: say for example 'red above blue'")
        return colours

    def draw(self, meanings: Sequence[Meaning], spec: ClipSpec, numbers: np.ndarray) -> list[Scene]:
        place = (numbers[:, :2] * (spec.size - 4)).astype(int)
        return [
            Scene(objects=(Dot(colour=upper, x=x, y=0), Dot(colour=lower, x=other, y=spec.size // 2)))
            for (upper, lower), (x, other) in zip(meanings, place.tolist(), strict=True)
        ]

    def render(self, scenes: Sequence[Scene], spec: ClipSpec, into: Iterable[Frames]) -> Iterator[Frames]:
        for scene, frames in zip(scenes, into, strict=False):
            frames[:] = self.background
            for dot in scene.objects:
                frames[:, dot.y : dot.y + 4, dot.x : dot.x + 4] = COLOURS[dot.colour]
            yield frames

    def read(self, frames: Frames, meanings: Sequence[Meaning]) -> list[Reading]:
        return [self._read(clip, " above ".join(meaning)) for clip, meaning in zip(frames, meanings, strict=True)]

    def case(self, meaning: Meaning) -> tuple[str, str, str]:
        return " above ".join(meaning), "", ""

    def _read(self, clip: Frames, asked: str) -> Reading:
        rows = {c: np.flatnonzero((clip == rgb).all((0, 3)).any(1)) for c, rgb in COLOURS.items()}
        there = sorted((place[0], c) for c, place in rows.items() if len(place))
        shown = " above ".join(c for _, c in there) if len(there) == 2 else "invalid"
        reason = "" if shown == asked else "not two dots" if shown == "invalid" else f"shows {shown}"
        return Reading(
            asked=asked, shown=shown, right=not reason, success=not reason, valid=shown != "invalid", reason=reason,
            fault=reason, size=clip.shape[1],
        )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def listed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WORLDS, "dots", Dots())
        yield


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DatasetConfig(world="dots", clips=40, clips_per_shard=25, spec=ClipSpec(size=16, frames=6))
    return rendered(tmp_path_factory.mktemp("dots") / "data", config)


def test_it_is_rendered_verified_and_read_back(dots: Path) -> None:
    manifest = Manifest.load(dots)
    assert manifest.config.hold_out == ("green above red",) and "green above red" not in manifest.captions
    assert not verify(dots)
    truth = manifest.table["truth"].to_pylist()
    assert truth[0].startswith('[{"colour":"red","x":') and truth[0].count("colour") == 2
    frames = ClipStore(manifest).frames(range(40))
    data = dataset_like(dots)
    readings = data.rules.read(frames, [data.meaning(caption) for caption in manifest.captions])
    assert all(reading.success for reading in readings)


def test_it_trains_and_is_judged_beside_its_own_real_clips_and_baselines(dots: Path, tmp_path: Path) -> None:
    run, store = run_of(dots, SMALL["gan"]), ClipStore(Manifest.load(dots))
    config = TrainConfig(steps=2, probe_seconds=0)
    fit(run, store, config, tmp_path / "run", quiet, validation.watcher(run, store, tmp_path / "run"))
    assert "watch/prompt_acc" in history(tmp_path / "run")[2]
    who = subject(tmp_path / "run")
    asked = asked_of(who, EvaluateConfig(clips_per_prompt=2))
    assert {split: len(prompts) for split, (prompts, _) in asked.items()} == {"s0": 10, "s3": 2}
    judged = together([part for _, part in judge_parts(who.sample, *asked["s0"], Truth(who.data, "s0"))])
    real, bounds = cached_real(tmp_path / "real", who.data, "s0", asked["s0"][0], lambda share, note: None)
    found = Truth(who.data, "s0").figures(judged, real)
    assert set(found) == {"prompt_acc", "worst_prompt_acc", "valid", "prompt_success"}
    assert found["valid"].value < 0.5, "two steps are not enough"
    assert {name: bounds[name]["prompt_acc"].value for name in ("oracle", "frozen", "blank", "noise")} == {
        "oracle": 1, "frozen": 1, "blank": 0, "noise": 0,
    }  # fmt: skip
    assert 0 < bounds["unconditional"]["prompt_acc"].value < 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_command_takes_it(work: Path, server: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.dataset.process_pool", ThreadPoolExecutor)  # a fresh process does not see this list
    small = SMALL["gan"].model_dump(mode="json", exclude_defaults=True)
    settings = [argument for key, value in small.items() for argument in ("--set", f"{key}={value}")]
    t2v("render", "data", "--world", "dots", "--clips", 40, "--size", 16, "--frames", 6, "--work", work)
    t2v("verify", "data")
    for steps in (1, 2):
        t2v("train", "data", *settings, "--steps", steps, "--out", "run", "--work", work)
    assert list(history(tmp_path / "run"))[-1] == 2
    t2v("generate", "run", "red above blue", "--count", 1, "--out", "clips.npz", "--work", work)
    assert load_npz(tmp_path / "clips.npz")[0].shape == (1, 6, 16, 16, 3)
    few = ("--clips-per-prompt", 2, "--work", work)
    t2v("evaluate", "run", *few, "--out", "judged")
    capsys.readouterr()
    t2v("evaluate", "oracle", "--like", "run", *few, "--out", "real", "--json")
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]
    assert {split: found["prompt_acc"]["value"] for split, found in scores.items()} == {"s0": 1, "s3": 1}
    t2v("compare", "real", "judged", "--out", "compared", "--work", work)
    assert "green above red" in (tmp_path / "compared" / "report.html").read_text()
    page = show([player("run", tmp_path), None], "green above red", 0, 2)
    assert page.count("<img") == 4 and "2 of 2 right" in page.split("</section>")[1]


def test_options_help_and_errors_follow_from_the_list() -> None:
    assert "dots: two dots that stay" in described()
    with pytest.raises(LabError, match="unknown world 'dost': did you mean 'dots'"):
        DatasetConfig(world="dost")
    with pytest.raises(LabError, match="the dots world has no coverage"):
        DatasetConfig(world="dots", coverage=43)
    with pytest.raises(LabError, match="the dots world cannot hold out 'up-right'"):
        DatasetConfig(world="dots", hold_out=("up-right",))
    with pytest.raises(ValidationError):
        DatasetConfig(world="dots", clips=0)
