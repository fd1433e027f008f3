"""What an image model makes of motion: tuned on one clip, not tuned, and moved by a vector without any training.

    t2v render data/shapes32 --world shapes --size 32 --bands
    t2v train data/shapes32 --model diffusion --set network=factorised --set images=1 \
        --set balance=0 --out runs/images
    python benchmarks/tuning.py runs/images --out tuning

Clips of a world are drawn, each is learnt as `t2v tune` does it, and prompts are asked that change one thing of it: the
colour, the shape or the size. The world's reader says whether that is right and how far the object is from its path in
the one clip. Beside it stand the same model before any update, the image model itself, which draws the clip anew under
noise (Meng et al. 2022, arXiv:2108.01073, SDEdit), and a copy of the clip. Prints a table, and leaves the clips of each
row in an archive, so that they stand beside other models too:

    t2v evaluate tuning/tuned.npz --like data/shapes32
    t2v compare runs/other tuning/tuned.npz --markdown
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_models import checkpoint
from t2v_models.batch import to_frames, to_video
from t2v_models.clips.media import save_clips
from t2v_models.config import LabError
from t2v_models.families.diffusion.tuned import Tuned, TunedConfig
from t2v_models.families.texts import none_like
from t2v_models.fresh import fresh, new_run
from t2v_models.judging.statistics import Score, mean, wilson
from t2v_models.sampler import Frames, Request, sample_all
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.one_clip import dataset_of
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.worlds.appearance import PALETTE, SHAPES
from t2v_models.worlds.bands import SIZES, SLACK
from t2v_models.worlds.dataset import DatasetConfig, draw_clip
from t2v_models.worlds.motions import DIRECTIONS, SIZE_MOTIONS, radius_range
from t2v_models.worlds.one_object import MOST_COLOUR_ERROR
from t2v_models.worlds.prompts import WORDINGS, Meaning, parse, say
from t2v_models.worlds.world import Reading, Scene, drawn

FAR = 1.0
"""px at 32 px that an object may be from its path."""
NOISE = 4.0
"""Of the floor that tunes nothing: how much is laid over the clip, in deviations of the data."""
SPEED = 1.0
"""px a frame at 32 px of what is moved by a vector."""


@dataclass(frozen=True)
class Edit:
    """A prompt that changes one thing of a clip."""

    what: str
    meaning: Meaning


@dataclass(frozen=True)
class Original:
    """A clip and where its object is."""

    meaning: Meaning
    frames: Frames
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @classmethod
    def drawn(cls, data: DatasetConfig, scene: Scene, meaning: Meaning) -> "Original":
        x, y, _ = data.rules.paths([scene], data.spec)[0].reshape(3, -1)
        return cls(meaning, drawn(data.rules, [scene], data.spec)[0], x, y)

    def edits(self, count: int, bands: bool) -> list[Edit]:
        """In turns of the colour, the shape and, where captions say it, the size; each goes through all its values."""
        values: dict[str, Sequence[str]] = {"colour": tuple(PALETTE), "shape": SHAPES}
        values |= {"size": SIZES[:-1]} if bands else {}
        others = {what: [v for v in known if v != getattr(self.meaning, what)] for what, known in values.items()}
        names = list(others)
        turns = [(names[i % len(names)], i // len(names)) for i in range(count)]
        changes: list[dict[str, Any]] = [{what: others[what][turn % len(others[what])]} for what, turn in turns]
        return [Edit(what, replace(self.meaning, **change)) for (what, _), change in zip(turns, changes, strict=True)]


def originals(data: DatasetConfig, count: int) -> list[Original]:
    """Clips of the dataset that move, with captions that name neither size nor speed; each of another motion."""
    found: dict[str, Original] = {}
    for index in range(data.clips):
        caption, scene = draw_clip(data, index)
        meaning = parse(caption)
        if meaning.action not in (*SIZE_MOTIONS, *found) and not (meaning.size or meaning.speed):
            found[meaning.action] = Original.drawn(data, scene, meaning)
        if len(found) == count:
            break
    return list(found.values())


def is_right(edit: Edit, reading: Reading, data: DatasetConfig) -> bool:
    """Whether what was changed is as asked, whatever the rest is."""
    meaning = edit.meaning
    if not reading.valid:
        return False
    if edit.what == "colour":
        return reading.shown_colour == meaning.colour and reading.colour_err <= MOST_COLOUR_ERROR
    if edit.what == "shape":
        return reading.shown_shape == meaning.shape
    least, most = radius_range(meaning.action, meaning.shape, data.spec, meaning.size)
    return reading.radius_err <= SLACK * (most - least)


def distance(reading: Reading, original: Original) -> float:
    """Root mean square px from the path of the clip; infinite where there is no object to follow."""
    if not reading.valid:
        return inf
    return float(np.sqrt(np.mean((np.array(reading.x) - original.x) ** 2 + (np.array(reading.y) - original.y) ** 2)))


class Row:
    """What is said of one way to make edited clips."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.right: list[tuple[str, bool]] = []
        self.far: list[float] = []
        self.clips: list[Frames] = []
        self.prompts: list[str] = []

    def add(self, edits: Sequence[Edit], frames: Frames, original: Original, data: DatasetConfig) -> None:
        """Judge clips of edits."""
        self.clips.append(frames)
        self.prompts += prompts_of(edits)
        readings = data.rules.read(frames, [edit.meaning for edit in edits])
        self.right += [(edit.what, is_right(edit, one, data)) for edit, one in zip(edits, readings, strict=True)]
        self.far += [distance(one, original) for one in readings]

    def told(self, limit: float) -> str:
        """A line of the table."""
        kinds = dict.fromkeys(what for what, _ in self.right)
        each = (share([right for own, right in self.right if own == what]) for what in kinds)
        near = [far <= limit for far in self.far]
        both = [right and close for (_, right), close in zip(self.right, near, strict=True)]
        seen = [far for far in self.far if far < inf]
        error = average(seen, "px")
        whole = share([right for _, right in self.right])
        return " | ".join(["", self.name, whole, *each, share(near), error, share(both), ""]).strip()

    def save(self, out: Path, fps: int) -> None:
        """Leave its clips as an archive; clip i has seed i."""
        archive = out / f"{self.name.replace(' ', '-')}.npz"
        save_clips(archive, np.concatenate(self.clips), self.prompts, list(range(len(self.prompts))), fps)


