"""The family `diffusion`: what it measures, learns, obeys and refuses. What all families promise is in the contract."""

from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.model import Diffusion, DiffusionConfig
from t2v_models.families.diffusion.parts import stratified
from t2v_models.families.diffusion.samplers import SamplerName
from t2v_models.families.diffusion.upsampler import reduction
from t2v_models.generate import dissolve
from t2v_models.sampler import Request
from tests.lights import CAPTIONS, SPEC, batch, fresh, lighter_right

STEPS = 120


@cache
def trained() -> Diffusion:
    model = fresh()
    for step in range(STEPS):
        model.training_step(batch(step), step, step / STEPS)
    return model


def test_it_learns_to_obey():
    right, left = lighter_right(trained(), "light right"), lighter_right(trained(), "light left")
    assert (right > 0.1).all() and (left < -0.1).all()
    assert right.mean() == pytest.approx(80 / 255, abs=0.08)


def test_guidance_goes_further_and_the_clip_without_text_lies_between():
    strong, plain, none = (lighter_right(trained(), "light right", guidance).mean() for guidance in (3.0, 1.0, 0.0))
    assert strong > plain > none + 0.05


def test_what_to_avoid_is_the_other_end_of_guidance():
    """Without any of the text it is the clip of what to avoid; away from itself a text stays where it is."""
    right, left = (lighter_right(trained(), prompt) for prompt in ("light right", "light left"))
    torch.testing.assert_close(lighter_right(trained(), "light right", 0.0, avoid="light left"), left)
    torch.testing.assert_close(lighter_right(trained(), "light right", 3.0, avoid="light right"), right)


def test_without_captions_it_learns_clips_of_any_prompt():
    model = fresh(dropout=1.0)
    model.training_step(batch(0), 0, 0.0)
    one, other = (model.make(Request((prompt,), (0,))) for prompt in CAPTIONS[:2])
    assert torch.equal(one, other)
    with pytest.raises(LabError, match=r"trained without captions \(dropout 1\).*use guidance 1"):
        model.check(Request(CAPTIONS[:1], (0,), guidance=2.0))
    with pytest.raises(ValidationError, match="dropout 1 learns clips without captions"):
        DiffusionConfig(dropout=1)


def test_texts_of_unequal_length_are_guided_apart():
    longer, alone = (
        trained().make(Request(("light right",), (0,), guidance=3.0, avoid=avoid))
        for avoid in ("light left left left", "light left")
    )
    assert not torch.allclose(longer, alone)


def test_what_to_avoid_needs_guidance_and_known_words():
    with pytest.raises(LabError, match="guidance 1 is none: ask for more"):
        fresh().check(Request(CAPTIONS[:1], (0,), avoid="light left"))
    with pytest.raises(LabError, match="dark"):
        fresh().check(Request(CAPTIONS[:1], (0,), guidance=3.0, avoid="dark"))


def test_clips_of_another_length_are_made_where_the_network_takes_any():
    prompts, seeds = ("light right",) * 2, (3, 4)
    for network in ("factorised", "transformer"):
        model = fresh(network=network, given=0.5)
        model.training_step(batch(0), 0, 0.0)
        for frames in (1, 3, 9):
            first = batch(500).frames[:2, :2].numpy() if frames > 2 else None
            request = Request(prompts, seeds, frames=frames, known_frames=first)
            model.check(request)
            clips = model.sample(request)
            assert clips.shape == (2, frames, SPEC.size, SPEC.size, 3)
            assert first is None or np.array_equal(clips[:, :2], first)
        assert np.array_equal(
            model.sample(Request(prompts, seeds, frames=SPEC.frames)), model.sample(Request(prompts, seeds))
        )
    with pytest.raises(LabError, match="cannot take another length than 4 frames"):
        fresh().check(Request(prompts, seeds, frames=9))


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"frames": 0}, "a clip of 0 frames was asked for: ask for 1 or more"),
        ({"frames": 10**8}, r"1 clips of 100000000 frames need about \d+ GiB and \d+ GiB of memory are free"),
        ({"guidance": float("nan")}, "guidance is nan: give a number"),
    ],
)
def test_what_nobody_could_make_is_one_sentence(wish, sentence):
    with pytest.raises(LabError, match=sentence):
        fresh(network="factorised").check(Request(CAPTIONS[:1], (0,), **wish))


