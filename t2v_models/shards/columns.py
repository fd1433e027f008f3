"""Which column of a table says what: common names are understood, and others that seem to say which part of a film is
meant are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_models.config import LabError
from t2v_models.shards.paths import printable

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "filename", "file", "file_path", "video", "video_path", "clip", "clip_path"),
    "caption": ("caption", "captions", "text", "prompt", "description"),
    "start": ("start", "start_time", "start_s", "start_sec", "start_seconds", "start_timestamp", "begin"),
    "end": ("end", "end_time", "end_s", "end_sec", "end_seconds", "end_timestamp", "stop"),
    "duration": ("duration", "duration_s", "duration_sec", "duration_seconds"),
    "group": ("group",),
}
"""What each column may be called besides its own name, which comes first; in any case, and `startTime` as well."""
NEEDED = ("path", "caption")


def _set(words: str) -> set[str]:
    return set(words.split())


SURE = _set("start begin timestamp timestamps segment segments trim offset end stop")
"""Words that say which part of a film is meant wherever they stand in a column's name."""
SPANS = _set("interval span range window")
STARTS = SPANS | _set(
    "start tstart begin beginning timestamp timestamps segment segments trim offset first from in at t ts time times "
    "frame onset part cut seek moment debut début anfang beginn inicio inizio von desde"
)
ENDS = SPANS | _set("end tend ending stop finish last until till to out fin ende bis hasta")
LENGTHS = _set("duration dur length len frames nframes nframe nb count num n seconds dauer durée duree")
"""Without a start they speak of the whole film."""
BESIDE = _set(
    "video clip film s ms sec secs second seconds msec millis milliseconds us point mark index idx id no number "
    "position pos code"
)
"""Words that say nothing else when they stand beside the others."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What other programs write between cells; a table is read by commas alone."""
NAMELESS = re.compile(r"\s*|Unnamed: \d+", re.IGNORECASE)
"""What a column without a name is called; pandas writes the second."""
RANGE = re.compile(r"\s*[\[(]\s*\d.*\d\s*[\])]|.*\d\s*(?:-|–|—|\.\.+|~|to)\s*\d", re.DOTALL)
"""Two numbers, where a length would be one."""

Values = Mapping[str, object]


@dataclass(frozen=True)
class Columns:
    """Which column of a table is which."""

    names: Mapping[str, str]
    """By `COLUMNS`, as far as it has them."""
    lengths: Sequence[str]
    """Those that seem to tell how long whole films are."""

    def of(self, table: Path, values: Values) -> dict[str, object]:
        """What a row says, by `COLUMNS`.

        Raises:
            LabError: what seemed to be a length is a part, as in `5-15`.
        """
        for name in self.lengths:
            value = values.get(name)
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            if RANGE.match(text):
                raise _part(table, name, "start", f" ({printable(text[:40])})")
        return {key: values[name] for key, name in self.names.items()}


def choose(table: Path, names: Sequence[str], asked: Mapping[str, str], unread: list[str]) -> Columns:
    """Which column of a table is which; those that say nothing are added to `unread`.

    Raises:
        LabError: one that is needed is missing, and as `chosen`.
    """
    require(table, names, asked)
    found = chosen(table, names, asked)
    unread += [name for name in names if not NAMELESS.fullmatch(name) and name not in found.names.values()]
    return found


def require(table: Path, names: Sequence[str], asked: Mapping[str, str]) -> None:
    """See that a table has the columns that are needed."""
    there = ", ".join(map(printable, names)) or "none"
    for key in COLUMNS:
        if (key in NEEDED or key in asked) and not _candidates(key, names, asked):
            if len(names) == 1 and (between := [word for mark, word in SEPARATORS.items() if mark in names[0]]):
                raise LabError(
                    f"{printable(str(table))} has one column, {there}: its cells seem to stand between {between[0]}; "
                    f"save it with commas between them, and captions that hold commas between quotes"
                )
            raise LabError(
                f"{printable(str(table))} has no column {asked.get(key, key)!r} but {there}: "
                f"name its columns path and caption, or say which it is with --column {key}=NAME"
            )


def chosen(table: Path, names: Sequence[str], asked: Mapping[str, str]) -> Columns:
    """Which column is which.

    Raises:
        LabError: several may be one, or one seems to say which part of a film is meant and is not understood.
    """
    found: dict[str, str] = {}
    for key in COLUMNS:
        candidates = _candidates(key, names, asked)
        if len(candidates) > 1:
            raise LabError(
                f"{printable(str(table))} has several columns that may be the {key}, "
                f"{', '.join(map(printable, candidates))}: say which with --column {key}=NAME"
            )
        if candidates:
            found[key] = candidates[0]
    if "duration" not in asked and not found.keys() & {"start", "end"}:
        found.pop("duration", None)  # of the whole film
    others = [name for name in names if name not in found.values()]
    if "start" not in found:
        _see_no_part(table, "start", STARTS, others)
    if not found.keys() & {"end", "duration"}:
        _see_no_part(table, "end", ENDS, others)
        if "start" in found:
            _see_no_part(table, "duration", LENGTHS, others)
    return Columns(found, [name for name in others if "start" not in found and _is_length({*_pieces(name)})])


def _candidates(key: str, names: Sequence[str], asked: Mapping[str, str]) -> list[str]:
    """As asked, else its own name, else all common names that are there."""
    if key in asked:
        return [name for name in names if name == asked[key]]
    common = {name.replace("_", "") for name in COLUMNS[key]}
    return [name for name in names if name == key] or [n for n in names if "".join(_words(n)) in common]


def _see_no_part(table: Path, key: str, telling: set[str], names: Sequence[str]) -> None:
    """See that no column seems to be the `key` of a part, in units or words that are not understood."""
    for name in names:
        words = set(_pieces(name))
        if words & telling & SURE or (words & telling and words <= STARTS | ENDS | BESIDE | telling):
            raise _part(table, name, key)


def _is_length(words: set[str]) -> bool:
    """Whether the words of a column's name speak of the whole film, unless two numbers stand there."""
    return bool(words & (LENGTHS | {"position", "pos"})) and words <= LENGTHS | BESIDE


def _part(table: Path, name: str, key: str, found: str = "") -> LabError:
    return LabError(
        f"{printable(str(table))} has the column {printable(name)}{found}, which seems to say what part of a film is "
        "meant: give start and end in seconds or h:mm:ss, say which is the "
        f"{key} with --column {key}=NAME, or leave it out"
    )


def _words(name: str) -> list[str]:
    """Of a column's name: `Start time`, `start_time` and `startTime` are the same two."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[^\W_A-Z])(?=[A-Z])", " ", name).casefold())


def _pieces(name: str) -> Iterator[str]:
    """Its words without numbers, and what words written as one, as `startframe`, are made of if all is about parts."""
    known = sorted((w for w in STARTS | ENDS | LENGTHS | BESIDE if len(w) > 1), key=len, reverse=True)
    one = "|".join(known)
    for word in _words(name):
        letters = word.strip("0123456789")
        yield from re.findall(one, letters) if re.fullmatch(f"(?:{one})+", letters) else [letters] if letters else []
