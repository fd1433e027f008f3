"""What is asked of a model, and the scores it got."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from operator import not_
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from t2v_models.clips.spec import frames_and_size
from t2v_models.config import Config, LabError
from t2v_models.judging.metrics import deciding, metric_of
from t2v_models.judging.statistics import Score, block_mean, newcombe, wilson
from t2v_models.sampler import Request
from t2v_models.worlds.reader import READER_VERSION
from t2v_models.worlds.splits import OWN, SPLITS, Split

SUITE_VERSION = "8"
"""Raise it whenever a figure changes its meaning."""
TIERS = {"smoke": 8, "standard": 64, "release": 256}
"""Clips per prompt. Distances use up to 4,096 clips, which the release tier reaches on `s0`."""

MOST_WORDS = 8
"""Unknown words, and prompts understood in other words, that are told; `scores.json` has all."""

Scores = dict[Split, dict[str, Score]]


class EvaluateConfig(Config):
    """What is asked of a model, and how often."""

    splits: tuple[Split, ...] | None = Field(
        None,
        min_length=1,
        description="; ".join(f"{k}: {v}" for k, v in SPLITS.items()) + "; by default all but s7",
    )
    clips_per_prompt: int = Field(64, ge=1, le=4096, description="clips sampled and read for each prompt")
    seed: int = Field(
        0,
        ge=0,
        lt=2000,
        description="clip i of a split is sampled with seed * 1,000,000 + i; real clips have 2e9 and on",
    )
    guidance: float | None = Field(
        None,
        exclude_if=lambda guidance: guidance is None,
        description="how strongly prompts count, if not as the model has it",
    )
    steps: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda steps: steps is None,
        description="evaluations of the network for one clip, if not as the model has it",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        exclude_if=lambda temperature: temperature is None,
        description="of the draw of tokens, if not as the model has it",
    )
    shape: str | None = Field(
        None,
        exclude_if=lambda shape: shape is None,
        description="of the clips, as 64x36x10, where the dataset has several; by default that of most",
    )
    wordnet: Path | None = Field(
        None,
        exclude_if=lambda folder: folder is None,
        description="folder of WordNet, through which words that a model does not know are understood as known ones",
    )

    @field_validator("splits", mode="before")
    @classmethod
    def _known_splits(cls, value: Any) -> Any:
        for name in value if isinstance(value, list | tuple) else ():
            if name not in (*SPLITS, *OWN):
                raise LabError(
                    f"there is no split {name!r}: rendered clips have {', '.join(SPLITS)}, own clips {', '.join(OWN)}"
                )
        return value

    @property
    def wishes(self) -> Request:
        """What is asked of a sampler beside prompts.

        Raises:
            LabError: the shape is none.
        """
        frames, size = frames_and_size(self.shape) if self.shape else (None, None)
        return Request(
            (), (), guidance=self.guidance, steps=self.steps, temperature=self.temperature, frames=frames, size=size
        )

    @property
    def wishes_in_words(self) -> str:
        """The same in words, as ` guidance 2 steps 24 wordnet`; empty where there is nothing."""
        told = {"guidance": self.guidance, "shape": self.shape, "steps": self.steps}
        told["temperature"] = self.temperature
        words = {
            wish: value if isinstance(value, str) else f"{value:g}" for wish, value in told.items() if value is not None
        }
        asked = "".join(f" {wish} {value}" for wish, value in words.items())
        return f"{asked} wordnet" if self.wordnet else asked


class Seconds(Config):
    """What judging one split took. Sampling is the model's own time; the rest is the judge's."""

    sampling: float
    reading: float
    """Verdicts and features of every clip."""
    scoring: float
    """Figures; the first time for a dataset, real clips beside them, floors and ceiling as well."""
    cpu: float
    """Of reading and scoring together, on all cores: what a busy machine hardly changes."""

    def __str__(self) -> str:
        judged = f"read in {self.reading:.1f} s and scored in {self.scoring:.1f} s ({self.cpu:.1f} s of CPU)"
        return f"sampled in {self.sampling:.1f} s, {judged}"


class Refusals(Config):
    """Prompts of a split that a model does not take, such as those with words it was never taught: they have no clips,
    and all other figures are of the rest."""

    prompts: dict[str, str]
    """And why, a sentence each."""
    unknown: tuple[str, ...] = ()
    """Their words that the model does not know, where it knows some only."""
    asked: int
    """Different prompts of the split, these included."""

    @property
    def share(self) -> Score:
        """How many of them are refused."""
        return wilson(len(self.prompts), self.asked)

    def __str__(self) -> str:
        """`refused 3 of 43 prompts: unknown words smile, speedometer`."""
        few = ", ".join(self.unknown[:MOST_WORDS]) + (", …" if len(self.unknown) > MOST_WORDS else "")
        why = f"unknown word{'s' * (len(self.unknown) > 1)} {few}" if few else next(iter(self.prompts.values()))
        left = ", so it is not judged" if len(self.prompts) == self.asked else ""
        return f"refused {len(self.prompts):,} of {self.asked:,} prompts{left}: {why}"


class Evaluation(Config):
    """The scores of one model: what `scores.json` holds."""

    name: str
    source: str
    """sha256 of the weights or of the archive, or the name of a baseline."""
    data: str = ""
    """Digest of the dataset's configuration that decides splits, ranges and real clips."""
    config: EvaluateConfig
    reader: str = READER_VERSION
    suite: str = "1"
    prompts: str = ""
    """Digest of the prompts that were asked."""
    features: str = ""
    """Digest of the feature network's weights."""
    scores: Scores
    refused: dict[Split, Refusals] = Field({})
    """Of the splits in which there were any; one of which all were refused has no scores."""
    understood: dict[str, str] = Field({}, exclude_if=not_)
    """Prompts that the model was asked in other words, and in which."""
    bounds: dict[str, Scores] = Field({})
    """Scores of the baselines on the same splits: the ceiling and the floors."""
    left_out: dict[Split, tuple[str, ...]] = Field({}, exclude_if=not_)
    """Figures that own clips were too few for, and why, a sentence each."""
    seconds: dict[Split, Seconds] = Field({})
    """Of each split; no score rests on them."""


