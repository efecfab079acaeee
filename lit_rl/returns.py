"""Returns and advantages: backward and forward recurrences over time.

Axes: T time, N environments, B batch, K steps of a window. Where a shape is (T, N), one with an agent axis,
(T, N, A), serves as well if all tensors have it. Nothing here carries gradients.

Two names for two ends: ``terminated`` cuts the *value* (nothing comes after); ``done``, which is terminated
or truncated, cuts the *recurrence* (the next row belongs to another episode). ``next_value`` is the value of
the true next observation: at the end of an episode its last one, not the first one after the reset.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.checks import check_same_shape, check_shapes


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
    """Generalized advantage estimation (Schulman 2016, arXiv:1506.02438, eq. 16).

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
    delta_TN = reward_TN + gamma * _zero_where(terminated_TN, next_value_TN) - value_TN
    return _backward_sum(delta_TN, _decay(done_TN, gamma * lam, delta_TN), valid_TN)


@torch.no_grad()
def v_trace(
    log_ratio_TN: Tensor,
    reward_TN: Tensor,
    value_TN: Tensor,
    next_value_TN: Tensor,
    terminated_TN: Tensor,
    done_TN: Tensor,
    gamma: float,
    lam: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    valid_TN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """V-trace, for experience of an older policy (Espeholt 2018, arXiv:1802.01561, eq. 1 and remark 1).

    rho[t] = min(rho_bar, ratio[t]),  c[t] = lam * min(c_bar, ratio[t])
    x[t]   = rho[t] * delta[t] + gamma * c[t] * (1 - done[t]) * x[t+1],  delta as in :func:`gae`
    target[t]    = value[t] + x[t]
    advantage[t] = rho[t] * (delta[t] + gamma * lam * (1 - done[t]) * x[t+1])

    With lam = 1 this is the advantage of the paper, rho[t] * (r[t] + gamma * target[t+1] - value[t]); with
    ratios of 1 it is that of :func:`gae`, for every lam.

    Args:
        log_ratio_TN: log pi(a|s) - log mu(a|s), learner pi and actor mu, (T, N).
        reward_TN: Rewards, (T, N).
        value_TN: Value of the observation acted on, under the learner, (T, N).
        next_value_TN: Value of the true next observation, (T, N).
        terminated_TN: Whether the task ended here, (T, N) bool.
        done_TN: Whether the episode ended here for any reason, (T, N) bool.
        gamma: Discount per step.
        lam: Trace decay, 1 in the paper (its remark 2 for less).
        rho_bar: Clip of the ratio in the errors; decides what the target converges to.
        c_bar: Clip of the ratio in the traces; decides how fast, at most ``rho_bar``.
        valid_TN: False where no transition took place, (T, N) bool.

    Returns:
        Targets of the value function, (T, N), and advantages for the policy gradient, (T, N).

    Raises:
        ValueError: Two tensors differ in shape, or ``c_bar`` exceeds ``rho_bar``.
    """
    if c_bar > rho_bar:
        raise ValueError(f"V-trace needs c_bar <= rho_bar, got c_bar={c_bar} and rho_bar={rho_bar}.")
    check_same_shape(
        reward_TN=reward_TN,
        log_ratio_TN=log_ratio_TN,
        value_TN=value_TN,
        next_value_TN=next_value_TN,
        terminated_TN=terminated_TN,
        done_TN=done_TN,
    )
    ratio_TN = log_ratio_TN.exp()
    rho_TN = ratio_TN.clamp(max=rho_bar)
    delta_TN = reward_TN + gamma * _zero_where(terminated_TN, next_value_TN) - value_TN
    decay_TN = _decay(done_TN, gamma * lam, delta_TN)
    correction_TN = _backward_sum(rho_TN * delta_TN, decay_TN * ratio_TN.clamp(max=c_bar), valid_TN)

    next_correction_TN = torch.zeros_like(correction_TN)
    next_correction_TN[:-1] = correction_TN[1:]
    advantage_TN = rho_TN * (delta_TN + decay_TN * next_correction_TN)
    if valid_TN is not None:
        advantage_TN = _zero_where(~valid_TN, advantage_TN)
    return value_TN + correction_TN, advantage_TN


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
    return_B = (_zero_where(~used_BK, reward_BK) * power_K).sum(1)
    last_B = used_BK.sum(1) - 1
    terminated_B = (terminated_BK & used_BK).any(1)
    return return_B, _zero_where(terminated_B, power_K[last_B] * gamma), last_B


@torch.no_grad()
def running_return(
    reward_TN: Tensor, done_TN: Tensor, start_N: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Discounted sum of *past* rewards, whose spread scales rewards (Engstrom 2020, arXiv:2005.12729).

    R[t] = gamma * (1 - done[t-1]) * R[t-1] + r[t]

    Args:
        reward_TN: Rewards, (T, N).
        done_TN: Whether the episode ended here, (T, N) bool.
        start_N: The carry of the call before, (N,); zeros at first.
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
    decay_TN = _decay(done_TN, gamma, first_TN).roll(1, 0)
    return_TN = _backward_sum(first_TN.flip(0), decay_TN.flip(0)).flip(0)
    return return_TN, _zero_where(done_TN[-1], return_TN[-1])


def _backward_sum(delta_TN: Tensor, decay_TN: Tensor, valid_TN: Tensor | None = None) -> Tensor:
    """Solve x[t] = delta[t] + decay[t] * x[t+1], with x = 0 where not valid.

    By doubling (Hillis 1986): once x[t] sums over the steps t to t + span - 1, and decay[t] is the product
    of theirs, adding decay[t] * x[t+span] covers twice as many. So there are log2(T) rounds instead of T.
    """
    if valid_TN is not None:
        check_same_shape(reward_TN=delta_TN, valid_TN=valid_TN)
        delta_TN, decay_TN = _zero_where(~valid_TN, delta_TN), _zero_where(~valid_TN, decay_TN)
    x_TN, decay_TN = delta_TN.clone(), decay_TN.clone()
    span = 1
    while span < len(x_TN):
        x_TN[:-span] = torch.addcmul(x_TN[:-span], decay_TN[:-span], x_TN[span:])
        decay_TN[:-span] = decay_TN[:-span] * decay_TN[span:]
        span *= 2
    return x_TN


def _decay(done_TN: Tensor, factor: float | Tensor, like_TN: Tensor) -> Tensor:
    """``factor`` where the episode goes on, 0 where it ended, (T, N)."""
    factor_TN = factor if isinstance(factor, Tensor) else torch.full_like(like_TN, factor)
    return factor_TN.masked_fill(done_TN, 0.0)


def _zero_where(mask: Tensor, x: Tensor) -> Tensor:
    """``x`` with zeros where ``mask``; unlike a product it also removes NaN."""
    return x.masked_fill(mask, 0.0)
