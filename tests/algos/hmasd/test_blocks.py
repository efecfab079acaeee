"""High-level transitions: hand-computed sums, and a slow twin of their advantages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lit_rl.algos.hmasd.blocks import cut_blocks, high_level_advantages


def test_blocks_by_hand():
    """Two environments, k = 3; the second one's episode ends after its second step."""
    start = torch.tensor([[1, 1], [0, 0], [0, 1], [1, 0], [0, 0]], dtype=torch.bool)
    reward = torch.arange(10.0).view(5, 2)
    truncated = torch.zeros(5, 2, dtype=torch.bool)
    truncated[1, 1] = True
    blocks = cut_blocks(start, reward, torch.zeros_like(truncated), truncated)
    assert blocks.number.tolist() == [[0, 0], [0, 0], [0, 1], [1, 1], [1, 1]]
    assert blocks.first.tolist() == [[0, 0], [3, 2]]
    assert blocks.length.tolist() == [[3, 2], [2, 3]]
    assert blocks.reward.tolist() == [[0 + 2 + 4, 1 + 3], [6 + 8, 5 + 7 + 9]]
    assert blocks.done.tolist() == [[False, True], [False, False]]
    assert not blocks.terminated.any()


def test_steps_that_only_reset_belong_to_no_block():
    start = torch.tensor([[1], [0], [1], [1], [0]], dtype=torch.bool)  # the clock ran out at the reset
    valid = torch.tensor([[1], [1], [0], [1], [1]], dtype=torch.bool)
    terminated = torch.tensor([[0], [1], [0], [0], [0]], dtype=torch.bool)
    blocks = cut_blocks(start, torch.ones(5, 1), terminated, torch.zeros_like(terminated), valid)
    assert blocks.length.tolist() == [[2], [0], [2]]
    assert blocks.reward.tolist() == [[2], [0], [2]]
    assert blocks.terminated.tolist() == [[True], [False], [False]]


def test_a_rollout_begins_with_decisions():
    start = torch.tensor([[True, False]])
    with pytest.raises(ValueError, match="start_TN must be True at step 0"):
        cut_blocks(start, torch.zeros(1, 2), torch.zeros_like(start), torch.zeros_like(start))


def random_rollout(steps: int, envs: int, k: int) -> dict[str, Tensor]:
    """Ends at random, clocks that start anew with each episode, and random values of all that is seen."""
    ends = torch.rand(steps, envs) < 0.2
    terminated = ends & (torch.rand(steps, envs) < 0.5)
    start, clock = torch.zeros(steps, envs, dtype=torch.bool), torch.full((envs,), k)
    for t in range(steps):
        start[t] = (clock >= k) | (ends[t - 1] if t else True)
        clock = torch.where(start[t], 1, clock + 1)
    return {
        "start": start,
        "terminated": terminated,
        "truncated": ends & ~terminated,
        "reward": torch.randn(steps, envs),
        "value": torch.randn(steps + 1, envs, 3),
        "final_value": torch.randn(steps, envs, 3),
    }


def slow_advantages(x: dict[str, Tensor], k: int, gamma: float, lam: float) -> dict[tuple[int, int], Tensor]:
    """One decision after the other, from the last to the first: (step, environment) to (L,)."""
    steps, envs = x["start"].shape
    found = {}
    for n in range(envs):
        begins = [t for t in range(steps) if x["start"][t, n]]
        following = torch.zeros(3)
        for first, beyond in reversed(list(zip(begins, [*begins[1:], steps], strict=True))):
            last = beyond - 1
            reward = sum(x["reward"][t, n].item() for t in range(first, beyond))
            discount = gamma ** ((beyond - first) / k)
            if x["terminated"][last, n]:
                after, goes_on = torch.zeros(3), False
            elif x["truncated"][last, n]:
                after, goes_on = x["final_value"][last, n], False
            else:
                after, goes_on = x["value"][beyond, n], True
            delta = reward + discount * after - x["value"][first, n]
            following = delta + discount * lam * following * goes_on
            found[first, n] = following
    return found


@pytest.mark.parametrize("k", [1, 4, 7])
def test_advantages_against_a_slow_twin(k: int):
    torch.manual_seed(k)
    x = random_rollout(23, 5, k)
    blocks = cut_blocks(x["start"], x["reward"], x["terminated"], x["truncated"])
    envs = torch.arange(5).expand_as(blocks.first)
    index = (x["terminated"] | x["truncated"]).flatten().nonzero().squeeze(-1)
    advantage = high_level_advantages(
        blocks, x["value"][blocks.first, envs], x["value"][-1], x["final_value"].flatten(0, 1)[index], index,
        k, 0.9, 0.8,
    )  # fmt: skip
    expected = slow_advantages(x, k, 0.9, 0.8)
    exists = blocks.length > 0
    assert len(expected) == exists.sum() == x["start"].sum()
    for block, n in exists.nonzero().tolist():
        first = int(blocks.first[block, n])
        torch.testing.assert_close(advantage[block, n], expected[first, n])
    assert not advantage[~exists].any()


def test_whole_blocks_are_discounted_once():
    """Two blocks of 4 steps, rewards 1: A of the first is 4 + gamma * V(second) - V(first), for lambda 0."""
    start = torch.zeros(8, 1, dtype=torch.bool)
    start[0] = start[4] = True
    never = torch.zeros_like(start)
    blocks = cut_blocks(start, torch.ones(8, 1), never, never)
    value = torch.tensor([[[1.0]], [[2.0]]])
    advantage = high_level_advantages(
        blocks,
        value,
        torch.tensor([[5.0]]),
        torch.empty(0, 1),
        torch.empty(0, dtype=torch.int64),
        4,
        0.9,
        0.0,
    )
    torch.testing.assert_close(advantage.flatten(), torch.tensor([4 + 0.9 * 2 - 1, 4 + 0.9 * 5 - 2]))
