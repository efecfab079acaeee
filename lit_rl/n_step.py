"""Returns of n steps, for replayed windows of experience. Axes: B batch, K steps of a window."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.checks import check_shapes
from lit_rl.returns import zero_where


@torch.no_grad()
def n_step_return(
    reward_BK: Tensor, terminated_BK: Tensor, truncated_BK: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Discounted sum of the rewards of a window, up to the first episode end in it (Sutton 2018, eq. 7.1).

    G = r[0] + gamma * r[1] + ... + gamma^last * r[last], to which discount * V(next observation) is added.

    Args:
        reward_BK: Rewards of K steps in a row, (B, K).
        terminated_BK: Whether the task ended at the step, (B, K) bool.
        truncated_BK: Whether the window must stop after the step although a value follows, (B, K) bool: a
            time limit, or the newest step that is known.
        gamma: Discount per step.

    Returns:
        The sums (B,); the discount of the value that follows, gamma to the number of steps used, or 0 where
        the task ended (B,); and the index of the last step used, 0 to K - 1, (B,) int64.

    Raises:
        ValueError: Shapes disagree.
    """
    size = check_shapes(reward_BK=reward_BK, terminated_BK=terminated_BK, truncated_BK=truncated_BK)
    ends_BK = (terminated_BK | truncated_BK).cumsum(1)
    used_BK = torch.ones_like(ends_BK, dtype=torch.bool)
    used_BK[:, 1:] = ends_BK[:, :-1] == 0
    power_K = gamma ** torch.arange(size["K"], dtype=reward_BK.dtype, device=reward_BK.device)
    return_B = (zero_where(~used_BK, reward_BK) * power_K).sum(1)
    last_B = used_BK.sum(1) - 1
    terminated_B = (terminated_BK & used_BK).any(1)
    return return_B, zero_where(terminated_B, power_K[last_B] * gamma), last_B
