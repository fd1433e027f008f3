"""Every family of models answers the same questions."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from t2v_models.batch import Batch, to_frames, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.model import FamilyConfig, VideoModel
from t2v_models.sampler import WISHES, Request, RoundTrip
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.render import render
from tests.runs import built
from tests.tiny import drawn_clip

PROMPTS = DatasetConfig().prompts
SPECS = [ClipSpec(size=16, frames=4), ClipSpec(size=32, frames=10), ClipSpec(size=64, frames=4)]
SMALL = SPECS[0]

TINY = [family.tiny() for family in FAMILIES.values()]
each_family = pytest.mark.parametrize("config", TINY, ids=lambda config: config.name)
each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.size}px-{spec.frames}frames")


def fresh(config: FamilyConfig, spec: ClipSpec, seed: int = 0) -> VideoModel:
    torch.manual_seed(seed)
    return built(config, spec, PROMPTS)


ROUND_TRIPS = ("video_tokenizer", "frame_autoencoder", "upsampler")
"""Families that give clips back and make none of prompts."""
each_sampler = pytest.mark.parametrize(
    "config", [config for config in TINY if config.name not in ROUND_TRIPS], ids=lambda config: config.name
)


def video_of(model: VideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
    """What `sample` makes bytes of."""
    return model.make(Request(tuple(prompts), tuple(seeds)))


def batch_of(spec: ClipSpec, prompts: int = 4, group: int = 3) -> Batch:
    """Rendered clips: `group` of each of the first `prompts` prompts, standing together."""
    data = DatasetConfig(spec=spec)
    drawn = [drawn_clip(data, p + len(PROMPTS) * i) for p in range(prompts) for i in range(group)]
    return Batch(torch.from_numpy(np.stack([render(motion, spec) for _, motion in drawn])), tuple(c for c, _ in drawn))


def step(model: VideoModel, batch: Batch, number: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(number)
    return model.training_step(batch, number, progress=number / 10)


@each_spec
@each_family
def test_one_step_is_finite_and_changes_every_trained_parameter(config, spec):
    model = fresh(config, spec)
    before = {name: value.clone() for name, value in model.named_parameters()}
    metrics = step(model, batch_of(spec))
    assert metrics
    for name, value in metrics.items():
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value), name
    trained = {id(p) for o in model.optimizers.values() for group in o.param_groups for p in group["params"]}
    for name, value in model.named_parameters():
        assert torch.isfinite(value).all(), name
        if id(value) in trained:
            assert not torch.equal(value, before[name]), f"{name} did not learn"
    assert trained


@each_family
def test_a_step_in_mixed_precision_is_finite_and_near_the_exact_one(config):
    batch = batch_of(SMALL)
    exact = step(fresh(config, SMALL), batch)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        mixed = step(fresh(config, SMALL), batch)
    for name, value in exact.items():
        torch.testing.assert_close(mixed[name].float(), value, rtol=0.05, atol=0.05, msg=name)


@each_family
def test_every_parameter_is_learnt_or_averaged(config):
    model = fresh(config, SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, batch_of(SMALL))
    constant = {"words"}  # the frozen word vectors of frame_gan
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in same if name.split(".")[0] not in model.frozen} <= constant


@each_family
def test_what_an_update_changes_is_learnt_averaged_or_said_to_be_measured(config):
    """A run that begins with another's weights measures the rest of its own data."""
    model = fresh(config, SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, batch_of(SMALL))
    weights = dict(model.named_parameters())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed - set(weights)} <= {*model.measured, "average", "kept", "weaker"}
    assert {name for part in model.measured for name in weights if name.startswith(f"{part}.")} == set()


@each_spec
@each_sampler
def test_sample_has_the_shape_and_range(config, spec):
    video = video_of(fresh(config, spec), PROMPTS[:3], [1, 2, 3])
    assert video.shape == (3, 3, spec.frames, spec.size, spec.size)
    assert video.dtype == torch.float32 and not video.requires_grad
    assert video.abs().max() <= 1
    frames = to_frames(video)
    assert frames.shape == (3, spec.frames, spec.size, spec.size, 3)
    torch.testing.assert_close(to_video(frames), video, rtol=0, atol=1 / 255 + 1e-6)


@each_sampler
def test_sample_repeats_by_seed_and_changes_with_seed_and_prompt(config):
    model = fresh(config, SMALL)
    step(model, batch_of(SMALL))
    first = video_of(model, [PROMPTS[0]] * 3, [5, 5, 6])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    assert torch.equal(first, video_of(model, [PROMPTS[0]] * 3, [5, 5, 6]))
    assert not torch.equal(first[0], video_of(model, [PROMPTS[1]], [5])[0])


@each_sampler
def test_sampling_does_not_touch_the_global_random_state(config):
    model = fresh(config, SMALL)
    before = torch.get_rng_state()
    video_of(model, PROMPTS[:2], [1, 2])
    assert torch.equal(before, torch.get_rng_state())


@each_sampler
def test_a_clip_does_not_depend_on_its_batch_mates(config):
    model = fresh(config, SMALL)
    step(model, batch_of(SMALL))
    together = video_of(model, PROMPTS[:7], range(7))
    for i in (0, 3, 6):
        torch.testing.assert_close(
            video_of(model, [PROMPTS[i]], [i])[0], together[i], rtol=0, atol=2e-4
        )  # edges are steep, and processors round by the size of a batch (5.1e-5 was seen); a byte is 8e-3


