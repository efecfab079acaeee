"""Policies to compare with: what they plan, that they arrive, and which of them is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.uav.baselines import FlyToTargets, KMeans, RandomFlight, Stay, k_means
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.types import Policy


def coverage(policy: Policy, num_envs: int = 16, **settings: Any) -> float:
    """Mean over one whole episode of each network."""
    env = UAVNetwork(num_envs, record=["coverage_ratio"], **settings)
    rollout = InlineCollector(env, seed=0).collect(policy, 200, policy_version=0)
    assert len(rollout["final_index"]) == num_envs
    return rollout["metrics"]["coverage_ratio"].mean().item()


def test_order_of_the_baselines() -> None:
    stay, random = coverage(Stay()), coverage(RandomFlight())
    relay, centres = coverage(KMeans(num_relays=1)), coverage(KMeans())
    assert stay < random < centres < relay
    assert relay > 0.4


def test_discrete_k_means_arrives_too() -> None:
    settings: dict[str, Any] = {"actions": "discrete"}
    assert coverage(KMeans(num_relays=1, **settings), **settings) > 0.35
    assert coverage(RandomFlight(**settings), **settings) < 0.2


def test_k_means_finds_separate_groups() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    points = np.repeat(groups, 20, 0) + rng.normal(0, 1, (4, 60, 2))
    found = k_means(points, 3, np.random.default_rng(3))
    for centres in found:
        inertia = np.square(points[0][:, None] - centres).sum(-1).min(1).mean()
        assert inertia < 2600  # at worst two groups share a centre
    exact = k_means(points[:, :20], 1, rng)
    np.testing.assert_allclose(exact[:, 0], points[:, :20].mean(1))


def test_relay_stands_halfway() -> None:
    policy = KMeans(num_relays=1, height_m=60.0, num_uavs=2)
    users = np.full((3, 50, 2), 800.0)
    plan = policy.plan(np.zeros((3, 2, 3)), users)
    np.testing.assert_allclose(plan, [[[400, 400, 60], [800, 800, 60]]] * 3)


def test_targets_are_kept_until_the_next_episode() -> None:
    env = UAVNetwork(2)
    obs = {key: torch.from_numpy(leaf) for key, leaf in env.reset(0).items()}
    policy = KMeans()
    first = policy.act(obs, policy.initial_carry(2), torch.tensor([True, True]))
    second = policy.act(obs, first.carry, torch.tensor([False, True]))
    assert torch.equal(first.carry["target"][0], second.carry["target"][0])
    assert first.action.dtype == torch.float32
    assert first.action.abs().max() <= 1


def test_staying_is_an_action_of_zeros() -> None:
    env = UAVNetwork(2)
    obs = {key: torch.from_numpy(leaf) for key, leaf in env.reset(0).items()}
    policy = Stay()
    assert isinstance(policy, FlyToTargets)
    action = policy.act(obs, policy.initial_carry(2), torch.ones(2, dtype=torch.bool)).action
    assert not action.any()


def test_messages() -> None:
    with pytest.raises(ValueError, match="num_relays must be from 0 to 4, below num_uavs; got 5"):
        KMeans(num_relays=5)
    with pytest.raises(ValueError, match="k-means needs a user per centre: 5 centres, 3 users"):
        KMeans(num_users=3)
