"""Networks that know time: any length, pictures, frames that stand alone, words in order, and what each depends on."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from t2v_models.families.diffusion.attention import Attention, ToText
from t2v_models.families.diffusion.factorised import Factorised
from t2v_models.families.diffusion.folded import Folded, Shape
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.families.diffusion.standardise import Standardise, resampled
from t2v_models.families.diffusion.transformer import Transformer
from t2v_models.families.diffusion.unet import Recipe, normalise
from t2v_models.text.encoder import Text
from tests.lights import batch, fresh, lighter_right

SHAPE: Shape = (2, 5, 16, 24)
WORDS = 7
LEVEL = torch.tensor([0.3, -0.4])
Make = Callable[..., nn.Module]


def lively(network: nn.Module) -> nn.Module:
    """With last layers that say something, as after some training."""
    for name, weight in network.named_parameters():
        if name.endswith("leave.weight"):
            nn.init.normal_(weight, std=0.1)
    return network


def folded(shape: Shape = SHAPE, given: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return lively(Folded(shape, WORDS, 2, (8, 12), Recipe(1, 16), given, looks=True))


def factorised(shape: Shape = SHAPE, given: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return lively(Factorised(shape, WORDS, 2, (8, 12), Recipe(1, 16), given))


def transformer(shape: Shape = SHAPE, given: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return lively(Transformer(shape, WORDS, 4, 16, 2, 16, given))


each = pytest.mark.parametrize("make", [folded, factorised, transformer])
timed = pytest.mark.parametrize("make", [factorised, transformer])


def text(*rows: list[int], length: int = 4) -> Text:
    """Unit vectors of these words, padded."""
    embeddings, mask = torch.zeros(len(rows), length, WORDS), torch.zeros(len(rows), length, dtype=torch.bool)
    for row, said in enumerate(rows):
        for place, word in enumerate(said):
            embeddings[row, place, word] = 1
            mask[row, place] = True
    return Text(embeddings, mask)


def clips(frames: int = SHAPE[1], size: tuple[int, int] = SHAPE[2:]) -> Tensor:
    return torch.randn(2, SHAPE[0], frames, *size, generator=torch.Generator().manual_seed(0))


TEXT = text([1, 2], [3])


def frame_by_frame(network: nn.Module, x: Tensor, alone: Tensor | None) -> Tensor:
    """How much each frame of an answer depends on each of the clip, `(b, t of the answer, t)`."""
    x = x.requires_grad_()
    answer = network(x, LEVEL, TEXT, None, alone)
    rows = []
    for frame in range(x.shape[2]):
        (gradient,) = torch.autograd.grad(answer[:, :, frame].square().sum(), x, retain_graph=True)
        rows.append(gradient.abs().amax((1, 3, 4)))
    return torch.stack(rows, 1)


@each
def test_every_frame_of_the_answer_sees_every_frame_of_the_clip(make: Make) -> None:
    x = clips()
    assert make()(x, LEVEL, TEXT).shape == x.shape
    assert (frame_by_frame(make(), x, None) > 0).all()


@timed
def test_between_frames_that_stand_alone_there_is_no_gradient_at_all(make: Make) -> None:
    """Stem included; the other clip of the batch is as it was."""
    gradients = frame_by_frame(make(), clips(), torch.tensor([True, False]))
    between = ~torch.eye(SHAPE[1], dtype=torch.bool)
    assert not gradients[0][between].any()
    assert (gradients[0].diagonal() > 0).all()
    assert (gradients[1] > 0).all()
    beside = make()(clips(), LEVEL, TEXT, None, torch.tensor([True, False]))
    torch.testing.assert_close(beside[1], make()(clips(), LEVEL, TEXT)[1])


@timed
def test_frames_that_stand_alone_are_pictures(make: Make) -> None:
    """What a network says of them is what it says of clips of one frame."""
    network, x = make(), clips()
    alone = network(x, LEVEL, TEXT, None, torch.tensor([True, True]))
    for frame in range(SHAPE[1]):
        picture = network(x[:, :, frame : frame + 1], LEVEL, TEXT)
        torch.testing.assert_close(alone[:, :, frame : frame + 1], picture, rtol=1e-4, atol=1e-5)


@timed
def test_clips_of_any_length_and_no_other_matter(make: Make) -> None:
    network = make()
    for frames in (1, 2, 9):
        assert network(clips(frames), LEVEL, TEXT).shape[2] == frames


@timed
def test_it_knows_which_frame_comes_first(make: Make) -> None:
    network, x = make(), clips()
    backwards = network(x.flip(2), LEVEL, TEXT).flip(2)
    assert (backwards - network(x, LEVEL, TEXT)).abs().max() > 1e-3


@each
def test_what_is_said_matters_padding_does_not(make: Make) -> None:
    network, x = make(), clips()
    said = network(x, LEVEL, TEXT)
    for other in (text([1, 4], [3]), text([], [3])):
        found = network(x, LEVEL, other)
        assert (found[0] - said[0]).abs().max() > 1e-3
        torch.testing.assert_close(found[1], said[1])
    torch.testing.assert_close(network(x, LEVEL, text([1, 2], [3], length=9)), said)


@each
def test_tokens_say_more_than_their_sum(make: Make) -> None:
    """Two texts whose tokens have the same sum and number: only one who looks at each can tell them apart."""
    network, x = make(), clips()
    one = Text(torch.eye(WORDS)[[1, 2]].expand(2, -1, -1), torch.ones(2, 2, dtype=torch.bool))
    mean = one.embeddings.mean(1, keepdim=True).expand(-1, 2, -1)
    alike = Text(mean, one.mask)
    torch.testing.assert_close(network.condition(LEVEL, one), network.condition(LEVEL, alike))
    assert (network(x, LEVEL, one) - network(x, LEVEL, alike)).abs().max() > 1e-5


@pytest.mark.parametrize("attends", [False, True])
def test_places_far_apart_see_each_other_by_attention_alone(attends: bool) -> None:
    """One resolution with one block: four cells of two pixels are all that convolutions reach."""
    torch.manual_seed(0)
    network = lively(Folded(SHAPE, WORDS, 2, (8,), Recipe(1, 16, attends)))
    x, corner = clips(), torch.zeros(2, *SHAPE)
    corner[..., 0, 0] = 1
    moved = network(x + corner, LEVEL, TEXT) - network(x, LEVEL, TEXT)
    assert moved[..., 0, 0].abs().max() > 1e-3
    assert bool(moved[..., -1, -1].abs().max() > 1e-6) == attends


def test_a_picture_is_brought_to_variance_1_as_a_whole_or_place_by_place() -> None:
    h = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 9, 20).view(4, 5) + 3
    for norm, over in (("picture", (1, 2, 3)), ("place", (1,))):
        found = normalise(h, norm)
        torch.testing.assert_close(found.mean(over), torch.zeros_like(found.mean(over)), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.square().mean(over), torch.ones_like(found.mean(over)), atol=1e-4, rtol=0)
    weak, strong = normalise(h, "picture").square().mean((0, 1)).flatten()[[0, -1]]
    assert weak < strong / 4


@each
def test_a_vector_is_a_text_of_one_token(make: Make) -> None:
    network, x = make(), clips()
    vectors = torch.randn(2, WORDS, generator=torch.Generator().manual_seed(1))
    there = torch.ones(2, 1, dtype=torch.bool)
    said = network(x, LEVEL, Text(vectors[:, None], there))
    assert (network(x, LEVEL, Text(-vectors[:, None], there)) - said).abs().max() > 1e-3


@each
def test_known_frames_are_seen_by_all_others(make: Make) -> None:
    network, x = make(given=True), clips()
    given = torch.zeros(2, SHAPE[0] + 1, *SHAPE[1:])
    nothing = network(x, LEVEL, TEXT)
    torch.testing.assert_close(network(x, LEVEL, TEXT, given), nothing)
    given[:1, :, 1] = 1
    found = network(x, LEVEL, TEXT, given)
    assert ((found - nothing)[0].abs().amax((0, 2, 3)) > 0).all()
    assert torch.equal(found[1], nothing[1])


@each
def test_sizes_that_cells_do_not_divide_are_edged_by_their_last_row_and_column(make: Make) -> None:
    """So the answer is that of the larger clip, as far as the clip goes."""
    odd = torch.randn(1, 2, 5, 18, 23)
    edged = F.pad(odd, (0, 1, 0, 2, 0, 0), mode="replicate")
    network = make((2, 5, 18, 23))
    answer = network(odd, LEVEL[:1], text([1, 2]))
    assert answer.shape == odd.shape
    torch.testing.assert_close(answer, network(edged, LEVEL[:1], text([1, 2]))[..., :18, :23])


@each
def test_a_fresh_network_says_almost_nothing_and_all_of_it_learns(make: Make) -> None:
    network = {folded: Folded, factorised: Factorised, transformer: Transformer}[make]
    args = (4, 16, 2, 16) if network is Transformer else (2, (8, 12), Recipe(1, 16))
    fresh_one = network(SHAPE, WORDS, *args)
    answer = fresh_one(clips(), LEVEL, text([1, 2], []))
    assert 0 < answer.std() < 0.1
    answer.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in fresh_one.parameters())


@each
def test_muon_gets_what_lies_between_its_own_maps_and_tokens(make: Make) -> None:
    network = make()
    hidden = {id(weight) for weight in network.hidden}
    names = {name for name, weight in network.named_parameters() if id(weight) in hidden}
    assert names and all(name.endswith("weight") for name in names)
    assert not [name for name in names if "to_text" in name or "condition" in name or "layout" in name]
    assert any("attention" in name for name in names) == (make is not folded)


def test_a_text_that_is_there_in_part_counts_in_part() -> None:
    torch.manual_seed(0)
    look, h = ToText(16, WORDS), torch.randn(1, 3, 16)
    said, half, none = (look(h, Text(torch.eye(WORDS)[None, :1], torch.tensor([[share]]))) for share in (1.0, 0.5, 0.0))
    silent = look(h, Text(torch.zeros(1, 0, WORDS), torch.zeros(1, 0, dtype=torch.bool)))
    torch.testing.assert_close(none, silent)
    assert ((half - none).abs() < (said - none).abs()).all()


def test_attention_of_equal_tokens_is_their_mean() -> None:
    torch.manual_seed(0)
    attention, tokens = Attention(64, 8), torch.randn(1, 1, 8).expand(1, 5, 8)
    one = attention(torch.randn(1, 3, 64), tokens)
    torch.testing.assert_close(one, one[:, :1].expand(-1, 3, -1))


def test_frequencies_of_another_length_have_the_gains_of_their_neighbours() -> None:
    gains = torch.tensor([1.0, 2.0, 3.0, 5.0])
    assert torch.equal(resampled(gains, 4), gains)
    assert resampled(gains, 1).tolist() == [1]
    assert resampled(gains, 2).tolist() == [1, 3]  # half a wave in two frames is a whole one in four
    torch.testing.assert_close(resampled(gains, 8), torch.tensor([1, 1.5, 2, 2.5, 3, 4, 5, 5]))


def test_clips_of_another_length_come_back_and_still_ones_are_scaled_alike() -> None:
    torch.manual_seed(0)
    standardise = Standardise(6, 4, 4, balance=0.5)
    standardise.measure(torch.randn(20, 3, 1, 4, 4) + 0.3 * torch.randn(20, 3, 6, 4, 4))
    for frames in (1, 3, 11):
        video = torch.randn(2, 3, frames, 4, 4)
        torch.testing.assert_close(standardise.back(standardise(video)), video, rtol=1e-4, atol=1e-5)
        still = video[:, :, :1].expand(-1, -1, frames, -1, -1)
        torch.testing.assert_close(standardise(still), standardise.pictures(still), rtol=1e-4, atol=1e-5)


TIMED = {"factorised": {"widths": (16, 24)}, "transformer": {"widths": (32,), "blocks": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("network", TIMED)
def test_it_learns_to_obey_from_pictures_first_and_then_from_clips(network: str) -> None:
    model = fresh(network=network, images=0.3, images_first=0.3, alone=0.2, given=0.2, **TIMED[network])
    for step in range(60):
        model.training_step(batch(step), step, step / 60)
    assert (lighter_right(model, "light right") > 0.1).float().mean() > 0.9
    assert (lighter_right(model, "light left") < -0.1).float().mean() > 0.9


@pytest.mark.parametrize("network", TIMED)
def test_a_step_in_mixed_precision_is_near_the_exact_one(network: str) -> None:
    settings = TIMED[network] | {"network": network, "alone": 0.5, "given": 0.5}
    exact = fresh(**settings).training_step(batch(0), 0, 0.0)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        mixed = fresh(**settings).training_step(batch(0), 0, 0.0)
    for name, value in exact.items():
        torch.testing.assert_close(mixed[name].float(), value, rtol=0.05, atol=0.05, msg=name)


@pytest.mark.parametrize("network", TIMED)
def test_an_update_does_not_depend_on_how_a_batch_is_cut(network: str) -> None:
    settings = TIMED[network] | {"network": network, "alone": 0.5, "given": 0.5, "images": 0.5}
    for step in (0, 1):  # of clips, and of pictures
        losses = [fresh(accumulate=cuts, **settings).training_step(batch(0), step, 0.5) for cuts in (1, 3)]
        for name, value in losses[0].items():
            torch.testing.assert_close(losses[1][name], value, rtol=1e-4, atol=1e-5)


def test_pictures_are_learnt_at_the_share_that_was_asked_for_and_alone_at_first() -> None:
    model = fresh(network="factorised", images=0.3, images_first=0.25)
    lengths: list[int] = []
    model.denoiser.network.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[2]))
    for step in range(24):
        model.training_step(batch(0, clips=2), step, step / 24)
    assert lengths[:6] == [1] * 6
    assert lengths[6:].count(1) == 6
    assert set(lengths) == {1, 4}


@pytest.mark.parametrize("setting", ["images", "images_first", "alone"])
def test_frames_by_themselves_are_not_for_time_in_channels(setting: str) -> None:
    with pytest.raises(ValidationError, match="use network factorised or transformer"):
        DiffusionConfig.model_validate({setting: 0.5, "network": "folded"})
    assert DiffusionConfig.model_validate({setting: 0.5, "network": "transformer"})
