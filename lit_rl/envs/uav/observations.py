"""What each UAV sees, and the global state: features within [-1, 1], written straight into their arrays.

Axes: N environments (networks), A agents (UAVs), G ground users, O observation features, S state features.
"""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.backhaul import peers
from lit_rl.envs.uav.radio import Signals
from lit_rl.envs.uav.ranking import rank_up, smallest
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World, energy_budget_j

OWN, PEER, USER, STATE_UAV, STATE_USER = 14, 7, 4, 9, 4
"""Features per UAV, peer and user in the observation, and per UAV and user in the state."""
_SNR_RANGE_DB = 40.0
"""A link this far from the threshold has the feature 1 or -1."""


class Observer:
    """Makes observations and states.

    Observation of one UAV (14, 3 a gateway, 7 a peer and 4 a nearest user):
        itself: position 3, velocity 3, energy left, load, one-hot of idle / serving / relay, links to the
        gateway / ``max_hops``, backhaul capacity, time; each gateway: relative position 3; each other UAV:
        relative position 3, SNR of the link in dB above the threshold, link exists, load, links to the
        gateway; nearest users by horizontal distance: relative position 2, served by me, served by another.
    State (9A + 4G + 1 features, and 3 a gateway):
        each UAV: position 3, velocity 3, energy left, load, links to the gateway; each user: position 2,
        rate r as r / (r + minimum), connected; each gateway: position 3; time.

    Args:
        scenario: Sizes and the ranges that become [-1, 1].
        xp: The library that computes.
    """

    def __init__(self, scenario: Scenario, xp: Library = NUMPY) -> None:
        self._scenario, self._xp = scenario, xp
        self._num_near = min(scenario.num_nearest_users, scenario.num_users)
        half, middle = scenario.area_m / 2, (scenario.max_height_m + scenario.min_height_m) / 2
        height_range = scenario.max_height_m - scenario.min_height_m
        self._centre_31 = xp.asarray([[half], [half], [middle]], xp.float32)
        self._half_31 = xp.asarray([[half], [half], [height_range / 2]], xp.float32)
        speeds = [scenario.max_speed_m_s, scenario.max_speed_m_s, scenario.max_climb_m_s]
        self._speed_31 = xp.asarray(speeds, xp.float32)[:, None]
        self._peer_scale = xp.asarray([scenario.area_m, scenario.area_m, height_range], xp.float32)
        gateway_scale = np.array([scenario.area_m, scenario.area_m, scenario.max_height_m], np.float32)
        self._gateway_scale = xp.asarray(gateway_scale)
        self._energy_j = energy_budget_j(scenario)
        gateways = np.array(scenario.gateways, np.float32)
        gateways = gateways / gateway_scale * [2, 2, 1] - [1, 1, 0]
        self._gateways = xp.asarray(gateways.astype(np.float32).ravel())

    def observe(self, world: World, signals: Signals) -> dict[str, Array]:
        """``observation`` ``(N, A, O)`` and ``state`` ``(N, S)``, float32; new arrays."""
        scenario, xp = self._scenario, self._xp
        num_envs, uavs = signals.load.shape
        position = (world.position - self._centre_31) / self._half_31
        velocity = world.velocity / self._speed_31
        flight = [*position.swapaxes(0, 1), *velocity.swapaxes(0, 1)]  # six of (N, A)
        energy = 1.0 - world.energy_j / self._energy_j
        load = signals.load / scenario.max_users_per_uav
        hops = xp.astype(signals.routes.hops / scenario.max_hops, xp.float32)
        time = xp.astype(world.step_count / scenario.num_steps, xp.float32)
        shared = [*flight, energy, load]

        obs = xp.zeros((num_envs, uavs, scenario.num_observed), xp.float32)
        state = xp.empty((num_envs, scenario.num_state), xp.float32)
        self._write_own(obs[..., :OWN], shared, signals, hops, time)
        end = OWN + 3 * len(scenario.gateways)
        _write(
            _split(obs[..., OWN:end], 3),
            *(signals.to_gateway.swapaxes(0, 1) / self._gateway_scale[:, None, None, None]),
        )
        start, end = end, end + PEER * (uavs - 1)
        self._write_peers(_split(obs[..., start:end], PEER), signals, load, hops)
        near = obs[..., end : end + USER * self._num_near]
        self._write_users(_split(near, USER), signals)
        self._write_state(state, [*shared, hops], world, signals, time)
        return {
            "observation": xp.clip(obs, -1.0, 1.0, out=obs),
            "state": xp.clip(state, -1.0, 1.0, out=state),
        }

    def _write_own(self, out: Array, shared: list[Array], signals: Signals, hops: Array, time: Array) -> None:
        relay = signals.routes.relay
        is_busy = signals.load > 0.0
        capacity = signals.routes.capacity / self._scenario.target_throughput_mbps
        role = (~(is_busy | relay), is_busy & ~relay, relay)
        _write(out, *shared, *role, hops, capacity, time[:, None])

    def _write_peers(self, out: Array, signals: Signals, load: Array, hops: Array) -> None:
        scenario, xp = self._scenario, self._xp
        others = peers(scenario.num_uavs, xp)
        above_db = 10.0 * xp.log10(signals.peer_snr) - scenario.min_snr_db
        _write(
            out,
            *(signals.to_peer.swapaxes(0, 1) / self._peer_scale[:, None, None, None]),
            above_db / _SNR_RANGE_DB,
            signals.is_linked,
            xp.take(load, others, 1),
            xp.take(hops, others, 1),
        )

    def _write_users(self, out: Array, signals: Signals) -> None:
        """The nearest users; gathered by flat indices, which is what numpy does fastest."""
        xp = self._xp
        num_envs, uavs, users = signals.flat2.shape
        near = smallest(rank_up(signals.flat2, xp), self._num_near, xp)  # (N, A, nearest)
        pair = xp.arange(num_envs * uavs).reshape(num_envs, uavs, 1) * users + near
        network = xp.arange(num_envs)[:, None, None]
        east = pair + network * (uavs * users)  # index into the flat (N, 2, A, G)
        to_user = signals.to_user / self._scenario.area_m
        mine = xp.take(signals.serves, pair)
        served = xp.take(signals.serves.sum(1), network * users + near)
        north = east + uavs * users
        _write(out, xp.take(to_user, east), xp.take(to_user, north), mine, served - mine)

    def _write_state(self, out: Array, uav: list[Array], world: World, signals: Signals, time: Array) -> None:
        scenario = self._scenario
        end = STATE_UAV * scenario.num_uavs
        _write(_split(out[:, :end], STATE_UAV), *uav)
        start, end = end, end + STATE_USER * scenario.num_users
        users = world.users * (2.0 / scenario.area_m) - 1.0
        rate = signals.rate_mbps / (signals.rate_mbps + scenario.min_rate_mbps)
        _write(_split(out[:, start:end], STATE_USER), users[:, 0], users[:, 1], rate, signals.is_connected)
        out[:, end:-1] = self._gateways
        out[:, -1] = time


