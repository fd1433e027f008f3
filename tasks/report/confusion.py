"""What was asked against what was shown, as a table whose cells are the darker the more clips they stand for."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from t2v_models.judging.verdicts import Verdict
from t2v_models.worlds.motions import ACTIONS

NO_MOTION = ("still", "other", "invalid")


def confusion(verdicts: Sequence[Verdict]) -> str:
    """An HTML table: a row per motion asked for, a column per motion read, shares of the row in percent."""
    counts = Counter((v.asked, v.shown) for v in verdicts)
    asked = [action for action in ACTIONS if any(v.asked == action for v in verdicts)]
    shown = [name for name in (*ACTIONS, *NO_MOTION) if any(v.shown == name for v in verdicts)]
    head = "".join(f'<th class="turned"><span>{escape(name)}</span></th>' for name in shown)
    rows = []
    for action in asked:
        total = sum(counts[action, name] for name in shown)
        cells = "".join(_cell(counts[action, name] / total, right=name == action) for name in shown)
        rows.append(f"<tr><th>{escape(action)}</th>{cells}</tr>")
    return (
        '<h3>Asked against read</h3><p class="soft">Each row is a motion that was asked for; the columns say what its '
        'clips were read as, in percent.</p><div class="scroll"><table class="confusion">'
        f"<tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def _cell(share: float, right: bool) -> str:
    kind = "right" if right else "wrong"
    return f'<td class="{kind}" style="--share:{share:.3f}">{round(100 * share) if share else ""}</td>'
