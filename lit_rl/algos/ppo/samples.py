"""From a rollout to the minibatches of PPO: advantages, recurrent chunks, shuffling, normalising.

Axes: T steps, N environments, A agents, M minibatches, B samples (transitions or chunks), L window steps,
H hidden units; (T, N) stands for (T, N, A) where there are agents.
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
"""Nested tensors (B, ...). All agents of an environment stay together in a sample: its shape begins with the
agent axis, or with (L, A) in a chunk."""


class Estimates(NamedTuple):
    """Estimates from the rewards of a rollout, which actor and critic are trained on.

    Attributes:
        advantage: Advantages (T, N), not normalised; 0 where no transition took place.
        target: Targets (T, N) of the critic: returns, normalised when there is a ``ValueNorm``.
        explained: Share of the variance of returns that the values explain, a scalar.
    """

    advantage: Tensor
    target: Tensor
    explained: Tensor


@torch.no_grad()
def estimate(
    rows: Rows,
    output_TN: Tensor,
    next_output_TN: Tensor,
    gamma: float,
    gae_lambda: float,
    return_scale: ReturnScale | None,
    value_norm: ValueNorm | None,
    sum_over_ranks: SumOverRanks,
) -> Estimates:
    """Estimate advantages by GAE, and from them the targets of the critic.

    Outputs of the critic are denormalised by the statistics that they were learned with. Only then the
    statistics take in the new returns, and normalise them.

    Args:
        rows: Rewards and ends.
        output_TN: Outputs of the critic for the observations acted on.
        next_output_TN: Its outputs for the true next observations.
        gamma: Discount per step.
        gae_lambda: Decay of the estimator, 0 to 1, which ``gae`` explains.
        return_scale: Scales the rewards; updated here.
        value_norm: Normalises the critic's outputs; updated here.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks.
    """
    counted: Any = {"valid": rows.acted, "sum_over_ranks": sum_over_ranks}
    value_TN, next_value_TN, reward_TN = output_TN, next_output_TN, rows.reward
    if value_norm is not None:
        value_TN, next_value_TN = value_norm.denormalize(output_TN), value_norm.denormalize(next_output_TN)
    if return_scale is not None:
        return_scale.update(reward_TN, rows.done, rows.begins, **counted)
        reward_TN = return_scale(reward_TN)
    reward_TN, terminated_TN, valid_TN = reward_TN.to(value_TN), rows.terminated, rows.valid
    advantage_TN = gae(
        reward_TN, value_TN, next_value_TN, terminated_TN, rows.done, gamma, gae_lambda, valid_TN
    )
    return_TN = advantage_TN + value_TN
    weight_TN = None if rows.acted is None else rows.acted.to(value_TN.dtype)
    explained = explained_variance(value_TN, return_TN, weight_TN)
    if value_norm is not None:
        value_norm.update(return_TN, **counted)
        return_TN = value_norm(return_TN)
    return Estimates(advantage_TN, return_TN, explained)


def cut_chunks(samples: Samples, extras: dict[str, Tensor], length: int) -> Samples:
    """Cut ``(T, N, ...)`` into chunks ``(B, L, ...)``, and add the hidden states ``(B, H)`` before each."""
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
    """Yield, for each epoch, the samples in a new order as minibatches of constant size.

    Args:
        samples: Samples whose number is a multiple of ``per_batch``.
        usable: Indices of the samples that may be used; None allows all. Where some may not, others come
            twice, so that all minibatches keep their size.
        per_batch: Samples per minibatch.
        num_epochs: Number of epochs.
    """
    number = samples["log_prob"].shape[0]
    if per_batch == number:  # the whole rollout in one minibatch: its order does not matter
        whole = samples if usable is None else _take(samples, _repeat(usable, number))
        for _ in range(num_epochs):
            yield [whole]
        return
    for _ in range(num_epochs):
        order = torch.randperm(number if usable is None else len(usable), device=samples["log_prob"].device)
        parts = map_nested(
            lambda leaf: leaf.split(per_batch),
            _take(samples, order if usable is None else _repeat(usable[order], number)),
        )
        yield [map_nested(lambda part: part[i], parts) for i in range(number // per_batch)]  # noqa: B023


def samples_per_minibatch(batch_size: int, per_sample: int, log_prob_B: Tensor) -> int:
    """Return how many samples make a minibatch of ``batch_size`` transitions.

    Args:
        batch_size: Transitions, those of each agent counted.
        per_sample: Transitions in a sample: the agents of an environment, times the steps of a chunk.
        log_prob_B: Log-probabilities of the whole rollout.

    Raises:
        ValueError: The rollout cannot be divided into such minibatches.
    """
    if batch_size % per_sample:
        raise ValueError(
            f"PPO: batch_size = {batch_size} must be a multiple of {per_sample}: the agents of an environment"
            " (and the steps of a chunk) stay together"
        )
    if log_prob_B.numel() % batch_size:
        raise ValueError(
            f"PPO: batch_size = {batch_size} must divide {log_prob_B.numel()}, the transitions of a rollout "
            "(rollout_steps * num_envs * agents); change one of them"
        )
    return batch_size // per_sample


def normalized_epochs(
    epochs: Iterable[list[Samples]], sum_over_ranks: SumOverRanks
) -> Iterator[list[Samples]]:
    """Normalise the advantages of each minibatch; if that is the whole rollout, do so only once."""
    known: list[Samples] | None = None
    normalized: list[Samples] = []
    for minibatches in epochs:
        if known is None or minibatches[0] is not known[0]:
            known, normalized = minibatches, normalize_advantages(minibatches, sum_over_ranks)
        yield normalized


def normalize_advantages(minibatches: list[Samples], sum_over_ranks: SumOverRanks) -> list[Samples]:
    """Give the advantages of each minibatch, of all ranks together, mean 0 and standard deviation 1.

    Args:
        minibatches: Samples of equal size; entries with ``weight`` 0 do not count.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks; called thrice for all minibatches.
    """
    advantage_MB = torch.stack([minibatch["advantage"].flatten() for minibatch in minibatches])
    weight_MB = torch.ones_like(advantage_MB)
    if "weight" in minibatches[0]:
        weight_MB = torch.stack([minibatch["weight"].flatten() for minibatch in minibatches])
    count = sum_over_ranks(weight_MB.sum(1, keepdim=True)).clamp(min=1)  # (M, 1)
    mean = sum_over_ranks((advantage_MB * weight_MB).sum(1, keepdim=True)) / count
    squares = sum_over_ranks(((advantage_MB - mean).square() * weight_MB).sum(1, keepdim=True))
    normal_MB = (advantage_MB - mean) / ((squares / (count - 1).clamp(min=1)).sqrt() + 1e-8)
    return [
        minibatch | {"advantage": normal_B.view_as(minibatch["advantage"])}
        for minibatch, normal_B in zip(minibatches, normal_MB, strict=True)
    ]


def _take(samples: Samples, order_B: Tensor) -> Samples:
    return map_nested(lambda leaf: leaf.index_select(0, order_B), samples)


def _repeat(order_B: Tensor, number: int) -> Tensor:
    return order_B.repeat(-(-number // len(order_B)))[:number]