def positions_in(scenario: Scenario, state: np.ndarray) -> np.ndarray:
    """UAVs ``(N, A, 3)`` in m, read back from a state ``(N, S)``."""
    uavs = state[:, : STATE_UAV * scenario.num_uavs].reshape(-1, scenario.num_uavs, STATE_UAV)[..., :3]
    low = np.array([0.0, 0.0, scenario.min_height_m], np.float32)
    high = np.array([scenario.area_m, scenario.area_m, scenario.max_height_m], np.float32)
    return low + (uavs + 1.0) * ((high - low) / 2)


def users_in(scenario: Scenario, state: np.ndarray) -> np.ndarray:
    """Users ``(N, G, 2)`` in m, read back from a state ``(N, S)``."""
    start = STATE_UAV * scenario.num_uavs
    users = state[:, start : start + STATE_USER * scenario.num_users]
    return (users.reshape(-1, scenario.num_users, STATE_USER)[..., :2] + 1.0) * (scenario.area_m / 2)


def _split(block: Array, size: int) -> Array:
    """A view of the last axis as items of ``size`` features: ``(..., items, size)``."""
    return block.reshape(*block.shape[:-1], -1, size)


def _write(out: Array, *features: Array) -> None:
    """Feature f becomes ``out[..., f]``."""
    for index, feature in enumerate(features):
        out[..., index] = feature
