"""What one network looks like, as plain types from which a report draws it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lit_rl.envs.uav.backhaul import path
from lit_rl.envs.uav.radio import Signals
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World


def take_picture(kind: str, scenario: Scenario, world: World, signals: Signals) -> dict[str, Any]:
    """Describe network 0 of ``world``; lengths are rounded to a thousandth of the area.

    Returns:
        ``kind``; ``area_m``; ``gateways``, ``[x, y, height]`` each; ``uavs``, the same; ``users``, ``[x, y]``
        each, in m. For each user ``link``, the UAV that serves it or -1 (alone), and ``connected``, 1 where
        it gets the minimum rate. ``routes``, for each UAV the UAVs on its way to a gateway, itself first,
        then the gateway as -1, -2, ...; empty without a route. ``throughput_mbps``, ``connected_users``,
        ``coverage`` (0 to 1), ``time_s`` and ``step`` since the start of the episode.
    """
    decimals = max(0, 3 - math.floor(math.log10(scenario.area_m)))
    num_connected = int(signals.num_connected[0])
    steps = int(world.step_count[0])
    return {
        "kind": kind,
        "area_m": scenario.area_m,
        "gateways": [list(gateway) for gateway in scenario.gateways],
        "uavs": _rounded(world.position[0].T, decimals),
        "users": _rounded(world.users[0].T, decimals),
        "link": np.where(signals.serves[0].any(0), signals.serves[0].argmax(0), -1).tolist(),
        "connected": signals.is_connected[0].astype(int).tolist(),
        "routes": [_route(signals, uav) for uav in range(scenario.num_uavs)],
        "throughput_mbps": round(float(signals.throughput_mbps[0]), 2),
        "connected_users": num_connected,
        "coverage": round(num_connected / scenario.num_users, 4),
        "time_s": round(steps * scenario.step_s, 6),
        "step": steps,
    }


def _route(signals: Signals, uav: int) -> list[int]:
    """Return the route to the gateway that the last UAV on the way hears best (the nearest)."""
    nodes = path(signals.routes, 0, uav)
    if not nodes:
        return []
    nearest = int(np.square(signals.to_gateway[0, :, nodes[-1]]).sum(0).argmin())
    return [*nodes, -1 - nearest]


def _rounded(values: np.ndarray, decimals: int) -> list[list[Any]]:
    """Round to whole numbers where no decimals matter."""
    rounded = values.astype(np.float64).round(decimals)
    return (rounded.astype(int) if decimals == 0 else rounded).tolist()
