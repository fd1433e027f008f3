"""Guidance away from what the averaged weights of early in the training make: `weaker` of `diffusion`."""

from functools import cache

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from t2v_models.families.diffusion.guidance import Guidance, by_two
from t2v_models.families.diffusion.model import Diffusion, DiffusionConfig
from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.samplers import Denoise, heun
from t2v_models.families.ema import Average
from t2v_models.sampler import Request
from tests.lights import CAPTIONS, SPEC, batch, fresh, lighter_right

STEPS, SHARE = 24, 0.25
FIRST = batch(700, 2).frames[:, :1].numpy()


def of_gaussian(mean: float) -> Denoise:
    """The best denoiser of N(mean, 1)."""
    return lambda x, sigma: mean + (x - mean) / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize(("scale", "mean"), [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0)])
def test_it_leads_from_what_the_weaker_one_makes_as_far_as_the_scale_says(scale: float, mean: float) -> None:
    """Two Gaussians of one deviation: the flow is that of N(weaker + scale (strong - weaker), 1)."""
    strong, weaker = of_gaussian(2.0), of_gaussian(1.0)
    noise = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    guided = Guidance(scale)(strong, by_two(strong, weaker))
    clips = heun(guided, 500 * noise, NoiseLevels(low=0.01, high=500).falling(60), lambda: noise)
    assert clips.mean() == pytest.approx(mean, abs=0.1)
    assert clips.std() == pytest.approx(1, abs=0.05)


def learning(model: Diffusion, steps: range) -> Diffusion:
    """The same model after these of `STEPS` updates."""
    for step in steps:
        model.training_step(batch(step), step, step / STEPS)
    return model


def learnt(**changes: object) -> Diffusion:
    """After all of them; `at` has the averaged weights when the share was reached."""
    reached = int(SHARE * STEPS) + 1
    model = learning(fresh(weaker=SHARE, **changes), range(reached))
    at = [weight.clone() for weight in model.average.parameters()]
    learning(model, range(reached, STEPS))
    assert model.weaker
    for found, then, last in zip(model.weaker.parameters(), at, model.average.parameters(), strict=True):
        assert torch.equal(found, then) and not torch.equal(found, last)
    return model


@cache
def trained() -> Diffusion:
    return learnt()


def of_equals(like: Diffusion, average: Average) -> Diffusion:
    """The same model with nothing weaker, its clips denoised by other averaged weights."""
    model = fresh(**{name: getattr(like.config, name) for name in ("network", "given")})
    own = {name: tensor for name, tensor in like.state_dict().items() if not name.startswith("weaker")}
    model.load_state_dict(own | {f"average.0.{name}": tensor for name, tensor in average[0].state_dict().items()})
    return model


def test_weights_are_kept_as_they_were_at_that_share_of_the_run() -> None:
    trained()


@pytest.mark.parametrize("wishes", [{}, {"avoid": "light"}])
def test_it_changes_nothing_where_the_weaker_weights_are_the_same(wishes: dict[str, str]) -> None:
    model = learning(fresh(weaker=SHARE), range(2))
    request = Request(CAPTIONS, (3, 4), guidance=2.5, **wishes)
    torch.testing.assert_close(model.make(request), of_equals(model, model.average).make(request))


def test_guidance_0_is_the_clip_without_text_of_then_and_1_the_clip_with_text_of_now() -> None:
    model = trained()
    assert model.weaker
    then, now = of_equals(model, model.weaker), of_equals(model, model.average)
    for guidance, equal, other in ((0.0, then, now), (1.0, now, then)):
        found = lighter_right(model, "light right", guidance)
        torch.testing.assert_close(found, lighter_right(equal, "light right", guidance))
        assert not torch.allclose(found, lighter_right(other, "light right", guidance))


def test_what_to_avoid_is_made_by_the_weaker_weights() -> None:
    model = trained()
    assert model.weaker
    found = lighter_right(model, "light right", 0.0, avoid="light left")
    torch.testing.assert_close(found, lighter_right(of_equals(model, model.weaker), "light left", 1.0))


@pytest.mark.parametrize("given", [0.0, 0.5])
def test_known_frames_are_known_to_both(given: float) -> None:
    model = learnt(network="factorised", given=given)
    request = Request(CAPTIONS, (3, 4), guidance=2.5, known_frames=FIRST)
    found, plain = (made.make(request) for made in (model, of_equals(model, model.average)))
    assert not torch.allclose(found, plain)
    assert torch.equal(found[:, :, 0], plain[:, :, 0])


def test_clips_of_any_length_are_guided_so() -> None:
    model = learnt(network="factorised")
    request = Request(CAPTIONS, (3, 4), guidance=2.5, frames=7)
    assert model.make(request).shape == (2, 3, 7, SPEC.size, SPEC.size)


def passes(model: Diffusion, request: Request) -> Tensor:
    """Rows that each of the averaged networks was asked for."""
    rows = torch.zeros(2)
    assert model.weaker

    def count(number: int) -> RemovableHandle:
        def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows[number] += len(args[0])

        return (model.average, model.weaker)[number][0].register_forward_pre_hook(note)

    hooks = count(0), count(1)
    model.make(request)
    for hook in hooks:
        hook.remove()
    return rows


def test_it_costs_what_guidance_costs() -> None:
    assert passes(trained(), Request(CAPTIONS, (3, 4), guidance=2.5, steps=5)).tolist() == [10, 10]
    assert passes(trained(), Request(CAPTIONS, (3, 4), guidance=1.0, steps=5)).tolist() == [10, 0]


def test_a_run_that_goes_on_keeps_what_was_kept() -> None:
    """Stopped behind the share, and before it."""
    whole = trained()
    for stop in (int(SHARE * STEPS) - 2, int(SHARE * STEPS) + 2):
        first = learning(fresh(weaker=SHARE), range(stop))
        later = fresh(weaker=SHARE)
        later.load_state_dict(first.state_dict())
        for name, optimizer in first.optimizers.items():
            later.optimizers[name].load_state_dict(optimizer.state_dict())
        learning(later, range(stop, STEPS))
        for name, tensor in later.state_dict().items():
            assert torch.equal(tensor, whole.state_dict()[name]), name


def test_what_was_kept_before_clips_were_learnt_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"weaker 0.1 is before any clip is learnt.*0.3.*use more"):
        DiffusionConfig(network="factorised", images_first=0.3, weaker=0.1)


def test_runs_without_it_are_read_and_written_as_before() -> None:
    assert "weaker" not in DiffusionConfig().model_dump()
    assert not any(name.startswith("weaker") for name in fresh().state_dict())
