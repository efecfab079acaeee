from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_rl.returns import gae
from lit_rl.v_trace import v_trace
from tests.test_returns import GAMMA, column, flags, random_rollout


def v_trace_by_sums(log_ratio, reward, value, next_value, terminated, done, gamma, rho_bar, c_bar) -> Tensor:
    """Eq. 1 written out."""
    target = value.clone()
    for n in range(reward.shape[1]):
        for s in range(len(reward)):
            product = 1.0
            for t in range(s, len(reward)):
                ratio = log_ratio[t, n].exp().item()
                bootstrap = 0.0 if terminated[t, n] else gamma * next_value[t, n]
                delta = min(rho_bar, ratio) * (reward[t, n] + bootstrap - value[t, n])
                target[s, n] += gamma ** (t - s) * product * delta
                product *= min(c_bar, ratio)
                if done[t, n]:
                    break
    return target


def test_v_trace_by_hand():
    # Ratios (2, 1/2): rho = c = (1, .5); delta = (1.8, 1.7); x = (1.8 + .9 * .85, .5 * 1.7)
    log_ratio = torch.log(column(2, 0.5))
    target, advantage = v_trace(
        log_ratio, column(1, 1), column(1, 2), column(2, 3), flags(0, 0), flags(0, 0), GAMMA
    )
    assert_close(target, column(1 + 2.565, 2 + 0.85))
    assert_close(advantage, column(1 * (1 + 0.9 * 2.85 - 1), 0.5 * 1.7))


def test_v_trace_equals_its_sum():
    rollout = random_rollout()
    log_ratio = torch.randn_like(rollout[0])
    target, _ = v_trace(log_ratio, *rollout, GAMMA, rho_bar=1.5, c_bar=1.2)
    assert_close(target, v_trace_by_sums(log_ratio, *rollout, GAMMA, 1.5, 1.2))


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_v_trace_on_policy_is_gae(lam: float):
    rollout = random_rollout()
    target, advantage = v_trace(torch.zeros_like(rollout[0]), *rollout, GAMMA, lam)
    assert_close(advantage, gae(*rollout, GAMMA, lam))
    assert_close(target, rollout[1] + advantage)


def test_v_trace_leaves_the_value_where_not_valid():
    rollout = random_rollout()
    valid = torch.rand(rollout[0].shape) > 0.3
    target, advantage = v_trace(torch.randn_like(rollout[0]), *rollout, GAMMA, valid_TN=valid)
    assert (advantage[~valid] == 0).all()
    assert_close(target[~valid], rollout[1][~valid])


def test_v_trace_refuses_longer_traces_than_targets():
    with pytest.raises(ValueError, match=r"c_bar <= rho_bar, got c_bar=2.0 and rho_bar=1.0"):
        v_trace(column(0), column(0), column(0), column(0), flags(0), flags(0), GAMMA, c_bar=2.0)


def test_nothing_waits_for_the_device():
    real, end = torch.zeros(4, 3, device="meta"), torch.zeros(4, 3, dtype=torch.bool, device="meta")
    v_trace(real, real, real, real, end, end, GAMMA, valid_TN=end)
