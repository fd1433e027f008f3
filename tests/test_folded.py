"""The folded network: what it takes, what it depends on, and what it refuses."""

import torch

from t2v_models.families.diffusion.folded import Folded
from t2v_models.families.diffusion.unet import Recipe
from t2v_models.text.encoder import Text

SHAPE = (3, 5, 16, 24)


def network(shape: tuple[int, int, int, int] = SHAPE, patch: int = 2) -> Folded:
    torch.manual_seed(0)
    made = Folded(shape, text=7, patch=patch, widths=(8, 12), recipe=Recipe(1, 16))
    torch.nn.init.normal_(made.leave.weight, std=0.1)  # at the start it says almost nothing
    return made


def text(*rows: list[int]) -> Text:
    """Unit vectors of these words, padded."""
    length = max(map(len, rows))
    embeddings, mask = torch.zeros(len(rows), length, 7), torch.zeros(len(rows), length, dtype=torch.bool)
    for row, said in enumerate(rows):
        for place, word in enumerate(said):
            embeddings[row, place, word] = 1
            mask[row, place] = True
    return Text(embeddings, mask)


def clips(count: int = 1) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


LEVEL = torch.tensor([0.3])


def test_a_fresh_network_says_almost_nothing():
    fresh = Folded(SHAPE, text=7, patch=2, widths=(8, 12), recipe=Recipe(1, 16))
    assert 0 < fresh(clips(), LEVEL, text([1])).std() < 0.02


def test_every_frame_of_the_answer_sees_every_frame_of_the_clip():
    x = clips().requires_grad_()
    answer = network()(x, LEVEL, text([1, 2]))
    assert answer.shape == x.shape
    for frame in range(SHAPE[1]):
        (gradient,) = torch.autograd.grad(answer[:, :, frame].sum(), x, retain_graph=True)
        assert (gradient.abs().amax((0, 1, 3, 4)) > 0).all()


def test_level_words_and_their_absence_matter_and_padding_and_order_do_not():
    net, x = network(), clips()
    said = net(x, LEVEL, text([1, 2]))
    others = [net(x, LEVEL + 0.1, text([1, 2])), net(x, LEVEL, text([1, 3])), net(x, LEVEL, text([]))]
    for other in others:
        assert not torch.allclose(said, other, atol=1e-4)
    torch.testing.assert_close(net(x, LEVEL, text([2, 1])), said)
    both = net(clips(2), LEVEL.expand(2), text([1, 2], [4, 5, 6, 1]))
    torch.testing.assert_close(both[:1], net(clips(2)[:1], LEVEL, text([1, 2])), rtol=1e-4, atol=1e-5)


def test_no_text_has_a_vector_of_its_own_that_only_it_teaches():
    net = network()
    for said, learns in (([1, 2], False), ([], True)):
        (gradient,) = torch.autograd.grad(net(clips(), LEVEL, text(said)).square().sum(), net.condition.nothing)
        assert bool(gradient.any()) == learns


def test_the_condition_says_where():
    """A network that sees the same everywhere still answers differently here and there."""
    answer = network()(torch.zeros(1, *SHAPE), LEVEL, text([1]))
    inner = answer[0, :, :, 6:10]  # away from the edges, which padding tells apart
    assert inner.flatten(0, 1).std((1, 2)).mean() > 1e-3


def test_muon_gets_the_kernels_between_feature_maps():
    hidden = network().hidden
    assert len(hidden) == 2 * 3 + 2  # two convolutions in each of three blocks; a way down and a way up
    assert all(weight.ndim == 4 for weight in hidden)
