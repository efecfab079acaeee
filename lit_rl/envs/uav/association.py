"""Which UAV serves which user: deferred acceptance (Gale and Shapley 1962) with limited capacity, batched.

Users ask the station they hear best; a station keeps the best of those who ask it. Both sides rank a pair by
its SINR, so the result is also that of a greedy choice: take all pairs from the best SINR down, and serve
where the user is free and the station has room (a test compares the two).

Axes: N environments (networks), A agents (UAVs), G ground users.
"""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.ranking import rank_down, smallest


def associate(sinr_NAG: Array, min_sinr: float, capacity: int, xp: Library = NUMPY) -> Array:
    """Serve each user by at most one station, and at most ``capacity`` users by each station.

    Args:
        sinr_NAG: float32, at least 0, not in dB. Among equals the lower station comes first, then the lower
            user.
        min_sinr: Above 0; pairs below it are never served. Not in dB.
        capacity: Users per station.
        xp: The library that computes.

    Returns:
        ``(N, A, G)`` bool: station a serves user g.
    """
    wish = sinr_NAG * (sinr_NAG >= min_sinr)  # 0: out of the question
    # Two stations cannot both be stronger than all else that a user hears: with at least 0 dB a user has one
    # choice, and asking once is enough.
    ask_once = min_sinr >= 1.0
    while True:
        asks = _ask_best(wish, xp)
        if xp.is_host:
            is_refused = _refuse_surplus(wish, asks, capacity)
        else:
            is_refused = _refuse_surplus_everywhere(wish, asks, capacity, xp)
        if ask_once or not is_refused:  # waits for a device only where users may ask more than once
            return asks


def _ask_best(wish_NAG: Array, xp: Library) -> Array:
    """Each user asks its best station, the lower one of equals; ``(N, A, G)`` bool."""
    best_NG = xp.max(wish_NAG, 1)
    asks = wish_NAG == best_NG[:, None]
    is_free = best_NG > 0.0
    for station in range(wish_NAG.shape[1]):
        asks[:, station] &= is_free
        is_free ^= asks[:, station]
    return asks


def _refuse_surplus(wish_NAG: np.ndarray, asks_NAG: np.ndarray, capacity: int) -> bool:
    """Stations refuse all but their best ``capacity`` users, in place; whether any was refused."""
    full = np.nonzero(asks_NAG.sum(2) > capacity)
    if not len(full[0]):
        return False
    wish, asks = wish_NAG[full], asks_NAG[full]  # (full stations, G)
    best = smallest(rank_down(wish * asks), capacity)
    keeps = np.zeros_like(asks)
    np.put_along_axis(keeps, best, True, axis=1)
    wish[asks & ~keeps] = 0.0
    wish_NAG[full], asks_NAG[full] = wish, keeps
    return True


def _refuse_surplus_everywhere(wish_NAG: Array, asks_NAG: Array, capacity: int, xp: Library) -> Array:
    """Do as :func:`_refuse_surplus` does, but rank at all stations: no shape depends on who is full.

    Returns:
        One bool on the device.
    """
    order = smallest(rank_down(wish_NAG * asks_NAG, xp), min(capacity, wish_NAG.shape[2]), xp)
    keeps = xp.zeros(wish_NAG.shape, xp.bool_)
    xp.put_along_axis(keeps, order, True, 2)
    refused = asks_NAG & ~keeps
    wish_NAG *= ~refused
    asks_NAG &= keeps
    return refused.any()