def over_seeds(runs: Sequence[Scores]) -> Scores:
    """The mean of every figure over trainings that differ in their seed alone, where all have it, with a t-interval.

    The interval is of what other seeds would give, cut to what a share can be; that each run was judged by so many
    clips and no more is in it. `n` is the number of clips of all runs together.
    """

    def over(split: Split, metric: str) -> Score:
        found = [run[split][metric] for run in runs]
        score = block_mean([one.value for one in found], sum(one.n for one in found))
        if metric_of(metric).kind == "share":
            return score.model_copy(update={"low": max(score.low, 0.0), "high": min(score.high, 1.0)})
        return score

    return {
        split: {metric: over(split, metric) for metric in figures if all(metric in run[split] for run in runs)}
        for split, figures in runs[0].items()
        if all(split in run for run in runs)
    }


def metric_rows(split: str, scores: Mapping[str, Score]) -> dict[str, float]:
    """Figures as MLflow names them, `eval/<split>/<metric>`; of the deciding one also the interval and the clips."""
    rows = {f"eval/{split}/{metric}": score.value for metric, score in scores.items()}
    if decides := scores.get(deciding(split)):
        name = f"eval/{split}/{deciding(split)}"
        rows |= {f"{name}_lo": decides.low, f"{name}_hi": decides.high, f"{name}_n": decides.n}
    return rows


def table_rows(scores: Scores) -> list[dict[str, object]]:
    """All figures with their intervals and clips, a row each."""
    return [
        {"split": split, "figure": metric, "value": s.value, "low": s.low, "high": s.high, "clips": s.n,
         "unit": "share" if metric_of(metric).kind == "share" else metric_of(metric).unit}
        for split, figures in scores.items()
        for metric, s in figures.items()
    ]  # fmt: skip


def digest(lines: Iterable[str]) -> str:
    """16 hex digits that change when any line does."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def obeyed(evaluation: Evaluation) -> str:
    """`gan obeys 99.3 % [98.6, 99.6] of 1,152 clips on s0, 99.2 % …`: what came out, in one line."""
    told = []
    for split, scores in evaluation.scores.items():
        if score := scores.get(deciding(split)):
            low, high = (f"{100 * value:.1f}" for value in (score.low, score.high))
            refused = f" ({evaluation.refused[split]})" if split in evaluation.refused else ""
            told.append(f"{100 * score.value:.1f} % [{low}, {high}] of {score.n:,} clips on {split}{refused}")
    if not told:
        return f"{evaluation.name} {'; '.join(map(str, evaluation.refused.values()))}"
    return f"{evaluation.name} obeys {', '.join(told)}"


def shown(metric: str, value: float) -> str:
    """A figure without its unit, 8 characters at most: `97.8 %` for shares, else three decimals or digits."""
    if metric_of(metric).kind == "share":
        return f"{100 * value:.1f} %"
    return f"{value + 0:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.1e}"


def pleases(metric: str, score: Score, real: Score | None) -> bool:
    """Whether a learnt judge finds more in clips than in real ones, beyond both intervals: no praise, for it can be
    fooled."""
    told = metric_of(metric)
    return bool(real and told.judge == "reference" and told.higher_is_better and newcombe(score, real).low > 0)


def interval(metric: str, score: Score) -> str:
    """The interval: `96.1 to 98.8`."""
    low, high = (shown(metric, v).removesuffix(" %") for v in (score.low, score.high))
    return f"{low} to {high}"
