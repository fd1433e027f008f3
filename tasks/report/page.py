"""What every page of ours is made of: the frame with its style, playing clips, shares and their intervals.

A page is one HTML file that needs no network, no scripts and nothing beside it: clips stand in it as lossless animated
WebP. One of 10 frames at 64 px takes 2 kB clean, 40 kB with faint noise and 120 kB as noise.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.media import to_webp
from t2v_models.files import write
from t2v_models.judging.metric import Metric
from t2v_models.judging.metrics import HEADLINES, metric_of
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Mark, Verdict
from t2v_models.text.split import words
from t2v_models.worlds.splits import OWN, SPLITS
from t2v_models.worlds.synonyms import trained_words
from t2v_models.worlds.world import TOGETHER

CLIPS_PER_PROMPT = 4
SIGNS: dict[Mark, str] = {"right": "✓", "partly": "~", "wrong": "✗"}
"""For those who do not see green, amber and red."""
MARKED = (
    "Green and ✓ mark a clip whose motion, shape, colour, size and speed are right, amber and ~ one whose motion alone "
    "is right, red and ✗ one that moves otherwise or cannot be read."
)

MARKED_OWN = (
    "Green and ✓ mark a clip whose own caption is the nearest of 32, amber and ~ one where looks or motion alone say "
    "otherwise, red and ✗ one that is nearer to another caption."
)
"""The same of clips whose truth nobody knows."""

NAMES: dict[str, str] = {
    "s0": "seen prompts", "s1": "new wording", "s2": "new pairing", "s3": "unseen motion", "s4": "out of range",
    "s5": "exchanged", "s6": "one more in sequence", "s7": "new words", "own": "own clips",
}  # fmt: skip
"""What a person calls a split; `clips.splits.SPLITS` says what it is."""


@dataclass(frozen=True)
class Clip:
    """One clip to show, uint8 `(t, h, w, 3)`, and what the reader said of it."""

    frames: NDArray[np.uint8]
    verdict: Verdict


def write_page(folder: Path, title: str, body: Sequence[str]) -> Path:
    """Write `folder/report.html` in the look of `report.css`; returns its path."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style>"
    )
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(body)}\n</main></body></html>\n'
    return write(folder / "report.html", page)


def verdict_in_words(verdict: Verdict) -> str:
    """What the judge saw: `read as left`, `read as up, but wrong shape`, `no motion`, `invalid: wrong colour`; where
    nobody knows the truth, `its caption is nearest`, `nearer to 'bell off'`."""
    if verdict.judge == "reference":
        return verdict.fault or "its caption is nearest"
    if not verdict.valid:
        return f"invalid: {verdict.reason}"
    if verdict.mark == "partly":
        return f"read as {shown_in_words(verdict)}, but {verdict.fault}"
    if verdict.shown in ("still", "other"):
        return verdict.reason
    return f"read as {shown_in_words(verdict)}"


def shown_in_words(verdict: Verdict) -> str:
    """The motion that was read: `left`; of two objects each by its colour, as the prompt names them: `red up, blue
    left`."""
    colours, motions = verdict.asked_colour.split(TOGETHER), verdict.shown.split(TOGETHER)
    if len(motions) == 1:
        return verdict.shown
    said = trained_words(words(verdict.prompt))
    each = sorted(zip(colours, motions, strict=True), key=lambda one: said.index(one[0]))
    return ", ".join(f"{colour} {motion}" for colour, motion in each)


class Gallery:
    """Turns clips into `<figure>`s."""

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def figure(self, clip: Clip, source: str, caption: str = "") -> str:
        """A playing clip in the frame of its mark, with the reader's word below and `caption` above that."""
        verdict = clip.verdict
        said = verdict_in_words(verdict)
        told = f"{source}, “{verdict.prompt}”, seed {verdict.seed}: {said}"
        above = f"{escape(caption)}<br>" if caption else ""
        height, width = clip.frames.shape[1:3]
        return (
            f'<figure class="clip {verdict.mark}"><img src="{self._data(clip)}" width="{width}" height="{height}" '
            f'alt="{escape(told)}" title="{escape(told)}" loading="lazy">'
            f"<figcaption>{above}<b>{SIGNS[verdict.mark]} {_unbroken(said)}</b></figcaption></figure>"
        )

    def _data(self, clip: Clip) -> str:
        return f"data:image/webp;base64,{base64.b64encode(to_webp(clip.frames, self.fps)).decode()}"


def _unbroken(said: str) -> str:
    """The last word is never broken at its hyphen."""
    *head, last = said.split(" ")
    return " ".join([*map(escape, head), f'<span class="whole">{escape(last)}</span>'])


def row(figures: Sequence[str], columns: int = 0) -> str:
    """Clips side by side."""
    columns = columns or (3 if len(figures) == 3 else CLIPS_PER_PROMPT)
    return f'<div class="clips" style="--columns:{columns}">{"".join(figures)}</div>'


def split_name(split: str) -> str:
    """What a person calls the split."""
    return escape(NAMES.get(split, split))


def about_split(split: str) -> str:
    """What the split asks."""
    return next((about for name, about in (SPLITS | OWN).items() if name == split), "")


def held_out_mark(split: str) -> str:
    """The mark of a held-out prompt."""
    if split not in NAMES or split in ("s0", "own"):
        return ""
    return f'<span class="held" title="{escape(about_split(split))}">held out: {split_name(split)}</span>'


def metric_name(metric: str) -> str:
    """What a person calls the figure, and below it what it is."""
    told = metric_of(metric)
    unit = f"{told.unit}: " if told.unit else ""
    return f"{escape(told.title)} <small>{escape(unit + told.about)}</small>"


def explained(metrics: Sequence[Metric] = HEADLINES) -> str:
    """What the figures of short tables are."""
    return "; ".join(f"<b>{escape(metric.title)}</b>: {escape(metric.about)}" for metric in metrics)


def percent(value: float) -> str:
    """A share in per cent, a dash where it is unknown."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def interval(score: Score) -> str:
    """The interval of a share, in per cent."""
    return f"{100 * score.low:.1f}–{100 * score.high:.1f}"


def span(score: Score) -> str:
    """The interval and the value on a line from 0 to 100 %."""
    place = f"left:{100 * score.low:.1f}%;width:{100 * (score.high - score.low):.1f}%"
    return f'<span class="range"><i style="{place}"></i><b style="left:{100 * score.value:.1f}%"></b></span>'


def score_cell(metric: str, score: Score | None, real: Score | None = None) -> str:
    """A figure, its interval and its n, and what stands between real clips; a dash where there is none."""
    if score is None:
        return "–"
    if metric_of(metric).kind == "share":
        return f"{percent(score.value)}<small>{interval(score)}</small><small>n {score.n:,}</small>"
    beside = f"<small>real clips {real.value:.3g}</small>" if real else ""
    return f"{score.value:.3g}<small>{score.low:.3g} to {score.high:.3g}</small><small>n {score.n:,}</small>{beside}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *head, last = names or ("",)
    return f"{', '.join(head)} and {last}" if head else last
