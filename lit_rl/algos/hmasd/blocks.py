"""From the steps of a rollout to the transitions of the high level: a block of steps under one decision.

Yang et al. 2023 (NeurIPS), section 4.1: r^h_t = sum_{p=0}^{k-1} r_{t+p}. Axes: T time, N environments,
K blocks of an environment, L tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_rl.checks import check_same_shape
from lit_rl.returns import gae


class Blocks(NamedTuple):
    """Blocks in the order of time; environments with fewer than K of them end in empty ones.

    Attributes:
        number: Which block each step belongs to, (T, N) int64.
        first: The step of the decision, (K, N) int64; 0 for an empty block.
        length: Transitions in it, (K, N) int64; 0 for an empty one.
        reward: Undiscounted sum of their rewards, (K, N).
        terminated: The task ended in it, (K, N) bool.
        done: The episode ended in it, (K, N) bool.
    """

    number: Tensor
    first: Tensor
    length: Tensor
    reward: Tensor
    terminated: Tensor
    done: Tensor


@torch.no_grad()
def cut_blocks(
    start_TN: Tensor,
    reward_TN: Tensor,
    terminated_TN: Tensor,
    truncated_TN: Tensor,
    valid_TN: Tensor | None = None,
    last_step_ends: bool = False,
) -> Blocks:
    """Cut a rollout where decisions were made.

    Args:
        start_TN: A decision was made for this step, bool; everywhere at step 0, and where episodes begin.
        reward_TN: Of the team.
        terminated_TN: The task ended after this step, bool.
        truncated_TN: The episode was cut after this step, bool.
        valid_TN: False where no transition took place, bool; None: nowhere.
        last_step_ends: Only an end at the last step of a block ends it, as in the authors' code, where blocks
            go on through the ends of episodes.

    Raises:
        ValueError: Shapes disagree, or there was no decision at step 0.
    """
    check_same_shape(
        start_TN=start_TN, reward_TN=reward_TN, terminated_TN=terminated_TN, truncated_TN=truncated_TN
    )
    if not bool(start_TN[0].all()):
        raise ValueError("start_TN must be True at step 0: each rollout begins with decisions of its policy")
    steps, envs = start_TN.shape
    number = start_TN.cumsum(0) - 1
    blocks = int(number[-1].max()) + 1

    def total(x_TN: Tensor) -> Tensor:
        return x_TN.new_zeros(blocks, envs).scatter_add_(0, number, x_TN)

    counted = torch.ones_like(number) if valid_TN is None else valid_TN.long()
    step = torch.arange(steps, device=number.device).unsqueeze(1).expand_as(number)
    if last_step_ends:
        is_last = torch.cat([start_TN[1:], torch.ones_like(start_TN[:1])])
        terminated_TN, truncated_TN = terminated_TN & is_last, truncated_TN & is_last
    ended = terminated_TN | truncated_TN
    return Blocks(
        number=number,
        first=total(torch.where(start_TN, step, 0)),
        length=total(counted),
        reward=total(reward_TN * counted),
        terminated=total(terminated_TN.long()) > 0,
        done=total(ended.long()) > 0,
    )


@torch.no_grad()
def high_level_advantages(
    blocks: Blocks,
    value_KNL: Tensor,
    end_value_NL: Tensor,
    final_value_FL: Tensor,
    final_index_F: Tensor,
    k: int,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimation over decisions: all tokens of one share its reward.

    A whole block is discounted by ``gamma``, one of m < k steps (cut by the end of the rollout or of the
    episode) by gamma^(m/k).

    Args:
        blocks: Of the rollout.
        value_KNL: V_h of what was seen at each decision.
        end_value_NL: V_h of what is seen after the rollout.
        final_value_FL: V_h of the true last observations of the F episodes that ended.
        final_index_F: ``t * N + n`` of those ends.
        k: Steps of a whole block.
        gamma: Discount per decision.
        gae_lambda: See ``gae``.

    Returns:
        Advantages (K, N, L), 0 for empty blocks.
    """
    envs = blocks.length.shape[1]
    next_value = torch.cat([value_KNL[1:], torch.zeros_like(value_KNL[:1])])
    last = blocks.number[-1]  # (N,)
    everyone = torch.arange(envs, device=last.device)
    next_value[last, everyone] = end_value_NL.to(next_value)
    step, env = final_index_F // envs, final_index_F % envs
    next_value[blocks.number[step, env], env] = final_value_FL.to(next_value)

    def per_token(x_KN: Tensor) -> Tensor:
        return x_KN.unsqueeze(-1).expand_as(value_KNL)

    discount = gamma ** (blocks.length.to(value_KNL) / k)
    return gae(
        per_token(blocks.reward.to(value_KNL)),
        value_KNL,
        next_value,
        per_token(blocks.terminated),
        per_token(blocks.done),
        per_token(discount),
        gae_lambda,
        per_token(blocks.length > 0),
    )
