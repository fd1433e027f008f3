"""What has gone wrong with a prompt, said while there is still time: detectors that few clips suffice for.

Collapse inside a prompt, a caption without effect and a lost object are read from verdicts, the balance of a GAN from
its figures. Thresholds are closed forms, not tuned: on real clips a look at all prompts together raises a false alarm
in at most `LEVEL` of cases, however many prompts and clips it has; more clips only make it see finer faults.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from t2v_models.clips.spec import ClipSpec
from t2v_models.judging.figures import by_prompt
from t2v_models.judging.metrics import WATCHED
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.reader import TRACE_RADIUS
from t2v_models.worlds.world import World

Kind = Literal["collapsed", "ignored", "vanished"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]

LEVEL = 0.01
"""Chance of any false alarm when all prompts are looked at once; and the most that chance may explain an obeyed
caption."""
LEAST_CLIPS = 4
"""Readable clips of a prompt below which neither its spread nor its obedience is judged: `valid` tells of those."""
LOST_BY_CHANCE = 0.005
"""Share of real clips in which the reader may miss the object: the judge is held to 99.5 %."""
DRAWS = 200
"""Motions drawn to know the real spread of a prompt, to about 4 %."""
GAP_LIMITS, GAP_STEPS = (0.05, 10.0), 200
"""|score gap| below which a discriminator has stopped telling real from fake, or above which its generator has lost;
and the updates in a row that make it an alarm."""

CODES_USED = "train/codes/used"
LEAST_CODES = 0.05
"""Share of its codes that a tokenizer uses at least, or its codebook has collapsed."""

FALL = 0.15
"""Share of all watched clips that obeyed and do so no longer: at most 0.04 in trainings where all is well, 0.26 and
more where the discriminator ran away (`docs/log/2026-11.md`)."""


@dataclass(frozen=True)
class Alarm:
    """One detector that fires: the prompt, which one, and a sentence for people with its figure."""

    prompt: str
    kind: Kind
    sentence: str


def alarms(verdicts: Sequence[Verdict], world: World) -> list[Alarm]:
    """What fires now, prompt by prompt. All verdicts are of one split, with clips in the training range."""
    groups = by_prompt(verdicts)
    readable = [v for v in verdicts if v.valid]
    level = LEVEL / max(3 * len(groups), 1)  # Bonferroni: place, size and presence of every prompt
    found = []
    for prompt, group in groups.items():
        judged = [v for v in group if v.valid]
        if sentence := _vanished(group, level):
            found.append(Alarm(prompt, "vanished", f"{prompt!r} {sentence}"))
        if len(judged) >= LEAST_CLIPS:
            if sentence := _collapsed(judged, level, world):
                found.append(Alarm(prompt, "collapsed", f"{prompt!r} {sentence}"))
            if sentence := _ignored(judged, readable):
                found.append(Alarm(prompt, "ignored", f"{prompt!r} {sentence}"))
    return found


def of_clips(verdicts: Sequence[Verdict], world: World) -> dict[str, float]:
    """How many prompts fire, `health/<kind>`.

    Beside them `health/unjudged`: prompts of which too few clips can be read for silence to mean health.

    Args:
        verdicts: of the clips looked at.
        world: of the clips; it knows how far real ones spread.
    """
    fired = {(alarm.kind, alarm.prompt) for alarm in alarms(verdicts, world)}
    told = {f"health/{kind}": float(sum(k == kind for k, _ in fired)) for kind in KINDS}
    return told | {"health/unjudged": float(unjudged(verdicts))}


def of_history(history: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """0 or 1 for the score gap, a relapse and lost codes, of figures by step; nothing is said of what is not there."""
    told: dict[str, float] = {}
    if any("train/score_gap" in row for row in history.values()):
        told["health/score_gap"] = float(bool(score_gap(history)))
    if any(WATCHED in row for row in history.values()):
        told["health/relapse"] = float(bool(relapse(history)))
    if any(CODES_USED in row for row in history.values()):
        told["health/codes"] = float(bool(lost_codes(history)))
    return told


def sentences(verdicts: Sequence[Verdict], history: Mapping[int, Mapping[str, float]], world: World) -> list[str]:
    """All that fires at the end of a run, and a relapse on the way: one sentence each, none when all is well."""
    seen = [v for v in verdicts if v.split == "s0"]
    told = [alarm.sentence for alarm in alarms(seen, world)]
    if count := unjudged(seen):
        told.append(f"{count} of {len(by_prompt(seen))} prompts have fewer than {LEAST_CLIPS} clips that can be read")
    return told + [found for found in (score_gap(history), relapse(history), lost_codes(history)) if found]


def unjudged(verdicts: Sequence[Verdict]) -> int:
    """Number of prompts with fewer than `LEAST_CLIPS` readable clips: neither collapsed nor ignored is said of them."""
    return sum(sum(v.valid for v in group) < LEAST_CLIPS for group in by_prompt(verdicts).values())


def score_gap(history: Mapping[int, Mapping[str, float]]) -> str:
    """A sentence when |mean score of real - of fake clips| has left `GAP_LIMITS` on one side for `GAP_STEPS` updates.

    The limits are those of the lab's survey of GAN training, `D logit gap > 10 or < 0.05 for 200 steps`.
    """
    low, high = GAP_LIMITS
    gaps = [(step, abs(row["train/score_gap"])) for step, row in history.items() if "train/score_gap" in row]
    newest_first = sorted(gaps, reverse=True)
    high_since = [step for step, _ in takewhile(lambda row: row[1] > high, newest_first)]
    low_since = [step for step, _ in takewhile(lambda row: row[1] < low, newest_first)]
    for since, words in (
        (high_since, f"above {high:g}: the generator has lost"),
        (low_since, f"below {low:g}: the discriminator tells nothing"),
    ):
        if since and since[0] - since[-1] >= GAP_STEPS:
            return f"the score gap between real and fake clips is {words}, for {since[0] - since[-1]} updates"
    return ""


def lost_codes(history: Mapping[int, Mapping[str, float]]) -> str:
    """A sentence when a tokenizer last used fewer than `LEAST_CODES` of its codes."""
    used = [row[CODES_USED] for _, row in sorted(history.items()) if CODES_USED in row]
    if not used or used[-1] >= LEAST_CODES:
        return ""
    return f"{used[-1]:.1%} of the codes are used: try quantiser fsq, fewer codes, a lower muon_lr or another seed"


def relapse(history: Mapping[int, Mapping[str, float]]) -> str:
    """A sentence when the share of watched clips that obey once fell by more than `FALL` below its best before."""
    looks = [(row[WATCHED], step) for step, row in sorted(history.items()) if WATCHED in row]
    best, deepest = (0.0, 0), (0.0, 0.0, 0, 0.0, 0)
    for look in looks:
        best = max(best, look)
        deepest = max(deepest, (best[0] - look[0], *best, *look))
    fall, high, since, low, step = deepest
    if fall <= FALL:
        return ""
    return (
        f"{high:.0%} of watched clips obeyed at update {since:,}, {low:.0%} at update {step:,}, "
        f"{looks[-1][0]:.0%} at the last look"
    )


def _vanished(group: Sequence[Verdict], level: float) -> str:
    """More clips without an object in some frame than a reader that misses `LOST_BY_CHANCE` would find."""
    lost = sum(bool(v.radius) and min(v.radius) < TRACE_RADIUS * v.unit for v in group)
    if lost and at_least(lost, len(group), LOST_BY_CHANCE) <= level:
        return f"loses its object in {lost} of {len(group)} clips"
    return ""


def _collapsed(group: Sequence[Verdict], level: float, world: World) -> str:
    """Variance of the start or of the size, over the noise, too small beside that of real clips."""
    if not group[0].x:
        return ""
    latents = np.array([(v.x[0], v.y[0], v.radius[0]) for v in group])
    spec = ClipSpec(frames=len(group[0].x), height=group[0].size, width=group[0].size)
    ratios = latents.var(0, ddof=1) / real_spread(group[0].prompt, spec, world) ** 2
    for ratio, numbers, words in (
        (ratios[:2].mean(), 2, "starts at nearly the same place in every clip"),
        (ratios[2], 1, "starts at nearly the same size in every clip"),
    ):
        if ratio < least_ratio(numbers * (len(group) - 1), level):
            return f"{words}: spread {math.sqrt(ratio):.2f} of real"
    return ""


def _ignored(group: Sequence[Verdict], everyone: Sequence[Verdict]) -> str:
    """The first of motion, shape and colour that is shown no more often than by clips that were asked for another.

    Clips of all prompts are made from the same noise, so this is the test of swapped captions: what a caption does is
    the difference it makes. Chance is one-sided binomial; Laplace's rule keeps few other clips from passing as none.
    """
    for asked, shown in (("asked", "shown"), ("asked_shape", "shown_shape"), ("asked_colour", "shown_colour")):
        wanted = getattr(group[0], asked)
        rest = [getattr(v, shown) == wanted for v in everyone if getattr(v, asked) != wanted]
        hits = sum(getattr(v, shown) == wanted for v in group)
        chance = (sum(rest) + 1) / (len(rest) + 2)
        if rest and at_least(hits, len(group), chance) > LEVEL:
            return (
                f"has no effect: {hits} of {len(group)} clips show {wanted!r}, {sum(rest)} of {len(rest)} not asked to"
            )
    return ""


def at_least(hits: int, n: int, chance: float) -> float:
    """Probability of `hits` or more in `n` trials: the upper tail of the binomial distribution."""
    return float(betainc(hits, n - hits + 1, chance)) if hits else 1.0


def least_ratio(freedom: int, level: float) -> float:
    """Ratio of a sample variance to the true one that is undercut with a probability of at most `level`.

    For normal numbers `freedom` times the ratio is chi-squared, and because exp(-t) <= 1 in its lower tail
    P(X < x) <= (x / 2)^(f / 2) / Γ(f / 2 + 1) (first term of DLMF 8.7.1); solved for x. With few clips that is nearly
    exact; with many it tends to 1/e and not to 1, which keeps small losses of variety from being called collapse.
    Starts and sizes are drawn evenly from ranges, so their variances scatter less than normal ones.
    """
    half = freedom / 2
    return math.exp((math.log(level) + math.lgamma(half + 1)) / half) / half


@lru_cache(4096)
def real_spread(prompt: str, spec: ClipSpec, world: World) -> NDArray[np.float64]:
    """Standard deviations of start x, start y and first radius of real clips of a prompt, px: `(3,)`."""
    numbers = np.random.default_rng([*b"health"]).random((DRAWS, world.numbers))
    paths = world.paths(world.draw([world.parse(prompt)] * DRAWS, spec, numbers), spec)
    return np.asarray(np.std(paths[:, :: spec.frames], axis=0))
