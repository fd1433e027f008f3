"""Clips varied while a model trains: a function of (seed, k), one draw for all frames of a clip, never a lie."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flows.cli.settings import augment_config
from t2v_models import checkpoint as checkpoints
from t2v_models.config import LabError
from t2v_models.distributed.collectives import Share
from t2v_models.fresh import new_run
from t2v_models.shards.augment import AugmentConfig, following, side_in
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches
from t2v_models.shards.tokens import place
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, tensors
from tests.tiny import OPTIONS, TINY, put, rendered

ALL = AugmentConfig(crop=0.5, colour=0.3, offset=5, flip=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """Clips of three films, 3 of each in a row; the pixels of film f in its frame t are 40 f + t, and a ramp."""
    folder = tmp_path_factory.mktemp("films")
    ramp = np.arange(16, dtype=np.uint8)
    for film in range(3):
        pixels = np.empty((18, 16, 16, 3), np.uint8)
        pixels[:] = 40 * film + np.arange(18, dtype=np.uint8)[:, None, None, None]
        pixels[:, :, :, 2] += 4 * ramp
        put(folder / "films", f"{film}.npz", to_npz(pixels, 10), b"a ramp" if film else b"a slope")
    ingest(folder / "films", folder / "data", OPTIONS)
    return ClipStore(Manifest.load(folder / "data"))


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("rendered"), TINY)


WHOLE = Share(0, 1)


def taken(
    store: ClipStore | DeviceClips, augment: AugmentConfig, start: int = 0, share: Share = WHOLE, workers: int = 0
) -> list[Tensor]:
    stream = batches(store, 6, 2, 3, start, share, workers, augment=augment)
    found = [batch.frames.clone() for batch in islice(stream, 8 - start)]
    stream.close()
    return found


def test_a_batch_is_a_function_of_seed_and_number(store: ClipStore) -> None:
    whole = taken(store, ALL)
    for other in (taken(store, ALL, 0, workers=1), taken(store, ALL, 0, workers=2)):
        assert all(map(torch.equal, whole, other))
    assert all(map(torch.equal, whole[5:], taken(store, ALL, 5)))
    parts = [taken(store, ALL, share=Share(rank, 3)) for rank in range(3)]
    assert all(torch.equal(one, torch.cat(three)) for one, *three in zip(whole, *parts, strict=True))
    on_device = taken(DeviceClips(store, torch.device("cpu")), ALL)
    assert all(map(torch.equal, whole, on_device))
    assert not all(map(torch.equal, whole, taken(store, ALL.model_copy(update={"crop": 0.4}))))


def test_off_is_what_is_stored_and_draws_nothing(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    varied = taken(store, ALL)
    assert torch.equal(state, torch.get_rng_state()), "torch's generator belongs to the training"
    monkeypatch.setattr("t2v_models.shards.stream.Varied", None)
    plain = taken(store, AugmentConfig())
    assert not any(map(torch.equal, plain, varied))


@pytest.mark.parametrize("setting", ["crop", "colour", "flip"])
def test_all_frames_of_a_clip_share_one_draw_and_clips_do_not(setting: str, store: ClipStore) -> None:
    still = AugmentConfig.model_validate({setting: getattr(ALL, setting)})
    effects = set()
    for plain, varied in zip(taken(store, AugmentConfig()), taken(store, still), strict=True):
        for before, after in zip(plain.int(), varied.int(), strict=True):
            steps = after[1:, 8, 8].float() - after[:1, 8, 8].float()
            slope = (steps[-1] / (before[-1, 8, 8] - before[0, 8, 8])).mean()
            assert torch.allclose(steps, slope * torch.arange(1, 6)[:, None], atol=2.1), "they brighten as one film"
            effects.add(tuple(after[0, 0, :, 2].tolist()))
            assert setting != "flip" or torch.equal(after, before) or torch.equal(after, before.flip(2))
            assert setting != "crop" or (after[0, :, :, 2].min() >= before[0, :, :, 2].min())
    assert len(effects) > 6


def test_a_clip_that_begins_later_ends_in_the_next_of_its_film(store: ClipStore) -> None:
    assert following(store.manifest).tolist() == [1, 2, -1, 4, 5, -1, 7, 8, -1]
    begins = set()
    for batch in taken(store, AugmentConfig(offset=5)):
        for clip in batch[:, :, 0, 0, 0].tolist():
            assert clip == list(range(clip[0], clip[0] + 6)) and clip[0] % 40 <= 12
            begins.add(clip[0] % 40)
    assert {0, 6, 12} < begins and len(begins) > 8


@pytest.mark.parametrize(
    ("caption", "side"),
    [
        ("circle moving up-right", "up-right"),
        ("A man waves his LEFT hand.", "LEFT"),
        ("rotating counter-clockwise", "counter-clockwise"),
        ("turns clockwise", "clockwise"),
        ("一只猫向左走", "一只猫向左走"),
        ("a right-handed pitcher", "right-handed"),
        ("an eastbound train", "eastbound"),
        ("flies NE over the sea", "NE"),
        ("a southwesterly wind", "southwesterly"),
        ("turning ccw", "ccw"),
        ("box moveLeft 3", "Left"),
        ("ＬＥＦＴ", "LEFT"),
        ("the lefties play", "lefties"),
        ("the upperleft corner", "upperleft"),
        ("beasts at rest on a forthright yeast", None),
        ("bright lights, a cleft in copyrighted upright ports", None),
        ("", None),
    ],
)
def test_sides_are_found_in_any_caption(caption: str, side: str | None) -> None:
    assert side_in(caption) == side


def test_what_would_lie_is_refused(rings: Path, store: ClipStore) -> None:
    flip, later = AugmentConfig(flip=True), AugmentConfig(offset=3)
    flip.check(store.manifest)
    with pytest.raises(LabError, match=r"the caption 'circle [^']*' names a side .*: leave flip out"):
        new_run(Manifest.load(rings), SMALL["gan"], 0, augment=flip)
    with pytest.raises(LabError, match="no clip of .* has a next one of the same film and caption"):
        later.check(Manifest.load(rings))


def test_tokens_that_are_stored_cannot_be_varied(rings: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(rings)
    place(tmp_path, manifest.digest).mkdir(parents=True)
    model = SMALL["ar_tokens"].model_copy(update={"tokenizer": tmp_path})
    with pytest.raises(LabError, match="ar_tokens learns the tokens of .*: leave --augment out"):
        new_run(manifest, model, 0, augment=AugmentConfig(crop=0.5))


def test_settings_are_read_as_those_of_a_model() -> None:
    assert augment_config(["crop=0.8", "flip=true"]) == AugmentConfig(crop=0.8, flip=True)
    for given, sentence in (("crop", "--augment 'crop' is not KEY=VALUE: write for example --augment crop=0.8"),
                            ("crop=0", r"crop: should be greater than 0 \(found 0\)"),
                            ("color=0.2", "unknown key 'color': did you mean 'colour'")):  # fmt: skip
        with pytest.raises(LabError, match=sentence):
            augment_config([given])


def test_a_resumed_run_is_bit_for_bit_an_unbroken_one_and_another_setting_another_run(
    rings: Path, tmp_path: Path
) -> None:
    config = AugmentConfig(crop=0.7, colour=0.2)
    train(rings, tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(rings, tmp_path / "broken", config, dies_at=3)
    assert checkpoints.load(tmp_path / "broken")[1].step == 2
    train(rings, tmp_path / "broken", config)
    whole, broken = tensors(tmp_path / "whole"), tensors(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert checkpoints.load(tmp_path / "whole")[1].run.augment == config
    with pytest.raises(LabError, match=r"holds another run \(augment\.colour was 0\.2, now None"):
        train(rings, tmp_path / "whole", AugmentConfig())


class Killed(Exception):
    pass


def train(data: Path, out: Path, augment: AugmentConfig, dies_at: int = 0) -> None:
    """A run of four updates, or what a kill leaves of it."""

    def log(step: int, figures: dict[str, float]) -> None:
        if step == dies_at:
            raise Killed

    manifest = Manifest.load(data)
    run = new_run(manifest, SMALL["diffusion"], 0, augment=augment)
    config = TrainConfig(steps=4, log_every=1, probe_seconds=0, save_seconds=1e-9)
    fit(run, ClipStore(manifest), config, out, log)


def test_runs_that_vary_nothing_are_written_as_ever(rings: Path) -> None:
    run = new_run(Manifest.load(rings), SMALL["gan"], 0)
    assert "augment" not in run.model_dump() and "augment" not in TrainConfig(steps=1).model_dump()
