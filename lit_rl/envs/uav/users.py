"""Place the users, and let them walk.

Axes: N environments (networks), E chosen environments, G ground users.
"""

from __future__ import annotations

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.streams import Streams

_MIN_CLUSTERS, _MAX_CLUSTERS = 3, 5
_CENTRES = (0.15, 0.95)
"""Clusters lie in this part of the area, along x and along y: away from a gateway in the corner."""


def place_users(scenario: Scenario, streams: Streams, rows: Array, xp: Library = NUMPY) -> Array:
    """Positions of the users of E networks: ``(E, 2, G)`` float32 in m."""
    if scenario.placement == "uniform":
        users = anywhere(scenario, streams, rows)
    else:
        users = (_clusters if scenario.placement == "clusters" else _hotspot)(scenario, streams, rows, xp)
    return xp.astype(users, xp.float32)


def anywhere(scenario: Scenario, streams: Streams, rows: Array) -> Array:
    """One point in the area for each user: ``(E, 2, G)``."""
    return _in_area(scenario, streams.uniform(rows, 2 * scenario.num_users))


def _in_area(scenario: Scenario, chance: Array) -> Array:
    return scenario.area_m * chance.reshape(len(chance), 2, scenario.num_users)


def _clusters(scenario: Scenario, streams: Streams, rows: Array, xp: Library) -> Array:
    """Each user belongs to one of 3 to 5 clusters, all equally likely."""
    num = xp.floor(_MIN_CLUSTERS + (_MAX_CLUSTERS + 1 - _MIN_CLUSTERS) * streams.uniform(rows, 1))
    centres = _centres(scenario, streams, rows, _MAX_CLUSTERS)
    home = xp.astype(xp.floor(num * streams.uniform(rows, scenario.num_users)), xp.int64)  # (E, G)
    return _around(scenario, streams, rows, xp.take_along_axis(centres, home[:, None], 2), xp)


def _hotspot(scenario: Scenario, streams: Streams, rows: Array, xp: Library) -> Array:
    """The first half of the users in one cluster, the others anywhere."""
    users = _around(scenario, streams, rows, _centres(scenario, streams, rows, 1), xp)
    num_outside = scenario.num_users - scenario.num_users // 2
    users[..., -num_outside:] = anywhere(scenario, streams, rows)[..., -num_outside:]
    return users


def _centres(scenario: Scenario, streams: Streams, rows: Array, num: int) -> Array:
    low, high = _CENTRES
    return scenario.area_m * (low + (high - low) * streams.uniform(rows, 2 * num).reshape(-1, 2, num))


def _around(scenario: Scenario, streams: Streams, rows: Array, centre: Array, xp: Library) -> Array:
    noise = streams.normal(rows, 2 * scenario.num_users).reshape(len(rows), 2, scenario.num_users)
    return xp.clip(centre + scenario.cluster_spread_m * noise, 0.0, scenario.area_m)


def walk(
    scenario: Scenario,
    streams: Streams,
    users_N2G: Array,
    waypoints_N2G: Array,
    xp: Library = NUMPY,
) -> None:
    """Walk one step of the random waypoint model (Johnson and Maltz 1996) without pauses, in place.

    Who reaches a waypoint stays there for the rest of the step and draws the next one.
    """
    reach_m = scenario.walking_speed_m_s * scenario.step_s
    way = waypoints_N2G - users_N2G
    distance_NG = xp.hypot(way[:, 0], way[:, 1])
    has_arrived = distance_NG <= reach_m
    stride = xp.where(has_arrived, 1.0, reach_m / xp.maximum(distance_NG, reach_m))
    users_N2G += way * xp.astype(stride, xp.float32)[:, None]
    xp.clip(users_N2G, 0.0, scenario.area_m, out=users_N2G)
    rows, chance = streams.uniform_where(has_arrived.any(1), 2 * scenario.num_users)
    if len(chance):
        fresh = xp.astype(_in_area(scenario, chance), xp.float32)
        waypoints_N2G[rows] = xp.where(has_arrived[rows, None], fresh, waypoints_N2G[rows])
