"""One table of the figures an evaluation has: what each means, in which unit, which way is better, how it is computed.

Pages, tables, the gate, comparisons and MLflow's keys follow from it; a new figure is one entry. Clips that cannot be
read count as wrong. Numbers of valid clips only flatter a bad model: read them beside `valid`, and those of moving
clips beside `moving`. Shares have Wilson intervals, means and ratios those of the delta method, distances t-intervals
over blocks.

`python -m t2v_models.judging.metrics` prints it for `docs/metrics.md`.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from t2v_models.judging.distances import DISTANCES
from t2v_models.judging.figures import (
    FREE,
    Case,
    Verdicts,
    case_copy,
    likeness,
    motion_ratio,
    mult_ratio,
    sign_right,
    teleport,
    worst_prompt_acc,
)
from t2v_models.judging.metric import Evidence, Judges, Kind, Metric, Number
from t2v_models.judging.statistics import Score
from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.motions import DIRECTIONS

IMPUTED_RMSE = 32.0
"""px at 64 px: the trajectory error of a clip that has no trajectory, half the frame."""


def _if(condition: bool, number: float) -> float:
    return number if condition else math.nan


def _moving(v: Verdict) -> bool:
    """Motion is asked for, and the clip does not stand still; what cannot be read counts as moving."""
    return v.must_move and (v.moves or not v.valid)


_SHARES = (
    Metric("prompt_acc", "obeyed", "clips whose motion, read back from the pixels, is the one the prompt asks for",
           "share", True, lambda v: v.right, headline=True),
    Metric("worst_prompt_acc", "worst prompt", "the same of the prompt that is obeyed least: a mean hides a dead one",
           "share", True, compute=lambda e: worst_prompt_acc(e.verdicts), headline=True),
    Metric("valid", "valid", "clips with one clean, compact object in every frame", "share", True, lambda v: v.valid,
           headline=True),
    Metric("prompt_success", "all right", "clips right in motion, shape, colour, size and speed together (GenEval)",
           "share", True, lambda v: v.success),
    Metric("dir_x", "left or right", "among prompts that name a direction, the right sign along x; invalid is wrong",
           "share", True, lambda v: sign_right(v, 0) if v.asked in DIRECTIONS else math.nan),
    Metric("dir_y", "up or down", "the same along y", "share", True,
           lambda v: sign_right(v, 1) if v.asked in DIRECTIONS else math.nan),
    Metric("shape_acc", "shape", "clips whose shape, the best of all shapes, is the asked one; invalid is wrong",
           "share", True, lambda v: _if(bool(v.asked_shape), v.valid and v.shown_shape == v.asked_shape)),
    Metric("colour_acc", "colour", "clips whose colour, the nearest of all colours, is the asked one; invalid is wrong",
           "share", True, lambda v: _if(bool(v.asked_colour), v.valid and v.shown_colour == v.asked_colour)),
    Metric("back_acc", "object behind", "clips of two objects in which the one that is behind, above or left of the "
           "other is right in all", "share", True, lambda v: v.back),
    Metric("front_acc", "object in front", "the same of the other one", "share", True, lambda v: v.front),
    Metric("binding", "binding", "of clips that show the colours, shapes and motions of two objects as asked for, "
           "wherever: those in which each is at its object", "share", True, lambda v: v.binding),
    Metric("occlusion", "in front", "of valid clips in which two objects overlap: the right one is in front", "share",
           True, lambda v: v.occlusion),
    Metric("count_acc", "number", "clips with as many objects as asked for in every frame, where two are asked for",
           "share", True, lambda v: v.counted),
    Metric("relation_acc", "relation", "of valid clips of two objects in relation: it holds in every frame", "share",
           True, lambda v: v.related),
    Metric("parts_in_order", "in order", "of valid clips that show the motions asked for in sequence, in whatever "
           "order: those in which it is the asked one", "share", True, lambda v: v.in_order),
    Metric("object_kept", "one object", "clips of motions in sequence whose shape, colour and size go on from one to "
           "the next; invalid ones do not", "share", True, lambda v: v.kept),
    Metric("permanence", "permanence", "where motion is asked for and the clip does not stand still: one object in "
           "every frame; unreadable clips count, since a lost object is what this is about", "share", True,
           lambda v: _if(_moving(v), v.permanent)),
    Metric("moving", "moving", "clips that move where the prompt asks for it: consistency is measured on these only",
           "share", True, lambda v: _if(v.must_move, v.moves)),
    Metric("case_copy", "copied case", "on what was never trained, clips that show a trained case instead (PhyWorld); "
           "retrieval of the nearest seen prompt has 100 %", "share", False,
           compute=lambda e: case_copy(e.verdicts, e.seen) if e.seen else None),
    Metric("teleport", "jumps", "steps longer than twice the longest real step of the same prompt; moving clips",
           "share", False, compute=lambda e: teleport(e.verdicts, e.real) if e.paths else None),
    Metric("copy_rate", "copies", "valid clips as near to a training clip as the nearest 1 % of unseen real clips; "
           "real: 1 %; of own clips at 16 px, brighter, fainter or up to 2 of 32 px aside too, but not mirrored, "
           "blurred, flickering, later or farther aside", "share", False,
           compute=lambda e: e.others.get("copy_rate"), judge=None),
    Metric("refused", "refused", "prompts that the model does not take, such as those with words it was never taught; "
           "they have no clips, and all other figures are of the rest", "share", False,
           compute=lambda e: e.others.get("refused"), judge=None),
)  # fmt: skip

_MEANS = (
    Metric("traj_rmse", "off the path", "from the best fit of the asked law; valid only", "mean", False,
           lambda v: v.traj_rmse, unit="px"),
    Metric("traj_rmse_imputed", "off the path, failures too",
           "the same with 32 px at 64 px for every invalid clip: failures are counted, not dropped", "mean", False,
           lambda v: v.traj_rmse if v.valid or not v.x else IMPUTED_RMSE * v.unit, unit="px"),
    Metric("speed_err", "speed", "outside the band asked for, or else the trained range; valid", "mean", False,
           lambda v: v.speed_err, unit="px/f"),
    Metric("step_err", "steps", "between each step and that of the fitted law (PhyWorld); valid", "mean", False,
           lambda v: v.step_err, unit="px/f"),
    Metric("part_acc", "each obeyed", "0 to 1, of motions in sequence the share that are the asked ones; all clips",
           "mean", True, lambda v: v.parts),
    Metric("seam_jump", "jump at the seam", "by which the longest step from one motion to the next exceeds every step "
           "of the laws on both sides; valid", "mean", False, lambda v: v.jump, unit="px"),
    Metric("angle_err", "angle", "0 to 180; valid clips that move, asked for a direction", "mean", False,
           lambda v: v.angle_err, unit="deg"),
    Metric("shape_iou", "overlap", "0 to 1, soft overlap with the asked shape where it was read; valid only", "mean",
           True, lambda v: v.shape_iou),
    Metric("radius_err", "size", "outside the band asked for, or else the trained range; mean radius, valid", "mean",
           False, lambda v: v.radius_err, unit="px"),
    Metric("colour_err", "colour", "RGB distance from the asked colour, 0 to 442; valid only", "mean", False,
           lambda v: v.colour_err, unit="/442"),
    Metric("colour_change", "colour change", "RGB distance of the frame farthest from the clip's mean colour; valid",
           "mean", False, lambda v: v.colour_change, unit="/442"),
    Metric("bg_err", "background", "0 to 1, absolute error of the background; all clips with some to look at", "mean",
           False, lambda v: v.bg_err),
    Metric("radius_cv", "breathing", "standard deviation of the radius over its mean; moving clips", "mean", False,
           lambda v: _if(v.must_move and v.moves, v.radius_cv)),
    Metric("flicker", "flicker", "0 to 1, absolute change of the background from frame to frame; where motion is asked "
           "for, but not frozen clips", "mean", False, lambda v: _if(_moving(v), v.flicker)),
)  # fmt: skip

_RATIOS = (
    Metric("mult_ratio", "whole over parts", "accuracy of the whole over the product of those of its parts (Okawa et "
           "al. 2023); 1 if independent", "ratio", None, compute=lambda e: mult_ratio(e.verdicts)),
    Metric("motion_ratio", "motion", "path length over that of real clips of the same prompt; valid, 0 for frozen ones",
           "ratio", None, compute=lambda e: motion_ratio(e.verdicts, e.real) if e.paths else None),
    Metric("std_ratio", "variety", "the least of the four below: 1 as diverse as real clips, 0 where all are the same",
           "ratio", True, compute=lambda e: e.std_ratios.get("std_ratio")),
    *(
        Metric(f"std_ratio_{free}", f"variety of {free}", "its spread within prompts over that of real clips", "ratio",
               True, compute=lambda e, free=free: e.std_ratios.get(f"std_ratio_{free}"))  # type: ignore[misc]
        for free in FREE
    ),
    Metric("ct_z", "nearness to training clips", "Mann-Whitney z against unseen real clips (C_T, Meehan 2020): 0 is "
           "faithful, below -3 it copies", "z", None, compute=lambda e: e.others.get("ct_z")),
)  # fmt: skip

_ABOUT_DISTANCES = {
    "mmd_rbf": ("MMD² with a Gaussian kernel (Gretton 2012); 0 for equal sets", False),
    "mmd_cubic": ("MMD² with a cubic kernel (KID, Bińkowski 2018); 0 for equal sets", False),
    "frechet": ("of Gaussians fitted to both sets (Heusel 2017); grows as clips get fewer", False),
    "frechet_excess": ("less that between two sets of real clips; 0 for real ones at any number", False),
    "coverage": ("real clips with a judged clip among their 5 nearest, 0 to 1 (Naeem 2020)", True),
    "density": ("real neighbourhoods that hold a judged clip, over 5; 1 for equal sets (Naeem 2020)", True),
    "nn2": ("clips whose nearest other clip is of their own set; 0.5 for equal sets (Lopez-Paz 2017)", None),
}
_FEATURES = {
    "a": "the paths that were read", "b": "what a small network sees",
    "appearance": "what encoders trained on the dataset see of a few frames", "motion": "what they see of changes",
}  # fmt: skip


def _distance(key: str, suffix: str, real: str) -> Metric:
    name, (about, better) = f"{key}_{suffix}{real}", _ABOUT_DISTANCES[key]
    title = f"{key.replace('_', ' ')} {suffix}" + (", real clips" if real else "")
    told = f"{about}; of {_FEATURES[suffix]}" + (": two sets of real clips" if real else "")
    judge: Judges = "truth" if suffix in ("a", "b") else "reference"
    return Metric(
        name, title, told, "distance", None if real else better, compute=lambda e: e.others.get(name), judge=judge
    )


_DISTANCES = (
    *(_distance(key, suffix, real) for suffix in _FEATURES for key in DISTANCES for real in ("", "_real")),
    *(_distance("frechet_excess", suffix, "") for suffix in _FEATURES),
)


def _reference(
    name: str, title: str, about: str, kind: Kind, better: bool | None, number: Number | None = None, unit: str = "",
    headline: bool = False, minimum: float = 0,
) -> Metric:  # fmt: skip
    compute = None if number else lambda e: e.others.get(name)
    return Metric(name, title, about, kind, better, number, compute, unit, headline, "reference", minimum)


_WITHOUT_TRUTH = (
    *(
        _reference(f"r_precision_{k}", f"own caption in {k}" if k > 1 else "own caption", "clips whose own caption is "
                   + (f"among the {k} nearest" if k > 1 else "the nearest") + " of 32 that differ in meaning, by looks "
                   "and motion together (Guo 2022)", "share", True, lambda v, k=k: v.rank <= k, headline=k == 1)  # type: ignore[misc]
        for k in (1, 2, 3)
    ),
    _reference("r_precision_appearance", "by looks", "the same by what a few frames look like, whatever their order",
               "share", True, lambda v: v.rank_appearance == 1, headline=True),
    _reference("r_precision_motion", "by motion", "the same by changes from frame to frame alone", "share", True,
               lambda v: v.rank_motion == 1, headline=True),
    _reference("match", "match", "-1 to 1, cosine between clip and caption, mean of looks and motion; as real clips "
               "have it is best, above them a model pleases the judge", "mean", True, lambda v: v.match, minimum=-1),
    _reference("own_pixels", "own clip", "clips to which the real clip of the caption, kept for validation, is nearer "
               "than 31 other real ones", "share", True, lambda v: v.own_pixels),
    _reference("own_motion", "own motion", "the same by changes from frame to frame", "share", True,
               lambda v: v.own_motion),
    _reference("own_rmse", "off the own clip", "0 to 1, root mean square difference from that clip, at 32 px", "mean",
               False, lambda v: v.own_rmse),
    _reference("motion_corr", "motion as its own", "-1 to 1, correlation of changes from frame to frame with that "
               "clip's", "mean", True, lambda v: v.motion_corr, minimum=-1),
    _reference("energy", "motion", "mean change from frame to frame over that of real clips: 0 frozen, far above 1 "
               "flickering", "mean", None, lambda v: v.energy),
    Metric("energy_match", "as much motion", "0 to 1, that ratio or its inverse, whichever is less: near 0 frozen or "
           "flickering, 1 as real", "ratio", True,
           compute=lambda e: likeness(METRICS["energy"].over(e.verdicts)), judge="reference"),
    _reference("sharpness", "sharpness", "root mean square change from pixel to pixel over that of real clips: "
               "less is blurred, more is noise", "mean", None, lambda v: v.sharpness),
    _reference("unseen_loss", "loss", "what training lessens, on clips kept for validation whose captions the model "
               "takes; models of one family alone have it in the same units", "distance", False),
    _reference("loss_ratio", "loss unseen over seen", "that over the loss on as many training clips with the same "
               "noise: 1 where nothing is learnt by heart", "ratio", None),
    _reference("diversity", "diversity", "spread of all clips over that of real ones of the same captions", "ratio",
               True),
    _reference("caption_spread", "variety", "spread among clips of one caption over that of all real clips: 0 where "
               "seeds change nothing", "ratio", None),
)  # fmt: skip

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_SHARES, *_MEANS, *_RATIOS, *_DISTANCES, *_WITHOUT_TRUTH)
}
OBEYED, OWN_CAPTION = "prompt_acc", "r_precision_1"
"""How often clips do what the prompt says, where that is known; and where it is not."""
WATCHED, WATCHED_OWN = f"watch/{OBEYED}", "watch/own_pixels"
"""The same of the clips that are read while a model trains; and what stands for it where nobody knows what is right."""
HEADLINES = tuple(metric for metric in METRICS.values() if metric.headline and metric.judge == "truth")
OWN_HEADLINES = tuple(metric for metric in METRICS.values() if metric.headline and metric.judge == "reference")
"""The same of clips without truth."""
OWN_WATCHED = METRICS["own_pixels"], METRICS["own_motion"]
"""What is told of these while a model trains: it needs no judge that learns."""


def metric_of(name: str) -> Metric:
    """Of the table; or, in an evaluation of an earlier version, one of which nothing but its name is known."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "), "", "mean", None)