def test_strong_guidance_saturates_less_with_a_threshold():
    shares = []
    for threshold in (None, 0.9):
        model = fresh(threshold=threshold)
        model.load_state_dict(trained().state_dict())
        video = model.make(Request(("light right",) * 4, (0, 1, 2, 3), guidance=60.0))
        shares.append((video.abs() > 0.99).float().mean())
    assert shares[1] < shares[0] / 2


def test_the_vector_of_no_text_learns_only_where_captions_are_left_out():
    for dropout, learns in ((0.2, True), (0.0, False)):
        model = fresh(dropout=dropout)
        start = model.denoiser.network.condition.nothing.clone()
        model.training_step(batch(0), 0, 0.0)
        assert torch.equal(model.denoiser.network.condition.nothing, start) != learns


def test_guidance_of_a_model_that_knows_no_clip_without_text_is_refused():
    request = Request(CAPTIONS[:1], (0,), guidance=2.0)
    with pytest.raises(LabError, match=r"dropout 0.*guidance 2 has no meaning: use guidance 1"):
        fresh(dropout=0.0).check(request)
    fresh().check(request)
    with pytest.raises(LabError, match="use guidance 1"):
        fresh(dropout=0.0, guidance=1.5).check(Request(CAPTIONS[:1], (0,)))


def test_the_first_batch_is_measured_and_no_other():
    model = fresh()
    model.training_step(batch(0), 0, 0.0)
    mean = model.standardise.mean.clone()
    assert mean.mean() == pytest.approx((100 + 40) / 127.5 - 1, abs=0.03)
    model.training_step(batch(1), 1, 0.1)
    assert torch.equal(model.standardise.mean, mean)


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_every_sampler_makes_the_same_clip_of_a_seed_whoever_is_beside(name):
    changed = fresh(sampler=name, **({"churn": 2.0} if name in ("euler", "heun") else {}))
    changed.load_state_dict(trained().state_dict())
    both = changed.make(Request(CAPTIONS, (3, 4)))
    torch.testing.assert_close(changed.make(Request(CAPTIONS[1:], (4,))), both[1:], rtol=0, atol=1e-4)
    assert (lighter_right(changed, "light right") > 0.1).all()


def test_steps_are_calls_of_the_denoiser():
    model = fresh(sampler="heun")
    asked = []
    model.average[0].register_forward_hook(lambda module, args, answer: asked.append(len(args[0])))
    model.make(Request(CAPTIONS, (0, 1), steps=5))
    assert asked == [2] * 5
    asked.clear()
    model.make(Request(CAPTIONS, (0, 1), steps=5, guidance=2.0))
    assert asked == [4] * 5  # one pass for both


def test_the_way_between_captions_of_unequal_length_begins_and_ends_with_them():
    model = trained()
    prompts = ("light", "light right")
    ends = model.sample(Request(prompts, (3, 8))).astype(int)
    way = model.interpolate(prompts, (3, 8), 4).astype(int)
    assert abs(way[[0, -1]] - ends).max() <= 1
    assert len({clip.tobytes() for clip in way}) == 4


def test_between_two_clips_little_noise_keeps_them_and_much_lets_the_text_decide():
    frames = batch(900).frames.numpy()
    left, right = frames[0], frames[1]
    way = dissolve(trained(), (right, left), 0.2, (CAPTIONS[1], CAPTIONS[0]), 0, 3)
    assert lighter(way)[[0, 2]] == pytest.approx(lighter(np.stack([right, left])), abs=20)
    assert (lighter(dissolve(trained(), (right, left), 60, (CAPTIONS[1],) * 2, 0, 4)) > 20).all()