@each_sampler
def test_weights_alone_restore_the_samples(config):
    model = fresh(config, SMALL)
    step(model, batch_of(SMALL))
    other = fresh(config, SMALL, seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(video_of(model, PROMPTS[:2], [1, 2]), video_of(other, PROMPTS[:2], [1, 2]))


@each_family
def test_two_steps_equal_one_step_saved_loaded_and_one_more(config):
    batch = batch_of(SMALL)
    whole = fresh(config, SMALL)
    step(whole, batch, 0)
    saved = copy.deepcopy((whole.state_dict(), {n: o.state_dict() for n, o in whole.optimizers.items()}))
    step(whole, batch, 1)
    resumed = fresh(config, SMALL, seed=1)
    resumed.load_state_dict(saved[0])
    for name, optimizer in resumed.optimizers.items():
        optimizer.load_state_dict(saved[1][name])
    step(resumed, batch, 1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@each_family
@pytest.mark.parametrize("group", [1, 2, 5])
def test_any_grouping_of_captions_is_learnt_from(config, group):
    model = fresh(config.model_copy(update={"group": group}), SMALL)
    metrics = step(model, batch_of(SMALL, prompts=3, group=group))
    assert all(torch.isfinite(value) for value in metrics.values())


@each_family
def test_captions_outside_the_grammar_are_learnt_from(config):
    captions = ("a dog runs", "a dog runs", "a cat sleeps")
    torch.manual_seed(0)
    model = built(config.model_copy(update={"group": 1}), SMALL, captions)
    frames = batch_of(SMALL, prompts=3, group=1).frames
    metrics = step(model, Batch(frames, captions))
    assert all(torch.isfinite(value) for value in metrics.values())
    assert isinstance(model, RoundTrip) == (config.name in ROUND_TRIPS)
    if config.name not in ROUND_TRIPS:
        assert video_of(model, ["a cat runs"], [0]).shape == (1, 3, SMALL.frames, SMALL.size, SMALL.size)


@each_sampler
def test_an_unknown_word_is_named(config):
    with pytest.raises(LabError, match="'sideways'"):
        fresh(config, SMALL).check(Request(("circle moving sideways",), (0,)))


@each_family
def test_a_batch_that_cannot_be_cut_into_parts_of_whole_runs_is_one_sentence(config):
    model = fresh(config.model_copy(update={"accumulate": 17}), SMALL)
    with pytest.raises(LabError, match="16 clips is .* runs of .*, too few for 17 parts .ranks times accumulate"):
        step(model, batch_of(SMALL, group=4))


WHITE = np.full((1, 3, SMALL.size, SMALL.size, 3), 255, np.uint8)
WISHED = {
    "frames": 7, "size": (24, 40), "known_frames": WHITE, "places": (1, 2, -1),
    "guidance": 60.0, "steps": 3, "temperature": 50.0, "avoid": "circle moving up", "motion": (1.0, -0.5),
}  # fmt: skip


@each_sampler
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_is_granted_or_refused_in_one_sentence(config, wish):
    model = fresh(config, SMALL)
    request = Request(
        (PROMPTS[0],), (5,), **{wish: WISHED[wish]} | ({"known_frames": WHITE} if wish == "places" else {})
    )
    if not request.wishes <= model.able:
        advice = "(leave --.* out|choose a model that takes them, as .*)"
        with pytest.raises(LabError, match=rf"^{config.name} cannot take .*: {advice}$"):
            model.check(request)
        return
    model.check(request)
    clip = model.sample(request)[0]
    if wish == "frames":
        assert len(clip) == 7
    elif wish == "size":
        assert clip.shape[1:3] == (24, 40)
    elif wish in ("known_frames", "places"):
        assert np.array_equal(clip[list(request.places or (0, 1, 2))], WHITE[0])
    else:
        assert not np.array_equal(clip, model.sample(Request((PROMPTS[0],), (5,)))[0])


@each_sampler
def test_no_clip_is_made_in_no_steps(config):
    with pytest.raises(LabError, match=r"in 1 step or more \(found 0\)|cannot take a number of steps"):
        fresh(config, SMALL).check(Request((PROMPTS[0],), (5,), steps=0))


@each_sampler
def test_its_own_length_and_size_are_no_wishes(config):
    model = fresh(config, SMALL)
    model.check(Request((PROMPTS[0],), (5,), frames=SMALL.frames, size=(SMALL.size, SMALL.size)))


@each_family
def test_what_is_frozen_stays(config):
    model = fresh(config, SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, batch_of(SMALL))
    taught = {id(p) for o in model.optimizers.values() for group in o.param_groups for p in group["params"]}
    for network in model.frozen:
        assert not taught & {id(p) for p in getattr(model, network).parameters()}
        for name, value in getattr(model, network).state_dict().items():
            assert torch.equal(value, before[f"{network}.{name}"])


def test_every_family_says_what_it_is():
    assert all(family.about and family.model_fields["name"].default == name for name, family in FAMILIES.items())
