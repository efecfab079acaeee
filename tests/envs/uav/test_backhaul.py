"""Widest paths against trying all paths."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from lit_rl.envs.uav.backhaul import path, peers, widest_paths


def try_all(direct_A: np.ndarray, links_AA: np.ndarray, max_hops: int, uav: int) -> tuple[float, list[int]]:
    """Best capacity and its path, over all simple paths, the shorter ones first."""
    others = [i for i in range(len(direct_A)) if i != uav]
    best, best_path = 0.0, []
    for hops in range(1, max_hops + 1):
        for relays in permutations(others, hops - 1):
            nodes = [uav, *relays]
            width = min([links_AA[a, b] for a, b in pairwise(nodes)] + [direct_A[nodes[-1]]])
            if width / hops > best:
                best, best_path = width / hops, nodes
    return best, best_path


@pytest.mark.parametrize(("uavs", "max_hops"), [(1, 3), (2, 3), (5, 1), (5, 3), (5, 5), (4, 9)])
def test_equals_trying_all_paths(uavs: int, max_hops: int) -> None:
    rng = np.random.default_rng(uavs)
    direct = rng.uniform(0, 100, (40, uavs)) * (rng.random((40, uavs)) < 0.4)
    links = rng.uniform(0, 300, (40, uavs, uavs)) * (rng.random((40, uavs, uavs)) < 0.6)
    links = np.maximum(links, links.swapaxes(1, 2)) * ~np.eye(uavs, dtype=bool)
    routes = widest_paths(direct, np.take_along_axis(links, peers(uavs)[None], 2), max_hops)
    for network in range(40):
        relays = set()
        for uav in range(uavs):
            capacity, nodes = try_all(direct[network], links[network], min(max_hops, uavs), uav)
            assert routes.capacity[network, uav] == pytest.approx(capacity)
            assert routes.hops[network, uav] == len(nodes)
            assert path(routes, network, uav) == nodes
            relays |= set(nodes[1:])
        assert set(np.flatnonzero(routes.relay[network])) == relays


def test_half_duplex_by_hand() -> None:
    """UAV 1 has no gateway: over 0 it gets half of the narrower link, 60 / 2."""
    routes = widest_paths(np.array([[100.0, 0.0]]), np.array([[[60.0], [60.0]]]), 3)
    assert routes.capacity.tolist() == [[100.0, 30.0]]
    assert routes.hops.tolist() == [[1, 2]]
    assert routes.relay.tolist() == [[True, False]]


def test_peers_are_all_the_others() -> None:
    assert peers(3).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert peers(1).shape == (1, 0)
