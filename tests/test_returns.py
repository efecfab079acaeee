from __future__ import annotations

from typing import TypeAlias

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_rl.returns import gae, running_return

GAMMA, LAM = 0.9, 0.8
Rollout: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(1)


def random_rollout(num_steps: int = 12, num_envs: int = 5) -> Rollout:
    """Reward, value, next value, terminated, done; inside an episode, next values are the later values."""
    torch.manual_seed(0)
    shape = (num_steps, num_envs)
    reward, value, next_value = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    terminated, truncated = torch.rand(shape) < 0.2, torch.rand(shape) < 0.2
    done = terminated | truncated
    next_value[:-1] = torch.where(done[:-1], next_value[:-1], value[1:])
    return reward, value, next_value, terminated, done


def gae_by_sums(reward, value, next_value, terminated, done, gamma, lam, valid=None) -> Tensor:
    """Eq. 16 written out: for every t, add up later errors until the episode ends."""
    advantage = torch.zeros_like(reward)
    num_steps, num_envs = reward.shape
    for n in range(num_envs):
        for t in range(num_steps):
            factor = 1.0
            for k in range(t, num_steps):
                if valid is not None and not valid[k, n]:
                    break
                bootstrap = 0.0 if terminated[k, n] else gamma * next_value[k, n]
                advantage[t, n] += factor * (reward[k, n] + bootstrap - value[k, n])
                factor *= gamma * lam
                if done[k, n]:
                    break
    return advantage


def test_gae_by_hand():
    # delta = (1 + .9*2 - 1, 1 + .9*3 - 2) = (1.8, 1.7); A = (1.8 + .72 * 1.7, 1.7)
    advantage = gae(column(1, 1), column(1, 2), column(2, 3), flags(0, 0), flags(0, 0), gamma=GAMMA, lam=LAM)
    assert_close(advantage, column(3.024, 1.7))


def test_gae_termination_has_no_value_and_truncation_has():
    terminated = gae(column(1, 1), column(1, 2), column(9, 3), flags(1, 0), flags(1, 0), GAMMA, LAM)
    truncated = gae(column(1, 1), column(1, 2), column(9, 3), flags(0, 0), flags(1, 0), GAMMA, LAM)
    assert_close(terminated, column(0.0, 1.7))
    assert_close(truncated, column(1 + 0.9 * 9 - 1, 1.7))


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_equals_its_sum(lam: float):
    rollout = random_rollout()
    assert_close(gae(*rollout, GAMMA, lam), gae_by_sums(*rollout, GAMMA, lam))


def test_gae_gives_zero_where_not_valid_even_with_nan():
    rollout = random_rollout()
    torch.manual_seed(1)
    valid = torch.rand(rollout[0].shape) > 0.3
    expected = gae_by_sums(*rollout, GAMMA, LAM, valid)
    for tensor in rollout[:3]:
        tensor[~valid] = torch.nan
    advantage = gae(*rollout, GAMMA, LAM, valid)
    assert_close(advantage, expected)
    assert (advantage[~valid] == 0).all()


def test_gae_does_not_look_across_an_episode_end():
    reward, value, next_value, terminated, done = random_rollout()
    done[5] = True
    before = gae(reward, value, next_value, terminated, done, GAMMA, LAM)
    reward[6:] += 100
    after = gae(reward, value, next_value, terminated, done, GAMMA, LAM)
    assert_close(after[:6], before[:6])


def test_gae_takes_an_agent_axis():
    rollout = random_rollout(num_envs=6)
    reward, value, next_value, terminated, done = (tensor.unflatten(1, (3, 2)) for tensor in rollout)
    with_agents = gae(reward, value, next_value, terminated, done, GAMMA, LAM)
    assert_close(with_agents.flatten(1), gae(*rollout, GAMMA, LAM))


def test_gae_leaves_its_inputs_and_carries_no_gradient():
    rollout = random_rollout()
    copies = [tensor.clone() for tensor in rollout]
    rollout[1].requires_grad_()
    assert not gae(*rollout, GAMMA, LAM).requires_grad
    for tensor, copy in zip(rollout, copies, strict=True):
        assert_close(tensor.detach(), copy)


def test_gae_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"value_TN must have the shape of reward_TN, \(2, 1\); got \(2,\)"):
        gae(column(1, 1), torch.ones(2), column(1, 1), flags(0, 0), flags(0, 0), GAMMA, LAM)
    with pytest.raises(ValueError, match="valid_TN must have the shape"):
        gae(column(1, 1), column(1, 1), column(1, 1), flags(0, 0), flags(0, 0), GAMMA, LAM, flags(1))


def test_running_return_by_hand():
    returns, carry = running_return(column(1, 1, 1), flags(0, 1, 0), torch.tensor([2.0]).double(), 0.5)
    assert_close(returns, column(2, 2, 1))
    assert_close(carry, torch.tensor([1.0]).double())
    _, carry = running_return(column(1), flags(1), torch.tensor([2.0]).double(), 0.5)
    assert carry.item() == 0


def test_running_return_continues_where_it_stopped():
    reward, _, _, _, done = random_rollout()
    start = torch.zeros(5, dtype=torch.float64)
    whole, last = running_return(reward, done, start, GAMMA)
    first, carry = running_return(reward[:7], done[:7], start, GAMMA)
    second, carry = running_return(reward[7:], done[7:], carry, GAMMA)
    assert_close(torch.cat([first, second]), whole)
    assert_close(carry, last)


def test_nothing_waits_for_the_device():
    # Tensors on the meta device have no values: any branch or index that needs one would raise.
    real, end = torch.zeros(4, 3, device="meta"), torch.zeros(4, 3, dtype=torch.bool, device="meta")
    gae(real, real, real, end, end, GAMMA, LAM, end)
    running_return(real, end, real[0], GAMMA)


def test_running_return_refuses_another_number_of_environments():
    with pytest.raises(ValueError, match=r"start_N must have the shape of reward_N, \(1,\); got \(2,\)"):
        running_return(column(1), flags(0), torch.zeros(2), GAMMA)
