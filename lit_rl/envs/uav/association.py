"""Which UAV serves which user: deferred acceptance (Gale and Shapley 1962) with limited capacity, batched.

Users ask the station they hear best; a station keeps the best of those who ask it. Both sides rank a pair by
its SINR, so the result is also that of a greedy choice: take all pairs from the best SINR down, and serve
where the user is free and the station has room (a test compares the two).
"""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.ranking import rank_down, smallest


def associate(sinr_NAM: Array, min_sinr: float, capacity: int, xp: Library = NUMPY) -> Array:
    """Serve each user by at most one station, and at most ``capacity`` users by each station.

    Args:
        sinr_NAM: float32, at least 0, not in dB. Among equals the lower station comes first, then the lower
            user.
        min_sinr: Above 0; pairs below it are never served. Not in dB.
        capacity: Users per station.
        xp: The library that computes.

    Returns:
        ``(N, A, M)`` bool: station a serves user m.
    """
    wish = sinr_NAM * (sinr_NAM >= min_sinr)  # 0: out of the question
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


def _ask_best(wish_NAM: Array, xp: Library) -> Array:
    """Each user asks its best station, the lower one of equals; ``(N, A, M)`` bool."""
    best_NM = xp.max(wish_NAM, 1)
    asks = wish_NAM == best_NM[:, None]
    is_free = best_NM > 0.0
    for station in range(wish_NAM.shape[1]):
        asks[:, station] &= is_free
        is_free ^= asks[:, station]
    return asks


def _refuse_surplus(wish_NAM: np.ndarray, asks_NAM: np.ndarray, capacity: int) -> bool:
    """Stations refuse all but their best ``capacity`` users, in place; whether any was refused."""
    full = np.nonzero(asks_NAM.sum(2) > capacity)
    if not len(full[0]):
        return False
    wish, asks = wish_NAM[full], asks_NAM[full]  # (R, M)
    best = smallest(rank_down(wish * asks), capacity)
    keeps = np.zeros_like(asks)
    np.put_along_axis(keeps, best, True, axis=1)
    wish[asks & ~keeps] = 0.0
    wish_NAM[full], asks_NAM[full] = wish, keeps
    return True


def _refuse_surplus_everywhere(wish_NAM: Array, asks_NAM: Array, capacity: int, xp: Library) -> Array:
    """Do as :func:`_refuse_surplus` does, but rank at all stations: no shape depends on who is full.

    Returns:
        One bool on the device.
    """
    order = smallest(rank_down(wish_NAM * asks_NAM, xp), min(capacity, wish_NAM.shape[2]), xp)
    keeps = xp.zeros(wish_NAM.shape, xp.bool_)
    xp.put_along_axis(keeps, order, True, 2)
    refused = asks_NAM & ~keeps
    wish_NAM *= ~refused
    asks_NAM &= keeps
    return refused.any()
