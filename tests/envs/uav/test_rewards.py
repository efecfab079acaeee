"""Reward terms by hand, their exact sum, and the sparse reward."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.energy import min_power_w, propulsion_power_w
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.rewards import DENSE_TERMS, reward_terms, update_goal


def test_terms_sum_to_the_reward_exactly() -> None:
    names = [f"reward_{term}" for term in DENSE_TERMS]
    env = UAVNetwork(16, record=names, num_steps=20)
    env.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(25):
        step = env.step(rng.uniform(-1, 1, (16, 5, 3)))
        terms = [step.metrics[name] for name in names]
        np.testing.assert_array_equal(sum(terms), step.reward)  # float32, this order
        np.testing.assert_array_equal(sum(term.astype(np.float64) for term in reversed(terms)), step.reward)
        assert step.reward.dtype == np.float32


def test_dense_terms_by_hand() -> None:
    """Two UAVs hover 10 m apart over two users beside the gateway; one user is out of reach."""
    env = UAVNetwork(1, num_uavs=2, num_users=3)
    env.reset(0)
    world = env._world
    world.position[0] = np.array([[100.0, 100.0, 60.0], [100.0, 110.0, 60.0]]).T
    world.users[0] = np.array([[100.0, 95.0], [100.0, 115.0], [1000.0, 1000.0]]).T
    world.power_w[0] = propulsion_power_w(np.array([0.0, 20.0]))
    signals = env._evaluate(world)
    terms = reward_terms(env.scenario, world, signals, np.array([False]))[:, 0]
    served = int(signals.is_connected.sum())
    excess = (168.484 + 178.297) / 2 - min_power_w()
    expected = [0.5 * served / 3, 0.3 * signals.rate_mbps.sum() / 200, 0.2, -0.05 * excess / 356.3, -0.1]
    np.testing.assert_allclose(terms, expected, atol=2e-5)


def test_throughput_term_is_capped() -> None:
    env = UAVNetwork(1, num_uavs=1, target_throughput_mbps=1e-3, record=["reward_throughput"])
    env.reset(0)
    env._world.users[0] = env._world.position[0, :2, :1]
    step = env.step(np.zeros((1, 1, 3)))
    assert step.metrics["reward_throughput"] == pytest.approx(0.3, abs=1e-6)


def test_sparse_reward_comes_once_after_the_goal_was_held() -> None:
    """The coverage is set by hand: 3 steps held, lost, then 10 held, twice."""
    env = UAVNetwork(1, sparse=True, goal_steps=4, num_users=5)
    env.reset(0)
    world = env._world
    covered = [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    rewards = []
    for is_covered in covered:
        signals = env._evaluate(world)._replace(num_connected=np.array([5 * is_covered]))
        has_succeeded = update_goal(env.scenario, world, signals)
        rewards.append(float(reward_terms(env.scenario, world, signals, has_succeeded).sum()))
    assert rewards == [0] * 7 + [1] + [0] * 8
    assert world.reached[0]


def test_sparse_environment_reports_success() -> None:
    """A goal that is easy to hold: the reward is 1 once, success stays until the next episode."""
    goal: dict = {"sparse": True, "goal_coverage": 1e-9, "goal_steps": 3, "placement": "uniform"}
    env = UAVNetwork(2, num_steps=5, record=["is_success"], **goal)
    env.reset(0)
    steps = [env.step(np.zeros((2, 5, 3))) for _ in range(6)]
    assert [step.reward.tolist() for step in steps] == [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert [step.metrics["is_success"].tolist() for step in steps] == [[0, 0]] * 2 + [[1, 1]] * 3 + [[0, 0]]
