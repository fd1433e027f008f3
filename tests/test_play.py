"""The playground: words it suggests, the path drawn on clips, and the page in a browser."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from flows.cli.main import main
from t2v_models.clips.media import MARKS, enlarge
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging import baselines, verdicts
from t2v_models.judging.overlay import draw_verdict
from t2v_models.shards.ingested import IngestConfig
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.text.words import vocabulary_of
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import trace
from t2v_models.worlds.prompts import parse
from t2v_models.worlds.render import render
from tasks.play import REAL, Player, matching, next_words, player, runs_in, show, whole, with_word
from tests.attacks import REBOUND, by_all_pages, by_http
from tests.browser import CHROMIUM, browser
from tests.grammar import judge
from tests.runs import SMALL, quiet, run_of
from tests.tiny import SPEC, drawn_clip, prepared

PROMPTS = DatasetConfig().prompts
WORDS = vocabulary_of(PROMPTS)
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
WIDE = """(() => {
    const clip = document.querySelector('.clip').cloneNode(true), picture = clip.querySelector('img');
    picture.src = Object.assign(document.createElement('canvas'), {width: 320, height: 160}).toDataURL();
    document.querySelector('.clips').append(clip);
    return picture.decode().then(() => {
        const form = picture.clientWidth / picture.clientHeight;
        clip.remove();
        return Math.round(form * 10) / 10;
    });
})()"""
"""The form, on the page, of a clip twice as wide as high."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["circle"]),
        ("ci", ["circle"]),
        ("circle ", ["moving", "rotating", "shrinking", "expanding", "bouncing", "zigzagging"]),
        ("circle", ["moving", "rotating", "shrinking", "expanding", "bouncing", "zigzagging"]),
        ("circle ro", ["rotating"]),
        ("circle rotating c", ["clockwise", "counter"]),
        ("left z", ["zigzagging"]),
        ("circle moving up", ["left"]),
        ("circle moving up-left", []),
        ("circle xyz", []),
    ],
)
def test_words_that_may_come_next(text, expected):
    assert next_words(text, PROMPTS, WORDS) == expected


def test_every_prompt_can_be_clicked_together():
    for prompt in PROMPTS:
        text = ""
        for word in re.findall(r"\w+", prompt):
            assert word in next_words(text, PROMPTS, WORDS), (prompt, text)
            text = with_word(text, word)
        assert parse(text) == parse(prompt)


def test_a_word_completes_what_is_typed():
    assert with_word("circle mov", "moving") == "circle moving"
    assert with_word("circle moving up-ri", "right") == "circle moving up-right"
    assert with_word("circle ", "moving") == with_word("circle", "moving") == "circle moving"
    assert with_word("", "circle") == "circle"


@pytest.mark.parametrize(("seed", "count"), [(10**30, 1), (-1, 1), (0, 0), (0, 13)])
def test_numbers_that_only_a_program_sends_are_one_sentence(data, tmp_path, seed: int, count: int):
    fit(
        run_of(data, SMALL["gan"]),
        ClipStore(Manifest.load(data)),
        TrainConfig(steps=1, probe_seconds=0),
        tmp_path / "run",
        quiet,
    )
    who = player(str(tmp_path / "run"), tmp_path)
    assert who.labels == ("Prompts it was trained on", "Prompts it was never trained on")
    with pytest.raises(LabError, match=f"the seed is {seed}: give|{count} clips were asked for"):
        show([who, None], "circle moving left", seed, count)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5, "7", None, [], {}])
def test_what_is_no_whole_number_is_one_sentence(value: object):
    assert whole("seed", 1e30) == int(1e30) and whole("seed", -1) == -1
    with pytest.raises(LabError, match="the seed is .*: give a whole number"):
        whole("seed", value)


def test_prompts_that_hold_what_is_typed():
    assert matching("zig vert", PROMPTS) == list(PROMPTS[:12]), "a word begun is the last one only"
    assert matching("circle bouncing v", PROMPTS) == ["circle bouncing vertically"]
    assert matching("", PROMPTS) == list(PROMPTS[:12])


