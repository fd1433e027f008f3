"""From verdicts to figures, each with its interval. Clips that could not be read count as wrong."""

from collections.abc import Sequence

from t2v_models.clips.motions import DIRECTIONS
from t2v_models.evaluation.statistics import Score, wilson
from t2v_models.evaluation.verdicts import Verdict


def by_prompt(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts of each prompt, in order of first appearance."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.prompt, []).append(verdict)
    return groups


def accuracy(verdicts: Sequence[Verdict]) -> Score:
    """Share of clips that show the motion their prompt asks for."""
    return wilson(sum(v.right for v in verdicts), len(verdicts))


def summarise(verdicts: Sequence[Verdict]) -> dict[str, Score]:
    """The figures of one split.

    `prompt_acc`: share of clips that obey. `worst_prompt_acc`: the same for the prompt that is obeyed least. `valid`:
    share with one clean object in every frame. `dir_x`, `dir_y`: among prompts that name a direction, share of clips
    whose motion is read as a direction with the right sign (or none) along that axis.
    """
    figures = {
        "prompt_acc": accuracy(verdicts),
        "worst_prompt_acc": min((accuracy(group) for group in by_prompt(verdicts).values()), key=lambda s: s.value),
        "valid": wilson(sum(v.valid for v in verdicts), len(verdicts)),
    }
    directed = [v for v in verdicts if v.asked in DIRECTIONS]
    for axis, name in enumerate(("dir_x", "dir_y")):
        if directed:
            figures[name] = wilson(sum(_same_sign(v, axis) for v in directed), len(directed))
    return figures


def _same_sign(verdict: Verdict, axis: int) -> bool:
    """Whether the shown direction agrees with the asked one along an axis (0 is x, 1 is y)."""
    if verdict.shown not in DIRECTIONS:
        return False
    asked, shown = DIRECTIONS[verdict.asked][axis], DIRECTIONS[verdict.shown][axis]  # type: ignore[index]
    return (asked > 0) == (shown > 0) and (asked < 0) == (shown < 0)
