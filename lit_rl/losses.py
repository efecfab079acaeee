"""Losses of PPO (Schulman 2017, arXiv:1707.06347), pure functions.

Axes: B samples; (B) stands for any shape that all tensors have. Everything runs inside
``torch.compile(fullgraph=True)``. Means take an optional ``weight_B``, which is 0 for samples that do not
count (steps that are no transitions, agents that left) and 1 for others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_rl.checks import check_same_shape


def weighted_mean(x_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Average all entries, or those whose ``weight_B`` is 1 instead of 0; return 0 where there are none."""
    if weight_B is None:
        return x_B.mean()
    check_same_shape(x_B=x_B, weight_B=weight_B)
    return (x_B * weight_B).sum() / weight_B.sum().clamp(min=1)


def clipped_surrogate(
    log_prob_B: Tensor,
    old_log_prob_B: Tensor,
    advantage_B: Tensor,
    clip: float | Tensor,
    weight_B: Tensor | None = None,
) -> Tensor:
    """Compute the clipped surrogate objective, negated so that it is minimised (Schulman 2017, eq. 7).

    Args:
        log_prob_B: Log-probability of the stored action under the policy being trained, (B,).
        old_log_prob_B: Its log-probability under the policy that acted, (B,).
        advantage_B: Advantage of the stored action, (B,); normalise it before the call.
        clip: Half width of the interval around a ratio of 1 within which the policy is pulled.
        weight_B: 1 for samples that count and 0 for others, (B,); None counts all.

    Returns:
        Scalar loss.
    """
    check_same_shape(log_prob_B=log_prob_B, old_log_prob_B=old_log_prob_B, advantage_B=advantage_B)
    ratio_B = torch.exp(log_prob_B - old_log_prob_B)
    # min(r A, clip(r) A) = min(r A, A + clip |A|): the bound has no gradient
    bound_B = advantage_B + clip * advantage_B.abs()
    return -weighted_mean(torch.min(ratio_B * advantage_B, bound_B), weight_B)


def value_loss(
    value_B: Tensor, return_B: Tensor, weight_B: Tensor | None = None, huber_delta: float | None = None
) -> Tensor:
    """Compute the mean squared error of values, without a factor of one half (Schulman 2017, below eq. 9).

    Args:
        value_B: Values, (B,).
        return_B: Returns, which the values should equal, (B,).
        weight_B: 1 for samples that count and 0 for others, (B,); None counts all.
        huber_delta: Errors e beyond it count delta * (2 |e| - delta), not e^2 (Huber 1964); None squares all.
    """
    check_same_shape(value_B=value_B, return_B=return_B)
    if weight_B is None and huber_delta is None:
        return F.mse_loss(value_B, return_B)
    return weighted_mean(_error(value_B, return_B, huber_delta), weight_B)


def clipped_value_loss(
    value_B: Tensor,
    old_value_B: Tensor,
    return_B: Tensor,
    clip: float,
    weight_B: Tensor | None = None,
    huber_delta: float | None = None,
) -> Tensor:
    """Average the larger squared error of two values: the new one, and it kept within ``clip`` of the old.

    This loss is from the PPO of OpenAI baselines, not from the paper, and is discussed in Engstrom 2020
    (arXiv:2005.12729, sec. 3). :func:`value_loss` explains ``huber_delta``.
    """
    check_same_shape(value_B=value_B, old_value_B=old_value_B, return_B=return_B)
    clipped_B = old_value_B + (value_B - old_value_B).clamp(-clip, clip)
    error_B = _error(value_B, return_B, huber_delta)
    clipped_error_B = _error(clipped_B, return_B, huber_delta)
    return weighted_mean(torch.max(error_B, clipped_error_B), weight_B)


def _error(value_B: Tensor, return_B: Tensor, huber_delta: float | None) -> Tensor:
    # one operation per error: in a small gradient step their number is what costs
    if huber_delta is None:
        return F.mse_loss(value_B, return_B, reduction="none")
    return 2 * F.huber_loss(value_B, return_B, reduction="none", delta=huber_delta)


def approximate_kl(log_ratio_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Estimate KL(old, new) from actions of the old policy: mean of (r - 1) - log r, in nats, never negative.

    Args:
        log_ratio_B: Log-probability log r under the new policy, minus that under the old one, (B,).
        weight_B: 1 for samples that count and 0 for others, (B,); None counts all.
    """
    return weighted_mean(torch.expm1(log_ratio_B) - log_ratio_B, weight_B)


def adapted_rate(rate: float, kl: float, wanted: float) -> float:
    """Return the next learning rate: less where KL is above twice ``wanted``, more below half of it.

    It changes by a factor of 1.5 and stays between 1e-5 and 1e-2 (Rudin 2021, arXiv:2109.11978, table 5).
    """
    if kl > 2 * wanted:
        return max(1e-5, rate / 1.5)
    return min(1e-2, rate * 1.5) if kl < wanted / 2 else rate


def clip_fraction(log_ratio_B: Tensor, clip: float, weight_B: Tensor | None = None) -> Tensor:
    """Return the share of samples whose probability ratio left the interval [1 - clip, 1 + clip]."""
    return weighted_mean((torch.expm1(log_ratio_B).abs() > clip).to(log_ratio_B.dtype), weight_B)


def explained_variance(value_B: Tensor, return_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Compute 1 - Var[return - value] / Var[return]: 1 is perfect, 0 a constant, NaN for equal returns."""
    check_same_shape(value_B=value_B, return_B=return_B)
    variance = _variance(return_B, weight_B)
    explained = 1 - _variance(return_B - value_B, weight_B) / variance
    return explained.masked_fill(variance == 0, torch.nan)


def _variance(x_B: Tensor, weight_B: Tensor | None) -> Tensor:
    return weighted_mean((x_B - weighted_mean(x_B, weight_B)).square(), weight_B)
