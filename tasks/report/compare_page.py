"""The page that sets evaluated runs side by side, the first being the base that every other is measured against."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from t2v_models.judging.baselines import CEILING
from t2v_models.judging.metrics import HEADLINES, OWN_HEADLINES, deciding, metric_of
from t2v_models.judging.scores import Evaluation, pleases
from t2v_models.judging.statistics import newcombe, wilson
from t2v_models.judging.verdicts import Verdict
from t2v_models.leaderboard.compare import Difference, by_change, differences
from t2v_models.leaderboard.milestones import LEVELS
from t2v_models.worlds.splits import Split
from tasks.report.chart import Chart, draw
from tasks.report.page import (
    MARKED,
    MARKED_OWN,
    Clip,
    Gallery,
    about_split,
    explained,
    held_out_mark,
    interval,
    listed,
    metric_name,
    percent,
    row,
    score_cell,
    split_name,
    write_page,
)

BESIDE = {CEILING: "real clips", "unconditional": "such, whatever is asked"}
"""What stands beside every run, as on cards."""
CLIPS_IN_A_ROW = 4
"""Clips of one prompt, all runs together, unless there are more runs than that."""
LONGEST_SETTING = 60


@dataclass(frozen=True)
class Side:
    """One evaluated run."""

    name: str
    folder: Path
    evaluation: Evaluation
    verdicts: dict[Split, list[Verdict]]
    """By split."""
    clips: dict[Split, list[Clip]]
    fps: float
    settings: Mapping[str, object]
    """Of the model, its data and its training, flat."""
    accuracy: Sequence[tuple[float, float]] = ()
    """Seconds of training, and the share of clips that obeyed then."""
    reached: Mapping[str, float] | None = None
    """See `evaluation.milestones`."""


def shared_splits(sides: Sequence[Side]) -> list[Split]:
    """The splits that all were judged on."""
    return [s for s in sides[0].verdicts if all(s in side.verdicts for side in sides)]


def write_comparison_page(folder: Path, sides: Sequence[Side]) -> Path:
    """Write `folder/report.html`; returns its path."""
    names = [side.name for side in sides]
    gallery = Gallery(sides[0].fps)
    body = [
        f"<header><h1>{escape(' · '.join(names))}</h1>{_lead(sides)}</header>",
        _cards(sides),
        _settings(sides),
        _training(sides),
        *(_split(sides, split, gallery) for split in shared_splits(sides)),
        _notes(own="own" in shared_splits(sides)),
    ]
    return write_page(folder, " · ".join(names), body)


def _lead(sides: Sequence[Side]) -> str:
    clips = sum(len(side.verdicts[split]) for side in sides for split in shared_splits(sides))
    others = listed([side.name for side in sides[1:]])
    return (
        f'<p class="lead">{clips:,} clips, judged by the same judge. {escape(others)} against '
        f"<b>{escape(sides[0].name)}</b>: green is better and red is worse, where the 95 % interval of the difference "
        "leaves out zero; what is grey may be chance.</p>"
    )


def _cards(sides: Sequence[Side]) -> str:
    """For every run how often it obeys, in large for the first split."""
    first, *others = shared_splits(sides)
    cards = []
    for i, side in enumerate(sides):
        scores = side.evaluation.scores
        big = scores[first][deciding(first)]
        change = _accuracy_gap(sides[0], side, first)
        gap = "the base" if side is sides[0] else _change(change, word_of(change, side, first), " points")
        rows = [f"<div><dt>95 % interval</dt><dd>{interval(big)} · n {big.n:,}</dd></div>"]
        for name, called in BESIDE.items():
            if bound := side.evaluation.bounds.get(name, {}).get(first, {}).get(deciding(first)):
                rows.append(f"<div><dt>{called}</dt><dd>{percent(bound.value)} · n {bound.n:,}</dd></div>")
        for split in others:
            score = scores[split][deciding(split)]
            told = f"{percent(score.value)} <small>{interval(score)}</small>"
            rows.append(f"<div><dt>{split_name(split)}</dt><dd>{told}</dd></div>")
        cards.append(
            f'<div class="card"><h3><i class="key c{i % 6}"></i>{escape(side.name)}</h3>'
            f'<div class="big">{percent(big.value)}</div>'
            f'<div class="soft">{metric_of(deciding(first)).title}, {split_name(first)}; {gap}</div>'
            f"<dl>{''.join(rows)}</dl></div>"
        )
    return f'<section class="cards">{"".join(cards)}</section>'


def _accuracy_gap(base: Side, other: Side, split: Split) -> Difference:
    a, b = (side.evaluation.scores[split][deciding(split)] for side in (base, other))
    return Difference(deciding(split), a.value, b.value, newcombe(b, a), (a.n, b.n))


def _settings(sides: Sequence[Side]) -> str:
    """The settings that all runs have, and not all have alike."""
    rows = []
    for key in (k for k in sides[0].settings if all(k in side.settings for side in sides)):
        values = [str(side.settings[key])[:LONGEST_SETTING] for side in sides]
        if len(set(values)) > 1:
            rows.append(f"<tr><td>{escape(key)}</td>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>")
    if not rows:
        return ""
    head = "".join(f"<th>{escape(side.name)}</th>" for side in sides)
    table = f'<table class="tall"><tr><th>setting</th>{head}</tr>{"".join(rows)}</table>'
    return f'<section><h2>What was done differently</h2><div class="scroll">{table}</div></section>'


def _training(sides: Sequence[Side]) -> str:
    """Accuracy over time, and the time to every level."""
    lines = {side.name: side.accuracy for side in sides}
    own = "own" in shared_splits(sides)
    what = "nearest to the real clip of their caption" if own else "that obey"
    chart = draw(Chart(f"Share of clips {what}, judged while training", "seconds of training", lines, percent=True))
    if not chart:
        return ""
    if own:
        return f'<section><h2>Training</h2><div class="charts">{chart}</div></section>'
    rows = []
    for level in LEVELS:
        name = f"reach/{100 * level:.0f}"
        cells = "".join(f'<td class="number">{_reached(side.reached or {}, name)}</td>' for side in sides)
        rows.append(f"<tr><td>{100 * level:.0f} %</td>{cells}</tr>")
    head = "".join(f'<th class="number">{escape(side.name)}</th>' for side in sides)
    table = f'<table class="tall"><tr><th>first reading at</th>{head}</tr>{"".join(rows)}</table>'
    return f'<section><h2>Training</h2><div class="charts">{chart}<div class="scroll">{table}</div></div></section>'


def _reached(reached: Mapping[str, float], name: str) -> str:
    if f"{name}_seconds" not in reached:
        return "–"
    return f"{reached[f'{name}_seconds']:,.0f} s<small>{reached[f'{name}_clip_steps']:,.0f} clips</small>"


def _split(sides: Sequence[Side], split: Split, gallery: Gallery) -> str:
    rows = _prompt_rows(sides, split)
    body = _prompts(sides, rows) + _clips(sides, split, list(rows), gallery) + _figures(sides, split)
    told = [f"{side.name} {side.evaluation.refused[split]}" for side in sides if split in side.evaluation.refused]
    refused = f'<p class="soft">{escape("; ".join(told))}. All figures are of the rest.</p>' if told else ""
    return f"<section><h2>{split_name(split)}</h2><p>{escape(about_split(split))}</p>{refused}{body}</section>"


def _figures(sides: Sequence[Side], split: Split) -> str:
    """A row per figure: every run's own value, and what separates it from the base."""
    base, *others = sides
    gaps = [{d.metric: d for d in differences(base.verdicts[split], other.verdicts[split])} for other in others]
    scores = [side.evaluation.scores[split] for side in sides]
    rows = []
    for metric in dict.fromkeys(m for figures in scores for m in figures if not m.endswith("_real")):
        values = [f'<td class="number">{score_cell(metric, figures.get(metric))}</td>' for figures in scores]
        for i, gap in enumerate(gaps):
            values.insert(2 * i + 2, _gap_cell(gap.get(metric), others[i], split))
        rows.append(f'<tr><td class="split">{metric_name(metric)}</td>{"".join(values)}</tr>')
    head = f'<th class="number">{escape(base.name)}</th>' + "".join(
        f'<th class="number">{escape(other.name)}</th><th class="number">difference</th>' for other in others
    )
    return f"<h3>All figures</h3>{_table(f'<tr><th></th>{head}</tr>', rows)}"


