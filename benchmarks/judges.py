"""Does the judge of clips without truth rank models as the judge that knows it does? On a rendered world both can say.

    python benchmarks/judges.py                  models from bad to good: twenty minutes of one core
    python benchmarks/judges.py --world pairs    the same of two objects
    python benchmarks/judges.py --tiny           the same code in seconds, nothing trained but the judge
    python benchmarks/judges.py --own data/icons    of an ingested dataset the judge's range and its price alone

Clips of a world are written to files and ingested like anybody's. Each model answers the captions that are kept for
validation; the judge that learnt from the training part says how often the own caption is the nearest, the reader of
the world how often all that was asked is shown. One JSON line a model, then Spearman's rank correlation of both
figures. Its interval is of the bootstrap: models are drawn anew, and of each of them the clips.

First come the judge's own figures: how far real clips lie above those of other captions, what its controls get, and
the CPU seconds that judging takes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from figures import Figure, tell
from numpy.typing import NDArray
from scipy.stats import rankdata

from t2v_models.clips.spec import ClipSpec
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.generate import load_run
from t2v_models.judging.encoders import BATCH, STEPS
from t2v_models.judging.learnt import Bounds, reference_of
from t2v_models.judging.own_clips import CONTROLS, OwnClips
from t2v_models.judging.reference import Reference
from t2v_models.judging.statistics import newcombe
from t2v_models.judging.truth import Truth
from t2v_models.judging.verdicts import Verdict
from t2v_models.sampler import sample_frames
from t2v_models.shards.export import export
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest, finish
from t2v_models.shards.store import ClipStore
from t2v_models.shards.write import write_shard
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.listed import WORLDS

Frames = NDArray[np.uint8]
Sample = Callable[[Sequence[str], Sequence[int]], Frames]
Shares = NDArray[np.float64]
Says = Callable[[Verdict], bool]

WRONG = (0.1, 0.25, 0.5, 0.75)
"""Shares of clips with a wrong caption."""
TRAINED = (
    *(("gan", steps) for steps in (50, 150, 500, 1500, 3000, 6000)), ("frame_gan", 200), ("diffusion", 40),
)  # fmt: skip
"""Families, and updates: from right in nothing to right in 95 % by the reader."""
JUDGED = 1000
RANGE = ("r_precision_1", "r_precision_appearance", "r_precision_motion")
GATES = {"r_precision_1": 50}
TOLD = (*RANGE, "own_pixels", "own_motion", "energy", "sharpness", "copy_rate")
"""Figures of controls that are told."""
PAIRS: dict[str, tuple[Says, Says]] = {
    "all that was asked": (lambda v: v.success, lambda v: v.right),
    "all that was asked, by looks and by motion": (lambda v: v.success, lambda v: v.success),
    "motion alone": (lambda v: v.right, lambda v: v.rank_motion == 1),
}
"""What the reader says of a clip, and the learnt judge: the own caption is the nearest by both views together, also by
each alone, or by changes from frame to frame."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    clips: int
    asked: int
    spec: ClipSpec
    judge: tuple[int, int]
    """Updates of each pair of encoders, and clips of each."""
    trained: tuple[tuple[str, int], ...]
    draws: int
    """Of the bootstrap."""


WHOLE = Size(2400, 256, ClipSpec(size=32), (STEPS, BATCH), TRAINED, 2000)
TINY = Size(400, 64, ClipSpec(size=16, frames=6), (60, 48), (), 100)


def own_dataset(folder: Path, config: DatasetConfig) -> Path:
    """The dataset of `config`, ingested as clips that nobody knows the truth of."""
    (folder / "rendered").mkdir()
    for index in range(config.shards):
        write_shard(folder / "rendered", config, index)
    export(ClipStore(finish(folder / "rendered", config)), folder / "files", "npz")
    ingest(folder / "files", folder / "own", IngestOptions(spec=config.spec, validation=0.2))
    return folder / "own"


def mixed(own: OwnClips, wrong: float, prompts: Sequence[str], seeds: Sequence[int]) -> Frames:
    """Real clips, of which a share shows another caption."""
    frames = CONTROLS["oracle"](own, prompts, seeds)
    rows = np.random.default_rng(0).permutation(len(prompts))[: round(wrong * len(prompts))]
    frames[rows] = CONTROLS["unconditional"](own, [prompts[i] for i in rows], [seeds[i] for i in rows])
    return frames


def trained(data: Path, family: str, steps: int, run_dir: Path) -> Sample:
    """A model after so many updates."""
    manifest = Manifest.load(data)
    run = new_run(manifest, FAMILIES[family](), 0)
    fit(run, ClipStore(manifest), TrainConfig(steps=steps, device="cpu"), run_dir, lambda step, figures: None)
    return partial(sample_frames, load_run(run_dir))


def models(data: Path, own: OwnClips, size: Size) -> Iterator[tuple[str, Sample]]:
    """By name: real clips and what is made of them, then families."""
    for name, control in CONTROLS.items():
        yield name, partial(control, own)
    for wrong in WRONG:
        yield f"{wrong:.0%} wrong captions", partial(mixed, own, wrong)
    for family, steps in size.trained:
        name = f"{family}, {steps:,} updates"
        yield name, trained(data, family, steps, data.parent / name)


