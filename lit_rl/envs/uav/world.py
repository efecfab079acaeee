"""The moving parts of N networks: where UAVs and users are, and what the episode remembers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lit_rl.envs.uav.energy import WEIGHT_N, climb_power_w, propulsion_power_w
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.users import anywhere, place_users, walk

MOVES = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
"""The seven discrete actions as continuous ones: stay, +x, -x, +y, -y, +z, -z."""


class World(NamedTuple):
    """Arrays with the environment axis first; written in place.

    Attributes:
        position: ``(N, 3, A)`` float32, x, y and height in m.
        velocity: ``(N, 3, A)`` float32, of the last step in m/s; less than was asked for at a border.
        power_w: ``(N, A)`` float32, propulsion in level flight during the last step.
        energy_j: ``(N, A)`` float32, used since the start of the episode.
        users: ``(N, 2, M)`` float32 in m.
        waypoints: ``(N, 2, M)`` float32, where the users walk to.
        step_count: ``(N,)`` int64, since the start of the episode.
        streak: ``(N,)`` int64, steps for which the goal coverage has been held.
        reached: ``(N,)`` bool, the goal was reached in this episode.
    """

    position: np.ndarray
    velocity: np.ndarray
    power_w: np.ndarray
    energy_j: np.ndarray
    users: np.ndarray
    waypoints: np.ndarray
    step_count: np.ndarray
    streak: np.ndarray
    reached: np.ndarray

    def rows(self, rows: np.ndarray) -> World:
        """A copy of some networks."""
        return World._make(array[rows] for array in self)


def make_world(scenario: Scenario, num_envs: int) -> World:
    """Arrays for ``num_envs`` networks; :func:`begin` fills them."""
    uavs, users = scenario.num_uavs, scenario.num_users
    return World(
        position=np.zeros((num_envs, 3, uavs), np.float32),
        velocity=np.zeros((num_envs, 3, uavs), np.float32),
        power_w=np.zeros((num_envs, uavs), np.float32),
        energy_j=np.zeros((num_envs, uavs), np.float32),
        users=np.zeros((num_envs, 2, users), np.float32),
        waypoints=np.zeros((num_envs, 2, users), np.float32),
        step_count=np.zeros(num_envs, np.int64),
        streak=np.zeros(num_envs, np.int64),
        reached=np.zeros(num_envs, bool),
    )


def begin(scenario: Scenario, streams: Streams, world: World, rows: np.ndarray) -> None:
    """New episodes of the networks ``rows``: new users, and UAVs at their gateways."""
    for array in world:
        array[rows] = 0
    world.users[rows] = place_users(scenario, streams, rows)
    if scenario.mobility == "random_waypoint":
        world.waypoints[rows] = anywhere(scenario, streams, rows)
    gateways = np.array(scenario.gateways)
    home = gateways[np.arange(scenario.num_uavs) % len(gateways), :2].T  # (2, A)
    low, high = np.empty((3, scenario.num_uavs)), np.empty((3, scenario.num_uavs))
    low[:2] = np.maximum(home - scenario.start_distance_m, 0.0)
    high[:2] = np.minimum(home + scenario.start_distance_m, scenario.area_m)
    low[2], high[2] = scenario.min_height_m, scenario.max_height_m
    chance = streams.uniform(rows, 3 * scenario.num_uavs).reshape(len(rows), 3, scenario.num_uavs)
    world.position[rows] = low + (high - low) * chance


def advance(scenario: Scenario, streams: Streams, world: World, action: np.ndarray) -> np.ndarray:
    """One step of flying and walking, in place.

    Args:
        scenario: The task.
        streams: For the users who reach a waypoint.
        world: Written in place.
        action: ``(N, A, 3)`` within [-1, 1], or ``(N, A)`` integers below 7.

    Returns:
        ``(N, A)`` J that each UAV used in this step.
    """
    has_energy = has_energy_left(scenario, world)
    _fly(scenario, world, _wanted_velocity(scenario, action), has_energy)
    world.power_w[:] = propulsion_power_w(np.hypot(world.velocity[:, 0], world.velocity[:, 1]))
    power_w = world.power_w + climb_power_w(world.velocity[:, 2])
    if has_energy is not None:
        world.power_w[~has_energy] = power_w[~has_energy] = 0.0
    used_j = power_w * scenario.step_s
    world.energy_j[:] += used_j
    if scenario.mobility == "random_waypoint":
        walk(scenario, streams, world.users, world.waypoints)
    world.step_count[:] += 1
    return used_j


def _wanted_velocity(scenario: Scenario, action: np.ndarray) -> np.ndarray:
    """``(N, 3, A)`` in m/s; a horizontal velocity above the limit is shortened, its direction kept."""
    if scenario.actions == "discrete":
        action = MOVES.take(action, axis=0)
    wanted = np.clip(action, -1.0, 1.0, dtype=np.float32).swapaxes(1, 2).copy()
    wanted[:, :2] /= np.maximum(np.hypot(wanted[:, 0], wanted[:, 1]), 1.0)[:, None]
    wanted[:, :2] *= scenario.max_speed_m_s
    wanted[:, 2] *= scenario.max_climb_m_s
    return wanted


def _fly(scenario: Scenario, world: World, velocity: np.ndarray, has_energy: np.ndarray | None) -> None:
    if has_energy is not None:
        velocity *= has_energy[:, None]
    ahead = world.position + velocity * scenario.step_s
    np.clip(ahead[:, :2], 0.0, scenario.area_m, out=ahead[:, :2])
    np.clip(ahead[:, 2], scenario.min_height_m, scenario.max_height_m, out=ahead[:, 2])
    np.subtract(ahead, world.position, out=world.velocity)
    world.velocity[:] /= scenario.step_s
    world.position[:] = ahead


def has_energy_left(scenario: Scenario, world: World) -> np.ndarray | None:
    """``(N, A)`` bool; None when batteries are not limited, so that nothing needs to be switched off."""
    return None if scenario.battery_j is None else world.energy_j < scenario.battery_j


def energy_budget_j(scenario: Scenario) -> float:
    """What a full battery holds; without a limit, the most a UAV can use in one episode."""
    if scenario.battery_j is not None:
        return scenario.battery_j
    level = propulsion_power_w(np.array([0.0, scenario.max_speed_m_s])).max()
    return float(level + WEIGHT_N * scenario.max_climb_m_s) * scenario.num_steps * scenario.step_s
