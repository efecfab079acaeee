"""How the traffic of the UAVs reaches a gateway: widest paths of at most ``max_hops`` links, half-duplex.

A relay cannot send and receive at once, so that a path of h links carries 1/h of its narrowest link. The
traffic of different UAVs over one relay is not counted against each other: a documented simplification.

Axes: N environments (networks), A agents (UAVs), Q peers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library


class Routes(NamedTuple):
    """The best route of each UAV.

    Attributes:
        capacity: ``(N, A)`` width of the route divided by its links; 0 where there is none.
        hops: ``(N, A)`` int64, links of the route; 0 where there is none.
        relay: ``(N, A)`` bool, the route of another UAV leads through this one.
        via: Entry ``h - 2`` is ``(N, A)`` int64: the next UAV on the widest path of exactly h links.
    """

    capacity: Array
    hops: Array
    relay: Array
    via: tuple[Array, ...]


@lru_cache(maxsize=16)
def peers(num_uavs: int, xp: Library = NUMPY) -> Array:
    """The indices of the A - 1 other UAVs of each UAV, ascending: ``(A, Q)`` int64."""
    everyone = np.arange(num_uavs)
    others = np.array([everyone[everyone != i] for i in everyone], np.int64).reshape(num_uavs, num_uavs - 1)
    others.setflags(write=False)
    return xp.asarray(others)


def widest_paths(direct_NA: Array, links_NAQ: Array, max_hops: int, xp: Library = NUMPY) -> Routes:
    """Best route of each UAV over at most ``max_hops`` links.

    With w_1 = ``direct`` and w_h(i) = max(w_{h-1}(i), max_q min(link(i, q), w_{h-1}(q))), a max-min product,
    the capacity is max_h w_h / h. The fewest links win among equals.

    Args:
        direct_NA: Capacity of the link to the best gateway, 0 without one.
        links_NAQ: Capacity of the links to the peers (see :func:`peers`), 0 without one.
        max_hops: Links of the longest path, at least 1.
        xp: The library that computes.
    """
    num_envs, num_uavs = direct_NA.shape
    others, own = peers(num_uavs, xp), xp.arange(num_uavs)
    width = capacity = direct_NA
    hops = xp.astype(direct_NA > 0.0, xp.int64)
    first = xp.arange(num_envs * num_uavs).reshape(num_envs, num_uavs) * (num_uavs - 1)
    via: list[Array] = []
    for length in range(2, min(max_hops, num_uavs) + 1):
        through = xp.minimum(links_NAQ, xp.take(width, others, 1))
        peer = through.argmax(2)
        via.append(peer + (peer >= own))  # the index among all UAVs
        widest = xp.take(through, first + peer)  # far quicker than through.max(2)
        width = xp.maximum(width, widest)
        shared = width / length
        is_better = shared > capacity
        capacity = xp.where(is_better, shared, capacity)
        hops[is_better] = length
    relay = _relays(hops, via) if xp.is_host else _relays_everywhere(hops, via, xp)
    return Routes(capacity, hops, relay, tuple(via))


def _relays(hops_NA: np.ndarray, via: list[np.ndarray]) -> np.ndarray:
    """Follow every route and mark the UAVs on it: ``(N, A)`` bool."""
    num_uavs = hops_NA.shape[1]
    relay = np.zeros(hops_NA.size, bool)
    for length in range(2, len(via) + 2):
        at = np.flatnonzero(hops_NA == length)
        network = at - at % num_uavs
        for left in range(length, 1, -1):
            at = network + via[left - 2].reshape(-1)[at]
            relay[at] = True
    return relay.reshape(hops_NA.shape)


def _relays_everywhere(hops_NA: Array, via: list[Array], xp: Library) -> Array:
    """Do as :func:`_relays` does, for all UAVs at every length: no shape depends on the routes."""
    relay = xp.zeros(hops_NA.shape, xp.bool_)
    own = xp.arange(hops_NA.shape[1])
    for length in range(2, len(via) + 2):
        at = own + 0 * hops_NA
        for left in range(length, 1, -1):
            at = xp.take_along_axis(via[left - 2], at, 1)
            is_on_route = (at[..., None] == own) & (hops_NA == length)[..., None]
            relay |= is_on_route.any(1)
    return relay


def path(routes: Routes, network: int, uav: int) -> list[int]:
    """The UAVs on the route of one UAV, itself first; empty when it has none."""
    hops = int(routes.hops[network, uav])
    nodes = [uav] if hops else []
    for left in range(hops, 1, -1):
        nodes.append(int(routes.via[left - 2][network, nodes[-1]]))
    return nodes
