"""V-trace: returns and advantages from experience of an older policy (Espeholt 2018, arXiv:1802.01561).

Axes: T steps, N environments. ``terminated`` cuts the value, ``done`` the recurrence, as in ``returns.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.checks import check_same_shape
from lit_rl.returns import backward_sum, decay, zero_where


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
    """Estimate targets and advantages by V-trace (Espeholt 2018, arXiv:1802.01561, eq. 1 and remark 1).

    rho[t] = min(rho_bar, ratio[t]),  c[t] = lam * min(c_bar, ratio[t])
    x[t]   = rho[t] * delta[t] + gamma * c[t] * (1 - done[t]) * x[t+1],  delta as in :func:`gae`
    target[t]    = value[t] + x[t]
    advantage[t] = rho[t] * (delta[t] + gamma * lam * (1 - done[t]) * x[t+1])

    With lam = 1 this is the advantage of the paper, rho[t] * (r[t] + gamma * target[t+1] - value[t]); with
    ratios of 1 it is that of :func:`gae`, for every lam.

    Args:
        log_ratio_TN: Log-probability of the action under the learner pi minus that under the actor mu, (T,
            N).
        reward_TN: Rewards, (T, N).
        value_TN: Value of the observation acted on, under the learner, (T, N).
        next_value_TN: Value of the true next observation, (T, N).
        terminated_TN: Whether the task ended here, (T, N) bool.
        done_TN: Whether the episode ended here for any reason, (T, N) bool.
        gamma: Discount per step.
        lam: Trace decay; it is 1 in the paper, whose remark 2 treats less.
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
    delta_TN = reward_TN + gamma * zero_where(terminated_TN, next_value_TN) - value_TN
    decay_TN = decay(done_TN, gamma * lam, delta_TN)
    correction_TN = backward_sum(rho_TN * delta_TN, decay_TN * ratio_TN.clamp(max=c_bar), valid_TN)

    next_correction_TN = torch.zeros_like(correction_TN)
    next_correction_TN[:-1] = correction_TN[1:]
    advantage_TN = rho_TN * (delta_TN + decay_TN * next_correction_TN)
    if valid_TN is not None:
        advantage_TN = zero_where(~valid_TN, advantage_TN)
    return value_TN + correction_TN, advantage_TN
