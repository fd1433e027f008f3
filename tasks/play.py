"""What the playground shows: models to play with, words they know, and clips with the reader's verdict drawn on them.

The page itself, in `flows/cli/playground.py`, is Gradio's; nothing here knows of it.
"""

import base64
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.media import enlarge, to_webp
from t2v_models.clips.spec import frames_and_size
from t2v_models.config import LabError
from t2v_models.judging.baselines import oracle
from t2v_models.judging.overlay import draw_verdict
from t2v_models.judging.verdicts import Verdict, judge
from t2v_models.sampler import NO_WISHES, Request, is_uri, repeat, sample_frames
from t2v_models.text.split import numbers, words
from t2v_models.text.wordnet import WordNet
from t2v_models.worlds.dataset import DatasetConfig, world_of
from t2v_models.worlds.splits import HELD_OUT, Split
from t2v_models.worlds.world import World
from tasks.mlflow.registry import fetch_model
from tasks.report.page import SIGNS, percent, shown_in_words, verdict_in_words
from tasks.samplers import Source, source

REAL = "real clips"
"""The name under which real clips are set beside a model."""
SHOWN_SIZE = 320
"""px: clips are enlarged by a whole factor to about this."""
HELD_FRAMES = 8
"""How long the whole path stays before the clip starts again."""
MOST_WORDS, MOST_PROMPTS, MOST_CLIPS = 12, 12, 12
HARDEST: tuple[Split, ...] = (*reversed(HELD_OUT), "s7", "s1")
"""Splits whose prompts were never trained, the hardest first."""


