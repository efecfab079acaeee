from __future__ import annotations

import torch
from torch.testing import assert_close

from lit_rl.n_step import n_step_return
from tests.test_returns import GAMMA


def test_n_step_return_by_hand():
    reward = torch.tensor([[1.0, 2.0, 4.0]]).repeat(5, 1)
    #                  no end      terminated at 1   truncated at 0   terminated at 2  both, truncated first
    terminated = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]).bool()
    truncated = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]]).bool()
    total, discount, last = n_step_return(reward, terminated, truncated, 0.5)
    assert_close(total, torch.tensor([3.0, 2.0, 1.0, 3.0, 1.0]))
    assert_close(discount, torch.tensor([0.125, 0.0, 0.5, 0.0, 0.5]))
    assert last.tolist() == [2, 1, 0, 2, 0]


def test_n_step_return_of_one_step_is_the_reward():
    reward = torch.randn(4, 1)
    terminated = torch.tensor([[1], [0], [0], [1]]).bool()
    total, discount, last = n_step_return(reward, terminated, torch.zeros_like(terminated), 0.9)
    assert_close(total, reward[:, 0])
    assert_close(discount, torch.tensor([0.0, 0.9, 0.9, 0.0]))
    assert last.tolist() == [0, 0, 0, 0]


def test_n_step_return_ignores_what_follows_the_end():
    reward = torch.tensor([[1.0, torch.nan]])
    end = torch.tensor([[True, False]])
    total, _, _ = n_step_return(reward, end, ~end, 0.9)
    assert total.item() == 1.0


def test_nothing_waits_for_the_device():
    real, end = torch.zeros(4, 3, device="meta"), torch.zeros(4, 3, dtype=torch.bool, device="meta")
    n_step_return(real, end, end, GAMMA)
