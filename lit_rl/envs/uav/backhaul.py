"""How the traffic of the UAVs reaches a gateway: widest paths of at most H links, half-duplex.

A relay cannot send and receive at once, so that a path of h links carries 1/h of its narrowest link. The
traffic of different UAVs over one relay is not counted against each other: a documented simplification.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Routes(NamedTuple):
    """The best route of each UAV.

    Attributes:
        capacity: ``(N, A)`` width of the route divided by its links; 0 where there is none.
        hops: ``(N, A)`` int64, links of the route; 0 where there is none.
        relay: ``(N, A)`` bool, the route of another UAV leads through this one.
        via: Entry ``h - 2`` is ``(N, A)`` int64: the next UAV on the widest path of exactly h links.
    """

    capacity: np.ndarray
    hops: np.ndarray
    relay: np.ndarray
    via: tuple[np.ndarray, ...]


@lru_cache(maxsize=16)
def peers(num_uavs: int) -> np.ndarray:
    """Indices of the P = A - 1 other UAVs of each UAV, ascending: ``(A, P)`` int64."""
    everyone = np.arange(num_uavs)
    others = np.array([everyone[everyone != i] for i in everyone], np.int64).reshape(num_uavs, num_uavs - 1)
    others.setflags(write=False)
    return others


def widest_paths(direct_NA: np.ndarray, links_NAP: np.ndarray, max_hops: int) -> Routes:
    """Best route of each UAV over at most ``max_hops`` links.

    With W_1 = ``direct`` and W_h(i) = max(W_{h-1}(i), max_p min(link(i, p), W_{h-1}(p))), a max-min product,
    the capacity is max_h W_h / h. The fewest links win among equals.

    Args:
        direct_NA: Capacity of the link to the best gateway, 0 without one.
        links_NAP: Capacity of the links to the peers (see :func:`peers`), 0 without one.
        max_hops: H, at least 1.
    """
    num_uavs = direct_NA.shape[1]
    others, own = peers(num_uavs), np.arange(num_uavs)
    width = capacity = direct_NA
    hops = (direct_NA > 0.0).astype(np.int64)
    first = np.arange(direct_NA.size).reshape(direct_NA.shape) * (num_uavs - 1)
    via: list[np.ndarray] = []
    for length in range(2, min(max_hops, num_uavs) + 1):
        through = np.minimum(links_NAP, width.take(others, axis=1))
        peer = through.argmax(2)
        via.append(peer + (peer >= own))  # the index among all UAVs
        widest = through.reshape(-1).take(first + peer)  # far quicker than through.max(2)
        width = np.maximum(width, widest)
        shared = width / length
        is_better = shared > capacity
        capacity = np.where(is_better, shared, capacity)
        hops[is_better] = length
    return Routes(capacity, hops, _relays(hops, via), tuple(via))


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


def path(routes: Routes, network: int, uav: int) -> list[int]:
    """The UAVs on the route of one UAV, itself first; empty when it has none."""
    hops = int(routes.hops[network, uav])
    nodes = [uav] if hops else []
    for left in range(hops, 1, -1):
        nodes.append(int(routes.via[left - 2][network, nodes[-1]]))
    return nodes