def deciding(split: str) -> str:
    """The figure that says how often a split is obeyed: where only a size or a speed is new, these must be right; where
    nobody knows what is right, the own caption must be the nearest."""
    return {"s4": "prompt_success", "own": OWN_CAPTION}.get(split, OBEYED)


def summarise(
    verdicts: Sequence[Verdict],
    real: Verdicts = (),
    seen: Collection[Case] = (),
    others: Mapping[str, Score] | None = None,
) -> dict[str, Score]:
    """The figures of one split by name; those that rest on no clip, are 0 / 0, or have no interval are left out.

    Args:
        verdicts: of the judged clips.
        real: of real clips of the same prompts; without them, figures relative to real clips are left out.
        seen: the cases trained on; without them there is no `case_copy`.
        others: distances and figures of memorisation, where they were worked out.
    """
    evidence = Evidence(verdicts, real, seen, others or {})
    found = {name: entry.score(evidence) for name, entry in METRICS.items()}
    return {name: score for name, score in found.items() if score}


def document() -> str:
    """The table for people, in Markdown."""
    better = {True: "more", False: "less", None: "as real"}
    lines = ["| figure | what it is | unit | kind | better |", "|---|---|---|---|---|"]
    for entry in METRICS.values():
        if not entry.name.endswith("_real"):
            cells = f"`{entry.name}`", entry.about, entry.unit, entry.kind, better[entry.higher_is_better]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(document())
