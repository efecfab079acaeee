"""The moving parts of N networks: where UAVs and users are, and what the episode remembers.

Axes: N environments (networks), A agents (UAVs), G ground users.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.energy import WEIGHT_N, climb_power_w, propulsion_power_w
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.users import anywhere, place_users, walk

MOVES = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
"""The seven discrete actions as continuous ones: stay, +x, -x, +y, -y, +z, -z."""


class World(NamedTuple):
    """Library with the environment axis first; written in place.

    Attributes:
        position: ``(N, 3, A)`` float32, x, y and height in m.
        velocity: ``(N, 3, A)`` float32, of the last step in m/s; less than was asked for at a border.
        power_w: ``(N, A)`` float32, propulsion in level flight during the last step.
        energy_j: ``(N, A)`` float32, used since the start of the episode.
        users: ``(N, 2, G)`` float32 in m.
        waypoints: ``(N, 2, G)`` float32, where the users walk to.
        step_count: ``(N,)`` int64, since the start of the episode.
        streak: ``(N,)`` int64, steps for which the goal coverage has been held.
        reached: ``(N,)`` bool, the goal was reached in this episode.
    """

    position: Array
    velocity: Array
    power_w: Array
    energy_j: Array
    users: Array
    waypoints: Array
    step_count: Array
    streak: Array
    reached: Array

    def rows(self, rows: Array) -> World:
        """A copy of some networks."""
        return World._make(array[rows] for array in self)


def make_world(scenario: Scenario, num_envs: int, xp: Library = NUMPY) -> World:
    """Library for ``num_envs`` networks; :func:`begin` fills them."""
    uavs, users = scenario.num_uavs, scenario.num_users
    return World(
        position=xp.zeros((num_envs, 3, uavs), xp.float32),
        velocity=xp.zeros((num_envs, 3, uavs), xp.float32),
        power_w=xp.zeros((num_envs, uavs), xp.float32),
        energy_j=xp.zeros((num_envs, uavs), xp.float32),
        users=xp.zeros((num_envs, 2, users), xp.float32),
        waypoints=xp.zeros((num_envs, 2, users), xp.float32),
        step_count=xp.zeros(num_envs, xp.int64),
        streak=xp.zeros(num_envs, xp.int64),
        reached=xp.zeros(num_envs, xp.bool_),
    )


def begin(scenario: Scenario, streams: Streams, world: World, rows: Array, xp: Library = NUMPY) -> None:
    """New episodes of the networks ``rows``: new users, and UAVs at their gateways."""
    for array in world:
        array[rows] = 0
    world.users[rows] = place_users(scenario, streams, rows, xp)
    if scenario.mobility == "random_waypoint":
        world.waypoints[rows] = xp.astype(anywhere(scenario, streams, rows), xp.float32)
    gateways = np.array(scenario.gateways)
    home = gateways[np.arange(scenario.num_uavs) % len(gateways), :2].T  # (2, A)
    low, high = np.empty((3, scenario.num_uavs)), np.empty((3, scenario.num_uavs))
    low[:2] = np.maximum(home - scenario.start_distance_m, 0.0)
    high[:2] = np.minimum(home + scenario.start_distance_m, scenario.area_m)
    low[2], high[2] = scenario.min_height_m, scenario.max_height_m
    chance = streams.uniform(rows, 3 * scenario.num_uavs).reshape(len(rows), 3, scenario.num_uavs)
    low, high = xp.asarray(low), xp.asarray(high)
    world.position[rows] = xp.astype(low + (high - low) * chance, xp.float32)


def advance(scenario: Scenario, streams: Streams, world: World, action: Array, xp: Library = NUMPY) -> Array:
    """Fly and walk one step, in place.

    Args:
        scenario: The task.
        streams: Random numbers for the users who reach a waypoint.
        world: World that is written in place.
        action: ``(N, A, 3)`` within [-1, 1], or ``(N, A)`` integers below 7.
        xp: The library that computes.

    Returns:
        ``(N, A)`` J that each UAV used in this step.
    """
    has_energy = has_energy_left(scenario, world)
    _fly(scenario, world, _wanted_velocity(scenario, action, xp), has_energy, xp)
    world.power_w[:] = propulsion_power_w(xp.hypot(world.velocity[:, 0], world.velocity[:, 1]), xp)
    power_w = world.power_w + climb_power_w(world.velocity[:, 2], xp)
    if has_energy is not None:
        world.power_w[~has_energy] = power_w[~has_energy] = 0.0
    used_j = power_w * scenario.step_s
    world.energy_j[:] += used_j
    if scenario.mobility == "random_waypoint":
        walk(scenario, streams, world.users, world.waypoints, xp)
    world.step_count[:] += 1
    return used_j


@lru_cache(maxsize=4)
def _moves(xp: Library) -> Array:
    return xp.asarray(MOVES)


def _wanted_velocity(scenario: Scenario, action: Array, xp: Library) -> Array:
    """``(N, 3, A)`` in m/s; a horizontal velocity above the limit is shortened, its direction kept."""
    if scenario.actions == "discrete":
        action = xp.take(_moves(xp), action, 0)
    wanted = xp.copy(xp.clip(action, -1.0, 1.0, dtype=xp.float32).swapaxes(1, 2))
    wanted[:, :2] /= xp.maximum(xp.hypot(wanted[:, 0], wanted[:, 1]), 1.0)[:, None]
    wanted[:, :2] *= scenario.max_speed_m_s
    wanted[:, 2] *= scenario.max_climb_m_s
    return wanted


def _fly(scenario: Scenario, world: World, velocity: Array, has_energy: Array | None, xp: Library) -> None:
    if has_energy is not None:
        velocity *= has_energy[:, None]
    ahead = world.position + velocity * scenario.step_s
    xp.clip(ahead[:, :2], 0.0, scenario.area_m, out=ahead[:, :2])
    xp.clip(ahead[:, 2], scenario.min_height_m, scenario.max_height_m, out=ahead[:, 2])
    xp.subtract(ahead, world.position, out=world.velocity)
    world.velocity[:] /= scenario.step_s
    world.position[:] = ahead


def has_energy_left(scenario: Scenario, world: World) -> Array | None:
    """``(N, A)`` bool; None when batteries are not limited, so that nothing needs to be switched off."""
    return None if scenario.battery_j is None else world.energy_j < scenario.battery_j


def energy_budget_j(scenario: Scenario) -> float:
    """Return what a full battery holds; without a limit, the most a UAV can use in one episode."""
    if scenario.battery_j is not None:
        return scenario.battery_j
    level = propulsion_power_w(np.array([0.0, scenario.max_speed_m_s])).max()
    return float(level + WEIGHT_N * scenario.max_climb_m_s) * scenario.num_steps * scenario.step_s