def correlation(truth: Sequence[Shares], learnt: Sequence[Shares], draws: int) -> tuple[float, float, float]:
    """Spearman's rank correlation of the means of models, and its 95 % interval.

    Args:
        truth: of each model 0 or 1 a clip.
        learnt: the same by the other judge.
        draws: of the bootstrap.
    """
    rng, drawn = np.random.default_rng(0), []
    for _ in range(draws):
        means = []
        for i in rng.integers(len(truth), size=len(truth)):
            rows = rng.integers(len(truth[i]), size=len(truth[i]))
            means.append((truth[i][rows].mean(), learnt[i][rows].mean()))
        drawn.append(_spearman(np.array(means)))
    value = _spearman(np.array([(a.mean(), b.mean()) for a, b in zip(truth, learnt, strict=True)]))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return value, float(low), float(high)


def _spearman(pairs: Shares) -> float:
    """Of `(n, 2)`; nan where all are equal."""
    ranks = rankdata(pairs, axis=0)
    spread = ranks.std(0).prod()
    return float(np.cov(ranks.T, bias=True)[0, 1] / spread) if spread else np.nan


def judge_of(data: Path, judge: tuple[int, int]) -> tuple[Reference, Bounds, float]:
    """The judge of an ingested dataset, what it was proven on, and the CPU seconds of learning and proof; about none
    where it is kept from before."""
    start = time.process_time()
    reference, bounds = reference_of(OwnClips.of(data), steps=judge[0], batch=judge[1])
    return reference, bounds, time.process_time() - start


def of_itself(reference: Reference, bounds: Bounds, seconds: float) -> Iterator[Figure]:
    """What a judge tells apart, and what that takes."""
    for figure in RANGE:
        ceiling, floor = bounds["oracle"][figure], bounds["unconditional"][figure]
        gap = newcombe(ceiling, floor)
        yield {"figure": f"ceiling less floor of {figure}", "points": 100 * gap.value, "low": 100 * gap.low,
               "high": 100 * gap.high, "clips": ceiling.n, "gate": GATES.get(figure)}  # fmt: skip
    for name, scores in bounds.items():
        yield {"figure": "control", "control": name} | {key: scores[key].value for key in TOLD if key in scores}
    prompts = (list(reference.own.captions) * JUDGED)[:JUDGED]
    clips = np.concatenate([CONTROLS["oracle"](reference.own, prompts[i : i + 250], range(i, i + 250))
                            for i in range(0, JUDGED, 250)])  # fmt: skip
    start = time.process_time()
    judged = reference.judge(clips, prompts, range(JUDGED))
    reference.figures(judged, judged)
    yield {"figure": f"judging {JUDGED:,} clips", "cpu_seconds": time.process_time() - start, "gate": 30,
           "learning_and_proof_cpu_seconds": seconds, "training_clips": len(reference.own.training_rows)}  # fmt: skip


def figures(folder: Path, world: str, size: Size) -> Iterator[Figure]:
    """The judge's own figures, a line a model, and the correlations."""
    config = DatasetConfig(world=world, clips=size.clips, spec=size.spec)
    data = own_dataset(folder, config)
    reference, bounds, seconds = judge_of(data, size.judge)
    yield from of_itself(reference, bounds, seconds)
    prompts = reference.own.asked(1)[: size.asked]
    seeds = range(len(prompts))
    said: dict[str, dict[str, Mapping[str, Shares]]] = {}
    for name, sample in models(data, reference.own, size):
        clips = sample(prompts, seeds)
        verdicts = Truth(config, "s0").judge(clips, prompts, seeds).verdicts
        others = reference.judge(clips, prompts, seeds).verdicts
        said[name] = {
            what: {
                "truth": np.array([fact(v) for v in verdicts], float),
                "learnt": np.array([found(v) for v in others], float),
            }
            for what, (fact, found) in PAIRS.items()
        }
        means = {f"{what}, {judge}": float(v.mean()) for what, of in said[name].items() for judge, v in of.items()}
        yield {"figure": "model", "model": name, "clips": len(prompts)} | means
    learners = [name for name in said if name not in CONTROLS and "wrong" not in name]
    for what in PAIRS:
        for which, names in {"all models": list(said), "trained models": learners}.items():
            if len(names) > 2:
                truth, learnt = ([said[name][what][judge] for name in names] for judge in ("truth", "learnt"))
                value, low, high = correlation(truth, learnt, size.draws)
                yield {"figure": f"rank correlation, {what}, {which}", "value": value, "low": low, "high": high,
                       "models": len(names), "clips": len(prompts)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--world", default="shapes", choices=WORLDS, help="of whose clips")
    parser.add_argument("--own", type=Path, help="an ingested dataset, of whose judge alone figures are told")
    parser.add_argument("--tiny", action="store_true", help="try the code: nothing is trained but the judge")
    asked = parser.parse_args()
    if asked.own:
        for figure in of_itself(*judge_of(asked.own, (STEPS, BATCH))):
            tell(figure)
        sys.exit()
    with tempfile.TemporaryDirectory() as place:
        for figure in figures(Path(place), asked.world, TINY if asked.tiny else WHOLE):
            tell(figure)
