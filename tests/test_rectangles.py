"""Clips that are not square: through rendering, reading, storing, films, training and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError, in_words
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.generate import load_run
from t2v_models.judging.metrics import summarise
from t2v_models.sampler import Request, sample_frames
from t2v_models.shards.export import export, to_npz
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import DeviceClips, batches
from t2v_models.shards.verify import verify
from t2v_models.training import loop
from t2v_models.training.config import TrainConfig
from tasks.train import plan
from tests.grammar import judge, oracle
from tests.runs import quiet
from tests.tiny import TINY, noise, put, rendered, split_prompts

WIDE = ClipSpec(height=16, width=28, frames=6)


def test_old_datasets_say_size_and_square_ones_still_do() -> None:
    old = ClipSpec.model_validate_json('{"frames": 10, "size": 32, "fps": 10}')
    assert (old.height, old.width, old.size) == (32, 32, 32)
    assert old.model_dump_json() == '{"frames":10,"size":32,"fps":10}'
    assert ClipSpec.model_validate_json(WIDE.model_dump_json()) == WIDE
    assert (old.sides, WIDE.sides, WIDE.shape) == ("32", "28x16", (6, 16, 28, 3))
    assert TINY.digest == "b5ceb86ac012c81b"
    with pytest.raises(ValidationError) as error:
        ClipSpec.model_validate({"size": 32, "width": 16})
    assert in_words(error.value).startswith("size and width are given: give size, or height and width")


@pytest.mark.parametrize("spec", [ClipSpec(height=36, width=64), ClipSpec(height=48, width=32)], ids=lambda s: s.sides)
def test_the_reader_reads_rendered_clips_of_any_form(spec: ClipSpec) -> None:
    prompts = [p for s in ("s0", "s3") for p in split_prompts("circles", s, ("up-right",)) for _ in range(8)]
    frames = oracle(spec, prompts, range(len(prompts)))
    assert frames.shape == (len(prompts), *spec.shape)
    scores = summarise(judge(frames, prompts, list(range(len(prompts))), "s0"))
    assert scores["prompt_success"].value >= 0.99 and scores["valid"].value == 1
    turned = summarise(judge(frames[::-1], prompts, list(range(len(prompts))), "s0"))
    assert turned["prompt_success"].value < 0.2


def test_a_dataset_is_stored_checked_exported_and_read_as_it_was_drawn(tmp_path: Path) -> None:
    data = rendered(tmp_path / "data", TINY.model_copy(update={"spec": WIDE}))
    verify(data)
    store = ClipStore(Manifest.load(data))
    assert "clips of 6 frames at 28x16 px" in plan(store.manifest, FAMILIES["diffusion"].tiny(), TrainConfig(steps=1))
    clips = store.frames(range(len(store)))
    assert clips.shape == (TINY.clips, *WIDE.shape)
    rows = np.array([3, 1])
    np.testing.assert_array_equal(DeviceClips(store, torch.device("cpu")).frames(rows), clips[rows])
    assert next(batches(store, 4, 1, seed=0, workers=0)).frames.shape == (4, *WIDE.shape)
    export(store, tmp_path / "out", "webp")
    options = IngestOptions(spec=WIDE, validation=0)
    assert ingest(tmp_path / "out", tmp_path / "back", options).train == len({clip.tobytes() for clip in clips})
    again = ClipStore(Manifest.load(tmp_path / "back"))
    assert {c.tobytes() for c in again.frames(range(len(again)))} == {c.tobytes() for c in clips}


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_own_clips_take_the_form_of_the_dataset(tmp_path: Path, fit: str) -> None:
    own, high = noise(0, 6, 16, 28), noise(1, 6, 32, 28)
    for name, clip in (("own", own), ("high", high)):
        put(tmp_path / "source", f"{name}.npz", to_npz(clip, 10))
    options = IngestOptions(spec=WIDE, fit=fit, validation=0)
    assert ingest(tmp_path / "source", tmp_path / "out", options) == Ingested(2, 2, 0, 0)
    fitted, kept = ClipStore(Manifest.load(tmp_path / "out")).frames([0, 1])
    np.testing.assert_array_equal(kept, own)
    if fit == "crop":
        np.testing.assert_array_equal(fitted, high[:, 8:24])
    else:
        assert not fitted[:, :, :7].any() and not fitted[:, :, 21:].any()
        small = np.asarray(Image.fromarray(high[0]).resize((14, 16), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(fitted[0, :, 7:21], small)


@pytest.mark.slow
def test_diffusion_learns_and_makes_them_and_goes_on(tmp_path: Path) -> None:
    data = rendered(tmp_path / "data", TINY.model_copy(update={"spec": ClipSpec(height=16, width=24, frames=6)}))
    store = ClipStore(Manifest.load(data))
    run = new_run(store.manifest, FAMILIES["diffusion"].tiny(), seed=0)
    for steps in (1, 2):
        loop.fit(run, store, loop.TrainConfig(steps=steps, probe_seconds=0), tmp_path / "run", quiet)
    model = load_run(tmp_path / "run")
    assert model.spec.sides == "24x16"
    assert sample_frames(model, ["circle moving left"], [0]).shape == (1, 6, 16, 24, 3)
    with pytest.raises(LabError, match="another size than 24 x 16 px"):
        model.check(Request(("circle moving left",), (0,), size=(24, 16)))


@pytest.mark.parametrize("family", ["gan", "frame_gan"])
def test_families_of_square_frames_say_so(family: str) -> None:
    config = FAMILIES[family].tiny().with_captions(["left"])
    with pytest.raises(LabError, match=rf"^{family} draws square frames .*\(found 28 x 16 px\): make such clips, or"):
        config.build(WIDE, {})