@pytest.mark.parametrize("seed", [0, 8])
def test_the_path_is_drawn_where_the_object_is(seed):
    config = DatasetConfig(clips=20, spec=ClipSpec(size=32))
    caption, motion = drawn_clip(config, seed)
    frames, path, scale = render(motion, config.spec), trace(motion, config.spec), 8
    for prompt, mark in ((caption, "right"), (f"red {caption}", "partly"), ("circle moving up", "wrong")):
        (verdict,) = judge(frames[None], [prompt], [0], "s0")
        assert verdict.mark == mark
        colour = MARKS[mark]
        drawn = draw_verdict(frames, verdict, scale)
        for t, frame in enumerate(drawn):
            marked = np.argwhere((frame == colour).all(-1)) / scale
            for past in range(t + 1):  # a dot at every place so far, none at those to come
                place = path.y[past], path.x[past]
                assert np.hypot(*(marked - place).T).min() < 0.6, (t, past)
            ring = np.hypot(*(marked - (path.y[t], path.x[t])).T)
            assert np.abs(ring - (path.radius[t] + 1.5)).min() < 0.5
    ahead = np.hypot(path.x[-1] - path.x[0], path.y[-1] - path.y[0])
    first = np.argwhere((draw_verdict(frames, verdict, scale)[0] == MARKS["wrong"]).all(-1)) / scale
    assert ahead < 8 or np.hypot(*(first - (path.y[-1], path.x[-1])).T).min() > 2, "the future is not drawn"


def test_of_two_objects_both_paths_are_drawn_and_each_motion_is_told_in_the_order_of_the_prompt() -> None:
    data = DatasetConfig(world="pairs", spec=ClipSpec(size=32))
    prompt = "red circle moving down and blue square moving right"
    frames = baselines.oracle(data.spec, [prompt], [3], data.rules)
    (verdict,) = verdicts.judge(frames, [prompt], [3], "s0", data.rules)
    last = draw_verdict(frames[0], verdict, 10)[-1]
    marked = np.argwhere((last == MARKS[verdict.mark]).all(-1)) / 10
    assert len(verdict.objects) == 2
    for one in verdict.objects:
        for place in zip(one.y, one.x, strict=True):
            assert np.hypot(*(marked - place).T).min() < 0.6


def test_where_nothing_was_read_nothing_is_drawn():
    blank = np.full((10, 32, 32, 3), 255, np.uint8)
    (verdict,) = judge(blank[None], ["circle moving up"], [0], "s0")
    assert np.array_equal(draw_verdict(blank, verdict, 3), enlarge(blank, 3))


