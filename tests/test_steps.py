"""Steps no longer than they should be, and otherwise those of the optimiser."""

import copy

import torch
from torch import nn
from torch.optim import Adam

from t2v_models.steps import bounded_step

LR = 1e-2


def network_and_optimizer() -> tuple[nn.Linear, Adam]:
    torch.manual_seed(0)
    network = nn.Linear(30, 20)
    return network, Adam(network.parameters(), LR, (0.0, 0.99))


def give_gradients(network: nn.Module, scale: float) -> None:
    for parameter in network.parameters():
        parameter.grad = scale * torch.randn_like(parameter)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_a_step_of_usual_length_is_the_optimiser_s() -> None:
    network, optimizer = network_and_optimizer()
    plain = copy.deepcopy(network)
    other = Adam(plain.parameters(), LR, (0.0, 0.99))
    for scale in (1.0, 0.5, 0.2):
        give_gradients(network, scale)
        for parameter, same in zip(plain.parameters(), network.parameters(), strict=True):
            parameter.grad = same.grad
        bounded_step(optimizer)
        other.step()
        torch.testing.assert_close(weights(network), weights(plain), rtol=0, atol=1e-7)  # the first has LR exactly


def test_where_gradients_rise_suddenly_a_step_keeps_its_direction_and_its_length() -> None:
    network, optimizer = network_and_optimizer()
    for _ in range(300):
        give_gradients(network, 1.0)
        bounded_step(optimizer)
    plain, state = copy.deepcopy(network), copy.deepcopy(optimizer.state_dict())
    other = Adam(plain.parameters(), LR, (0.0, 0.99))
    other.load_state_dict(state)
    give_gradients(network, 1000.0)
    for parameter, same in zip(plain.parameters(), network.parameters(), strict=True):
        parameter.grad = same.grad
    before = weights(network)
    bounded_step(optimizer)
    other.step()
    step, unbounded = weights(network) - before, weights(plain) - before
    assert unbounded.square().mean().sqrt() > 5 * LR
    torch.testing.assert_close(step.square().mean().sqrt(), torch.tensor(LR))
    torch.testing.assert_close(step / step.norm(), unbounded / unbounded.norm(), rtol=0, atol=1e-4)


def test_without_gradients_or_at_a_rate_of_0_weights_stay() -> None:
    network, optimizer = network_and_optimizer()
    before = weights(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    bounded_step(optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    give_gradients(network, 1.0)
    bounded_step(optimizer)
    assert torch.equal(weights(network), before)
