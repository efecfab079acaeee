from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn

from lit_rl.flat import FlatAdam, FlatParameters, Parameters, call_with, clip_factor, descend
from lit_rl.ranks import Ranks


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_flat_steps_equal_ordinary_ones():
    ordinary = network()
    flattened = copy.deepcopy(ordinary)
    flat = FlatParameters(flattened)
    optimizers = [torch.optim.Adam(ordinary.parameters(), 0.1), torch.optim.Adam([flat.tensor], 0.1)]
    for _ in range(3):
        x = torch.randn(8, 3)
        for module, optimizer in zip((ordinary, flattened), optimizers, strict=True):
            optimizer.zero_grad()
            loss = module(x).square().sum()
            if module is ordinary:
                loss.backward()
            else:
                flat.backward(loss)
                flat.tensor.grad = flat.grad
            optimizer.step()
    for a, b in zip(ordinary.parameters(), flattened.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert ordinary.state_dict().keys() == flattened.state_dict().keys()


def test_gradients_that_lightning_set_to_none_are_found_again():
    module = network()
    adam = FlatAdam(module, 0.1)
    before = adam.flat.tensor.detach().clone()
    module.zero_grad(set_to_none=True)  # as Lightning does once
    adam.minimize(module(torch.ones(1, 3)).sum())
    assert adam.flat.grad.norm() > 0
    assert (adam.flat.tensor - before).norm() > 0
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)  # whoever exchanges them
    adam.minimize(module(torch.ones(1, 3)).square().sum())
    expected = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert torch.equal(adam.flat.grad, expected)
    assert not (adam.flat.grad == 1).all()


def test_a_step_without_minimize_is_refused():
    module = network()
    adam = FlatAdam(module, 0.1)
    module(torch.ones(1, 3)).sum().backward()
    message = re.escape("by minimize(loss), not by loss.backward() and step()")
    with pytest.raises(RuntimeError, match=message):
        adam.step()
    adam.minimize(module(torch.ones(1, 3)).sum())
    with pytest.raises(RuntimeError, match=message):
        adam.step()  # not with the gradient of the last one


def test_parameters_that_were_exchanged_are_refused():
    module = network()
    adam = FlatAdam(module, 0.1)
    module.double()
    with pytest.raises(RuntimeError, match="the parameters of Sequential were moved or replaced after"):
        adam.minimize(module(torch.ones(1, 3).double()).sum())


def test_a_function_of_parameters_gives_the_step_of_its_loss():
    torch.manual_seed(3)
    first, x = network(), torch.randn(4, 3)
    second = copy.deepcopy(first)
    ours, theirs = FlatAdam(first, 0.1, max_grad_norm=0.5), FlatAdam(second, 0.1, max_grad_norm=0.5)

    def loss_fn(parameters: Parameters | None, x: Tensor) -> tuple[Tensor, Tensor]:
        loss = call_with(parameters, first, x).square().sum()
        return loss, loss.detach()

    assert ours.minimize_fn(loss_fn, x) == second(x).square().sum()
    theirs.minimize(second(x).square().sum())
    assert torch.equal(ours.flat.tensor, theirs.flat.tensor)
    given = ours.flat.unflatten(torch.zeros_like(ours.flat.grad))
    assert loss_fn(given, x)[0] == 0


def test_blending_is_linear():
    first, second = network(), network()
    ours, theirs = FlatParameters(first), FlatParameters(second)
    expected = 0.75 * ours.tensor.detach() + 0.25 * theirs.tensor.detach()
    ours.blend_(theirs, 0.25)
    torch.testing.assert_close(torch.cat([p.detach().flatten() for p in first.parameters()]), expected)


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_descending_with_an_ordinary_optimizer_is_its_own_step(max_grad_norm: float | None):
    first, x = network(), torch.randn(4, 3)
    second = copy.deepcopy(first)
    ours, theirs = (torch.optim.RMSprop(module.parameters(), 0.1) for module in (first, second))
    for _ in range(2):
        descend(ours, first(x).square().sum(), max_grad_norm, Ranks())
        theirs.zero_grad()
        second(x).square().sum().backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(second.parameters(), max_grad_norm)
        theirs.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_flat_and_module_share_memory():
    module = network()
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    flat = FlatParameters(module)
    assert torch.equal(flat.tensor, before)
    with torch.no_grad():
        flat.tensor += 1
    assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), before + 1)
    module.load_state_dict(network().state_dict())
    assert torch.equal(flat.tensor, torch.cat([p.detach().flatten() for p in module.parameters()]))


def test_unflatten_replaces_parameters_in_a_functional_call():
    module = network()
    flat = FlatParameters(module)
    x = torch.randn(2, 3)
    doubled = torch.func.functional_call(module, flat.unflatten(flat.tensor.detach() * 0), (x,))
    assert (doubled == 0).all()
    torch.testing.assert_close(
        torch.func.functional_call(module, flat.unflatten(flat.tensor.detach()), (x,)), module(x)
    )


