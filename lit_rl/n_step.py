"""Returns of n steps, for replayed windows of experience. Axes: B samples, L window steps."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.checks import check_shapes
from lit_rl.returns import zero_where


@torch.no_grad()
def n_step_return(
    reward_BL: Tensor, terminated_BL: Tensor, truncated_BL: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum the discounted rewards of a window, up to the first episode end in it (Sutton 2018, eq. 7.1).

    G = r[0] + gamma * r[1] + ... + gamma^last * r[last], to which discount * V(next observation) is added.

    Args:
        reward_BL: Rewards of L steps in a row, (B, L).
        terminated_BL: Whether the task ended at the step, (B, L) bool.
        truncated_BL: Whether the window must stop after the step although a value follows, (B, L) bool: a
            time limit, or the newest step that is known.
        gamma: Discount per step.

    Returns:
        The sums (B,); the discount of the value that follows, gamma to the number of steps used, or 0 where
        the task ended (B,); and the index of the last step used, 0 to L - 1, (B,) int64.

    Raises:
        ValueError: Shapes disagree.
    """
    size = check_shapes(reward_BL=reward_BL, terminated_BL=terminated_BL, truncated_BL=truncated_BL)
    ends_BL = (terminated_BL | truncated_BL).cumsum(1)
    used_BL = torch.ones_like(ends_BL, dtype=torch.bool)
    used_BL[:, 1:] = ends_BL[:, :-1] == 0
    power_L = gamma ** torch.arange(size["L"], dtype=reward_BL.dtype, device=reward_BL.device)
    return_B = (zero_where(~used_BL, reward_BL) * power_L).sum(1)
    last_B = used_BL.sum(1) - 1
    terminated_B = (terminated_BL & used_BL).any(1)
    return return_B, zero_where(terminated_B, power_L[last_B] * gamma), last_B
