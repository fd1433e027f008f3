"""Whether a new model takes the champion's place: better where it counts, and worse in nothing that a score can hide.

A figure is named `split/metric`, as in MLflow, and of every figure allowed here more is better. Two figures differ when
the interval of their difference leaves out 0. That interval is of sampling: the gate compares these two sets of
weights, not the recipes that made them.
"""

from collections.abc import Collection, Mapping

from pydantic import Field, field_validator

from t2v_models.config import Config, LabError, near
from t2v_models.judging.baselines import FLOORS
from t2v_models.judging.metrics import METRICS
from t2v_models.judging.scores import Scores, shown
from t2v_models.judging.statistics import Score, newcombe
from t2v_models.worlds.splits import OWN, SPLITS

Figures = Mapping[str, Score]

RISING = tuple(name for name, metric in METRICS.items() if metric.higher_is_better)
"""Metrics of which more is better."""
GUARDED = ("s0/valid", "s0/worst_prompt_acc", "s0/std_ratio", "s1/prompt_acc", "s2/prompt_acc", "s3/prompt_acc")
"""What a higher accuracy on seen prompts can hide: broken clips, a prompt given up, one clip learnt by heart for each
prompt, and words learnt by heart instead of composed."""


LIKENESS, LEAST_LIKENESS = "own/energy_match", 0.25
"""A first champion moves a quarter as much as real clips at least, and four times as much at most."""
OWN_FIGURE, OWN_GUARDED = "own/r_precision_1", ("own/own_pixels", "own/own_motion", "own/diversity", LIKENESS)
"""The same of clips without truth."""


class GateConfig(Config):
    """What a new champion must show."""

    figure: str = Field("s0/prompt_acc", description="split/metric that must be better than the champion's")
    guarded: tuple[str, ...] = Field(
        GUARDED, description="split/metric that must not be worse; where nothing was asked, nothing is compared"
    )
    floor: str | None = Field(
        "unconditional", description="baseline that a first champion must beat; null lets the first model in"
    )

    def of(self, splits: Collection[str]) -> "GateConfig":
        """What is asked where these were judged: of people's own clips other figures, for which nothing else is
        known."""
        return self.model_copy(update={"figure": OWN_FIGURE, "guarded": OWN_GUARDED}) if "own" in splits else self

    @field_validator("figure", "guarded")
    @classmethod
    def _known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            split, _, metric = name.partition("/")
            if split not in SPLITS | OWN:
                raise LabError(f"the gate cannot compare {name!r}: unknown split {split!r}, {near(split, SPLITS)}")
            if metric not in RISING:
                raise LabError(f"the gate cannot compare {name!r}: unknown metric {metric!r}, {near(metric, RISING)}")
        return value

    @field_validator("floor")
    @classmethod
    def _judged(cls, value: str | None) -> str | None:
        if value is not None and value not in FLOORS:
            raise LabError(f"the gate's floor {value!r} is no baseline beside models: {near(value, FLOORS)}")
        return value


class Change(Config):
    """One figure of the challenger beside the champion's, or beside the floor's."""

    figure: str
    challenger: Score
    champion: Score
    guarded: bool

    @property
    def gap(self) -> Score:
        """Challenger minus champion. Newcombe's interval, which for means is that of Zou and Donner (2008)."""
        return newcombe(self.challenger, self.champion)

    @property
    def better(self) -> bool:
        return self.gap.low > 0

    @property
    def worse(self) -> bool:
        """Also where the interval is unknown."""
        return not self.gap.high >= 0

    def __str__(self) -> str:
        """`s0/prompt_acc 87.8 % against 81.0 %, difference 6.8 [3.1, 10.4]`."""
        metric = self.figure.partition("/")[2]
        now, then = (shown(metric, score.value) for score in (self.challenger, self.champion))
        gap, low, high = (shown(metric, v).removesuffix(" %") for v in (self.gap.value, self.gap.low, self.gap.high))
        return f"{self.figure} {now} against {then}, difference {gap} [{low}, {high}]"


class Decision(Config):
    """What the gate says, why, and by which figures."""

    promoted: bool
    reason: str
    """One sentence."""
    changes: tuple[Change, ...] = ()
    """The deciding figure first."""


def figures_of(scores: Scores, ceiling: Scores | None = None) -> dict[str, Score]:
    """The scores of all splits on one level, those that a gate may compare.

    Of people's own clips none counts for more than real clips have: what pleases a learnt judge more is no better.
    """
    found = {f"{s}/{m}": score for s, found in scores.items() for m, score in found.items() if m in RISING}
    for metric, real in (ceiling or {}).get("own", {}).items():
        if (score := found.get(f"own/{metric}")) and score.value > real.value:
            ends = {"value": real.value, "low": min(score.low, real.value), "high": max(score.high, real.value)}
            found[f"own/{metric}"] = score.model_copy(update=ends)
    return found


def decide(challenger: Figures, champion: Figures | None, floor: Figures, config: GateConfig) -> Decision:
    """Whether the challenger becomes champion.

    It must be better than the champion in `config.figure` and worse in none of `config.guarded`, each beyond its own
    95 % interval; a guarded figure that has not changed looks worse by chance one time in forty.

    Args:
        challenger: figures of the new model.
        champion: figures of the present one, or None where there is none.
        floor: figures of the baseline `config.floor`, which only a first champion is measured by.
        config: what to compare.
    """
    if config.figure not in challenger:
        return Decision(promoted=False, reason=f"it was not judged by {config.figure}, so nothing is decided")
    if champion is None:
        return _first(challenger, floor, config)
    names = dict.fromkeys((config.figure, *config.guarded))
    unlike = [name for name in names if (name in challenger) != (name in champion)]
    if unlike:
        return Decision(promoted=False, reason=f"only one of the two was judged by {', '.join(unlike)}: judge both")
    changes = tuple(
        Change(figure=n, challenger=challenger[n], champion=champion[n], guarded=n != config.figure)
        for n in names
        if n in challenger
    )
    first, *guards = changes
    worse = [change for change in guards if change.worse]
    if not first.better:
        reason = f"not better beyond the interval: {first}"
    elif worse:
        reason = f"better, {first}, but worse: {'; '.join(map(str, worse))}"
    else:
        reason = f"better: {first}; none of {len(guards)} guarded figures is worse"
    return Decision(promoted=first.better and not worse, reason=reason, changes=changes)


def _first(challenger: Figures, floor: Figures, config: GateConfig) -> Decision:
    if LIKENESS in config.guarded and (like := challenger.get(LIKENESS)) and like.value < LEAST_LIKENESS:
        reason = f"it moves too unlike real clips to be a first champion: {LIKENESS} {like.value:.2f}"
        return Decision(promoted=False, reason=f"{reason}, {LEAST_LIKENESS:g} is the least")
    if config.floor is None:
        return Decision(promoted=True, reason="there was no champion, and any first model is let in")
    if config.figure not in floor:
        return Decision(promoted=False, reason=f"the baseline {config.floor} was not judged by {config.figure}")
    change = Change(
        figure=config.figure, challenger=challenger[config.figure], champion=floor[config.figure], guarded=False
    )
    verdict = "better than" if change.better else "not better than"
    reason = f"there was no champion, and it is {verdict} the baseline {config.floor}: {change}"
    return Decision(promoted=change.better, reason=reason, changes=(change,))
