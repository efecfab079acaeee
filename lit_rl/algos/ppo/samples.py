"""From a rollout to the minibatches of PPO: recurrent chunks, shuffling, normalising.

Axes: T time, N environments, A agents, C chunks of L steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lit_rl.nested import map_nested

Samples: TypeAlias = dict[str, Any]
"""Nested tensors with the same first axis: transitions, or chunks of a recurrent policy. All agents of an
environment share a row: the rest of their shape begins with the agent axis."""


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
        log_prob: Of the whole rollout, (rows, ...).

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
    epochs: Iterable[list[Samples]], sum_over_ranks: Callable[[Tensor], Tensor]
) -> Iterator[list[Samples]]:
    """The same minibatches with normalised advantages; a whole rollout in one is normalised only once."""
    known: list[Samples] | None = None
    normalized: list[Samples] = []
    for minibatches in epochs:
        if known is None or minibatches[0] is not known[0]:
            known, normalized = minibatches, normalize_advantages(minibatches, sum_over_ranks)
        yield normalized


def normalize_advantages(
    minibatches: list[Samples], sum_over_ranks: Callable[[Tensor], Tensor]
) -> list[Samples]:
    """Advantages with mean 0 and standard deviation 1 over each minibatch, of all ranks together.

    Args:
        minibatches: Of equal size. Rows with ``weight`` 0 do not count.
        sum_over_ranks: Replaces a tensor by its sum over ranks; called thrice for all minibatches together.
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
