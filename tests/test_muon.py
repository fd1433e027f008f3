"""Muon's steps: of equal length in every direction; for all else AdamW's."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from t2v_models.families.muon import COEFFICIENTS, STEPS, Muon, orthogonal, shared

BETAS = (0.9, 0.98)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_singular_values_become_about_1_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.dtype == torch.float32
    inside = u.T @ found @ v.T  # diagonal, if directions stay
    kept = s > 0.1 * s.max()
    assert ((inside.diagonal()[kept] > 0.6) & (inside.diagonal()[kept] < 1.3)).all()
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4


def test_autocast_does_not_reach_into_a_step():
    torch.manual_seed(0)
    matrix = torch.randn(16, 144) * torch.logspace(0, -3, 16)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = orthogonal(matrix)
    assert torch.equal(mixed, orthogonal(matrix))


def test_steps_are_those_of_the_iteration_as_it_is_written():
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm()
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    torch.testing.assert_close(orthogonal(matrix), x)
    torch.testing.assert_close(orthogonal(matrix.float()), x.float(), rtol=0, atol=1e-5)


def test_matrices_of_one_shape_are_stepped_together_as_one_by_one():
    matrices = torch.randn(3, 50, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(orthogonal(matrices), torch.stack([orthogonal(matrix) for matrix in matrices]))


def networks() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 24, 3), nn.Linear(5, 3))
    return network, copy.deepcopy(network)


def muon_of(network: nn.Sequential) -> Muon:
    kernel = network[0].weight
    return Muon([kernel], [w for w in network.parameters() if w is not kernel], 0.01, 2e-3, BETAS)


def give(network: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=random)


def test_kernels_step_by_orthogonal_matrices_and_the_rest_by_adamw():
    network, plain = networks()
    optimizer, adam = muon_of(network), AdamW(plain.parameters(), 2e-3, BETAS, weight_decay=0.0)
    for seed in range(3):
        before = network[0].weight.detach().clone()
        give(network, seed)
        give(plain, seed)
        optimizer.step()
        adam.step()
        step = (before - network[0].weight.detach()).flatten(1)  # 24 x 36
        values = torch.linalg.svdvals(step)
        assert values.max() < 0.013
        assert values.median() > 0.006
    for own, other in list(zip(network.parameters(), plain.parameters(), strict=True))[1:]:
        torch.testing.assert_close(own, other)


def test_gradients_may_lie_otherwise_in_memory_than_weights():
    network, plain = networks()
    adam = AdamW(plain.parameters(), 2e-3, BETAS, weight_decay=0.0)
    optimizer = Muon([], list(network.parameters()), 0.01, 2e-3, BETAS)
    for one, stepped in ((network, optimizer), (plain, adam)):
        give(one, 0)
        one[0].weight.grad = one[0].weight.grad.contiguous(memory_format=torch.channels_last)
        stepped.step()
    torch.testing.assert_close(network[0].weight, plain[0].weight)


def test_a_tall_matrix_steps_farther():
    tall, wide = nn.Parameter(torch.zeros(64, 16)), nn.Parameter(torch.zeros(16, 64))
    optimizer = Muon([tall, wide], [], 0.01, 2e-3, BETAS)
    tall.grad = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    wide.grad = tall.grad.T.contiguous()
    optimizer.step()
    torch.testing.assert_close(tall, 2 * wide.T, rtol=0.02, atol=1e-4)


def test_works_are_shared_about_evenly():
    assert shared([5, 9, 3, 8], 1) == [0, 0, 0, 0]
    assert shared([5, 9, 3, 8], 2) == [1, 0, 0, 1]
    assert shared([7], 3) == [0]


def test_steps_go_on_from_a_saved_state():
    network, other = networks()
    whole = muon_of(network)
    give(network, 0)
    whole.step()
    saved = copy.deepcopy(whole.state_dict())
    other.load_state_dict(network.state_dict())
    resumed = muon_of(other)
    resumed.load_state_dict(saved)
    for net, optimizer in ((network, whole), (other, resumed)):
        give(net, 1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
