"""From a rollout to the minibatches of PPO: advantages, recurrent chunks, shuffling, normalising.

Axes: T time, N environments, A agents, C chunks of L steps; ... stands for (N) or (N, A).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lit_rl.algos.multi_agent import Rows
from lit_rl.losses import explained_variance
from lit_rl.nested import map_nested
from lit_rl.normalize import ReturnScale, SumOverRanks, ValueNorm
from lit_rl.returns import gae

Samples: TypeAlias = dict[str, Any]
"""Nested tensors with the same first axis: transitions, or chunks of a recurrent policy. All agents of an
environment share a row: the rest of their shape begins with the agent axis."""


class Estimates(NamedTuple):
    """What actor and critic are trained on.

    Attributes:
        advantage: Advantages (T, ...), not normalised; 0 where no transition took place.
        target: What the critic shall put out (T, ...): the return, normalised when there is a ``ValueNorm``.
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
        output: What the critic puts out for the observation acted on, (T, ...).
        next_output: What it puts out for the true next observation, (T, ...).
        gamma: Discount per step.
        gae_lambda: Decay of the estimator, 0 to 1; see ``gae``.
        return_scale: Scales the rewards; updated here.
        value_norm: Normalises the critic's outputs; updated here.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks.
    """
    counted: Any = {"valid": rows.counts, "sum_over_ranks": sum_over_ranks}
    value_TN, next_value_TN, reward_TN = output, next_output, rows.reward
    if value_norm is not None:
        value_TN, next_value_TN = value_norm.denormalize(output), value_norm.denormalize(next_output)
    if return_scale is not None:
        return_scale.update(reward_TN, rows.done, **counted)
        reward_TN = return_scale(reward_TN)
    advantage_TN = gae(
        reward_TN.to(value_TN),
        value_TN,
        next_value_TN,
        rows.terminated,
        rows.done,
        gamma,
        gae_lambda,
        rows.valid,
    )
    return_TN = advantage_TN + value_TN
    weight_TN = None if rows.counts is None else rows.counts.to(value_TN.dtype)
    explained = explained_variance(value_TN, return_TN, weight_TN)
    if value_norm is not None:
        value_norm.update(return_TN, **counted)
        return_TN = value_norm(return_TN)
    return Estimates(advantage_TN, return_TN, explained)


def cut_chunks(samples: Samples, extras: dict[str, Tensor], length: int) -> Samples:
    """Cut ``(T, N, ...)`` into chunks ``(C, L, ...)``; add the hidden states before each, (C, ..., H)."""
    steps = samples["reset"].shape[0]

    def cut(leaf: Tensor) -> Tensor:
        parts = leaf.unflatten(0, (steps // length, length)).transpose(1, 2)  # (T/L, N, L, ...)
        return parts.flatten(0, 1)

    chunks = map_nested(cut, samples)
    for name in ("hidden_actor", "hidden_critic"):
        chunks[name] = extras[name][::length].flatten(0, 1)  # from (T/L, N, H) or (T/L, N, A, H)
    return chunks


def shuffled_epochs(
    samples: Samples, usable: Tensor | None, per_batch: int, num_epochs: int
) -> Iterator[list[Samples]]:
    """Per epoch the samples in a new order, as minibatches of constant size.

    Args:
        samples: First axis: rows, a multiple of ``per_batch``.
        usable: Indices of the rows that may be used; None allows all. Where some may not, others come
            twice, so that all minibatches keep their size.
        per_batch: Rows per minibatch.
        num_epochs: Number of lists to make.
    """
    rows = samples["log_prob"].shape[0]
    if per_batch == rows:  # the whole rollout in one minibatch: its order does not matter
        whole = samples if usable is None else _take(samples, _repeat(usable, rows))
        for _ in range(num_epochs):
            yield [whole]
        return
    for _ in range(num_epochs):
        order = torch.randperm(rows if usable is None else len(usable), device=samples["log_prob"].device)
        parts = map_nested(
            lambda leaf: leaf.split(per_batch),
            _take(samples, order if usable is None else _repeat(usable[order], rows)),
        )
        yield [map_nested(lambda part: part[i], parts) for i in range(rows // per_batch)]  # noqa: B023


def rows_per_minibatch(batch_size: int, per_row: int, log_prob: Tensor) -> int:
    """Rows of a minibatch of ``batch_size`` transitions.

    Args:
        batch_size: Transitions, those of each agent counted.
        per_row: Transitions of a row: the agents of one environment, times the steps of a chunk.
        log_prob: Log-probabilities of the whole rollout, (rows, ...).

    Raises:
        ValueError: The rollout cannot be divided into such minibatches.
    """
    if batch_size % per_row:
        raise ValueError(
            f"PPO: batch_size = {batch_size} must be a multiple of {per_row}: the agents of an environment "
            "(and the steps of a chunk) stay together"
        )
    if log_prob.numel() % batch_size:
        raise ValueError(
            f"PPO: batch_size = {batch_size} must divide {log_prob.numel()}, the transitions of a rollout "
            "(rollout_steps * num_envs * agents); change one of them"
        )
    return batch_size // per_row


def normalized_epochs(
    epochs: Iterable[list[Samples]], sum_over_ranks: SumOverRanks
) -> Iterator[list[Samples]]:
    """Normalise the advantages of each minibatch; a whole rollout in one is normalised only once."""
    known: list[Samples] | None = None
    normalized: list[Samples] = []
    for minibatches in epochs:
        if known is None or minibatches[0] is not known[0]:
            known, normalized = minibatches, normalize_advantages(minibatches, sum_over_ranks)
        yield normalized


def normalize_advantages(minibatches: list[Samples], sum_over_ranks: SumOverRanks) -> list[Samples]:
    """Advantages with mean 0 and standard deviation 1 over each minibatch, of all ranks together.

    Args:
        minibatches: Samples of equal size. Rows with ``weight`` 0 do not count.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks; called thrice for all minibatches
            together.
    """
    groups = torch.stack([minibatch["advantage"].flatten() for minibatch in minibatches])  # (minibatches, B)
    weight = torch.ones_like(groups)
    if "weight" in minibatches[0]:
        weight = torch.stack([minibatch["weight"].flatten() for minibatch in minibatches])
    count = sum_over_ranks(weight.sum(1, keepdim=True)).clamp(min=1)
    mean = sum_over_ranks((groups * weight).sum(1, keepdim=True)) / count
    squares = sum_over_ranks(((groups - mean).square() * weight).sum(1, keepdim=True))
    normal = (groups - mean) / ((squares / (count - 1).clamp(min=1)).sqrt() + 1e-8)
    return [
        minibatch | {"advantage": row.view_as(minibatch["advantage"])}
        for minibatch, row in zip(minibatches, normal, strict=True)
    ]


def _take(samples: Samples, order: Tensor) -> Samples:
    return map_nested(lambda leaf: leaf.index_select(0, order), samples)


def _repeat(order: Tensor, rows: int) -> Tensor:
    return order.repeat(-(-rows // len(order)))[:rows]