@pytest.fixture(scope="module")
def work(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with two runs of a model that has learned nothing."""
    work = tmp_path_factory.mktemp("work")
    for i, name in enumerate(("one", "two")):
        run = run_of(data, SMALL["gan"], seed=i)
        config = TrainConfig(steps=1, seed=i, probe_seconds=0)
        fit(run, ClipStore(Manifest.load(data)), config, work / "runs" / name, quiet)
    return work


def test_the_runs_of_a_work_folder_are_found(work: Path, tmp_path: Path) -> None:
    assert [Path(run).name for run in runs_in(work)] == ["two", "one"]
    with pytest.raises(LabError, match="there is no run in .*: name a run or a models:/ URI"):
        runs_in(tmp_path)


def test_real_clips_beside_a_model_are_right(work: Path) -> None:
    one = player(str(work / "runs" / "one"), work)
    html = show([one, None], "circle moving up-right", 3, 2)
    right = html.split("</section>")[1]
    assert html.count("data:image/webp") == 4
    assert REAL in right
    assert "2 of 2 right (100.0 %)" in right
    assert right.count("✓ up-right") == 2
    assert "circle moving up-right" in one.held_out
    unjudged = show([one], "circle left moving", 0, 1)
    assert "nothing can judge this prompt: " in unjudged
    assert "data:image/webp" in unjudged
    with pytest.raises(LabError, match="'disc'"):
        show([one], "disc <b>", 0, 1)


def test_clips_of_people_are_not_judged_by_a_world_that_knows_their_captions(work: Path) -> None:
    one = player(str(work / "runs" / "one"), work)
    config = IngestConfig(split="train", source_sha256="", clips=1, prompts=("circle moving up",), spec=SPEC)
    own = Player(one.name, dataclasses.replace(one.source, data=config))
    html = show([own], "circle moving up", 0, 1)
    assert "nothing can judge this prompt: the clips that the model learnt from are people" in html
    assert "t2v evaluate judges it beside real ones" in html
    with pytest.raises(LabError, match="are people's own, and nobody knows their truth"):
        show([own, None], "circle moving up", 0, 1)


def environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_", "GRADIO_"))}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        (["gradio"], [], "the playground needs Gradio, which is not installed: pip install"),
        ([], ["nowhere"], "nowhere does not exist: it is neither a folder, an .npz nor a baseline"),
        ([], [], "there is no run in work/runs"),
    ],
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # gradio's own
def test_what_stops_the_playground_is_one_sentence(
    missing: list[str], arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["t2v", "play", *arguments])
    monkeypatch.delitem(sys.modules, "flows.cli.playground", raising=False)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    with prepared(tmp_path / "work"), pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.strip().count("\n") == 0, said.err


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_type_a_prompt_and_see_a_clip_and_its_verdict(work: Path, tmp_path: Path) -> None:
    """In a browser: a deep link, a typed prompt, a clicked word, a wrong word; nothing is fetched from outside.

    With T2V_SCREENSHOTS set to a folder the picture of the page is left there, to be looked at.
    """
    pictures = Path(os.environ.get("T2V_SCREENSHOTS", tmp_path))
    one, two = (str(work / "runs" / name) for name in ("one", "two"))
    command = [BIN / "t2v", "play", one, two, "--port", "0", "--work", str(work)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    ) as server, ExitStack() as at_the_end:  # fmt: skip
        at_the_end.callback(server.send_signal, signal.SIGINT)  # also when the page is not as it should be
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        by_http(f"{address}/gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "evil"})
        with browser(tmp_path / "browser", names=REBOUND) as page:
            by_all_pages(page, f"{address}/gradio_api/queue/join", {})
            page.requests.clear()
            page.open(f"{address}/?prompt=circle+moving+left&seed=41&count=2&beside=real+clips")
            words = page.wait("document.querySelectorAll('.clip img').length == 4 && document.body.innerText")
            assert "seed 41" in words
            assert "2 of 2 right (100.0 %)" in words, "real clips stand beside the model"
            assert page.evaluate("[...document.querySelectorAll('.clip img')].every(i => i.naturalWidth >= 300)")
            assert page.evaluate(WIDE) == 2, "a clip keeps its own form"
            assert (
                page.evaluate("document.querySelector('#prompt textarea, #prompt input').value") == "circle moving left"
            )

            page.evaluate("document.querySelector('#prompt textarea, #prompt input').focus()")
            page.evaluate("document.querySelector('#prompt textarea, #prompt input').select()")
            page.type("circle bouncing ")
            chips = "[...document.querySelectorAll('.chips button, .chips .gallery-item')]"
            page.wait(f"{chips}.some(c => c.innerText.trim() == 'vertically')")
            page.evaluate(f"{chips}.find(c => c.innerText.trim() == 'vertically').click()")
            page.wait("document.querySelector('#prompt textarea, #prompt input').value == 'circle bouncing vertically'")
            page.evaluate("document.querySelector('#go').click()")
            page.wait("[...document.querySelectorAll('.badge')].some(b => b.innerText == '✓ bounce-v')")
            assert page.evaluate(
                "[...document.querySelectorAll('.clip')].every(c => /right|partly|wrong/.test(c.className))"
            )

            page.picture(pictures / "play.png")

            page.evaluate("document.querySelector('#prompt textarea, #prompt input').select()")
            page.type("circle sneaking")
            page.press_enter()
            said = page.wait("document.querySelector('.mistake')?.innerText")
            assert "not trained on the word 'sneaking'" in said
            outside = [r for r in page.requests if not re.match(r"(https?|ws)://127\.0\.0\.1|data:|blob:|about:", r)]
            assert not outside
    assert server.returncode == 0
    assert not (tmp_path / ".cache" / "huggingface").exists()