def _table(head: str, rows: Sequence[str]) -> str:
    return f'<div class="scroll"><table class="tall">{head}{"".join(rows)}</table></div>'


def word_of(gap: Difference, side: Side, split: Split) -> str:
    """`better`, `worse`, `even`; or `above real`, which is no praise, where a learnt judge finds more in the clips of a
    side than in real ones."""
    score = side.evaluation.scores[split].get(gap.metric)
    real = side.evaluation.bounds.get(CEILING, {}).get(split, {}).get(gap.metric)
    return "above real" if gap.better and score and pleases(gap.metric, score, real) else _word(gap)


def _gap_cell(gap: Difference | None, side: Side, split: Split) -> str:
    if gap is None:
        return '<td class="number soft">–</td>'
    pairs = "" if gap.share else f"<small>{gap.gap.n:,} pairs</small>"
    return f'<td class="number">{_change(gap, word_of(gap, side, split))}{pairs}</td>'


def _change(gap: Difference, word: str, unit: str = "") -> str:
    """The difference in its colour, and its interval."""
    ends = f"{_signed(gap.metric, gap.gap.low)} to {_signed(gap.metric, gap.gap.high)}"
    colour, note = ("even", f" <small>{word}</small>") if word == "above real" else (word, "")
    return f'<b class="{colour}">{_signed(gap.metric, gap.gap.value)}</b>{unit} <small>{ends}</small>{note}'