def test_frozen_parameters_get_no_gradient_and_pass_it_on():
    module = network()
    flat = FlatParameters(module)
    flat.requires_grad_(False)
    x = torch.randn(2, 3, requires_grad=True)
    flat.backward(module(x).sum())
    assert x.grad is not None
    assert (flat.grad == 0).all()
    flat.requires_grad_(True)
    flat.backward(module(x).sum())
    assert flat.grad.norm() > 0


def test_fixed_networks_pass_gradients_on_get_none_and_are_freed_again():
    trained, critic, target = network(), nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
    adam = FlatAdam(trained, 0.1)
    fixed = FlatParameters(critic), FlatParameters(target, ["weight", "bias"])
    before, seen = adam.flat.tensor.detach().clone(), []

    def loss_fn(
        parameters: Parameters | None, x: Tensor, of_critic: Parameters | None, of_target: Parameters | None
    ) -> tuple[Tensor, int]:
        seen.append((parameters, of_critic, of_target, critic.weight.requires_grad))
        hidden = call_with(parameters, trained, x)
        loss = call_with(of_critic, critic, hidden) + call_with(of_target, target, hidden)
        return loss.sum(), 7

    assert adam.minimize_fn(loss_fn, torch.ones(1, 3), fixed=fixed) == 7
    assert seen == [(None, None, None, False)]
    assert (adam.flat.tensor - before).norm() > 0
    assert critic.weight.grad is None
    assert [flat.is_frozen for flat in fixed] == [False, True]

    def broken(*_: object) -> tuple[Tensor, int]:
        raise ConnectionError("it breaks off")

    with pytest.raises(ConnectionError):
        adam.minimize_fn(broken, fixed=fixed)
    assert [flat.is_frozen for flat in fixed] == [False, True]


def test_parameters_without_gradient_are_left_out():
    module = network()
    module[0].weight.requires_grad_(False)
    assert FlatParameters(module).tensor.numel() == sum(p.numel() for p in module.parameters()) - 12


def test_flat_adam_is_the_fused_adam_of_torch_to_the_bit():
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    twin = torch.nn.Parameter(torch.cat([p.detach().flatten() for p in module.parameters()]))
    ours, theirs = FlatAdam(module, 0.01, 1e-5), torch.optim.Adam([twin], 0.01, eps=1e-5, fused=True)
    flat = ours.flat
    for step in range(6):
        grad = torch.randn_like(twin)
        twin.grad = grad.clone()
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.01 / (step + 1)
        ours.minimize(torch.cat([p.flatten() for p in module.parameters()]) @ grad)  # its gradient is grad
        theirs.step()
        assert torch.equal(flat.tensor, twin)
        if step == 2:  # states are interchangeable
            ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert ours.state_dict()["state"][0].keys() == theirs.state_dict()["state"][0].keys()


@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clipping_equals_that_of_torch(max_norm: float):
    grad = torch.randn(20)
    parameter = nn.Parameter(torch.zeros(20))
    parameter.grad = grad.clone()
    nn.utils.clip_grad_norm_([parameter], max_norm)
    torch.testing.assert_close(grad * clip_factor(grad, max_norm), parameter.grad)


def test_gradients_are_averaged_over_ranks(monkeypatch: pytest.MonkeyPatch):
    summed = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: summed.append(tensor.mul_(4 * 3)))
    module = nn.Linear(2, 1, bias=False)
    adam = FlatAdam(module, 1.0, ranks=Ranks(4))
    adam.minimize(module(torch.ones(1, 2)).sum())
    assert len(summed) == 1
    assert adam.flat.grad.tolist() == [1, 1]  # what is summed is a copy
    assert adam.state[adam.flat.tensor]["exp_avg"].tolist() == pytest.approx([0.3, 0.3])  # 0.1 * 3
    descend(torch.optim.SGD(module.parameters(), 1.0), module(torch.ones(1, 2)).sum(), None, Ranks(4))
    assert len(summed) == 2


@pytest.mark.slow
def test_a_compiled_loss_is_not_taken_for_that_of_another_learner():
    class Scaled:
        """Two learners that differ in one number."""

        def __init__(self, factor: float) -> None:
            self.factor, self.network = factor, nn.Linear(2, 1, bias=False)

        def loss(self, parameters: Parameters | None, x: Tensor) -> tuple[Tensor, Tensor]:
            loss = self.factor * call_with(parameters, self.network, x).sum()
            return loss, loss.detach()

    for factor in (2.0, 3.0):
        learner = Scaled(factor)
        value = learner.network(torch.ones(1, 2)).item()
        adam = FlatAdam(learner.network, 0.1, compile=True)
        assert adam.minimize_fn(learner.loss, torch.ones(1, 2)).item() == pytest.approx(factor * value)
