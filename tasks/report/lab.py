"""The page to look at after a run: what was asked, what the models drew, and how often they obeyed.

The page itself is made of what `page` holds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from t2v_models.judging.figures import accuracy, by_prompt
from t2v_models.judging.metrics import OWN_HEADLINES, deciding, metric_of
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Verdict
from tasks.report.chart import Chart, draw
from tasks.report.confusion import confusion
from tasks.report.page import (
    CLIPS_PER_PROMPT,
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
    span,
    split_name,
    verdict_in_words,
    write_page,
)


@dataclass(frozen=True)
class ModelReport:
    """What is told of one model: `scores[split][metric]`, the verdicts of all judged clips, and some clips to play.

    `alarms` are sentences on what has gone wrong.
    """

    name: str
    about: str
    scores: dict[str, dict[str, Score]]
    charts: Sequence[Chart]
    verdicts: Sequence[Verdict]
    clips: Sequence[Clip]
    alarms: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """A whole page.

    `comparison[source]` holds clips of a model, or of `real` data, in the order they were drawn: the first of each
    prompt is shown. `timings` are seconds by stage, `fps` frames per second of every clip.
    """

    title: str
    facts: dict[str, str]
    models: Sequence[ModelReport]
    fps: float
    comparison: dict[str, Sequence[Clip]] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def write_report(folder: Path, report: Report) -> Path:
    """Write `folder/report.html`; returns its path."""
    gallery = Gallery(report.fps)
    body = [
        f"<header><h1>{escape(report.title)}</h1>{_lead(report)}</header>",
        _cards(report.models),
        _facts(report.facts),
        _comparison(report.comparison, gallery),
        *(_model(model, gallery) for model in report.models),
        _timings(report.timings),
        _notes(_own(report.models)),
    ]
    return write_page(folder, report.title, body)


def _lead(report: Report) -> str:
    names = listed([model.name for model in report.models])
    clips = sum(len(model.verdicts) for model in report.models)
    how = (
        "reading its motion back from the pixels and comparing it with its prompt. Clips that cannot be read count as "
        "wrong."
    )
    if _own(report.models):
        how = "what was learnt from the real clips of the dataset: is its own caption the nearest of 32?"
    return f'<p class="lead">{clips:,} clips by {escape(names)}, each judged by {how}</p>'


def _own(models: Sequence[ModelReport]) -> bool:
    """Whether nobody knows what the clips should show."""
    return any("own" in model.scores for model in models)


def _cards(models: Sequence[ModelReport]) -> str:
    """The first figure of each model in large, the other splits below it."""
    cards = []
    for model in models:
        shares = {split: scores[deciding(split)] for split, scores in model.scores.items() if deciding(split) in scores}
        if not shares:
            continue
        (split, first), *others = shares.items()
        rows = [f"<div><dt>95 % interval</dt><dd>{interval(first)} · n {first.n:,}</dd></div>"]
        rows += [
            f"<div><dt>{split_name(name)}</dt><dd>{percent(score.value)} <small>{interval(score)}</small></dd></div>"
            for name, score in others
        ]
        cards.append(
            f'<div class="card"><h3>{escape(model.name)}</h3><div class="big">{percent(first.value)}</div>'
            f'<div class="soft">{metric_of(deciding(split)).title}, {split_name(split)}</div>'
            f"<dl>{''.join(rows)}</dl></div>"
        )
    return f'<section class="cards">{"".join(cards)}</section>' if cards else ""


def _facts(facts: dict[str, str]) -> str:
    rows = []
    for key, value in facts.items():
        text = escape(value)
        shown = f'<a href="{text}">{text}</a>' if value.startswith(("http://", "https://")) else text
        rows.append(f"<dt>{escape(key)}</dt><dd>{shown}</dd>")
    return f'<dl class="facts">{"".join(rows)}</dl>' if rows else ""


def _comparison(sources: dict[str, Sequence[Clip]], gallery: Gallery) -> str:
    """For each prompt the first clip of every source, in one row."""
    if not sources:
        return ""
    firsts = {source: {c.verdict.prompt: c for c in reversed(clips)} for source, clips in sources.items()}
    prompts = dict.fromkeys(c.verdict.prompt for clips in sources.values() for c in clips)
    blocks = []
    for prompt in prompts:
        shown = [(source, clips[prompt]) for source, clips in firsts.items() if prompt in clips]
        figures = [gallery.figure(clip, source, caption=source) for source, clip in shown]
        splits = {clip.verdict.split for _, clip in shown}
        of_split = next((s for s in splits if s != "s0"), "s0")
        blocks.append(f"<div><h4>{escape(prompt)} {held_out_mark(of_split)}</h4>{row(figures)}</div>")
    return (
        f"<section><h2>Side by side</h2><p>The same prompts, one clip of each: {escape(listed(list(sources)))}. "
        "The first clip drawn, never the best.</p>"
        f'<div class="prompts">{"".join(blocks)}</div></section>'
    )


def _model(model: ModelReport, gallery: Gallery) -> str:
    charts = "".join(draw(chart) for chart in model.charts)
    return (
        f"<section><h2>{escape(model.name)}</h2><p>{escape(model.about)}</p>"
        + _alarms(model.alarms)
        + _scores(model.scores)
        + (f'<div class="charts">{charts}</div>' if charts else "")
        + _by_prompt(model.verdicts)
        + confusion(model.verdicts)
        + _clips(model, gallery)
        + "</section>"
    )


def _alarms(alarms: Sequence[str]) -> str:
    """What fires on seen prompts, a sentence each; nothing when all is well."""
    rows = "".join(f"<li>{escape(sentence)}</li>" for sentence in alarms)
    return f"<h3>What is wrong</h3><ul>{rows}</ul>" if rows else ""


def _scores(scores: dict[str, dict[str, Score]]) -> str:
    """A row per figure, a column per split; what is measured between real clips stands in the row it bounds."""
    metrics = list(dict.fromkeys(m for figures in scores.values() for m in figures if not m.endswith("_real")))
    if not metrics:
        return ""
    head = "".join(
        f'<th class="number">{split_name(split)}<small>{escape(about_split(split))}</small></th>' for split in scores
    )
    rows = []
    for metric in metrics:
        cells = "".join(
            f'<td class="number">{score_cell(metric, figures.get(metric), figures.get(f"{metric}_real"))}</td>'
            for figures in scores.values()
        )
        rows.append(f'<tr><td class="split">{metric_name(metric)}</td>{cells}</tr>')
    return f'<h3>Scores</h3><div class="scroll"><table><tr><th>figure</th>{head}</tr>{"".join(rows)}</table></div>'


def _by_prompt(verdicts: Sequence[Verdict]) -> str:
    """A row per prompt, held-out prompts last and marked."""
    rows = []
    for prompt, group in by_prompt(sorted(verdicts, key=lambda v: v.split)).items():
        score = accuracy(group)
        wrong = Counter(_fault(v) for v in group if v.mark != "right").most_common(1)
        often = f"{wrong[0][1]} × {escape(wrong[0][0])}" if wrong else "–"
        rows.append(
            f'<tr><td class="prompt">{escape(prompt)} {held_out_mark(group[0].split)}</td><td>{span(score)}</td>'
            f'<td class="number">{percent(score.value)}</td><td class="number soft">{interval(score)}</td>'
            f'<td class="number soft">{score.n:,}</td><td class="fault">{often}</td></tr>'
        )
    if not rows:
        return ""
    head = (
        '<tr><th>prompt</th><th>0 to 100 %</th><th class="number">obeyed</th><th class="number">95 % interval</th>'
        '<th class="number">n</th><th class="fault">most frequent fault</th></tr>'
    )
    return f'<h3>By prompt</h3><div class="scroll"><table class="tall">{head}{"".join(rows)}</table></div>'


def _fault(verdict: Verdict) -> str:
    """What is wrong with the clip, without its figure, so that equal faults count together."""
    return verdict_in_words(verdict) if verdict.mark == "wrong" else verdict.fault.partition(":")[0]


def _clips(model: ModelReport, gallery: Gallery) -> str:
    groups: dict[str, list[Clip]] = {}
    for clip in sorted(model.clips, key=lambda c: c.verdict.split):
        groups.setdefault(clip.verdict.prompt, []).append(clip)
    judged = by_prompt(model.verdicts)
    blocks = []
    for prompt, clips in groups.items():
        figures = [gallery.figure(clip, model.name) for clip in clips[:CLIPS_PER_PROMPT]]
        score = accuracy(judged.get(prompt, []))
        total = f"<small>{percent(score.value)} of {score.n:,} obey</small>" if score.n else ""
        title = f"<h4>{escape(prompt)} {held_out_mark(clips[0].verdict.split)}{total}</h4>"
        blocks.append(f"<div>{title}{row(figures)}</div>")
    return f'<h3>Clips</h3><div class="prompts">{"".join(blocks)}</div>' if blocks else ""


def _timings(timings: dict[str, float]) -> str:
    if not timings:
        return ""
    longest, total = max(timings.values()) or 1, sum(timings.values())
    rows = "".join(
        f'<span>{escape(stage)}</span><i style="width:{100 * seconds / longest:.1f}%"></i>'
        f'<span class="number">{_duration(seconds)}</span>'
        for stage, seconds in timings.items()
    )
    return (
        f'<section><h2>Time</h2><p class="soft">{_duration(total)} in all.</p><div class="stage">{rows}</div></section>'
    )


def _notes(own: bool) -> str:
    if own:
        return (
            f"<footer><p>{explained(OWN_HEADLINES)}. Intervals are 95 % Wilson intervals over clips. What is above "
            f"real clips pleases the learnt judge and is no praise. {MARKED_OWN}</p></footer>"
        )
    return (
        f"<footer><p>{explained()}. Intervals are 95 % Wilson intervals over clips. The reader fits the exact law of "
        f"every motion by least squares; nothing in it is learned. {MARKED}</p></footer>"
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
