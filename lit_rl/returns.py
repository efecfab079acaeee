"""Returns and advantages: backward and forward recurrences over time, without gradients.

Axes: T steps, N environments, A agents; (T, N) stands for (T, N, A) where there are agents.

An end has two names. ``terminated`` cuts the *value*, because nothing follows; ``done``, which is terminated
or truncated, cuts the *recurrence*, because the next step belongs to another episode. ``next_value`` is the
value of the true next observation: at the end of an episode its last one, not the first one after the reset.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.checks import check_same_shape


@torch.no_grad()
def gae(
    reward_TN: Tensor,
    value_TN: Tensor,
    next_value_TN: Tensor,
    terminated_TN: Tensor,
    done_TN: Tensor,
    gamma: float | Tensor,
    lam: float,
    valid_TN: Tensor | None = None,
) -> Tensor:
    """Estimate advantages by generalized advantage estimation (Schulman 2016, arXiv:1506.02438, eq. 16).

    delta[t] = r[t] + gamma * next_value[t] * (1 - terminated[t]) - value[t]
    A[t]     = delta[t] + gamma * lam * (1 - done[t]) * A[t+1]

    Args:
        reward_TN: Rewards, (T, N).
        value_TN: Value of the observation acted on, (T, N).
        next_value_TN: Value of the true next observation, (T, N). Ignored where terminated.
        terminated_TN: Whether the task ended here, (T, N) bool.
        done_TN: Whether the episode ended here for any reason, (T, N) bool.
        gamma: Discount per step, 0 to 1; (T, N) where steps last differently long.
        lam: 0 gives the one-step error (little variance, biased by the value), 1 the return minus the value.
        valid_TN: False where no transition took place, (T, N) bool. The advantage there is 0.

    Returns:
        Advantages, (T, N). Add ``value_TN`` for the lambda-return, the target of the value function.

    Raises:
        ValueError: Two tensors differ in shape.
    """
    check_same_shape(
        reward_TN=reward_TN,
        value_TN=value_TN,
        next_value_TN=next_value_TN,
        terminated_TN=terminated_TN,
        done_TN=done_TN,
    )
    delta_TN = reward_TN + gamma * zero_where(terminated_TN, next_value_TN) - value_TN
    return backward_sum(delta_TN, decay(done_TN, gamma * lam, delta_TN), valid_TN)


@torch.no_grad()
def running_return(
    reward_TN: Tensor, done_TN: Tensor, start_N: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Sum *past* rewards, discounted; their spread scales rewards (Engstrom 2020, arXiv:2005.12729).

    R[t] = gamma * (1 - done[t-1]) * R[t-1] + r[t]

    Args:
        reward_TN: Rewards, (T, N).
        done_TN: Whether the episode ended here, (T, N) bool.
        start_N: The carry that the call before returned, (N,); zeros at first.
        gamma: Discount per step.

    Returns:
        Running returns (T, N), and the carry (N,): the last one where its episode goes on, 0 elsewhere.

    Raises:
        ValueError: Shapes disagree.
    """
    check_same_shape(reward_TN=reward_TN, done_TN=done_TN)
    check_same_shape(reward_N=reward_TN[0], start_N=start_N)
    first_TN = reward_TN.to(start_N.dtype, copy=True)
    first_TN[0] += gamma * start_N
    decay_TN = decay(done_TN, gamma, first_TN).roll(1, 0)
    return_TN = backward_sum(first_TN.flip(0), decay_TN.flip(0)).flip(0)
    return return_TN, zero_where(done_TN[-1], return_TN[-1])


def backward_sum(delta_TN: Tensor, decay_TN: Tensor, valid_TN: Tensor | None = None) -> Tensor:
    """Solve x[t] = delta[t] + decay[t] * x[t+1], with x = 0 where not valid.

    The sum doubles (Hillis 1986): once x[t] covers the steps t to t + span - 1, and decay[t] is the product
    of their decays, adding decay[t] * x[t+span] covers twice as many. So log2(T) rounds suffice instead of T.
    """
    if valid_TN is not None:
        check_same_shape(reward_TN=delta_TN, valid_TN=valid_TN)
        delta_TN, decay_TN = zero_where(~valid_TN, delta_TN), zero_where(~valid_TN, decay_TN)
    x_TN, decay_TN = delta_TN.clone(), decay_TN.clone()
    span = 1
    while span < len(x_TN):
        x_TN[:-span] = torch.addcmul(x_TN[:-span], decay_TN[:-span], x_TN[span:])
        decay_TN[:-span] = decay_TN[:-span] * decay_TN[span:]
        span *= 2
    return x_TN


def decay(done_TN: Tensor, factor: float | Tensor, like_TN: Tensor) -> Tensor:
    """Return ``factor`` where the episode goes on, and 0 where it ended, (T, N)."""
    factor_TN = factor if isinstance(factor, Tensor) else torch.full_like(like_TN, factor)
    return factor_TN.masked_fill(done_TN, 0.0)


def zero_where(mask: Tensor, x: Tensor) -> Tensor:
    """Replace ``x``, NaN too, by 0 where ``mask`` is True; its axes are the first ones of ``x``."""
    return x.masked_fill(mask.view(*mask.shape, *[1] * (x.ndim - mask.ndim)), 0.0)
