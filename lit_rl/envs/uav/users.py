"""Where the users are, and how they walk."""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.streams import Streams

_MIN_CLUSTERS, _MAX_CLUSTERS = 3, 5
_CENTRES = (0.15, 0.95)
"""Clusters lie in this part of the area, along x and along y: away from a gateway in the corner."""


def place_users(scenario: Scenario, streams: Streams, rows: np.ndarray) -> np.ndarray:
    """Positions of the users of K networks: ``(K, 2, M)`` float32 in m."""
    place = {"clusters": _clusters, "hotspot": _hotspot, "uniform": anywhere}[scenario.placement]
    return place(scenario, streams, rows).astype(np.float32)


def anywhere(scenario: Scenario, streams: Streams, rows: np.ndarray) -> np.ndarray:
    """M points in the area: ``(K, 2, M)``."""
    points = streams.uniform(rows, 2 * scenario.num_users)
    return scenario.area_m * points.reshape(len(rows), 2, scenario.num_users)


def _clusters(scenario: Scenario, streams: Streams, rows: np.ndarray) -> np.ndarray:
    """Each user belongs to one of 3 to 5 clusters, all equally likely."""
    num = np.floor(_MIN_CLUSTERS + (_MAX_CLUSTERS + 1 - _MIN_CLUSTERS) * streams.uniform(rows, 1))
    centres = _centres(scenario, streams, rows, _MAX_CLUSTERS)
    home = np.floor(num * streams.uniform(rows, scenario.num_users)).astype(np.int64)  # (K, M)
    return _around(scenario, streams, rows, np.take_along_axis(centres, home[:, None], 2))


def _hotspot(scenario: Scenario, streams: Streams, rows: np.ndarray) -> np.ndarray:
    """The first half of the users in one cluster, the others anywhere."""
    users = _around(scenario, streams, rows, _centres(scenario, streams, rows, 1))
    num_outside = scenario.num_users - scenario.num_users // 2
    users[..., -num_outside:] = anywhere(scenario, streams, rows)[..., -num_outside:]
    return users


def _centres(scenario: Scenario, streams: Streams, rows: np.ndarray, num: int) -> np.ndarray:
    low, high = _CENTRES
    return scenario.area_m * (low + (high - low) * streams.uniform(rows, 2 * num).reshape(-1, 2, num))


def _around(scenario: Scenario, streams: Streams, rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
    noise = streams.normal(rows, 2 * scenario.num_users).reshape(len(rows), 2, scenario.num_users)
    return np.clip(centre + scenario.cluster_spread_m * noise, 0.0, scenario.area_m)


def walk(scenario: Scenario, streams: Streams, users_N2M: np.ndarray, waypoints_N2M: np.ndarray) -> None:
    """One step of the random waypoint model (Johnson and Maltz 1996) without pauses, in place.

    Who reaches a waypoint stays there for the rest of the step and draws the next one.
    """
    reach_m = scenario.walking_speed_m_s * scenario.step_s
    way = waypoints_N2M - users_N2M
    distance_NM = np.hypot(way[:, 0], way[:, 1])
    has_arrived = distance_NM <= reach_m
    stride = np.where(has_arrived, 1.0, reach_m / np.maximum(distance_NM, reach_m)).astype(np.float32)
    users_N2M += way * stride[:, None]
    np.clip(users_N2M, 0.0, scenario.area_m, out=users_N2M)
    rows = np.flatnonzero(has_arrived.any(1))
    if len(rows):
        fresh = anywhere(scenario, streams, rows)
        waypoints_N2M[rows] = np.where(has_arrived[rows, None], fresh, waypoints_N2M[rows])
