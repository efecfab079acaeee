"""Advantages and value targets of a rollout, with scaled rewards and normalised values where asked for.

Axes: T time, ... environments, or environments and agents.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_rl.algos.multi_agent import Rows
from lit_rl.losses import explained_variance
from lit_rl.normalize import ReturnScale, SumOverRanks, ValueNorm
from lit_rl.returns import gae


class Estimates(NamedTuple):
    """What actor and critic are trained on.

    Attributes:
        advantage: (T, ...), not normalised; 0 where no transition took place.
        target: Of the critic's output, (T, ...): the return, normalised when there is a ``ValueNorm``.
        explained: Share of the variance of returns that the values explain, a scalar.
    """

    advantage: Tensor
    target: Tensor
    explained: Tensor


@torch.no_grad()
def estimate(
    rows: Rows,
    output: Tensor,
    next_output: Tensor,
    gamma: float,
    gae_lambda: float,
    return_scale: ReturnScale | None,
    value_norm: ValueNorm | None,
    sum_over_ranks: SumOverRanks,
) -> Estimates:
    """Generalised advantage estimation on values denormalised with the statistics they were learned with.

    Only then the statistics take in the new returns, and normalise them.

    Args:
        rows: Rewards and ends.
        output: Of the critic for what was acted on, (T, ...).
        next_output: The same for the true next observation, (T, ...).
        gamma: Discount per step.
        gae_lambda: See ``gae``.
        return_scale: Scales the rewards; updated here.
        value_norm: What the critic's outputs are normalised by; updated here.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks.
    """
    counted: Any = {"valid": rows.counts, "sum_over_ranks": sum_over_ranks}
    value, next_value, reward = output, next_output, rows.reward
    if value_norm is not None:
        value, next_value = value_norm.denormalize(output), value_norm.denormalize(next_output)
    if return_scale is not None:
        return_scale.update(reward, rows.done, **counted)
        reward = return_scale(reward)
    advantage = gae(
        reward.to(value), value, next_value, rows.terminated, rows.done, gamma, gae_lambda, rows.valid
    )
    target = advantage + value
    weight = None if rows.counts is None else rows.counts.to(value.dtype)
    explained = explained_variance(value, target, weight)
    if value_norm is not None:
        value_norm.update(target, **counted)
        target = value_norm(target)
    return Estimates(advantage, target, explained)