def prompts_of(edits: Sequence[Edit]) -> tuple[str, ...]:
    """As the model is asked them."""
    return tuple(say(edit.meaning, WORDINGS[0]) for edit in edits)


def share(hits: Sequence[bool]) -> str:
    """Per cent with its interval, and of how many."""
    found: Score = wilson(sum(hits), len(hits))
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}], n {found.n}"


def average(numbers: Sequence[float], unit: str) -> str:
    """The mean with its interval, and of how many."""
    if not numbers:
        return "n 0"
    found = mean(numbers, ["all"] * len(numbers), 0.0)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] {unit}, n {found.n}"


def tuned(run: Path, data: DatasetConfig, original: Original, out: Path, steps: int) -> tuple[Tuned, Tuned]:
    """The image model after tuning on a clip, and before."""
    caption = say(original.meaning, WORDINGS[0])
    store = ClipStore(Manifest.load(dataset_of(original.frames, caption, data.spec.fps, out / "clip")))
    config = new_run(store.manifest, TunedConfig(image=run.resolve(), threads=torch.get_num_threads()), 0)
    before = fresh(config)
    assert isinstance(before, Tuned)
    before.see(to_video(original.frames[None]))
    fit(config, store, TrainConfig(steps=steps, probe_seconds=0), out, lambda step, figures: None)
    after = checkpoint.load(out)[0]
    assert isinstance(after, Tuned)
    return after, before


@torch.inference_mode()
def drawn_anew(model: Tuned, request: Request) -> Frames:
    """The clip under noise, from which the image model draws each frame by itself."""
    image, text = model.image, model.text(request.prompts)
    draw = image.noise(request.seeds, model.spec.frames)
    begin, scale, steps = model.clip, model.config.guidance, model.config.steps
    return to_frames(image.sampled(text, none_like(text), draw, scale, steps, begin=begin, noise=NOISE))


