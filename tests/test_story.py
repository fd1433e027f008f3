"""Clips longer than a sampler makes: that parts go on from each other, and how that is judged."""

import json
import sys
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flows.cli.main import main
from t2v_models.clips.media import SEAM, decode, load_npz, save_films, story_sheet
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.generate import load_run
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.seams import tell
from t2v_models.sampler import Frames, Request, refuse_wishes, sample_frames
from t2v_models.story import Scene, in_parts, story
from t2v_models.worlds.dataset import DatasetConfig
from tests.runs import train

LEFT, UP = "circle moving left", "circle moving up"
SPEC = ClipSpec(size=16, frames=5)


@dataclass
class Counts:
    """Goes on from its first frames by 1 a frame, or begins at the number of letters of the prompt."""

    spec: ClipSpec = SPEC
    name: str = "counts"
    sample_batch: int = 2
    asked: list[Request] = field(default_factory=list)

    @property
    def seeds(self) -> list[tuple[int, ...]]:
        return [request.seeds for request in self.asked]

    def check(self, request: Request) -> None:
        refuse_wishes(self.name, self.spec, request, frozenset({"known_frames", "guidance", "temperature"}))

    def sample(self, request: Request) -> Frames:
        self.asked.append(request)
        first = request.known_frames
        begin = [len(p) for p in request.prompts] if first is None else [int(clip[0, 0, 0, 0]) for clip in first]
        numbers = np.array(begin)[:, None] + np.arange(self.spec.frames)
        return np.broadcast_to(numbers[:, :, None, None, None], (len(begin), *self.spec.shape)).astype(np.uint8)


@pytest.mark.parametrize("prime", [1, 2, 4])
@pytest.mark.parametrize("lengths", [(7, 3), (1, 1), (12, 1), (1, 30)])
def test_every_part_goes_on_from_the_last_frames(lengths: tuple[int, int], prime: int) -> None:
    scenes = [Scene(prompt, length) for prompt, length in zip(["abc", "de"], lengths, strict=True)]
    parts = list(story(Counts(), scenes, [0, 1, 2], prime))
    assert [part.shape for part in parts] == [(3, length, 16, 16, 3) for length in lengths]
    assert np.concatenate(parts, 1)[:, :, 0, 0, 0].tolist() == [[*range(3, 3 + sum(lengths))]] * 3


def test_it_is_made_as_it_is_asked_for_and_every_part_has_noise_of_its_own() -> None:
    sampler = Counts()
    scenes = [Scene("a", 5), Scene("b", 4)]
    parts = story(sampler, scenes, [7], 1)
    assert sampler.seeds == []
    next(parts)
    assert sampler.seeds == [(7,)]
    next(parts)
    assert len({*sampler.seeds}) == 2
    again = Counts()
    list(story(again, scenes, [7], 1))
    assert again.seeds == sampler.seeds


def test_each_scene_has_wishes_and_seeds_of_its_own() -> None:
    sampler = Counts()
    wishes = [Request((), (), guidance=2.0), Request((), (), temperature=0.5)]
    scenes = [Scene("a", 9, wishes[0]), Scene("b", 9, wishes[1], (5, 6)), Scene("c", 4)]
    list(story(sampler, scenes, [7, 8], 1))
    assert [asked.guidance for asked in sampler.asked] == [2.0, 2.0, None, None, None, None]
    assert [asked.temperature for asked in sampler.asked] == [None, None, 0.5, 0.5, 0.5, None]
    assert sampler.seeds[0] == (7, 8)
    assert sampler.seeds[2] == (5, 6)
    assert len({*sampler.seeds}) == 6


@pytest.mark.parametrize(
    ("scenes", "prime", "sentence"),
    [
        ([], 1, "no prompt: give one or more"),
        ([Scene("a", 3), Scene("b", 0)], 1, "for 0 frames: give 1 or more"),
        ([Scene("a", 3)], 5, "5 known frames and clips of 5: give 1 to 4"),
        ([Scene("a", 3), Scene("b", 3, Request((), (), steps=3))], 1, "cannot take a number of steps"),
        ([Scene("a", 3), Scene("b", 3, Request((), (), temperature=-1.0))], 1, "temperature is -1.0: give 0, which"),
    ],
)
def test_a_story_that_cannot_be_told_is_one_sentence_before_anything_is_made(scenes, prime, sentence) -> None:
    with pytest.raises(LabError, match=sentence):
        story(Counts(), scenes, [0], prime)


@dataclass
class Strided(Counts):
    """Goes on from 1 frame and whole strides of 3."""

    stride: int = 3


@pytest.mark.parametrize(("prime", "near"), [(2, "1 or 4"), (3, "1 or 4"), (5, "4 or 7"), (6, "4 or 7"), (8, "7")])
def test_frames_to_begin_with_that_are_no_whole_strides_are_refused_with_the_nearest(prime: int, near: str) -> None:
    with pytest.raises(LabError, match=rf"counts goes on .* of 3 behind it, which {prime} are not: prime with {near}$"):
        story(Strided(spec=ClipSpec(size=16, frames=9)), [Scene("a", 3)], [0], prime)


