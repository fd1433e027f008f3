"""Do clips show the verb of their caption? A second judge of models that learnt sprites, by motion alone.

    python examples/verbs.py data/sprites clips/list.csv                        real clips and what is made of them
    python examples/verbs.py data/sprites clips/list.csv runs/sprites-diffusion    a run, or an .npz of clips, as well

`clips/list.csv` is what `examples/sprites.py` wrote and `t2v ingest` read; any table with the columns `caption` and
`verb` will do, for clips of whatever. A classifier of movement learns the verbs from the training part. It is refused
where it is no better on real clips kept for validation than the most common verb.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from t2v_models.config import LabError
from t2v_models.judging.encoders import looked_at
from t2v_models.judging.labels import LabelReader
from t2v_models.judging.own_clips import CONTROLS, OwnClips
from t2v_models.judging.scores import EvaluateConfig
from t2v_models.judging.statistics import Score, newcombe, wilson
from tasks.subjects import asked_of, subject, taken


def verbs_of(table: Path) -> dict[str, str]:
    """The verb of every caption."""
    found: dict[str, str] = {}
    with table.open(newline="") as file:
        rows = csv.DictReader(file)
        if missing := {"caption", "verb"} - set(rows.fieldnames or ()):
            raise LabError(f"{table} has no column {min(missing)!r}: give the table that examples/sprites.py wrote")
        for row in rows:
            if found.setdefault(row["caption"], row["verb"]) != row["verb"]:
                raise LabError(f"{table} gives {row['caption']!r} two verbs: give each caption one")
    return found


def labels_of(captions: Sequence[str], verbs: Mapping[str, str], table: Path) -> list[str]:
    """The verb of each; of captions of several lines that of the first."""
    said = [caption.split("\n")[0] for caption in captions]
    if unknown := next((caption for caption in said if caption not in verbs), None):
        raise LabError(f"{table} has no caption {unknown!r}: give the table that was ingested")
    return [verbs[caption] for caption in said]


def main() -> None:
    """Print how often each shows the verb that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the ingested clips")
    parser.add_argument("table", type=Path, help="list.csv with the columns caption and verb")
    parser.add_argument("runs", nargs="*", help="run folders, or archives of clips")
    parser.add_argument("--clips-per-prompt", type=int, default=1, help="of a run")
    asked = parser.parse_args()
    try:
        verbs, own = verbs_of(asked.table), OwnClips.of(asked.data)
        known = labels_of(own.training_captions, verbs, asked.table)
        wanted = labels_of(own.captions, verbs, asked.table)
        reader = LabelReader.learnt(own.training_views, known)
        print(f"learnt from {len(known):,} clips: {_counted(known)}; kept for validation: {_counted(wanted)}")
        common = Counter(known).most_common(1)[0][0]
        floor = _told(f"always {common!r}", [verb == common for verb in wanted])
        for name, control in CONTROLS.items():
            shown = reader.read(looked_at(control(own, own.captions, range(len(own.captions)))))
            score = _told(name, [a == b for a, b in zip(shown, wanted, strict=True)])
            if name == "oracle" and newcombe(score, floor).low <= 0:
                raise LabError(
                    "real clips are told apart no better than by the most common verb: bring more clips, or other verbs"
                )
        for run in asked.runs:
            who = subject(run, own=asked.data)
            some, refused = taken(who, asked_of(who, EvaluateConfig(clips_per_prompt=asked.clips_per_prompt)))
            prompts, seeds = some["own"]
            shown = reader.read(looked_at(who.sample(prompts, seeds)))
            _told(run, [a == b for a, b in zip(shown, labels_of(prompts, verbs, asked.table), strict=True)])
            if "own" in refused:
                print(f"  {refused['own']}")
    except LabError as error:
        parser.error(str(error))


def _counted(labels: Sequence[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in Counter(labels).most_common())


def _told(name: str, right: Sequence[bool]) -> Score:
    score = wilson(sum(right), len(right))
    print(f"{name:>24}  {score} (n = {score.n:,})", flush=True)
    return score


if __name__ == "__main__":
    main()