def one_clip_tuned(run: Path, data: DatasetConfig, out: Path, clips: int, edits: int, steps: int) -> None:
    """The table of edits."""
    rows = {name: Row(name) for name in ("tuned", "not tuned", "noise over the clip", "copy of the clip")}
    seconds = 0.0
    for number, original in enumerate(originals(data, clips)):
        begun = time.process_time()
        after, before = tuned(run, data, original, out / f"clip-{number}", steps)
        seconds += time.process_time() - begun
        asked = original.edits(edits, data.bands)
        prompts = prompts_of(asked)
        request = Request(prompts, tuple(range(edits)))
        copies = np.repeat(original.frames[None], edits, 0)
        ways: dict[str, Callable[[], Frames]] = {
            "tuned": partial(sample_all, after, request), "not tuned": partial(sample_all, before, request),
            "noise over the clip": partial(drawn_anew, before, request), "copy of the clip": partial(np.copy, copies),
        }  # fmt: skip
        for name, clips_of in ways.items():
            frames = clips_of()
            rows[name].add(asked, frames, original, data)
            sheet = out / f"clip-{number}-{name.replace(' ', '-')}.png"
            save_clips(
                sheet,
                np.concatenate([original.frames[None], frames]),
                ("the clip", *prompts),
                [-1] * (edits + 1),
                data.spec.fps,
            )
    kinds = dict.fromkeys(edit.what for edit in asked)
    print(" | ".join(["", "edits", "right", *kinds, f"within {FAR:g} px of the path", "distance", "both", ""]).strip())
    print("|---" * (5 + len(kinds)) + "|")
    for row in rows.values():
        print(row.told(FAR * data.spec.short_side / 32))
        row.save(out, data.spec.fps)
    print(f"{seconds / clips:.0f} CPU seconds of tuning a clip, {steps} updates, {clips} clips", flush=True)


def moved_by_a_vector(run: Path, data: DatasetConfig, out: Path, count: int) -> None:
    """The table of directions: the image model, told in which its picture moves, and told nothing."""
    image = checkpoint.load(run)[0]
    speed = SPEED * data.spec.short_side / 32
    objects = [(shape, colour) for shape in SHAPES for colour in PALETTE]
    ways: dict[str, tuple[list[Reading], list[Frames]]] = {"moved": ([], []), "not moved": ([], [])}
    asked: list[str] = []
    for number, (action, (across, down)) in enumerate(DIRECTIONS.items()):
        own = [objects[(7 * number + 5 * k) % len(objects)] for k in range(count)]
        meanings = [Meaning(action, shape, colour) for shape, colour in own]
        prompts = tuple(say(meaning, WORDINGS[0]) for meaning in meanings)
        asked += prompts
        for (readings, clips), motion in zip(ways.values(), ((speed * across, speed * down), None), strict=True):
            clips.append(sample_all(image, Request(prompts, tuple(range(count)), motion=motion)))
            readings += data.rules.read(clips[-1], meanings)
    print("| moved by a vector | obeys | right in all | one object in every frame | degrees off, of these |")
    print("|---|---|---|---|---|")
    for name, (readings, clips) in ways.items():
        for suffix in (".npz", ".png"):
            place = out / f"{name.replace(' ', '-')}{suffix}"
            save_clips(place, np.concatenate(clips), asked, list(range(len(asked))), data.spec.fps)
        valid = [one for one in readings if one.valid]
        error = average([abs(one.angle_err) for one in valid], "degrees")
        print(
            f"| {name} | {share([one.right for one in readings])} | {share([one.success for one in readings])} | "
            f"{share([one.valid for one in readings])} | {error} |"
        )


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="an image model of the world shapes: diffusion with images=1")
    parser.add_argument("--out", type=Path, default=Path("tuning"), help="folder of tuned runs and sheets of clips")
    parser.add_argument("--clips", type=int, default=4, help="clips to tune on")
    parser.add_argument("--edits", type=int, default=16, help="prompts for each of them")
    parser.add_argument("--steps", type=int, default=240, help="updates of tuning")
    parser.add_argument("--only", choices=("tuned", "moved"), help="one of the two tables")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        data = checkpoint.load(asked.run)[1].run.dataset.truth
        if not data or data.world != "shapes":
            raise LabError(f"{asked.run} did not learn the world shapes: train one that did")
        if asked.only != "moved":
            one_clip_tuned(asked.run, data, asked.out, asked.clips, asked.edits, asked.steps)
        if asked.only != "tuned":
            moved_by_a_vector(asked.run, data, asked.out, asked.edits // 2)
    except LabError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
