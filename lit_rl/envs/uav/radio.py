"""The radio network of one moment: who hears whom, who serves whom, and what rate arrives.

Axes: N environments (networks), A agents (UAVs), G ground users, Q peers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.association import associate
from lit_rl.envs.uav.backhaul import Routes, peers, widest_paths
from lit_rl.envs.uav.channel import (
    SURROUNDINGS,
    air_to_ground_snr,
    free_space_snr,
    from_db,
    noise_dbm,
    signal_to_interference,
)
from lit_rl.envs.uav.scenario import Scenario


class Signals(NamedTuple):
    """Holds what the positions of N networks mean for radio.

    Attributes:
        to_user: ``(N, 2, A, G)`` m, horizontally from UAV to user.
        flat2: ``(N, A, G)`` m2, its squared length.
        to_peer: ``(N, 3, A, Q)`` m.
        peer2: ``(N, A, Q)`` m2.
        peer_snr: ``(N, A, Q)``, not in dB.
        is_linked: ``(N, A, Q)`` bool, the link to the peer is good enough.
        to_gateway: ``(N, 3, A, gateways)`` m.
        serves: ``(N, A, G)`` float32, 1 where the UAV serves the user.
        load: ``(N, A)`` float32, users served.
        rate_mbps: ``(N, G)``, what arrives at each user through access and backhaul.
        is_connected: ``(N, G)`` bool, at least the minimum rate arrives.
        num_connected: ``(N,)`` users who are connected.
        throughput_mbps: ``(N,)`` sum of the rates.
        routes: Backhaul of each UAV, in Mbit/s.
    """

    to_user: Array
    flat2: Array
    to_peer: Array
    peer2: Array
    peer_snr: Array
    is_linked: Array
    to_gateway: Array
    serves: Array
    load: Array
    rate_mbps: Array
    is_connected: Array
    num_connected: Array
    throughput_mbps: Array
    routes: Routes


class RadioModel:
    """Turns positions into :class:`Signals`; has no memory.

    Args:
        scenario: Powers, bands, thresholds and gateways.
        xp: The library that computes.
    """

    def __init__(self, scenario: Scenario, xp: Library = NUMPY) -> None:
        self._scenario, self._xp = scenario, xp
        self._place = SURROUNDINGS[scenario.surroundings]
        self._noise_dbm = noise_dbm(scenario.bandwidth_hz, scenario.noise_figure_db)
        self._backhaul_noise_dbm = noise_dbm(scenario.backhaul_bandwidth_hz, scenario.noise_figure_db)
        self._gateways = xp.asarray(np.array(scenario.gateways, np.float32).T[:, None])

    def evaluate(self, position_N3A: Array, users_N2G: Array, is_on_NA: Array | None = None) -> Signals:
        """Channels, association, routes and rates.

        Args:
            position_N3A: UAVs in m, float32.
            users_N2G: Users in m, float32.
            is_on_NA: False where a UAV does not transmit; None: all do.
        """
        scenario, xp = self._scenario, self._xp
        to_user = users_N2G[:, :, None] - position_N3A[:, :2, :, None]
        squared = xp.square(to_user)
        flat2 = squared[:, 0] + squared[:, 1]
        serves, bits_per_hz = self._access(flat2, position_N3A[:, 2], is_on_NA)
        load = serves.sum(2)

        to_peer = xp.take(position_N3A, peers(scenario.num_uavs, xp), 2) - position_N3A[..., None]
        to_gateway = self._gateways - position_N3A[..., None]
        peer2, gateway2 = xp.square(to_peer).sum(1), xp.min(xp.square(to_gateway).sum(1), 2)
        peer_snr = self._backhaul_snr(peer2, scenario.backhaul_power_dbm)
        is_linked = peer_snr >= from_db(scenario.min_snr_db)
        gateway_snr = self._backhaul_snr(gateway2, scenario.gateway_power_dbm)
        routes = self._routes(gateway_snr, peer_snr, is_linked, is_on_NA)

        rate = self._rates(serves, bits_per_hz, load, routes)
        is_connected = rate >= scenario.min_rate_mbps
        return Signals(
            to_user=to_user,
            flat2=flat2,
            to_peer=to_peer,
            peer2=peer2,
            peer_snr=peer_snr,
            is_linked=is_linked,
            to_gateway=to_gateway,
            serves=serves,
            load=load,
            rate_mbps=rate,
            is_connected=is_connected,
            num_connected=is_connected.sum(1),
            throughput_mbps=rate.sum(1),
            routes=routes,
        )

    def _access(self, flat2_NAG: Array, height_NA: Array, is_on_NA: Array | None) -> tuple[Array, Array]:
        """Who serves whom, ``(N, A, G)`` float32, and the bit/s per Hz of each user, ``(N, G)``."""
        scenario, xp = self._scenario, self._xp
        snr = air_to_ground_snr(
            flat2_NAG, height_NA, scenario.frequency_hz, self._place, scenario.power_dbm, self._noise_dbm, xp
        )
        if is_on_NA is not None:
            snr *= is_on_NA[..., None]
        sinr = signal_to_interference(snr, xp)
        serves = associate(sinr, from_db(scenario.min_sinr_db), scenario.max_users_per_uav, xp)
        serves = xp.astype(serves, xp.float32)
        heard = xp.einsum("N A G, N A G -> N G", serves, sinr)  # at most one term per user
        return serves, xp.log2(1.0 + heard)

    def _rates(self, serves_NAG: Array, bits_per_hz_NG: Array, load_NA: Array, routes: Routes) -> Array:
        """``(N, G)`` Mbit/s: a UAV shares its band equally; all its users are slowed by a narrow backhaul."""
        xp = self._xp
        per_user = 1e-6 * self._scenario.bandwidth_hz / xp.maximum(load_NA, 1.0)  # MHz
        demand = per_user * xp.einsum("N A G, N G -> N A", serves_NAG, bits_per_hz_NG)  # Mbit/s
        per_user *= xp.minimum(routes.capacity / xp.maximum(demand, 1e-9), 1.0)
        return bits_per_hz_NG * xp.einsum("N A G, N A -> N G", serves_NAG, per_user)

    def _backhaul_snr(self, squared_m2: Array, power_dbm: float) -> Array:
        frequency_hz = self._scenario.backhaul_frequency_hz
        return free_space_snr(squared_m2, frequency_hz, power_dbm, self._backhaul_noise_dbm, self._xp)

    def _routes(
        self,
        gateway_snr_NA: Array,
        peer_snr_NAQ: Array,
        is_linked_NAQ: Array,
        is_on_NA: Array | None,
    ) -> Routes:
        """Shannon capacity of the links that exist, then the widest paths over them."""
        scenario, xp = self._scenario, self._xp
        bandwidth_mhz = 1e-6 * scenario.backhaul_bandwidth_hz
        is_direct = gateway_snr_NA >= from_db(scenario.min_snr_db)
        if is_on_NA is not None:
            is_direct &= is_on_NA
            is_linked_NAQ &= is_on_NA[..., None] & xp.take(is_on_NA, peers(scenario.num_uavs, xp), 1)
        direct = bandwidth_mhz * xp.log2(1.0 + gateway_snr_NA) * is_direct
        links = bandwidth_mhz * xp.log2(1.0 + peer_snr_NAQ) * is_linked_NAQ
        return widest_paths(direct, links, scenario.max_hops, xp)
