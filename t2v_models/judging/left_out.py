"""Figures that clips of people's own are too few for, or too much alike, are named with why."""

from collections.abc import Mapping, Sequence

from t2v_models.judging.distances import DISTANCES
from t2v_models.judging.own_clips import OwnClips
from t2v_models.judging.proof import BESIDE
from t2v_models.judging.reference import LEAST_PAIRS, pairs_of
from t2v_models.judging.statistics import Score


def left_out(own: OwnClips, prompts: Sequence[str], scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Figures that the judged clips of these prompts do not have, and why, a sentence each."""
    asked = {own.config.meaning(prompt) for prompt in prompts}
    kept = [own.config.meaning(caption) in asked for caption in own.captions]
    told = []
    if alone := sum(own.alone(prompt) for prompt in prompts):
        told.append(
            f"{', '.join(BESIDE)} of real clips are of {len(prompts) - alone:,} of {len(prompts):,} prompts: of the "
            "others one clip is kept for validation, and no second one to set beside it"
        )
    if "nn2_appearance" not in scores:
        told.append(
            f"distances ({', '.join(DISTANCES)}) are left out: they take {2 * LEAST_PAIRS} clips kept for validation "
            f"whose captions were asked, and a judged clip for each of half of them; here are {sum(kept)} and "
            f"{len(pairs_of(own, prompts))}"
        )
    if "diversity" not in scores:
        told.append("diversity is left out: the real clips of what was asked do not differ")
    if "caption_spread" not in scores:
        twice = len(asked) < len(prompts)
        why = "the real clips of what was asked do not differ" if twice else "no caption was asked twice"
        told.append(f"caption_spread is left out: {why}")
    return tuple(told)
