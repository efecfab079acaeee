"""The batch of networks: contract, physics of a whole step, episodes, and exact continuation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.envs.uav.measures import MEASURES
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.world import MOVES
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import EnvSpec, Step, VectorEnv


def play(env: UAVNetwork, seed: int, num_steps: int) -> list[Step]:
    """Fly at random; UAV a of network i does the same whatever N is."""
    env.reset(seed)
    return [env.step(actions(env, seed, t)) for t in range(num_steps)]


def actions(env: UAVNetwork, seed: int, t: int) -> np.ndarray:
    rows = [np.random.default_rng([seed + i, t]) for i in range(env.num_envs)]
    uavs = env.scenario.num_uavs
    if env.scenario.actions == "discrete":
        return np.stack([rng.integers(0, 7, uavs) for rng in rows])
    return np.stack([rng.uniform(-1, 1, (uavs, 3)) for rng in rows])


def assert_equal_rows(one: Any, many: Any, row: int) -> None:
    for key in one:
        np.testing.assert_array_equal(one[key][0], many[key][row], err_msg=key)


def test_spec_and_shapes() -> None:
    env = make_vector_env(UAVNetwork, 3, env_kwargs={"num_uavs": 4}, record=["coverage_ratio"])
    assert isinstance(env, VectorEnv)
    assert EnvSpec.from_dict(env.spec.to_dict()) == env.spec
    assert env.spec.agents == ["uav_0", "uav_1", "uav_2", "uav_3"]
    obs = env.reset(0)
    assert {key: leaf.shape for key, leaf in obs.items()} == {
        "observation": (3, 4, *env.spec.observation["observation"].shape),
        "state": (3, env.spec.state),
    }
    step = env.step(np.zeros((3, 4, 3), np.float32))
    assert step.reward.shape == step.terminated.shape == step.truncated.shape == (3,)
    assert step.final_obs is None
    assert step.valid is None
    assert step.metrics["coverage_ratio"].dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"actions": "discrete", "mobility": "random_waypoint", "walking_speed_m_s": 30.0},
        {"min_sinr_db": -6.0},
    ],
)
def test_network_i_does_not_depend_on_n(settings: dict) -> None:
    record = [*MEASURES]
    many = play(UAVNetwork(7, num_steps=6, record=record, **settings), 10, 14)
    for i in (0, 4):
        for one, all_ in zip(
            play(UAVNetwork(1, num_steps=6, record=record, **settings), 10 + i, 14), many, strict=True
        ):
            assert_equal_rows(one.obs, all_.obs, i)
            assert_equal_rows(one.metrics, all_.metrics, i)
            assert one.reward[0] == all_.reward[i]


def test_episodes_end_and_restart() -> None:
    env = UAVNetwork(2, num_steps=5)
    steps = play(env, 0, 11)
    assert [step.truncated.tolist() for step in steps] == [[t in (4, 9)] * 2 for t in range(11)]
    assert not any(step.terminated.any() for step in steps)
    last = steps[4]
    assert last.final_obs is not None
    assert last.final_obs["state"][:, -1].tolist() == [1, 1]  # t / T
    assert last.obs["state"][:, -1].tolist() == [0, 0]
    assert (last.final_obs["state"] != last.obs["state"]).any(1).all()
    assert [step.final_obs is None for step in steps] == [t not in (4, 9) for t in range(11)]
    assert (steps[4].obs["state"][:, 45:] != steps[9].obs["state"][:, 45:]).any()  # other users


def test_returned_arrays_are_not_written_to_later() -> None:
    env = UAVNetwork(2, num_steps=3, record=["is_success", "mean_hops"])
    steps = play(env, 0, 1)
    kept = {key: leaf.copy() for key, leaf in steps[0].obs.items()}
    reached = steps[0].metrics["is_success"].copy()
    for t in range(1, 8):
        env.step(actions(env, 0, t))
    np.testing.assert_array_equal(steps[0].obs["observation"], kept["observation"])
    np.testing.assert_array_equal(steps[0].obs["state"], kept["state"])
    np.testing.assert_array_equal(steps[0].metrics["is_success"], reached)


def test_flight_by_hand() -> None:
    env = UAVNetwork(1)
    env.reset(0)
    env._world.position[0] = np.array([[500.0, 500.0, 100.0]] * 5).T
    wanted = [[1, 0, 1], [3, 4, 0], [0.3, 0.4, -0.5], [-1, -1, -9], [0, 0, 0]]
    env.step(np.array([wanted]))
    half = 20 * 0.5**0.5
    expected = [[20, 0, 5], [half, half, 0], [6, 8, -2.5], [-half, -half, -5], [0, 0, 0]]
    np.testing.assert_allclose(env._world.velocity[0].T, expected, atol=1e-4)
    np.testing.assert_allclose(env._world.position[0].T, np.add([500, 500, 100], expected), atol=1e-4)


def test_border_stops_flight_and_costs_only_hovering() -> None:
    env = UAVNetwork(1, record=["energy_j"])
    env.reset(0)
    env._world.position[0] = np.array([[0.0, 0.0, 150.0]] * 5).T
    step = env.step(np.array([[[-1, 0, 1]] * 5]))
    assert not env._world.velocity.any()
    assert step.metrics["energy_j"] == pytest.approx(5 * 168.5, rel=1e-3)


def test_discrete_actions_are_seven_velocities() -> None:
    box, discrete = UAVNetwork(2), UAVNetwork(2, actions="discrete")
    assert (discrete.spec.action.kind, discrete.spec.action.categories) == ("discrete", [7])
    box.reset(0)
    discrete.reset(0)
    for t in range(7):
        chosen = (np.arange(10).reshape(2, 5) + t) % 7
        one, other = box.step(MOVES[chosen]), discrete.step(chosen)
        np.testing.assert_array_equal(one.obs["observation"], other.obs["observation"])


def test_starts_near_the_gateways() -> None:
    env = UAVNetwork(50, gateways=[[0, 0, 25], [1000, 400, 25]])
    env.reset(0)
    flat = env._world.position[:, :2]
    assert (flat[:, :, [0, 2, 4]] <= 200).all()
    assert (flat[:, 0, [1, 3]] >= 800).all()
    assert (np.abs(flat[:, 1, [1, 3]] - 400) <= 200).all()
    assert ((env._world.position[:, 2] >= 50) & (env._world.position[:, 2] <= 150)).all()


def test_empty_batteries() -> None:
    """Climbing empties UAV 0 first: it stops, serves nobody and has no route; then all are empty."""
    env = UAVNetwork(1, battery_j=700.0, num_steps=50, record=["energy_j", "connectivity_ratio"])
    env.reset(0)
    action = np.zeros((1, 5, 3))
    action[0, 0, 2] = -1.0
    env._world.energy_j[0, 0] = 400.0
    steps = []
    while not steps or not steps[-1].terminated[0]:
        steps.append(env.step(action))
    assert len(steps) == 5  # 5 seconds of 168.5 W
    assert not steps[-1].truncated[0]
    assert steps[-1].final_obs is not None
    assert steps[0].metrics["connectivity_ratio"] == 1
    assert steps[1].metrics["connectivity_ratio"] == pytest.approx(0.8)
    assert steps[2].metrics["energy_j"] == pytest.approx(4 * 168.5, rel=1e-3)
    off = steps[2].obs["observation"][0, 0]
    assert not off[3:6].any()  # it does not move
    assert off[6] <= 0
    assert off[7] == off[11] == 0  # load, links
    assert steps[-1].obs["observation"][0, :, 6].tolist() == [1] * 5  # charged for the next episode


def test_rates_are_limited_by_the_backhaul() -> None:
    env = UAVNetwork(6)
    play(env, 0, 40)
    signals = env._evaluate(env._world)
    per_uav = (signals.serves * signals.rate_mbps[:, None]).sum(2)
    assert (per_uav <= signals.routes.capacity * (1 + 1e-5)).all()
    assert (signals.load <= 12).all()
    assert (signals.serves.sum(1) <= 1).all()
    assert not signals.rate_mbps[signals.serves.sum(1) == 0].any()


def test_access_rate_by_hand() -> None:
    """One UAV 50 m over its only user, beside the gateway: 10 MHz and no interference."""
    env = UAVNetwork(1, num_uavs=1, num_users=1)
    env.reset(0)
    env._world.position[0, :, 0] = [50.0, 0.0, 50.0]
    env._world.users[0, :, 0] = [50.0, 0.0]
    signals = env._evaluate(env._world)
    snr_db = 23 - (20 * np.log10(4 * np.pi * 2e9 * 50 / 299_792_458) + 1.0) + 97
    assert signals.rate_mbps[0, 0] == pytest.approx(10 * np.log2(1 + 10 ** (snr_db / 10)), rel=1e-3)


def test_measures() -> None:
    env = UAVNetwork(8, record=[*MEASURES, "reward_energy"])
    metrics = play(env, 0, 40)[-1].metrics
    rate = env._evaluate(env._world).rate_mbps
    np.testing.assert_allclose(metrics["system_throughput_mbps"], rate.sum(1))
    np.testing.assert_allclose(metrics["mean_user_rate_mbps"], rate.mean(1))
    np.testing.assert_allclose(metrics["min_user_rate_mbps"], rate.min(1))
    np.testing.assert_array_equal(metrics["connected_users"], (rate >= 0.5).sum(1))
    np.testing.assert_allclose(metrics["coverage_ratio"], metrics["connected_users"] / 50)
    jain = [r.sum() ** 2 / (50 * (r**2).sum()) if r.any() else 0 for r in rate]
    np.testing.assert_allclose(metrics["jain_index"], jain, rtol=1e-5)
    assert (metrics["mean_hops"] >= 1).all()
    assert ((metrics["energy_j"] >= 5 * 125) & (metrics["energy_j"] <= 5 * 290)).all()


def test_mean_hops_is_not_reported_without_a_route() -> None:
    env = UAVNetwork(1, num_uavs=1, record=["mean_hops"])
    env.reset(0)
    env._world.position[0, :, 0] = [1000.0, 1000.0, 50.0]
    assert np.isnan(env.step(np.zeros((1, 1, 3))).metrics["mean_hops"])


@pytest.mark.parametrize("settings", [{}, {"mobility": "random_waypoint", "walking_speed_m_s": 30.0}])
def test_state_continues_bit_for_bit(settings: dict) -> None:
    """Saved in the middle of an episode, through a file read with ``weights_only``."""
    env = UAVNetwork(5, num_steps=8, **settings)
    play(env, 0, 11)
    file = io.BytesIO()
    torch.save(env.get_state(), file)
    file.seek(0)
    other = UAVNetwork(5, num_steps=8, **settings)
    other.reset(99)
    other.set_state(torch.load(file, weights_only=True))
    for t in range(11, 30):
        one, two = env.step(actions(env, 0, t)), other.step(actions(env, 0, t))
        np.testing.assert_array_equal(one.obs["observation"], two.obs["observation"])
        np.testing.assert_array_equal(one.obs["state"], two.obs["state"])
        np.testing.assert_array_equal(one.reward, two.reward)


def test_messages() -> None:
    with pytest.raises(ValueError, match="num_envs = 0, expected 1 <= num_envs"):
        UAVNetwork(0)
    with pytest.raises(
        ValueError, match=r"record='coverage' is not reported by uav_bs_v0. Did you mean coverage_"
    ):
        UAVNetwork(1, record=["coverage"])
    with pytest.raises(ValueError, match="record='reward_coverage' is not reported"):
        UAVNetwork(1, record=["reward_coverage"], sparse=True)
    env = UAVNetwork(2)
    with pytest.raises(ValueError, match=r"action must have shape \(2, 5, 3\) .*, got \(2, 3\)"):
        env.step(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"position of shape \(3, 3, 5\), expected \(2, 3, 5\)"):
        env.set_state(UAVNetwork(3).get_state())
    with pytest.raises(IndexError, match="env must be from 0 to 1, got 2"):
        env.look(2)
    env.close()
    env.close()


def test_frames_of_an_environment_made_for_videos() -> None:
    env: Any = make_vector_env(UAVNetwork, 1, render=True)
    env.reset(0)
    assert env.frame().shape == (640, 640, 3)
