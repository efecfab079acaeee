"""From a rollout to the minibatches of PPO: agents folded in, recurrent chunks, shuffling, normalising.

Axes: T time, N environments, A agents, B minibatch, C chunks of L steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lit_rl.nested import map_nested
from lit_rl.types import Rollout

Samples: TypeAlias = dict[str, Any]
"""Nested tensors with the same first axis: transitions, or chunks of a recurrent policy."""


def fold_agents(rollout: Rollout, num_agents: int) -> Rollout:
    """See every agent as an environment: ``(T, N, A, ...)`` to ``(T, N*A, ...)``; a team reward is shared."""

    def fold(leaf: Tensor) -> Tensor:
        return leaf.flatten(1, 2)

    def spread(leaf: Tensor) -> Tensor:
        return leaf.unsqueeze(2).expand(*leaf.shape, num_agents).flatten(1, 2)

    folded = dict(rollout)
    for name in ("obs", "action", "extras"):
        folded[name] = map_nested(fold, rollout[name])
    for name in ("reset", "terminated", "truncated", "valid"):
        leaf: Tensor | None = rollout[name]
        folded[name] = None if leaf is None else spread(leaf)
    reward = rollout["reward"]
    folded["reward"] = fold(reward) if reward.ndim == 3 else spread(reward)
    index = rollout["final_index"].unsqueeze(1) * num_agents  # env n of step t is row (t*N + n)*A + a
    folded["final_index"] = (index + torch.arange(num_agents, device=index.device)).flatten()
    folded["final_obs"] = map_nested(lambda leaf: leaf.flatten(0, 1), rollout["final_obs"])
    folded["carry"] = map_nested(lambda leaf: leaf.flatten(0, 1), rollout["carry"])
    return folded  # type: ignore[return-value]  # the same keys, with the agent axis folded


def cut_chunks(samples: Samples, extras: dict[str, Tensor], length: int) -> Samples:
    """Cut ``(T, N, ...)`` into chunks ``(C, L, ...)`` and add the hidden states before each, (C, H)."""
    steps = samples["reset"].shape[0]

    def cut(leaf: Tensor) -> Tensor:
        parts = leaf.unflatten(0, (steps // length, length)).transpose(1, 2)  # (T/L, N, L, ...)
        return parts.flatten(0, 1)

    chunks = map_nested(cut, samples)
    for name in ("hidden_actor", "hidden_critic"):
        chunks[name] = extras[name][::length].flatten(0, -2)  # from (T/L, N, H) or (T/L, N, A, H)
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
    count = sum_over_ranks(weight.sum(1, keepdim=True))
    mean = sum_over_ranks((groups * weight).sum(1, keepdim=True)) / count
    squares = sum_over_ranks(((groups - mean).square() * weight).sum(1, keepdim=True))
    normal = (groups - mean) / ((squares / (count - 1)).sqrt() + 1e-8)
    return [
        minibatch | {"advantage": row.view_as(minibatch["advantage"])}
        for minibatch, row in zip(minibatches, normal, strict=True)
    ]


def _take(samples: Samples, order: Tensor) -> Samples:
    return map_nested(lambda leaf: leaf.index_select(0, order), samples)


def _repeat(order: Tensor, rows: int) -> Tensor:
    return order.repeat(-(-rows // len(order)))[:rows]
