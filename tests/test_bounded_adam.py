"""Steps no longer than they should be, and otherwise those of Adam."""

import copy

import torch
from torch import nn
from torch.optim import Adam

from t2v_models.families.gan.bounded_adam import BoundedAdam

LR, BETAS = 1e-2, (0.0, 0.99)


def network_and_optimizer() -> tuple[nn.Linear, BoundedAdam]:
    torch.manual_seed(0)
    network = nn.Linear(30, 20)
    return network, BoundedAdam(network.parameters(), LR, BETAS)


def give_gradients(network: nn.Module, scale: float) -> None:
    for parameter in network.parameters():
        parameter.grad = scale * torch.randn_like(parameter)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def both_steps(network: nn.Module, optimizer: BoundedAdam, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The step by gradients of this scale, and that of Adam from the same state."""
    plain, before = copy.deepcopy(network), weights(network)
    adam = Adam(plain.parameters(), LR, BETAS)
    adam.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    give_gradients(network, scale)
    for parameter, same in zip(plain.parameters(), network.parameters(), strict=True):
        parameter.grad = same.grad
    optimizer.step()
    adam.step()
    return weights(network) - before, weights(plain) - before


def test_a_step_of_usual_length_is_adam_s() -> None:
    network, optimizer = network_and_optimizer()
    for scale in (1.0, 0.5, 0.2):
        step, adam = both_steps(network, optimizer, scale)
        assert torch.equal(step, adam)
        assert step.square().mean().sqrt() < 1.001 * LR


def test_where_gradients_rise_suddenly_a_step_keeps_its_direction_and_its_length() -> None:
    network, optimizer = network_and_optimizer()
    for _ in range(300):
        give_gradients(network, 1.0)
        optimizer.step()
    step, adam = both_steps(network, optimizer, 1000.0)
    assert adam.square().mean().sqrt() > 5 * LR
    torch.testing.assert_close(step.square().mean().sqrt(), torch.tensor(LR), rtol=1e-3, atol=0)
    torch.testing.assert_close(step / step.norm(), adam / adam.norm(), rtol=0, atol=1e-4)
    assert optimizer.param_groups[0]["lr"] == LR


def test_a_weight_without_gradients_stays_and_spoils_no_other() -> None:
    network, optimizer = network_and_optimizer()
    for _ in range(2):
        give_gradients(network, 1.0)
        assert network.weight.grad is not None
        network.weight.grad[0] = 0
        before = network.weight.detach().clone()
        optimizer.step()
        assert torch.equal(network.weight[0], before[0])
        assert not torch.equal(network.weight[1], before[1])
    assert torch.isfinite(weights(network)).all()