def lighter(clips: np.ndarray) -> np.ndarray:
    """How much lighter the right half is than the left, of each clip, of 255."""
    return clips[..., 8:, :].mean((1, 2, 3, 4)) - clips[..., :8, :].mean((1, 2, 3, 4))


@pytest.mark.parametrize(
    ("length", "noise", "count", "sentence"),
    [
        (3, 5, 3, "a clip of 3 frames and diffusion makes 4: cut it to that"),
        (4, 0.05, 3, "noise 0.05 dissolves nothing, for the last step is at 0.05: use more"),
        (4, float("nan"), 3, "noise nan dissolves nothing"),
        (4, 5, 1, "a way has two ends"),
    ],
)
def test_no_way_between_clips_is_one_sentence(length: int, noise: float, count: int, sentence: str):
    clip = batch(900).frames.numpy()[0, :length]
    with pytest.raises(LabError, match=sentence):
        dissolve(trained(), (clip, clip), noise, (CAPTIONS[0],) * 2, 0, count)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    with pytest.raises(LabError, match=rf"1 step or more \(found {steps}\)"):
        fresh().check(Request(CAPTIONS[:1], (0,), steps=steps))


def test_churn_is_for_the_samplers_that_have_it():
    assert DiffusionConfig(sampler="heun", churn=4).churn == 4
    with pytest.raises(ValidationError, match="churn is for euler and heun: use 0 with dpm2m"):
        DiffusionConfig(churn=4)


def test_levels_that_are_set_in_part_keep_the_rest():
    levels = DiffusionConfig.model_validate({"training_levels": {"mean": 3}}).training_levels
    assert levels == DiffusionConfig().training_levels.model_copy(update={"mean": 3.0})


def test_places_are_stratified_over_the_batch_however_it_is_cut():
    whole = batch(5)
    places = stratified(whole)
    assert sorted((places * 16).long().tolist()) == list(range(16))
    assert places.tolist() != sorted(places.tolist())
    parts = torch.cat([stratified(part) for part in batch(5).parts(3, 1)])
    assert torch.equal(parts, places)


def test_rates_rise_by_step_and_fall_to_nothing_by_progress():
    model = fresh(warmup_steps=4, decay=0.5)
    found = []
    for step, progress in ((0, 0.0), (3, 0.1), (9, 0.5), (9, 0.75), (9, 1.0)):
        model.before_step(step, progress)
        found.append([group["lr"] for group in model.optimizers["denoiser"].param_groups])
    full = [model.config.muon_lr, model.config.lr]
    expected = [[share * rate for rate in full] for share in (0.25, 1, 1, 0.5, 0)]
    assert [pytest.approx(row) for row in expected] == found


@pytest.mark.parametrize(
    ("height", "width", "base", "factor"),
    [
        (32, 32, 16, 2),
        (64, 64, 16, 4),
        (48, 48, 16, 3),
        (40, 40, 16, 2),
        (16, 16, 32, 1),
        (36, 64, 8, 4),
        (64, 36, 8, 4),
    ],
)
def test_small_clips_are_the_least_that_are_no_smaller_than_asked(height, width, base, factor):
    assert reduction(height, width, base) == factor


def test_frames_of_any_size_are_made():
    """A wide film's 16 : 9, whose small clips have 18 rows, and a size that nothing divides."""
    for spec in (ClipSpec(height=36, width=64, frames=2), ClipSpec(size=17, frames=2)):
        config = DiffusionConfig.tiny().model_copy(update={"base_size": 16, "patch": 2, "given": 0.5})
        for network in ("folded", "factorised", "transformer"):
            model = config.model_copy(update={"network": network}).with_captions(CAPTIONS).build(spec, {})
            assert isinstance(model, Diffusion)
            frames = torch.randint(0, 255, (4, *spec.shape), dtype=torch.uint8)
            model.training_step(Batch(frames, CAPTIONS * 2, seed=0), 0, 0.0)
            assert model.sample(Request(CAPTIONS, (0, 1), known_frames=frames[:2, :1].numpy())).shape == (
                2,
                *spec.shape,
            )


