"""Do clips show the verb of their caption? A second judge of models that learnt sprites, by motion alone.

    python examples/verbs.py data/sprites clips/list.csv                        real clips and what is made of them
    python examples/verbs.py data/sprites clips/list.csv runs/sprites-diffusion    a run, or an .npz of clips, as well

`clips/list.csv` is what `examples/sprites.py` wrote and `t2v ingest` read; any table with the columns `caption` and
`verb` will do, for clips of whatever. A classifier of movement learns the verbs from the training part. It is refused
where it is no better on real clips kept for validation than the most common verb. Where the table has a column `unit`,
a second figure is of units that were trained with other verbs: a pair never trained of two things that are known.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from t2v_models.config import LabError
from t2v_models.judging.encoders import looked_at
from t2v_models.judging.labels import LabelReader
from t2v_models.judging.own_clips import CONTROLS, OwnClips
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.judging.statistics import Score, newcombe, wilson
from tasks.subjects import asked_of, subject, taken


class Said(NamedTuple):
    """What a caption says."""

    verb: str
    unit: str
    """Empty where the table tells none."""


def said_by(table: Path) -> dict[str, Said]:
    """What every caption says."""
    found: dict[str, Said] = {}
    if not table.is_file():
        raise LabError(f"there is no table {table}: give the one that was ingested, as examples/sprites.py wrote it")
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        if missing := {"caption", "verb"} - set(rows.fieldnames or ()):
            raise LabError(f"{table} has no column {min(missing)!r}: give the table that examples/sprites.py wrote")
        for row in rows:
            said = Said(row["verb"], row.get("unit") or "")
            if found.setdefault(row["caption"], said) != said:
                raise LabError(f"{table} gives {row['caption']!r} two verbs or units: give each caption one")
    return found


def said_in(captions: Sequence[str], known: Mapping[str, Said], table: Path) -> list[Said]:
    """What each says; captions of several lines by the first."""
    firsts = [caption.split("\n")[0] for caption in captions]
    if unknown := next((caption for caption in firsts if caption not in known), None):
        raise LabError(f"{table} has no caption {unknown!r}: give the table that was ingested")
    return [known[caption] for caption in firsts]


def main() -> None:
    """Print how often each shows the verb that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the ingested clips")
    parser.add_argument("table", type=Path, help="list.csv with the columns caption and verb")
    parser.add_argument("runs", nargs="*", help="run folders, or archives of clips")
    parser.add_argument("--clips-per-prompt", type=int, default=1, help="of a run")
    asked = parser.parse_args()
    try:
        table, own = said_by(asked.table), OwnClips.of(asked.data)
        known = said_in(own.training_captions, table, asked.table)
        wanted = said_in(own.captions, table, asked.table)
        verbs, units = [said.verb for said in known], {said.unit for said in known if said.unit}
        reader = LabelReader.learnt(own.training_views, verbs)
        print(f"learnt from {len(known):,} clips: {_counted(known)}; kept for validation: {_counted(wanted)}")
        common = Counter(verbs).most_common(1)[0][0]
        floor = _told(f"always {common!r}", [common] * len(wanted), wanted, units)
        for name, control in CONTROLS.items():
            shown = reader.read(looked_at(control(own, own.captions, range(len(own.captions)))))
            score = _told(name, shown, wanted, units)
            if name == "oracle" and newcombe(score, floor).low <= 0:
                raise LabError(
                    "real clips are told apart no better than by the most common verb: bring more clips, or other verbs"
                )
        for run in asked.runs:
            who = subject(run, own=asked.data)
            some, refused = taken(who, asked_of(who, EvaluateConfig(clips_per_prompt=asked.clips_per_prompt)))
            prompts, seeds = some["own"]
            _told(run, reader.read(looked_at(who.sample(prompts, seeds))), said_in(prompts, table, asked.table), units)
            if "own" in refused:
                print(f"  {refused['own']}")
    except LabError as error:
        parser.error(str(error))


def _counted(clips: Sequence[Said]) -> str:
    return ", ".join(f"{verb} {count:,}" for verb, count in Counter(said.verb for said in clips).most_common())


def _told(name: str, shown: Sequence[str], wanted: Sequence[Said], units: Set[str]) -> Score:
    """Print how often the verb is right, and of those units alone where there are some; the former."""
    right = [verb == said.verb for verb, said in zip(shown, wanted, strict=True)]
    score = wilson(sum(right), len(right))
    line = f"{name:>24}  {score} (n = {score.n:,})"
    if units:
        met = [hit for hit, said in zip(right, wanted, strict=True) if said.unit in units]
        line += f"; of units that were trained {wilson(sum(met), len(met))} (n = {len(met):,})"
    print(line, flush=True)
    return score


if __name__ == "__main__":
    main()