def _signed(metric: str, value: float) -> str:
    """`+3.2` points for shares, `−0.12` else."""
    return (f"{100 * value:+.1f}" if metric_of(metric).kind == "share" else f"{value:+.3g}").replace("-", "−")


def _word(gap: Difference) -> str:
    return {None: "even", True: "better", False: "worse"}[gap.better]


def _prompt_rows(sides: Sequence[Side], split: Split) -> dict[str, list[Difference]]:
    """For each prompt the change of every other run, greatest gain first."""
    base, *others = (side.verdicts[split] for side in sides)
    found = [dict(by_change(base, other)) for other in others]
    rows = {prompt: [changes[prompt] for changes in found] for prompt in found[0] if all(prompt in f for f in found)}
    return dict(sorted(rows.items(), key=lambda item: -sum(d.gap.value for d in item[1])))


def _prompts(sides: Sequence[Side], rows: Mapping[str, Sequence[Difference]]) -> str:
    """A row per prompt with a dot for every run on a line from 0 to 100 %."""
    lines = []
    for prompt, changes in rows.items():
        values = [changes[0].first, *(d.second for d in changes)]
        cells = "".join(f'<td class="number">{percent(d.second)} {_change(d, _word(d))}</td>' for d in changes)
        lines.append(
            f'<tr><td class="prompt">{escape(prompt)}</td><td>{_dots(values)}</td>'
            f'<td class="number">{percent(values[0])}</td>{cells}</tr>'
        )
    head = "".join(
        f'<th class="number"><i class="key c{i % 6}"></i>{escape(side.name)}{", points" if i else ""}</th>'
        for i, side in enumerate(sides)
    )
    return (
        f'<h3>Prompts, greatest gain first</h3><p class="soft">{escape(_tally(sides, rows))}</p>'
        f"{_table(f'<tr><th>prompt</th><th>0 to 100 %</th>{head}</tr>', lines)}"
    )


def _tally(sides: Sequence[Side], rows: Mapping[str, Sequence[Difference]]) -> str:
    """On how many prompts each run is better than the base, where the clips of a prompt can say so."""
    if all(newcombe(wilson(d.gap.n, d.gap.n), wilson(0, d.gap.n)).low <= 0 for row in rows.values() for d in row):
        return (
            "So few clips of a prompt do not say on which of them a run is better: ask for more with --tier or "
            "--clips-per-prompt of t2v evaluate."
        )
    tallies = []
    for i, side in enumerate(sides[1:]):
        words = Counter(_word(changes[i]) for changes in rows.values())
        tallies.append(f"{side.name}: better on {words['better']}, worse on {words['worse']} of {len(rows)}")
    return f"{'; '.join(tallies)}. One interval in twenty leaves out zero by chance."


def _dots(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    dots = "".join(f'<b class="c{i % 6}" style="left:{100 * v:.1f}%"></b>' for i, v in reversed([*enumerate(values)]))
    return (
        f'<span class="range dots"><i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>{dots}</span>'
    )


def _clips(sides: Sequence[Side], split: Split, prompts: Sequence[str], gallery: Gallery) -> str:
    """For each prompt the first clips of every run in one row, in the order of the table above."""
    each = max(1, CLIPS_IN_A_ROW // len(sides))
    blocks = []
    for prompt in prompts:
        figures = [
            gallery.figure(clip, side.name, caption=side.name)
            for side in sides
            for clip in [c for c in side.clips[split] if c.verdict.prompt == prompt][:each]
        ]
        blocks.append(
            f"<div><h4>{escape(prompt)} {held_out_mark(split)}</h4>{row(figures, max(len(figures), 3))}</div>"
        )
    return f'<h3>Clips, the first drawn, never the best</h3><div class="prompts">{"".join(blocks)}</div>'


def _notes(own: bool) -> str:
    figures, marks = (OWN_HEADLINES, MARKED_OWN) if own else (HEADLINES, MARKED)
    return (
        f"<footer><p>{explained(figures)}. Values have 95 % intervals, Wilson’s for shares. Differences of shares have "
        "Newcombe’s; differences of means are taken over pairs of clips with equal prompt and seed in which both have "
        "the number, and so may differ from that of the values beside them. "
        f"{marks}</p></footer>"
    )
