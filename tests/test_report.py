"""The report: a page that parses, shows what it was given and nothing it was not."""

import base64
import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from t2v_models.clips.media import decode
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging import verdicts
from t2v_models.judging.baselines import oracle
from t2v_models.judging.metrics import summarise
from t2v_models.judging.statistics import wilson
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.motions import draw_motion
from t2v_models.worlds.render import render
from tasks.report.chart import Chart, draw, ticks
from tasks.report.confusion import _motions, confusion
from tasks.report.lab import Clip, ModelReport, Report, verdict_in_words, write_report
from tests.grammar import judge
from tests.parsed import Page


def judged(prompt, frames, split="s0"):
    return [
        Clip(f, v)
        for f, v in zip(frames, judge(frames, [prompt] * len(frames), range(len(frames)), split), strict=True)
    ]


@pytest.fixture(scope="module")
def report():
    """Right clips, one too large, a wrong one, an invalid one, and a held-out prompt."""
    spec, rng = ClipSpec(size=32), np.random.default_rng(0)
    up, left, held = (
        np.stack([render(draw_motion(action, spec, rng, "circle", "blue"), spec) for _ in range(2)])
        for action in ("up", "left", "up-right")
    )
    wide = {"radius": 5.0, "radius_end": 5.0, "start": (16.0, 7.0), "speed": 1.0}
    large = render(draw_motion("down", spec, rng, "circle", "blue").model_copy(update=wide), spec)[None]
    noise = rng.integers(0, 256, (1, *up.shape[1:]), np.uint8)
    clips = [
        *judged("circle moving up", np.concatenate([up, left[:1], noise])),
        *judged("circle moving up-right", held, "s3"),
        *judged("circle moving down", large),
    ]
    verdicts = [c.verdict for c in clips]
    scores = {split: summarise([v for v in verdicts if v.split == split]) for split in ("s0", "s3")}
    charts = [Chart("Obeyed", "step", {"seen": [(0, 0.1), (10, 0.9)]}, percent=True)]
    model = ModelReport("gan", "A small network.", scores, charts, verdicts, clips)
    comparison = {"gan": clips, "real": judged("circle moving up", up[:1])}
    facts = {"Dataset": "circles", "MLflow run": "http://127.0.0.1:5000/#/runs/1?a=1&b=2"}
    return Report("Quick lab", facts, [model], 10, comparison, {"render": 21.4, "train": 754.0})


def test_the_page_parses_and_needs_nothing_from_the_network(report, tmp_path):
    path = write_report(tmp_path / "new", report)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path.name == "report.html"
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert not re.search(r"url\(|@import", text)
    assert all(s.startswith("data:image/webp;base64,") for s in page.all("img", "src"))
    assert page.all("a", "href") == [report.facts["MLflow run"]]


def test_the_page_tells_the_figures_and_the_verdicts(report, tmp_path):
    words = Page(write_report(tmp_path, report).read_text(encoding="utf-8")).words
    for told in (
        "Quick lab", "60.0 %", "23.1–88.2", "n 5", "read as left", "invalid: ", "✓ read as up",
        "~ read as down, but wrong size: off by 1.01, allowed 0.25",
        "held out: unseen motion", "motions never trained under any wording",
        "1 × ", "12 min 34 s", "21.4 s", "Wilson", "A small network.",
    ):  # fmt: skip
        assert told in words, told


def test_the_page_plays_the_clips_it_was_given(report, tmp_path):
    page = Page(write_report(tmp_path, report).read_text(encoding="utf-8"))
    shown = {}
    for alt, source in zip(page.all("img", "alt"), page.all("img", "src"), strict=True):
        shown[alt.split(":")[0]] = decode(base64.b64decode(source.partition(",")[2]), fps=report.fps)
    for clip in report.models[0].clips:
        assert np.array_equal(shown[f"gan, “{clip.verdict.prompt}”, seed {clip.verdict.seed}"], clip.frames)
    sides = [c for c in page.all("figure", "class") if c.startswith("clip")]
    assert {"clip right", "clip partly", "clip wrong"} == set(sides)


def test_the_confusion_table_adds_up(report, tmp_path):
    table = confusion(report.models[0].verdicts)
    rows = [row for row in table.split("<tr>")[2:] if row]
    assert len(rows) == len({v.asked for v in report.models[0].verdicts})
    for row in rows:
        assert sum(map(float, re.findall(r"--share:([0-9.]+)", row))) == pytest.approx(1, abs=0.01)
    assert table in write_report(tmp_path, report).read_text(encoding="utf-8")