def test_a_part_behind_few_frames_begins_with_as_many_of_them_as_are_whole_strides() -> None:
    sampler = Strided()
    list(story(sampler, [Scene("abc", 3), Scene("a", 5), Scene("b", 1)], [0], 4))
    assert [None if (known := it.known_frames) is None else known[0, :, 0, 0, 0].tolist() for it in sampler.asked] == [
        None, [5], [6, 7, 8, 9], [7, 8, 9, 10],
    ]  # fmt: skip


def test_a_scene_of_any_length_is_made_part_by_part() -> None:
    scenes = [Scene("a", 203), Scene("b", 2)]
    parts = [*in_parts(Counts(), scenes, [0, 1], 2)]
    assert [part.shape[1] for part in parts] == [5, *[3] * 66, 2]
    whole = np.concatenate([*story(Counts(), scenes, [0, 1], 2)], 1)
    assert np.array_equal(np.concatenate(parts, 1), whole)


def test_a_story_of_any_length_is_filmed_in_the_memory_of_one_scene(tmp_path: Path) -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def parts():
        for part in story(Counts(), [Scene("a", 5)] * 40, [0, 1], 1):
            made.append(weakref.ref(part))
            assert sum(one() is not None for one in made) <= 2  # this one, and that which is in the hands of the film
            yield part
            del part

    paths = save_films(tmp_path / "story.mp4", parts(), 2, 10)
    assert [path.name for path in paths] == ["story-000.mp4", "story-001.mp4"]
    assert (len(made), [len(decode(path)) for path in paths]) == (40, [200, 200])


def test_a_sheet_has_a_row_for_each_scene_behind_a_marked_seam() -> None:
    one, other = (np.full((1, 3, 32, 32, 3), shade, np.uint8) for shade in (90, 160))
    sheet = decode(story_sheet([one, other], ["a", "b"], [[0], [7]]))[0]
    blue = (sheet == SEAM).all(-1)
    rows = np.flatnonzero(blue.any(1))
    assert len(rows) == 96  # beside the second scene alone
    line = sheet[rows[0] + 48]
    assert (line == 90).all(-1).sum() == 96  # the frame before the seam
    assert (line == 160).all(-1).sum() == 3 * 96


def test_real_clips_in_two_halves_are_right_and_do_not_jump_unless_they_are_moved() -> None:
    data = DatasetConfig(spec=ClipSpec(size=64, frames=20))
    clips = BASELINES["oracle"](data, [LEFT] * 8, range(8))
    first, second = clips[:, :10], clips[:, 10:]
    one, other = tell(data.rules, [LEFT, LEFT], [first, second])
    assert (one.right.value, one.jumps, other.right.value) == (1.0, None, 1.0)
    assert other.jumps is not None
    assert (other.jumps.value, other.jumps.n) == (0.0, 8)
    _, moved = tell(data.rules, [LEFT, LEFT], [first, np.roll(second, 9, 2)])
    assert moved.jumps is not None and moved.jumps.value > 0.7
    _, wrong = tell(data.rules, [LEFT, UP], [first, second])
    assert wrong.right.value == 0.0


def test_the_command_tells_and_judges_a_story(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    run, out = tmp_path / "run", tmp_path / "story.npz"
    train(data, run, 1, "diffusion")

    def told_by(*options: object) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["t2v", "story", *map(str, (run, LEFT, UP, *options))])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    film = tmp_path / "story.mp4"
    assert told_by("--lengths", "13,2", "--out", film) == 0 and len(decode(film)) == 15
    anew = tmp_path / "anew.npz"
    assert told_by("--lengths", "8,3", "--seed", "0,7", "--out", anew) == 0
    assert told_by("--guidance", "1,2,3", "--out", out) == 2
    assert "2 prompts and 3 numbers of --guidance: give one number, or one" in capsys.readouterr().err
    assert told_by("--lengths", "8,x", "--out", out) == 2
    assert "--lengths '8,x' are no whole numbers: write 20, or 10,30" in capsys.readouterr().err
    assert told_by("--lengths", "8,3", "--count", 2, "--out", out, "--judge", "--json") == 0
    frames, prompts, seeds = load_npz(out)
    other = load_npz(anew)[0]
    assert np.array_equal(frames[:1, :8], other[:, :8]) and not np.array_equal(frames[:1, 8:], other[:, 8:])
    assert frames.shape == (2, 11, 16, 16, 3)
    assert (prompts, seeds) == ([f"{LEFT}, then\n{UP}"] * 2, [0, 1])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["judged"]
    assert [one["prompt"] for one in told] == [LEFT, UP]
    model = load_run(run)
    assert np.array_equal(frames[:, : model.spec.frames], sample_frames(model, [LEFT] * 2, [0, 1]))
    assert told_by("--lengths", "8,3", "--count", 2, "--out", out, "--apart") == 0
    apart = [load_npz(tmp_path / f"story-part{part}.npz") for part in (1, 2)]
    assert np.array_equal(np.concatenate([part[0] for part in apart], 1), frames)
    assert [part[1:] for part in apart] == [([LEFT] * 2, [0, 1]), ([UP] * 2, [0, 1])]