@dataclass(frozen=True)
class Player:
    """A sampler on the page."""

    name: str
    source: Source

    @property
    def prompts(self) -> tuple[str, ...]:
        """What it was trained on, or some of that."""
        return self.source.prompts

    @property
    def labels(self) -> tuple[str, str]:
        """What to call `prompts` and `held_out`: what was trained elsewhere was not trained on a dataset of ours."""
        if "training" in self.source.settings:
            return "Prompts it was trained on", "Prompts it was never trained on"
        return "Prompts of the dataset", "Prompts that the dataset keeps from training"

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of those it makes, its own first."""
        own, data = self.source.sampler.spec, self.source.data
        return tuple(dict.fromkeys([own.name, *(one.spec.name for one in (data.one_shape if data else ()))]))

    @property
    def held_out(self) -> tuple[str, ...]:
        """Prompts in words it knows that it was never trained on."""
        data, known = self.source.data, set(self.source.vocabulary)
        asked = [prompt for split in HARDEST for prompt in data.asked(split)] if data else []
        return tuple(p for p in dict.fromkeys(asked) if not known or set(words(p)) <= known)


@lru_cache(8)
def player(run: str, work: Path, like: DatasetConfig | None = None) -> Player:
    """The sampler of a run folder, of a model URI of MLflow, of a pipeline, of an archive, or a baseline.

    Args:
        run: its name.
        work: folder of the MLflow store.
        like: the dataset that a baseline draws from and that a pipeline answers to.

    Raises:
        LabError: there is nothing of that name, or no whole checkpoint in it; nobody knows what to ask it for.
    """
    found = Player(short_name(run), source(str(fetch_model(work, run)) if is_uri(run) else run, like))
    if not found.prompts:
        raise LabError(f"{found.name} knows no prompts to begin with: add --like with a run or a dataset")
    return found


def short_name(run: str) -> str:
    """What a run is called on the page."""
    return run.removeprefix("models:/") if is_uri(run) else Path(run).name


def runs_in(work: Path) -> list[str]:
    """The run folders of a work folder that hold a model, the newest first.

    Raises:
        LabError: there are none.
    """
    marks = {path.parent: path.stat().st_mtime for path in (work / "runs").glob("*/checkpoints")}
    if not marks:
        raise LabError(f"there is no run in {work / 'runs'}: name a run or a models:/ URI, or make one with 't2v run'")
    return [str(run) for run in sorted(marks, key=lambda run: -marks[run])]


def next_words(text: str, prompts: Sequence[str], vocabulary: Sequence[str]) -> list[str]:
    """Words that may stand next, or end the word begun: as known prompts go on, else any known word that fits."""
    typed = words(text)
    begun = typed.pop() if typed and text[-1:].isalnum() and typed[-1] not in vocabulary else ""
    place = len(typed)
    sentences = [words(prompt) for prompt in prompts if not numbers(prompt)]
    follow = dict.fromkeys(s[place] for s in sentences if s[:place] == typed and len(s) > place)
    found = [word for word in follow if word.startswith(begun)]
    if begun and not found:
        found = [word for word in vocabulary if word.startswith(begun)]
    return found[:MOST_WORDS]


def with_word(text: str, word: str) -> str:
    """The text with its begun word completed, or with one more word. Directions are joined as prompts write them."""
    head = text.rstrip()
    last = head.split(" ")[-1] if text[-1:].isalnum() else ""
    if last and word.startswith(words(last)[-1]) and word != words(last)[-1]:
        return head[: len(head) - len(words(last)[-1])] + word
    return f"{head} {word}".strip()


def matching(text: str, prompts: Sequence[str]) -> list[str]:
    """Prompts that hold every word typed, the last of which may be unfinished."""
    *whole, begun = words(text) or [""]
    hits = [p for p in prompts if set(whole) <= set(words(p)) and any(w.startswith(begun) for w in words(p))]
    return (hits or list(prompts))[:MOST_PROMPTS]


def another_seed() -> int:
    """A seed short enough to be told to somebody."""
    return random.randrange(10_000)


def whole(what: str, value: object) -> int:
    """A whole number from JSON, which has no kind of its own for them.

    Raises:
        LabError: it is none.
    """
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise LabError(f"the {what} is {value!r}: give a whole number")


def show(
    sides: Sequence[Player | None], prompt: str, seed: int, count: int, wordnet: WordNet | None = None,
    shape: str | None = None,
) -> str:  # fmt: skip
    """Clips of one prompt as HTML, a column for each side; None stands for real clips.

    Args:
        sides: who makes them.
        prompt: of all.
        seed: of the first.
        count: a side.
        wordnet: through which words that a model does not know are understood, if there is one.
        shape: of all clips, as 64x36x10; by default of each side its own.

    Raises:
        LabError: a word that a model does not know, a shape that it does not make; a seed or a number of clips that the
            page does not offer.
    """
    if count > MOST_CLIPS:
        raise LabError(f"{count} clips were asked for: the page shows at most {MOST_CLIPS} a model")
    first = next(side for side in sides if side)
    prompts, seeds = repeat([prompt], count, seed)
    columns = "".join(_side(side, first, prompts, seeds, wordnet, shape) for side in sides)
    return f'<div class="sides sides-{len(sides)}">{columns}</div>'


def _side(
    side: Player | None, first: Player, prompts: list[str], seeds: list[int], wordnet: WordNet | None, shape: str | None
) -> str:
    of = (side or first).source
    length, size = frames_and_size(shape or of.sampler.spec.name)
    spec = of.sampler.spec.model_copy(update={"frames": length, "height": size[0], "width": size[1]})
    wishes = Request((), (), frames=length, size=size) if shape else NO_WISHES
    name, about = (side.name, side.source.about) if side else (REAL, "what a perfect model would show")
    if side:
        about += f"; shown: {length} frames at {spec.sides} px" if spec.name != of.sampler.spec.name else ""
        asked = wordnet.understood(prompts[0], of.vocabulary) if wordnet else prompts[0]
        frames = sample_frames(of.sampler, [asked] * len(prompts), seeds, wishes)
        about += f"; understood as {asked!r}" if asked != prompts[0] else ""
    else:
        frames = oracle(spec, prompts, seeds, _world(of, prompts[0]))
    try:
        verdicts: Sequence[Verdict | None] = judge(frames, prompts, seeds, "s0", _world(of, prompts[0]))
    except LabError as error:  # the model knows the words, the grammar does not know the sentence
        verdicts, tally = [None] * len(frames), f"nothing can judge this prompt: {error}"
    else:
        marks = Counter(v.mark for v in verdicts if v)
        tally = f"{marks['right']} of {len(frames)} right ({percent(marks['right'] / len(frames))})"
        tally += f", {marks['partly']} in motion only" if marks["partly"] else ""
    figures = "".join(_figure(f, v, s, spec.fps) for f, v, s in zip(frames, verdicts, seeds, strict=True))
    return (
        f'<section class="side"><header><h3>{escape(name)}</h3><p>{escape(about)}</p>'
        f'<p class="tally">{escape(tally)}</p></header><div class="clips">{figures}</div></section>'
    )


def _world(of: Source, prompt: str) -> World:
    """The world that a sampler has learnt; where nobody knows that, one that knows the prompt.

    Raises:
        LabError: none does, or it has learnt from clips that have no world.
    """
    if not of.data:
        return world_of([prompt], of.sampler.spec).rules
    if not of.data.truth:
        raise LabError(
            "the clips that the model learnt from are people's own, and nobody knows their truth: "
            "t2v evaluate judges it beside real ones"
        )
    return of.data.truth.rules


def _figure(frames: NDArray[np.uint8], verdict: Verdict | None, seed: int, fps: float) -> str:
    scale = max(1, SHOWN_SIZE // max(frames.shape[1:3]))
    drawn = draw_verdict(frames, verdict, scale) if verdict else enlarge(frames, scale)
    data = base64.b64encode(to_webp(np.concatenate([drawn, drawn[-1:].repeat(HELD_FRAMES, 0)]), fps)).decode()
    if verdict is None:
        kind, badge, word, numbers = "", "", "not judged", ""
    else:
        kind = verdict.mark
        badge = f'<span class="badge">{SIGNS[kind]} {escape(shown_in_words(verdict))}</span>'
        word = verdict_in_words(verdict) if kind == "wrong" else verdict.fault or "right"
        numbers = _numbers(verdict)
    alt = escape(f"seed {seed}: {word}")
    return (
        f'<figure class="clip {kind}"><div class="frame"><img src="data:image/webp;base64,{data}" alt="{alt}">{badge}'
        f"</div><figcaption><b>{escape(word)}</b>seed {seed}{numbers}</figcaption></figure>"
    )


def _numbers(verdict: Verdict) -> str:
    """What the reader measured, where there is something to measure."""
    if not verdict.valid:
        return ""
    speed = f" · {verdict.speed:.1f} px/frame" if np.isfinite(verdict.speed) and verdict.must_move else ""
    return f'{speed} · <span title="distance from the path asked for">{verdict.traj_rmse:.1f} px off</span>'
