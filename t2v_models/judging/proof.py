"""A reference judge is proven before it judges, and refused where it fails; what it was proven on is the ceiling and
the floors of every table.

Real clips kept for validation must stand above what is worse by construction: clips drawn whatever is asked, frozen,
out of order, blurred, noise. Each comparison is of figures with intervals: it holds where their difference leaves out
0.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from t2v_models.judging.baselines import CEILING
from t2v_models.judging.metrics import metric_of
from t2v_models.judging.own_clips import CONTROLS, OF_THE_OWN, OwnClips
from t2v_models.judging.reference import Reference
from t2v_models.judging.statistics import Score, newcombe
from t2v_models.judging.truth import Judged

Figures = Mapping[str, Score]

PROOF_CLIPS = 512
"""Clips of each control."""
BESIDE = "own_pixels", "own_motion", "own_rmse", "motion_corr"
"""Numbers of a clip beside the real clip of its caption."""
NOTHING_BESIDE = dict.fromkeys(BESIDE, math.nan)

ABOVE = (
    ("r_precision_1", CEILING, "unconditional"), ("r_precision_1", CEILING, "noise"),
    ("r_precision_appearance", CEILING, "unconditional"), ("r_precision_motion", CEILING, "unconditional"),
    ("r_precision_motion", CEILING, "frozen"),
    ("energy", CEILING, "frozen"), ("energy", "unordered", CEILING), ("energy", "noise", CEILING),
    ("sharpness", CEILING, "blurred"), ("sharpness", "noise", CEILING),
    ("copy_rate", "copied", CEILING),
)  # fmt: skip
"""Figure, the control that must have more of it, and the one that must have less."""
NOT_ABOVE = tuple(
    (figure, name)
    for figure, names in {
        "r_precision_1": ("frozen", "unordered", "mirrored", "reversed", "blurred"),
        "own_pixels": ("retrieval", "copied", "unconditional"), "own_motion": ("retrieval", "copied", "unordered"),
    }.items()
    for name in names
)  # fmt: skip
"""Figure, and a control that must not have more of it than real clips. What encoders say of training clips is not
among them: they learnt from those."""


def controls(
    reference: Reference, tell: Callable[[float, str], None], prompts: Sequence[str] = ()
) -> dict[str, dict[str, Score]]:
    """The figures of every control, asked the prompts, by default the captions kept for validation."""
    prompts = prompts or reference.own.asked(1)[:PROOF_CLIPS]
    real = _judged(reference, CEILING, prompts)
    found = {CEILING: reference.figures(real, real)}
    for name in list(CONTROLS)[1:]:
        tell(len(found) / len(CONTROLS), f"{name} clips, judged once")
        found[name] = reference.figures(_judged(reference, name, prompts), real)
    return found


def apart(own: OwnClips, name: str, judged: Judged) -> Judged:
    """Judged clips of a control: where a caption has one clip, what is made of that clip is not set beside it, for it
    would always win. Those of anything else stay as they are."""
    if name not in OF_THE_OWN:
        return judged
    verdicts = [v.model_copy(update=NOTHING_BESIDE) if own.alone(v.prompt) else v for v in judged.verdicts]
    return Judged(verdicts, judged.features)


def _judged(reference: Reference, name: str, prompts: Sequence[str]) -> Judged:
    seeds = range(len(prompts))
    return apart(reference.own, name, reference.judge(CONTROLS[name](reference.own, prompts, seeds), prompts, seeds))


def controls_of(
    reference: Reference,
    proven: dict[str, dict[str, Score]],
    prompts: Sequence[str],
    tell: Callable[[float, str], None],
) -> dict[str, dict[str, Score]]:
    """The same of the prompts that clips were judged by, `PROOF_CLIPS` of them by chance at most: those of the proof
    where all captions were asked equally often. A model that refuses the hard ones must not stand beside all."""
    kept, asked = Counter(reference.own.captions), Counter(prompts)
    if all(asked[caption] * kept.total() == count * len(prompts) for caption, count in kept.items()):
        return proven
    chosen = np.random.default_rng(list(b"controls")).permutation(len(prompts))[:PROOF_CLIPS]
    return controls(reference, tell, [prompts[i] for i in sorted(chosen)])


def fault(found: Mapping[str, Figures]) -> str:
    """Why a judge with these figures of its controls is not to be believed, in half a sentence; empty where it is."""
    for figure, more, less in ABOVE:
        above, below = found[more][figure], found[less][figure]
        if not newcombe(above, below).low > 0:
            return f"{metric_of(figure).title!r} is {_told(above)} of {_name(more)} and {_told(below)} of {_name(less)}"
    for figure, name in NOT_ABOVE:
        real, other = found[CEILING].get(figure), found[name].get(figure)
        if real and other and newcombe(other, real).low > 0:
            return f"{metric_of(figure).title!r} is {_told(other)} of {_name(name)} and {_told(real)} of real clips"
    return ""


def _told(score: Score) -> str:
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"


def _name(control: str) -> str:
    other = {CEILING: "real clips", "unconditional": "clips drawn whatever is asked"}
    return other.get(control, f"{control} clips")
