"""What was asked against what was shown, as a table whose cells are the darker the more motions they stand for."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.motions import ACTIONS
from t2v_models.worlds.world import THEN, TOGETHER

NO_MOTION = ("still", "other", "invalid")


def confusion(verdicts: Sequence[Verdict]) -> str:
    """An HTML table: a row per motion asked for, a column per motion read, shares of the row in percent."""
    counts = Counter(pair for verdict in verdicts for pair in _motions(verdict))
    asked = [action for action in ACTIONS if any(one == action for one, _ in counts)]
    shown = [name for name in (*ACTIONS, *NO_MOTION) if any(one == name for _, one in counts)]
    if not asked:
        return ""
    head = "".join(f'<th class="turned"><span>{escape(name)}</span></th>' for name in shown)
    rows = []
    for action in asked:
        total = sum(counts[action, name] for name in shown)
        cells = "".join(_cell(counts[action, name] / total, right=name == action) for name in shown)
        rows.append(f"<tr><th>{escape(action)}</th>{cells}</tr>")
    return (
        '<h3>Asked against read</h3><p class="soft">Each row is a motion that was asked for; the columns say what it '
        'was read as, in percent.</p><div class="scroll"><table class="confusion">'
        f"<tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def _motions(verdict: Verdict) -> list[tuple[str, str]]:
    """Each motion asked for, of one object or of several, and what it was read as; of a sequence that has more or fewer
    than were asked for nobody knows which is which."""
    between = TOGETHER if TOGETHER in verdict.asked else THEN
    asked, shown = verdict.asked.split(between), verdict.shown.split(between)
    if len(shown) != len(asked):
        shown = ["other" if verdict.valid else "invalid"] * len(asked)
    return list(zip(asked, shown, strict=True))


def _cell(share: float, right: bool) -> str:
    kind = "right" if right else "wrong"
    return f'<td class="{kind}" style="--share:{share:.3f}">{round(100 * share) if share else ""}</td>'
