"""An image of one network from above."""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.backhaul import path
from lit_rl.envs.uav.radio import Signals
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World

_CONNECTED, _SERVED, _ALONE = "#1a9850", "#fdae61", "#bdbdbd"
_UAV, _ROUTE, _GATEWAY = "#2166ac", "#2166ac", "#1b1b1b"


def draw(scenario: Scenario, world: World, signals: Signals, *, size_px: int = 640) -> np.ndarray:
    """RGB image ``(size, size, 3)`` uint8 of network 0.

    Users are green when connected, orange when served too slowly, grey when not served. Thin lines lead to
    the UAV that serves them, thick lines are the routes to the gateway. Numbers at UAVs are heights in m.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), dpi=size_px / 6.4, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal")
    margin = 0.03 * scenario.area_m
    axes.set(xlim=(-margin, scenario.area_m + margin), ylim=(-margin, scenario.area_m + margin))
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.set_title(
        f"t = {world.step_count[0] * scenario.step_s:g} s    {signals.rate_mbps[0].sum():.1f} Mbit/s    "
        f"{int(signals.is_connected[0].sum())} of {scenario.num_users} users connected",
        fontsize=10,
    )
    _draw_routes(axes, scenario, world, signals)
    _draw_users(axes, world, signals)
    _draw_stations(axes, scenario, world)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _draw_routes(axes, scenario: Scenario, world: World, signals: Signals) -> None:
    """Draw every route to its gateway, the one that its last UAV hears best (the nearest)."""
    flat = world.position[0, :2].T
    gateways = np.array(scenario.gateways)[:, :2]
    for uav in range(scenario.num_uavs):
        nodes = path(signals.routes, 0, uav)
        if nodes:
            nearest = int(np.square(signals.to_gateway[0, :, nodes[-1]]).sum(0).argmin())
            line = np.concatenate([flat[nodes], gateways[nearest, None]])
            axes.plot(*line.T, color=_ROUTE, linewidth=2.0, alpha=0.5, zorder=2)


def _draw_users(axes, world: World, signals: Signals) -> None:
    """Draw users, and who serves them."""
    users, flat = world.users[0].T, world.position[0, :2].T
    for uav, user in np.argwhere(signals.serves[0] > 0):
        axes.plot(*np.stack([flat[uav], users[user]]).T, color=_CONNECTED, linewidth=0.5, alpha=0.6, zorder=1)
    is_served = signals.serves[0].any(0)
    colours = np.where(signals.is_connected[0], _CONNECTED, np.where(is_served, _SERVED, _ALONE))
    axes.scatter(*users.T, c=list(colours), s=14, zorder=3)


def _draw_stations(axes, scenario: Scenario, world: World) -> None:
    """Draw UAVs with their heights, and gateways."""
    east, north, height = world.position[0]
    axes.scatter(east, north, marker="^", s=90, c=_UAV, edgecolors="white", zorder=5)
    for x, y, z in zip(east, north, height, strict=True):
        axes.annotate(f"{z:.0f}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8, zorder=6)
    gateways = np.array(scenario.gateways)
    axes.scatter(gateways[:, 0], gateways[:, 1], marker="s", s=90, c=_GATEWAY, zorder=4)