def test_of_several_motions_each_is_told_in_the_order_of_the_prompt_and_counted_by_itself() -> None:
    two = DatasetConfig(world="pairs", spec=ClipSpec(size=32))
    frames = oracle(two.spec, ["red circle moving down and blue square moving right"], [3], two.rules)
    told = {
        "a blue square moving right in front of a red circle moving down": "read as blue right, red down",
        "red circle moving up and blue square moving right": "read as red down, blue right",
        "scarlet disc moving up and navy box moving right": "read as red down, blue right",
    }
    found = [verdicts.judge(frames, [prompt], [3], "s0", two.rules)[0] for prompt in told]
    assert [verdict_in_words(verdict) for verdict in found] == [*told.values()]
    assert _motions(found[1]) == [("right", "right"), ("up", "down")]
    turn = DatasetConfig(world="stories", spec=ClipSpec(size=32, frames=24))
    frames = oracle(turn.spec, ["circle moving up then moving left"], [3], turn.rules)
    (verdict,) = verdicts.judge(frames, ["circle moving down then moving left"], [3], "s0", turn.rules)
    assert _motions(verdict) == [("down", "up"), ("left", "left")]
    (verdict,) = verdicts.judge(frames, ["circle moving up then moving left then moving up"], [3], "s0", turn.rules)
    assert _motions(verdict) == [("up", "other"), ("left", "other"), ("up", "other")]
    assert confusion([verdict]).count("<tr>") == 3 and confusion([]) == ""


def test_text_is_escaped(report, tmp_path):
    bad = '<script>alert("x")</script>&'
    verdict = (
        report.models[0]
        .clips[0]
        .verdict.model_copy(update={"prompt": bad, "reason": bad, "valid": False, "right": False})
    )
    clip = Clip(report.models[0].clips[0].frames, verdict)
    model = ModelReport(
        bad, bad, {bad: {bad: summarise([verdict])["valid"]}}, [Chart(bad, bad, {bad: [(0, 1)]})], [verdict], [clip]
    )
    hostile = Report(bad, {bad: bad, "link": "javascript:alert(1)"}, [model], 10, {bad: [clip]}, {bad: 1.0})
    text = write_report(tmp_path, hostile).read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert page.words.count('alert("x")') >= 12
    assert page.all("a", "href") == []


def test_an_empty_report_and_unknown_figures_are_told_as_such(report, tmp_path):
    empty = Report("Nothing yet", {}, [ModelReport("gan", "", {"s0": {"prompt_acc": wilson(0, 0)}}, [], [], [])], 10)
    assert "0 clips by gan" in Page(write_report(tmp_path, empty).read_text(encoding="utf-8")).words
    assert "nan" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(write_report(tmp_path, Report("No models", {}, [], 10)).read_text(encoding="utf-8"))


def test_a_page_that_cannot_be_written_leaves_the_old_one(report, tmp_path, monkeypatch):
    path = write_report(tmp_path, report)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left"):
        write_report(tmp_path, replace(report, title="Another"))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_bytes() == old


def test_verdicts_in_words(report):
    words = [verdict_in_words(c.verdict) for c in report.models[0].clips]
    assert words[:3] == ["read as up", "read as up", "read as left"]
    assert words[3].startswith("invalid: ")
    assert words[-1].startswith("read as down, but wrong size: off by ")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.31), (-5, 1234), (7, 7), (0, 0), (1e-9, 3e-9), (0, 6000)])
def test_ticks_are_round_and_cover(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 8
    assert np.allclose(np.diff(marks), marks[1] - marks[0])


def test_a_line_runs_from_corner_to_corner_and_long_ones_are_thinned():
    drawn = draw(Chart("a", "b", {"none": [], "some": [(0, 0), (1, 1)]}))
    assert 'class="line c1"' in drawn, "as where both have points"
    points = re.search(r'points="([^"]+)"', draw(Chart("a", "b", {"x": [(0, 0), (1, 1)]}, percent=True))).group(1)
    assert points == "52.0,218.0 504.0,12.0"
    dense = draw(Chart("a", "b", {"x": [(i, math.sin(i)) for i in range(5001)]}))
    drawn = re.search(r'points="([^"]+)"', dense).group(1).split()
    assert 100 < len(drawn) <= 302
    assert draw(Chart("a", "b", {"x": [(0, math.nan)]})) == ""
