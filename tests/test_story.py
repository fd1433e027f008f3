"""Clips longer than a sampler makes: that parts go on from each other, and how that is judged."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flows.cli.main import main
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.generate import load_run
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.seams import tell
from t2v_models.sampler import Frames, Request, refuse_wishes, sample_frames
from t2v_models.story import story
from t2v_models.worlds.dataset import DatasetConfig
from tests.runs import train

LEFT, UP = "circle moving left", "circle moving up"
NONE = Request((), ())
SPEC = ClipSpec(size=16, frames=5)


@dataclass
class Counts:
    """Goes on from its first frames by 1 a frame, or begins at the number of letters of the prompt."""

    spec: ClipSpec = SPEC
    name: str = "counts"
    sample_batch: int = 2
    seeds: list[tuple[int, ...]] = field(default_factory=list)

    def check(self, request: Request) -> None:
        refuse_wishes(self.name, self.spec, request, frozenset({"first_frames"}))

    def sample(self, request: Request) -> Frames:
        self.seeds.append(request.seeds)
        first = request.first_frames
        begin = [len(p) for p in request.prompts] if first is None else [int(clip[0, 0, 0, 0]) for clip in first]
        numbers = np.array(begin)[:, None] + np.arange(self.spec.frames)
        return np.broadcast_to(numbers[:, :, None, None, None], (len(begin), *self.spec.shape)).astype(np.uint8)


@pytest.mark.parametrize("prime", [1, 2, 4])
@pytest.mark.parametrize("lengths", [(7, 3), (1, 1), (12, 1), (1, 30)])
def test_every_part_goes_on_from_the_last_frames(lengths: tuple[int, int], prime: int) -> None:
    parts = list(story(Counts(), ["abc", "de"], lengths, [0, 1, 2], prime, NONE))
    assert [part.shape for part in parts] == [(3, length, 16, 16, 3) for length in lengths]
    assert np.concatenate(parts, 1)[:, :, 0, 0, 0].tolist() == [[*range(3, 3 + sum(lengths))]] * 3


def test_it_is_made_as_it_is_asked_for_and_every_part_has_noise_of_its_own() -> None:
    sampler = Counts()
    parts = story(sampler, ["a", "b"], [5, 4], [7], 1, NONE)
    assert sampler.seeds == []
    next(parts)
    assert sampler.seeds == [(7,)]
    next(parts)
    assert len({*sampler.seeds}) == 2
    again = Counts()
    list(story(again, ["a", "b"], [5, 4], [7], 1, NONE))
    assert again.seeds == sampler.seeds


@pytest.mark.parametrize(
    ("prompts", "lengths", "prime", "sentence"),
    [
        ([], [], 1, "no prompt: give one or more"),
        (["a"], [0], 1, "for 0 frames: give 1 or more"),
        (["a", "b"], [3], 1, "2 prompts and 1 lengths"),
        (["a"], [3], 5, "5 frames to begin with and clips of 5: give 1 to 4"),
    ],
)
def test_a_story_that_cannot_be_told_is_one_sentence(prompts, lengths, prime, sentence) -> None:
    with pytest.raises(LabError, match=sentence):
        story(Counts(), prompts, lengths, [0], prime, NONE)


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
    command = ["story", run, LEFT, UP, "--lengths", "8,3", "--count", 2, "--out", out, "--judge", "--json"]
    monkeypatch.setattr(sys, "argv", ["t2v", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    frames, prompts, seeds = load_npz(out)
    assert frames.shape == (2, 11, 16, 16, 3)
    assert (prompts, seeds) == ([f"{LEFT}, then\n{UP}"] * 2, [0, 1])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["judged"]
    assert [one["prompt"] for one in told] == [LEFT, UP]
    model = load_run(run)
    assert np.array_equal(frames[:, : model.spec.frames], sample_frames(model, [LEFT] * 2, [0, 1]))
