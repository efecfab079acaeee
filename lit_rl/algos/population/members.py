"""The rollout of a population, taken apart member by member.

Axes: T steps, N environments, E chosen environments (those of a member), V members, B samples,
K finished episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lit_rl.algos.ppo.policy import ProximalPolicy, Values
from lit_rl.algos.ppo.samples import Samples
from lit_rl.nested import map_nested
from lit_rl.ranks import Ranks
from lit_rl.types import Nested, Rollout


def check_environments(number_TN: Tensor, num_members: int, key: str) -> Tensor:
    """Return which environments each member has, int64 ``(V, E)``.

    Args:
        number_TN: Number of the member that each environment shows, ``(T+1, N)``.
        num_members: Number V of members.
        key: Key at which it stands, for messages.

    Raises:
        ValueError: An environment changed its member, or members have different numbers of environments.
    """
    first_N = number_TN[0].long()
    if bool((number_TN != number_TN[:1]).any()):
        raise ValueError(
            f"PopulationPPO: {key} changed within a rollout, but environments must keep their member; give "
            "each its own (PlanarArm-v0: fixed_bodies=true)"
        )
    counts = first_N.bincount(minlength=num_members)
    if bool((counts != counts[0]).any()):
        least, most = int(counts.min()), int(counts.max())
        raise ValueError(
            f"PopulationPPO: each of {num_members} members must have the same number of environments, got "
            f"{least} to {most}; num_envs must be a multiple of {num_members}"
        )
    return first_N.argsort(stable=True).view(num_members, -1)


def of_members(rollout: Rollout, index_VE: Tensor, obs: Nested, final_obs: Nested) -> list[Rollout]:
    """Take a rollout apart: that of a member holds its environments alone, in their order.

    Args:
        rollout: The rollout of all environments.
        index_VE: What :func:`check_environments` returned.
        obs: Observations ``(T+1, N, ...)`` as members see them.
        final_obs: Last observations ``(K, ...)`` as members see them.
    """
    num_members, of_each = index_VE.shape
    place_N = torch.empty_like(index_VE.flatten())  # of an environment among those of its member
    member_N = torch.empty_like(place_N)
    place_N[index_VE] = torch.arange(of_each, device=index_VE.device).expand_as(index_VE)
    member_N[index_VE] = torch.arange(num_members, device=index_VE.device)[:, None].expand_as(index_VE)
    ended_K, steps = rollout["final_index"], len(rollout["terminated"])
    env_K, step_K = ended_K % len(place_N), ended_K // len(place_N)
    parts = []
    for m, index_E in enumerate(index_VE):
        own_K = (member_N[env_K] == m).nonzero().squeeze(-1)
        taken = {
            name: None if (leaf := rollout[name]) is None else leaf.index_select(1, index_E)
            for name in ("reset", "action", "reward", "terminated", "truncated", "valid")
        }
        final_index = step_K[own_K] * of_each + place_N[env_K[own_K]]
        part: dict[str, Any] = {
            **rollout,
            **taken,
            "obs": map_nested(lambda leaf: leaf.index_select(1, index_E), obs),  # noqa: B023
            "final_index": final_index,
            "final_obs": map_nested(lambda leaf: leaf.index_select(0, own_K), final_obs),  # noqa: B023
            "num_envs": of_each,
            "new_steps": steps * of_each,
        }
        parts.append(cast("Rollout", part))
    return parts


def samples_of_members(
    policies: Sequence[ProximalPolicy], rollouts: Sequence[Rollout], ranks: Ranks
) -> tuple[Samples, Values]:
    """Estimate advantages and targets of every member, as its ``ProximalPolicy`` does alone.

    Returns:
        Samples ``(B, V, ...)``, where steps that are no transitions have weight 0; and means over members of
        what is to be logged.
    """
    every: list[Samples] = []
    values: list[Values] = []
    for policy, rollout in zip(policies, rollouts, strict=True):
        samples, logged = policy.samples(rollout, policy.replay(rollout), ranks)
        if rollout["valid"] is not None:
            samples["weight"] = rollout["valid"].flatten().to(samples["log_prob"].dtype)
        every.append(samples)
        values.append(logged)
    together = map_nested(lambda *leaves: torch.stack(leaves, 1), *every)
    means = {name: torch.stack([torch.as_tensor(of[name]) for of in values]).nanmean() for name in values[0]}
    return together, dict(means)


def rows_of_members(number_N: Tensor, num_members: int) -> tuple[Tensor, Tensor]:
    """Return which environments each member decides for, and where among them an environment stands.

    Args:
        number_N: Number of the member of each environment, int64 ``(N,)``.
        num_members: Number V of members.

    Returns:
        Environments ``(V, E)``, where E is the most that one member has; what is left of other members is
        filled with environment 0, which nobody reads. And places ``(N,)`` from 0 to E - 1.
    """
    order_N = number_N.argsort(stable=True)
    counts = number_N.bincount(minlength=num_members)
    sorted_N = number_N[order_N]
    place_N = torch.arange(len(order_N), device=order_N.device) - (counts.cumsum(0) - counts)[sorted_N]
    rows_VE = order_N.new_zeros(num_members, int(counts.max()))
    rows_VE[sorted_N, place_N] = order_N
    return rows_VE, torch.empty_like(place_N).index_copy_(0, order_N, place_N)
