"""From the steps of a rollout to the transitions of the high level, which are blocks of steps.

A block holds the steps that follow one decision, and its reward is the sum of theirs, r^h_t = sum_{p=0}^{k-1}
r_{t+p} (Yang et al. 2023, NeurIPS, section 4.1). Axes: T steps, N environments, D decisions (of an
environment, one for each of its blocks), J tokens, K finished episodes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_rl.checks import check_same_shape
from lit_rl.returns import gae


class Blocks(NamedTuple):
    """The blocks of each environment in the order of time; one with fewer than D ends in empty blocks.

    Attributes:
        number: Number of the block that each step belongs to, (T, N) int64.
        first: Step at which the block was decided, (D, N) int64; 0 for an empty block.
        length: Number of transitions in the block, (D, N) int64; 0 for an empty block.
        reward: Undiscounted sum of the rewards in the block, (D, N).
        terminated: Whether the task ended in the block, (D, N) bool.
        done: Whether the episode ended in the block, (D, N) bool.
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
        start_TN: Bool, True where a decision was made: in all environments at step 0, and where episodes
            begin.
        reward_TN: Reward of the team.
        terminated_TN: Bool, True where the task ended after the step.
        truncated_TN: Bool, True where the episode was cut after the step.
        valid_TN: Bool, False where no transition took place; None where all steps are transitions.
        last_step_ends: Whether an episode's end counts only at the last step of a block, as in the authors'
            code, where blocks go on through the ends of episodes.

    Raises:
        ValueError: Shapes disagree, or there was no decision at step 0.
    """
    check_same_shape(
        start_TN=start_TN, reward_TN=reward_TN, terminated_TN=terminated_TN, truncated_TN=truncated_TN
    )
    if not bool(start_TN[0].all()):
        raise ValueError("start_TN must be True at step 0: each rollout begins with decisions of its policy")
    steps, envs = start_TN.shape
    number_TN = start_TN.cumsum(0) - 1
    blocks = int(number_TN[-1].max()) + 1

    def total(x_TN: Tensor) -> Tensor:
        return x_TN.new_zeros(blocks, envs).scatter_add_(0, number_TN, x_TN)

    counted_TN = torch.ones_like(number_TN) if valid_TN is None else valid_TN.long()
    step_TN = torch.arange(steps, device=number_TN.device).unsqueeze(1).expand_as(number_TN)
    if last_step_ends:
        is_last_TN = torch.cat([start_TN[1:], torch.ones_like(start_TN[:1])])
        terminated_TN, truncated_TN = terminated_TN & is_last_TN, truncated_TN & is_last_TN
    done_TN = terminated_TN | truncated_TN
    return Blocks(
        number=number_TN,
        first=total(torch.where(start_TN, step_TN, 0)),
        length=total(counted_TN),
        reward=total(reward_TN * counted_TN),
        terminated=total(terminated_TN.long()) > 0,
        done=total(done_TN.long()) > 0,
    )


@torch.no_grad()
def high_level_advantages(
    blocks: Blocks,
    value_DNJ: Tensor,
    end_value_NJ: Tensor,
    final_value_KJ: Tensor,
    final_index_K: Tensor,
    k: int,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Estimate advantages of decisions by generalised advantage estimation, with one reward for all tokens.

    A whole block is discounted by ``gamma``. A block of m < k steps, which the end of the rollout or of the
    episode has cut, is discounted by gamma^(m/k).

    Args:
        blocks: The blocks of a rollout.
        value_DNJ: Values V_h of what was seen at each decision.
        end_value_NJ: Values V_h of what is seen after the rollout.
        final_value_KJ: Values V_h of the true last observations of the episodes that ended.
        final_index_K: ``t * N + n`` for each end, at step t in environment n.
        k: Number of steps in a whole block.
        gamma: Discount per decision.
        gae_lambda: Decay of the estimator, 0 to 1, which ``gae`` explains.

    Returns:
        Advantages (D, N, J), 0 for empty blocks.
    """
    envs = blocks.length.shape[1]
    next_value_DNJ = torch.cat([value_DNJ[1:], torch.zeros_like(value_DNJ[:1])])
    last_N = blocks.number[-1]
    env_N = torch.arange(envs, device=last_N.device)
    next_value_DNJ[last_N, env_N] = end_value_NJ.to(next_value_DNJ)
    step_K, env_K = final_index_K // envs, final_index_K % envs
    next_value_DNJ[blocks.number[step_K, env_K], env_K] = final_value_KJ.to(next_value_DNJ)

    def per_token(x_DN: Tensor) -> Tensor:
        return x_DN.unsqueeze(-1).expand_as(value_DNJ)

    discount_DN = gamma ** (blocks.length.to(value_DNJ) / k)
    return gae(
        per_token(blocks.reward.to(value_DNJ)),
        value_DNJ,
        next_value_DNJ,
        per_token(blocks.terminated),
        per_token(blocks.done),
        per_token(discount_DN),
        gae_lambda,
        per_token(blocks.length > 0),
    )
