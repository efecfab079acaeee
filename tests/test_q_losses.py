from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lit_rl.q_losses import (
    clipped_double_q_target,
    critic_loss,
    deterministic_policy_loss,
    smoothed_action,
    soft_policy_loss,
    soft_target,
    temperature_gradient,
)


def test_critic_loss_sums_over_critics():
    q = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    assert critic_loss(q, torch.tensor([0.0, 1.0])).item() == (1 + 4) / 2 + (0 + 1) / 2


def test_soft_target_by_hand():
    next_q = torch.tensor([[1.0, 5.0], [2.0, 4.0]], requires_grad=True)
    target = soft_target(torch.ones(2), torch.tensor([0.9, 0.0]), next_q, torch.tensor([-2.0, 3.0]), 0.5)
    assert_close(target, torch.tensor([1 + 0.9 * (1 + 1), 1.0]))
    assert not target.requires_grad


def test_soft_policy_loss_by_hand():
    q = torch.tensor([[1.0, 5.0], [2.0, 4.0]])
    assert soft_policy_loss(0.5, torch.tensor([2.0, 4.0]), q).item() == ((1 - 1) + (2 - 4)) / 2


def test_soft_policy_loss_over_the_mean_by_hand():
    q = torch.tensor([[1.0, 5.0], [2.0, 4.0]])
    loss = soft_policy_loss(0.5, torch.tensor([2.0, 4.0]), q, "mean")
    assert loss.item() == ((1 - 1.5) + (2 - 4.5)) / 2


def test_soft_target_without_entropy_by_hand():
    next_q = torch.tensor([[1.0], [2.0]])
    target = soft_target(torch.ones(1), torch.tensor([0.9]), next_q, torch.tensor([-2.0]), 0.0)
    assert_close(target, torch.tensor([1 + 0.9 * 1]))


def test_temperature_gradient_is_that_of_the_loss():
    log_alpha = torch.tensor(-0.7, requires_grad=True)
    log_prob = torch.tensor([1.0, -2.0, 4.0])
    (-log_alpha.exp() * (log_prob - 3.0)).mean().backward()
    assert_close(temperature_gradient(log_alpha, log_prob.mean(), -3.0), log_alpha.grad)


def test_temperature_falls_while_entropy_is_above_target():
    assert temperature_gradient(torch.tensor(0.0), torch.tensor(-5.0), target_entropy=2.0) > 0


def test_smoothed_action_by_hand():
    action, noise = torch.tensor([[0.0, 0.1], [0.9, -1.0]]), torch.tensor([[1.0, -9.0], [2.0, -2.0]])
    expected = torch.tensor([[0.2, 0.1 - 0.5], [1.0, -1.0]])  # within the clip, at it, at the bounds
    assert_close(smoothed_action(action, noise, 0.2, 0.5), expected)


def test_clipped_double_q_target_by_hand():
    next_q = torch.tensor([[1.0, 5.0, 3.0], [2.0, 4.0, -3.0]], requires_grad=True)
    target = clipped_double_q_target(torch.ones(3), torch.tensor([0.9, 0.0, 0.5]), next_q)
    assert_close(target, torch.tensor([1 + 0.9 * 1, 1.0, 1 - 0.5 * 3]))
    assert not target.requires_grad


def test_deterministic_policy_loss_asks_the_first_critic_alone():
    q = torch.tensor([[1.0, 5.0], [-7.0, 40.0]], requires_grad=True)
    loss = deterministic_policy_loss(q)
    assert loss.item() == -(1 + 5) / 2
    loss.backward()
    assert_close(q.grad, torch.tensor([[-0.5, -0.5], [0.0, 0.0]]))


def test_q_losses_refuse_to_broadcast():
    with pytest.raises(ValueError, match="target_B has B = 3, but q_CB has B = 4"):
        critic_loss(torch.zeros(2, 4), torch.zeros(3))
    with pytest.raises(ValueError, match="noise_BU has U = 1, but action_BU has U = 2"):
        smoothed_action(torch.zeros(4, 2), torch.zeros(4, 1), 0.2, 0.5)
    with pytest.raises(ValueError, match="reward_B has B = 3, but next_q_CB has B = 4"):
        clipped_double_q_target(torch.zeros(3), torch.zeros(4), torch.zeros(2, 4))


def test_q_losses_compile_into_one_graph():
    def update(x, y):
        pair = torch.stack([x, y])
        return (
            critic_loss(pair, soft_target(x, y, pair, y, 0.1))
            + soft_policy_loss(0.1, x, pair)
            + temperature_gradient(x[0], y.mean(), -1.0)
            + critic_loss(pair, clipped_double_q_target(x, y, smoothed_action(pair, pair, 0.2, 0.5)))
            + deterministic_policy_loss(pair)
        )

    x, y = torch.randn(2, 6)
    compiled = torch.compile(update, fullgraph=True, backend="eager")
    assert_close(compiled(x, y), update(x, y))
