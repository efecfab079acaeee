"""Losses of learners with critics Q(s, a), as pure functions.

They are those of SAC (Haarnoja 2018, arXiv:1812.05905) and of TD3 (Fujimoto 2018, arXiv:1802.09477).
Everything runs inside ``torch.compile(fullgraph=True)``.

Axes: C critics, B samples (transitions), U action dimensions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_rl.checks import check_shapes


def critic_loss(q_CB: Tensor, target_B: Tensor) -> Tensor:
    """Sum the mean squared errors of all critics (Haarnoja 2018, eq. 5, without its factor of one half).

    Args:
        q_CB: Values of the stored actions by each critic, (C, B).
        target_B: Targets (B,), of SAC from :func:`soft_target`, of TD3 from :func:`clipped_double_q_target`.
    """
    check_shapes(q_CB=q_CB, target_B=target_B)
    return (q_CB - target_B).square().mean(1).sum()


def soft_target(
    reward_B: Tensor,
    discount_B: Tensor,
    next_q_CB: Tensor,
    next_log_prob_B: Tensor,
    alpha: Tensor | float,
) -> Tensor:
    """Compute the target r + discount * (min Q'(s', a') - alpha * log pi(a'|s')) (Haarnoja 2018, eqs. 2, 3).

    With the values of a random subset of critics it is the target of REDQ (Chen 2021, arXiv:2101.05982,
    algorithm 1), and with alpha = 0 that of RLPD without entropy backup (Ball 2023, arXiv:2302.02948).

    Args:
        reward_B: Reward, or the discounted sum of n rewards, (B,).
        discount_B: Factor of what follows, gamma^n, and 0 where the task ended, (B,).
        next_q_CB: Values by the *target* critics of the next observation and a fresh action, (C, B); the
            minimum is over those that are given.
        next_log_prob_B: Log-probability of that action, (B,).
        alpha: Temperature.

    Returns:
        Targets (B,), without gradient.
    """
    check_shapes(
        next_q_CB=next_q_CB, reward_B=reward_B, discount_B=discount_B, next_log_prob_B=next_log_prob_B
    )
    with torch.no_grad():
        return reward_B + discount_B * (next_q_CB.amin(0) - alpha * next_log_prob_B)


def soft_policy_loss(
    alpha: Tensor | float, log_prob_B: Tensor, q_CB: Tensor, over: Literal["min", "mean"] = "min"
) -> Tensor:
    """Average alpha * log pi(a|s) - min over critics of Q(s, a), ``a`` reparametrised (Haarnoja 2018, eq. 9).

    Args:
        alpha: Temperature, detached: it has a loss of its own.
        log_prob_B: Log-probability of fresh actions, (B,).
        q_CB: Values of these actions by each critic, (C, B); gradients must reach the actions, not the
            critics.
        over: Whether the minimum over critics counts, or their mean, as in REDQ (Chen 2021, algorithm 1).
    """
    check_shapes(log_prob_B=log_prob_B, q_CB=q_CB)
    q_B = q_CB.amin(0) if over == "min" else q_CB.mean(0)
    return (alpha * log_prob_B - q_B).mean()


def temperature_gradient(log_alpha: Tensor, mean_log_prob: Tensor, target_entropy: float) -> Tensor:
    """Return the gradient by log alpha of -alpha * (log pi + target entropy) (Haarnoja 2018, eq. 18).

    Args:
        log_alpha: Logarithm of the temperature.
        mean_log_prob: Mean log-probability of fresh actions, the negative of the policy's entropy.
        target_entropy: The entropy to hold; commonly minus the number of action dimensions.

    Returns:
        The gradient, of the shape of ``log_alpha``; positive, so the temperature falls, while the entropy is
        above its target.
    """
    return -log_alpha.detach().exp() * (mean_log_prob.detach() + target_entropy)


def smoothed_action(action_BU: Tensor, noise_BU: Tensor, std: float, clip: float) -> Tensor:
    """Compute clip(a + clip(std * noise, -c, c), -1, 1), which targets look at (Fujimoto 2018, alg. 1).

    Args:
        action_BU: Actions of the *target* actor in [-1, 1], (B, U).
        noise_BU: Standard normal, (B, U); the caller draws it, so that compiled code can be replayed.
        std: Standard deviation of what is added.
        clip: Largest absolute value c of what is added.
    """
    check_shapes(action_BU=action_BU, noise_BU=noise_BU)
    return (action_BU + (std * noise_BU).clamp(-clip, clip)).clamp(-1.0, 1.0)


def clipped_double_q_target(reward_B: Tensor, discount_B: Tensor, next_q_CB: Tensor) -> Tensor:
    """Compute the target r + discount * min over critics of Q'(s', a') (Fujimoto 2018, algorithm 1).

    Args:
        reward_B: Reward, or the discounted sum of n rewards, (B,).
        discount_B: Factor of what follows, gamma^n, and 0 where the task ended, (B,).
        next_q_CB: Values by the *target* critics of the next observation and :func:`smoothed_action`, (C, B).

    Returns:
        Targets (B,), without gradient.
    """
    check_shapes(next_q_CB=next_q_CB, reward_B=reward_B, discount_B=discount_B)
    with torch.no_grad():
        return reward_B + discount_B * next_q_CB.amin(0)


def deterministic_policy_loss(q_CB: Tensor) -> Tensor:
    """Average -Q_1(s, a) over samples, by the first critic alone (Fujimoto 2018, algorithm 1).

    Args:
        q_CB: Values by each critic of the policy's own actions, (C, B); gradients must reach the actions, not
            the critics.
    """
    check_shapes(q_CB=q_CB)
    return -q_CB[0].mean()
