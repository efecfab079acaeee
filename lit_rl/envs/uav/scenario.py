"""Holds every setting of the UAV base-station network, with its unit and its default.

Axes: A agents (UAVs), G ground users, O observation features, S state features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from lit_rl.arguments import Count, NonNegative, Positive, Range, Share, SmallCount, Steps, check_arguments
from lit_rl.checks import nearest

Surroundings = Literal["suburban", "urban", "dense_urban", "high_rise"]
Placement = Literal["clusters", "uniform", "hotspot"]
Mobility = Literal["static", "random_waypoint"]
Actions = Literal["box", "discrete"]

Decibel = Annotated[float, Range(at_least=-1000, at_most=1000)]


@dataclass(frozen=True)
class Scenario:
    """The task. Distances in m, heights above ground, rates in Mbit/s.

    Args:
        num_uavs: A, the agents.
        num_users: G, people on the ground who want a connection.
        area_m: Side of the square area; x and y run from 0 to it.
        min_height_m: Lowest flight.
        max_height_m: Highest flight.
        gateways: ``(x, y, height)`` of each ground station that is wired to the core network.
        start_distance_m: UAV i starts at most this far from gateway ``i % len(gateways)`` along x and along
            y.
        num_steps: Steps until an episode is truncated.
        step_s: Seconds per step.
        max_speed_m_s: Horizontal speed.
        max_climb_m_s: Vertical speed.
        actions: ``box``: a velocity, three numbers in [-1, 1]; ``discrete``: one of stay, +x, -x, +y, -y, +z,
            -z at full speed.
        placement: ``clusters``: 3 to 5 Gaussian clusters; ``hotspot``: half of the users in one cluster, the
            others anywhere; ``uniform``.
        cluster_spread_m: Standard deviation of a cluster along x and along y.
        mobility: ``random_waypoint`` walks straight to a random point, then to the next one.
        walking_speed_m_s: Speed of the users, when they walk.
        surroundings: Kind of buildings, which decide the channel from UAV to user (``channel.py``).
        frequency_hz: Carrier of the access links; all UAVs reuse it.
        bandwidth_hz: Bandwidth of one UAV, shared equally by its users.
        power_dbm: Transmit power of a UAV to its users.
        noise_figure_db: Noise figure of all receivers.
        min_sinr_db: Below it a user cannot be served.
        max_users_per_uav: Users one UAV can serve.
        min_rate_mbps: A user who gets at least this is connected.
        backhaul_frequency_hz: Carrier of the links between UAVs and to gateways.
        backhaul_bandwidth_hz: Bandwidth of such a link.
        backhaul_power_dbm: Transmit power of a UAV there.
        gateway_power_dbm: Transmit power on links with a gateway.
        min_snr_db: Below it such a link does not exist.
        max_hops: Links of the longest route to a gateway.
        sparse: Reward 1 once ``goal_coverage`` was held for ``goal_steps`` steps, else 0.
        goal_coverage: Fraction of connected users that is a success.
        goal_steps: Consecutive steps it must be held.
        target_throughput_mbps: Throughput of the whole network that earns the full reward.
        safe_distance_m: UAVs closer than this are about to collide.
        num_nearest_users: Users a UAV observes.
        battery_j: Energy of a UAV. One that has used it up lands where it is and is off; the episode
            terminates when all are. None: enough for a whole episode.

    Raises:
        ValueError: A setting is out of its range.
    """

    num_uavs: SmallCount = 5
    num_users: Annotated[int, Range(at_least=1, at_most=100_000)] = 50
    area_m: Positive = 1000.0
    min_height_m: Positive = 50.0
    max_height_m: Positive = 150.0
    gateways: Sequence[Sequence[NonNegative]] = ((0.0, 0.0, 25.0),)
    start_distance_m: NonNegative = 200.0
    num_steps: Steps = 200
    step_s: Positive = 1.0
    max_speed_m_s: Positive = 20.0
    max_climb_m_s: Positive = 5.0
    actions: Actions = "box"
    placement: Placement = "clusters"
    cluster_spread_m: NonNegative = 70.0
    mobility: Mobility = "static"
    walking_speed_m_s: NonNegative = 1.5
    surroundings: Surroundings = "urban"
    frequency_hz: Positive = 2.0e9
    bandwidth_hz: Positive = 10.0e6
    power_dbm: Decibel = 23.0
    noise_figure_db: Decibel = 7.0
    min_sinr_db: Decibel = 0.0
    max_users_per_uav: Count = 12
    min_rate_mbps: Positive = 0.5
    backhaul_frequency_hz: Positive = 5.8e9
    backhaul_bandwidth_hz: Positive = 20.0e6
    backhaul_power_dbm: Decibel = 20.0
    gateway_power_dbm: Decibel = 23.0
    min_snr_db: Decibel = 13.0
    max_hops: SmallCount = 3
    sparse: bool = False
    goal_coverage: Share = 0.6
    goal_steps: Count = 10
    target_throughput_mbps: Positive = 200.0
    safe_distance_m: NonNegative = 20.0
    num_nearest_users: Count = 10
    battery_j: Positive | None = None

    def __post_init__(self) -> None:
        check_arguments(Scenario, vars(self))
        if self.max_height_m <= self.min_height_m:
            raise ValueError(
                f"max_height_m must be above min_height_m={self.min_height_m}, got {self.max_height_m}"
            )
        self._check_gateways()

    def _check_gateways(self) -> None:
        if not self.gateways:
            raise ValueError("gateways must hold at least one (x, y, height), got none")
        for gateway in self.gateways:
            limits = (self.area_m, self.area_m, self.max_height_m)
            if len(gateway) != 3 or not all(
                0 <= at <= limit for at, limit in zip(gateway, limits, strict=True)
            ):
                raise ValueError(
                    f"each of gateways must be (x, y, height) from (0, 0, 0) to {limits}, "
                    f"got {tuple(gateway)}"
                )

    @property
    def num_observed(self) -> int:
        """O, features one UAV observes: itself 14, each gateway 3, other UAV 7, and nearest user 4."""
        return 14 + 3 * len(self.gateways) + 7 * (self.num_uavs - 1) + 4 * self.num_nearest_users

    @property
    def num_state(self) -> int:
        """S, features of the global state: UAVs 9A, users 4G, each gateway 3, time 1."""
        return 9 * self.num_uavs + 4 * self.num_users + 3 * len(self.gateways) + 1

    @property
    def goal_users(self) -> int:
        """Connected users that make ``goal_coverage``."""
        return math.ceil(self.goal_coverage * self.num_users - 1e-9)

    @property
    def agents(self) -> list[str]:
        """Names of the UAVs in the order of the agent axis."""
        return [f"uav_{i}" for i in range(self.num_uavs)]


def make_scenario(settings: Mapping[str, Any]) -> Scenario:
    """A scenario of the settings given by name; the others have their defaults.

    Raises:
        ValueError: There is no such setting, or a value is out of its range.
    """
    known = [field.name for field in fields(Scenario)]
    for name in settings:
        if name not in known:
            raise ValueError(f"uav_bs_v0 has no setting {name!r}.{nearest(name, known)}")
    return Scenario(**settings)
