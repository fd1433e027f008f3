"""Runs side by side: real run folders and baselines, judged, read back, compared on a page and in a table."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.scores import SUITE_VERSION, EvaluateConfig, Evaluation, Refusals
from t2v_models.judging.statistics import wilson
from t2v_models.judging.verdicts import Verdict
from t2v_models.leaderboard.compare import by_change, differences
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.splits import Split
from tasks.compare import check_pair, compared, markdown_table, print_differences
from tasks.report.compare_page import Side, write_comparison_page
from tasks.report.page import Clip
from tests.judged import evaluated, trained
from tests.parsed import Page
from tests.tiny import TINY


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two run folders that differ in their seed, trained for two steps, with the accuracy read twice, and judged."""
    folder = tmp_path_factory.mktemp("runs")
    return trained(data, folder / "one", 0, iter((0.6, 0.9))), trained(data, folder / "two", 1, iter((0.7, 0.9)))


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real clips of the prompts, and real clips of random ones."""
    folder = tmp_path_factory.mktemp("baselines")
    return evaluated("oracle", folder / "oracle", TINY), evaluated("unconditional", folder / "unconditional", TINY)


def page_of(folder: Path, sides: list[Side]) -> tuple[Page, str]:
    text = write_comparison_page(folder, sides).read_text(encoding="utf-8")
    return Page(text), text


def test_two_runs_on_a_page(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page, text = page_of(tmp_path, compared(runs))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    for told in (
        "one · two", "What was done differently", "seed", "first reading at", "new wording", "unseen motion",
        "Prompts, greatest gain first", "All figures", "n 18",
    ):  # fmt: skip
        assert told in page.words, told
    assert "model.width" not in page.words  # it is the same in both
    prompts = 3 + 2
    assert len(page.all("img", "src")) == prompts * 2 * 2  # two clips of each run
    assert all(source.startswith("data:image/webp;base64,") for source in page.all("img", "src"))
    assert text.count('<polyline class="line') == 2
    assert "nan" not in page.words.split()


def test_a_better_run_is_green_and_a_worse_one_red(baselines: tuple[Path, Path], tmp_path: Path) -> None:
    oracle, random = compared(baselines)
    page, text = page_of(tmp_path, [oracle, random])
    for split in ("s1", "s3"):
        words = [d.better for _, d in by_change(oracle.verdicts[split], random.verdicts[split])]
        assert f"better on 0, worse on {words.count(False)} of {len(words)}" in page.words
        assert next(d for d in differences(oracle.verdicts[split], random.verdicts[split])).better is False
    assert 'class="worse"' in text
    assert 'class="better"' not in text.split("<h3>All figures")[0]
    _, turned = page_of(tmp_path, [random, oracle])
    assert 'class="better"' in turned.split("<h3>All figures")[0]


def test_one_clip_a_prompt_says_of_no_prompt_which_run_is_better(baselines: tuple[Path, Path], tmp_path: Path) -> None:
    sides = compared(baselines)
    for count in (1, 2):
        some = [
            replace(side, verdicts={s: [v for v in found if v.seed % 6 < count] for s, found in side.verdicts.items()})
            for side in sides
        ]
        told = page_of(tmp_path, some)[0].words
        assert ("So few clips of a prompt do not say" in told) == (count == 1) == ("better on" not in told)


def test_prompts_stand_in_order_of_their_gain(baselines: tuple[Path, Path], tmp_path: Path) -> None:
    sides = compared(baselines)
    _, text = page_of(tmp_path, sides)
    order = [prompt for prompt, _ in by_change(sides[0].verdicts["s1"], sides[1].verdicts["s1"])]
    assert re.findall(r'<td class="prompt">([^<]+)<', text)[: len(order)] == order
    assert [p for p in re.findall(r"<h4>([^<]+) <", text) if p in order] == order


def test_three_sides_and_a_base(runs: tuple[Path, Path], baselines: tuple[Path, Path], tmp_path: Path) -> None:
    sides = compared([baselines[0], *runs])
    page, text = page_of(tmp_path, sides)
    assert [side.name for side in sides] == ["oracle", "one", "two"]
    assert len(page.all("img", "src")) == 5 * 3
    assert text.count('class="card"') == 3


def test_the_table_for_a_readme_has_every_model_and_baseline(runs: tuple[Path, Path]) -> None:
    sides = compared(runs)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown_table(sides).splitlines()]
    assert lines[0][1:] == ["new wording (s1)", "unseen motion (s3)"]
    assert [line[0] for line in lines[2:]] == ["oracle (ceiling)", "frozen (floor)", "**one**", "**two**"]
    score = sides[1].evaluation.scores["s3"]["prompt_acc"]
    assert lines[-1][2] == f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}], 12"


def test_runs_are_called_by_their_folders(runs: tuple[Path, Path], tmp_path: Path) -> None:
    again = evaluated(runs[0], runs[0] / "evaluation-s3", splits=("s3",))
    assert [side.name for side in compared([runs[0], again])] == ["one", "one evaluation-s3"]
    same = [side.name for side in compared([runs[0], runs[0]])]
    assert same == [str(runs[0])] * 2


def test_what_cannot_be_compared_is_one_sentence(
    runs: tuple[Path, Path], baselines: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(LabError, match="two runs or more, found 1"):
        compared(runs[:1])
    with pytest.raises(LabError, match="is neither a run nor an evaluation"):
        compared([runs[0], tmp_path])
    only = evaluated("frozen", tmp_path / "frozen", TINY, splits=("s3",))
    other = evaluated("frozen", tmp_path / "seen", TINY, splits=("s1",))
    with pytest.raises(LabError, match="share no split"):
        compared([only, other])
    later = tmp_path / "later"
    shutil.copytree(runs[0], later)
    scores = later / "evaluation" / "scores.json"
    found = Evaluation.model_validate_json(scores.read_bytes())
    scores.write_text(found.model_copy(update={"source": "of weights before"}).model_dump_json())
    with pytest.raises(LabError, match="has scores of other weights than"):
        compared([later, runs[1]])
    larger = evaluated("blank", tmp_path / "large", DatasetConfig(spec=ClipSpec(size=32)), splits=("s3",))
    with pytest.raises(LabError, match="6 frames at 16 px, large of 10 at 32"):
        compared([runs[0], larger])
    old = (only / "scores.json").read_text().replace(f'"suite":"{SUITE_VERSION}"', '"suite":"0"')
    (only / "scores.json").write_text(old)
    with pytest.raises(LabError, match=f"suite {SUITE_VERSION}, frozen by reader . and suite 0: run 't2v evaluate'"):
        compared([baselines[0], only])


def test_an_evaluation_is_found_under_the_name_that_it_was_given(
    runs: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    """`t2v evaluate RUN --split s3` leaves one beside the usual one; that of a champion is in the work folder."""
    one, two = tmp_path / "one", tmp_path / "the two"
    for run, copy in zip(runs, (one, two), strict=True):
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("evaluation-*"))
    (one / "evaluation").rename(one / "my own name")
    elsewhere = tmp_path / "work" / "evaluations" / "champion"
    elsewhere.parent.mkdir(parents=True)
    (two / "evaluation").rename(elsewhere)
    shutil.copytree(runs[0] / "evaluation", elsewhere.with_name("of-another-run"))
    with pytest.raises(LabError, match="the two has no evaluation: run 't2v evaluate '.*/the two''"):
        compared([one, two])
    sides = compared([one / "my own name", two], tmp_path / "work")
    assert [side.evaluation.source for side in sides] == [side.evaluation.source for side in compared(runs)]
    with pytest.raises(
        LabError, match="one has 2 evaluations: name one in its place, .*my own name or .*of-another-run"
    ):
        compared([one, two], tmp_path / "work")
    with pytest.raises(LabError, match="neither a run nor an evaluation: name a run folder"):
        compared([one, data])


def own_side(name: str, right: int, refused: dict[Split, Refusals], data: str = "one", prompts: str = "") -> Side:
    """A model of own clips of which so many of 100 are nearest to their captions, where 80 of real ones are."""
    verdicts = [
        Verdict(asked="bell off", shown="bell off", valid=True, reason="", prompt="bell off", split="own", seed=i,
                size=16, rank=1 + (i >= right), right=i < right, success=i < right,
                fault="" if i < right else "nearer to 'bell'")
        for i in range(100)
    ]  # fmt: skip
    scores, bounds = ({"own": {"r_precision_1": wilson(hits, 100)}} for hits in (right, 80))
    evaluation = Evaluation(
        name=name, source=name, data=data, config=EvaluateConfig(), prompts=prompts, scores=scores,
        bounds={"oracle": bounds}, refused=refused,
    )  # fmt: skip
    clips = [Clip(np.zeros((6, 16, 16, 3), np.uint8), verdict) for verdict in verdicts[:1]]
    return Side(name, Path(name), evaluation, {"own": verdicts}, {"own": clips}, 10, {})


def test_own_clips_are_told_by_their_own_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = Refusals(prompts={"smile": "why"}, unknown=("smile",), asked=43)
    sides = [own_side("one", 30, {}), own_side("two", 70, {"own": refused}), own_side("three", 99, {})]
    page, text = page_of(tmp_path, sides)
    assert "two refused 1 of 43 prompts: unknown word smile" in page.words
    assert "own caption, own clips" in page.words and "obeyed" not in page.words
    assert "its caption is nearest" in page.words and "by looks" in page.words
    assert text.count("<dt>real clips</dt><dd>80.0 %") == len(sides)
    print_differences(sides)
    said = capsys.readouterr().out
    assert re.search(r"r_precision_1 .* 70.0 % .* better", said) and re.search(r"r_precision_1 .* above real", said)
    assert "two on own: refused 1 of 43" in said
    assert text.count("above real") == 2  # on its card and in the table of figures


def test_own_clips_of_two_datasets_are_not_compared_and_other_prompts_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, easy, stranger = own_side("one", 30, {}), own_side("easy", 70, {}, prompts="half"), own_side("two", 9, {}, "b")
    check_pair(one, easy)
    with pytest.raises(LabError, match="one and two were judged beside other clips of people's own"):
        check_pair(one, stranger)
    print_differences([one, easy])
    said = capsys.readouterr().out
    assert "one and easy were asked other prompts" in said and re.search(r"r_precision_1 .* 80.0 %", said)
