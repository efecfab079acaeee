"""Features by hand, the nearest users against a slow twin, and what is read back from a state."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.observations import positions_in, users_in
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World


def network(**settings: object) -> tuple[UAVNetwork, dict[str, np.ndarray], World]:
    """Four networks after some random flight."""
    env = UAVNetwork(4, **settings)
    env.reset(3)
    rng = np.random.default_rng(0)
    obs = {}
    for _ in range(30):
        obs = env.step(rng.uniform(-1, 1, (4, env.scenario.num_uavs, 3))).obs
    return env, obs, env._world


def test_own_features_by_hand() -> None:
    env, _, _ = network()
    world = env._world
    world.position[0, :, 0] = [1000.0, 250.0, 50.0]
    world.velocity[0, :, 0] = [-20.0, 10.0, 2.5]
    world.step_count[0] = 50
    world.energy_j[0, 0] = 0.0
    own = env._observer.observe(world, env._evaluate(world))["observation"][0, 0, :14]
    np.testing.assert_allclose(own[:6], [1.0, -0.5, -1.0, -1.0, 0.5, 0.5])
    assert own[6] == 1.0  # energy
    assert own[8:11].sum() == 1.0  # one role
    assert own[11] == own[12] == 0.0  # 1 km from the gateway, and no UAV in between
    assert own[13] == 0.25


def test_blocks_after_the_own_features() -> None:
    env, obs, world = network()
    row = obs["observation"][1, 2]
    here = world.position[1, :, 2]
    signals = env._evaluate(world)
    gateway = (np.array([0, 0, 25.0]) - here) / [1000, 1000, 150]
    np.testing.assert_allclose(row[14:17], gateway, atol=1e-6)
    others = row[17:45].reshape(4, 7)
    way = (world.position[1, :, [0, 1, 3, 4]] - here) / [1000, 1000, 100]
    np.testing.assert_allclose(others[:, :3], way, atol=1e-6)
    distance = np.linalg.norm(world.position[1, :, [0, 1, 3, 4]] - here, axis=1)
    np.testing.assert_array_equal(others[:, 4], distance < 461.0)  # free space at 5.8 GHz, 13 dB
    np.testing.assert_allclose(others[:, 5], signals.load[1, [0, 1, 3, 4]] / 12)


def test_nearest_users_equal_a_slow_twin() -> None:
    env, obs, world = network()
    signals = env._evaluate(world)
    for n in range(4):
        for a in range(5):
            way = (world.users[n] - world.position[n, :2, a, None]).T  # (G, 2)
            order = np.square(way).sum(1).argsort(kind="stable")[:10]
            mine = signals.serves[n, a, order]
            other = signals.serves[n][:, order].sum(0) - mine
            expected = np.column_stack([way[order] / 1000, mine, other])
            np.testing.assert_allclose(obs["observation"][n, a, 45:].reshape(10, 4), expected, atol=1e-6)
    assert obs["observation"][:, :, 47::4].any()  # some UAV serves somebody


def test_roles() -> None:
    """UAV 1 serves a user far away over UAV 0, which serves nobody; UAV 2 does nothing."""
    env = UAVNetwork(1, num_uavs=3, num_users=1)
    env.reset(0)
    world = env._world
    world.users[0, :, 0] = [900.0, 0.0]
    world.position[0] = np.array([[450.0, 0.0, 100.0], [800.0, 0.0, 100.0], [100.0, 900.0, 100.0]]).T
    obs = env._observer.observe(world, env._evaluate(world))["observation"][0]
    np.testing.assert_array_equal(obs[:, 8:11], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(obs[:, 11], [1 / 3, 2 / 3, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_uavs": 1, "num_users": 3},  # fewer users than places for them
        {"gateways": [[0, 0, 25], [1000, 500, 60]], "num_uavs": 3},
        {"placement": "uniform", "mobility": "random_waypoint", "max_hops": 2},
        {"battery_j": 3000.0},
    ],
)
def test_within_one(settings: dict) -> None:
    env, obs, _ = network(**settings)
    scenario = env.scenario
    assert obs["observation"].shape == (4, scenario.num_uavs, scenario.num_observed)
    assert obs["state"].shape == (4, scenario.num_state)
    for leaf in obs.values():
        assert leaf.dtype == np.float32
        assert np.abs(leaf).max() <= 1
    if scenario.num_users == 3:
        assert not obs["observation"][..., -4 * 7 :].any()


def test_state_can_be_read_back() -> None:
    env, obs, world = network()
    position = positions_in(env.scenario, obs["state"])
    np.testing.assert_allclose(position, world.position.swapaxes(1, 2), atol=1e-3)
    np.testing.assert_allclose(users_in(env.scenario, obs["state"]), world.users.swapaxes(1, 2), atol=1e-3)


def test_state_ends_with_gateways_and_time() -> None:
    _, obs, _ = network()
    np.testing.assert_allclose(obs["state"][:, -4:], [[-1.0, -1.0, 25 / 150, 30 / Scenario().num_steps]] * 4)