def test_the_network_that_nobody_chose_is_the_cheapest_that_can():
    one, other = ClipSpec(size=32), ClipSpec(size=32, frames=20)
    for config, shapes, chosen in (
        (DiffusionConfig(), [one], "folded"),
        (DiffusionConfig(), [one, other], "factorised"),
        (DiffusionConfig(alone=0.5), [one], "factorised"),
        (DiffusionConfig(network="transformer"), [one], "transformer"),
    ):
        assert config.for_shapes(shapes).network == chosen
    with pytest.raises(LabError, match="frames of 32x35 px cannot be made small 2 times, as those of 32 are"):
        DiffusionConfig().for_shapes([one, ClipSpec(height=35, width=32)])


def test_without_reduction_there_is_no_upsampler():
    model = fresh(base_size=16)
    assert set(model.training_step(batch(0), 0, 0.0)) == {"loss/denoiser", "error"}
    assert model.make(Request(CAPTIONS, (0, 1))).shape == (2, 3, 4, 16, 16)


@cache
def of_every_third() -> Diffusion:
    """Of clips that grow lighter by 20 a frame."""
    model = fresh(every=3, base_size=16)
    for step in range(STEPS):
        model.training_step(brighter(step), step, step / STEPS)
    return model


def brighter(number: int) -> Batch:
    plain = batch(number)
    rise = (20 * torch.arange(SPEC.frames)).view(-1, 1, 1, 1).to(torch.uint8)
    return Batch(plain.frames - 60 + rise, plain.all_captions, seed=number)


def test_frames_between_those_of_the_denoiser_are_drawn_by_the_upsampler():
    model = of_every_third()
    assert model.shape[1] == 2
    light = 127.5 * model.make(Request(CAPTIONS * 8, tuple(range(16)))).mean((0, 1, 3, 4))
    assert light.diff().tolist() == pytest.approx([20, 20, 20], abs=4)
    assert lighter_right(model, "light right").mean() > 0.1 > lighter_right(model, "light left").mean()


def test_frames_that_are_known_come_back_whether_the_denoiser_makes_them_or_not():
    first = brighter(500).frames[:2, :2].numpy()
    clips = of_every_third().sample(Request(CAPTIONS, (0, 1), known_frames=first))
    assert np.array_equal(clips[:, :2], first) and clips.shape[1] == SPEC.frames


def test_steps_that_miss_the_last_frame_are_refused_with_the_nearest_lengths():
    with pytest.raises(LabError, match=r"steps of 2 frames .* of 4 to the last: use 3 or 5 frames"):
        fresh(every=2)
    with pytest.raises(LabError, match="use 4 or 7 frames"):
        fresh(every=3, network="factorised").check(Request(CAPTIONS[:1], (0,), frames=6))
    assert fresh(every=3, network="factorised").sample(Request(CAPTIONS[:1], (0,), frames=7)).shape[1] == 7
    with pytest.raises(ValidationError, match="single frames, which have none between"):
        DiffusionConfig(every=3, images=1, network="factorised")


def test_its_plan_says_what_size_it_denoises_and_why():
    config = DiffusionConfig(base_size=16)
    plan = config.plan(ClipSpec(size=32))
    assert plan.startswith(
        "a network of all frames side by side, the cheapest for clips of one shape, denoises clips of"
    )
    assert "of 16 px and enlarges their frames 2 times" in plan
    assert "20 px" in config.plan(ClipSpec(size=60)) and "3 times" in config.plan(ClipSpec(size=60))
    assert "24 px, their own size" in config.plan(ClipSpec(size=24))
    assert "32x16 px and enlarges their frames 2 times" in config.plan(ClipSpec(height=32, width=64))
