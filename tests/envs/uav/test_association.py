"""Deferred acceptance equals greedy choice by SINR."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.association import associate
from lit_rl.envs.uav.channel import signal_to_interference


def greedy(sinr_AM: np.ndarray, min_sinr: float, capacity: int) -> np.ndarray:
    """Take pairs from the best SINR down; the lower station, then the lower user first among equals."""
    stations, users = sinr_AM.shape
    serves = np.zeros((stations, users), bool)
    for flat in np.argsort(-sinr_AM, axis=None, kind="stable"):
        station, user = divmod(int(flat), users)
        has_room = serves[station].sum() < capacity and not serves[:, user].any()
        if has_room and sinr_AM[station, user] >= min_sinr:
            serves[station, user] = True
    return serves


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_sinr_db", [-30.0, -10.0, -3.0])
def test_equals_greedy_with_several_choices(seed: int, min_sinr_db: float) -> None:
    """Any numbers will do as SINR below 0 dB; rounded ones have many equal pairs."""
    rng = np.random.default_rng(seed)
    stations, users, capacity = rng.integers(1, 9), rng.integers(1, 51), int(rng.integers(1, 13))
    capacity = min(capacity, int(users))
    sinr_db = rng.normal(5, 8, (6, stations, users))
    sinr_db[3:] = np.round(sinr_db[3:] / 4) * 4
    sinr = (10 ** (sinr_db / 10)).astype(np.float32)
    min_sinr = 10 ** (min_sinr_db / 10)
    serves = associate(sinr, min_sinr, capacity)
    for network in range(len(sinr)):
        np.testing.assert_array_equal(serves[network], greedy(sinr[network], min_sinr, capacity))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_sinr_db", [0.0, 3.0])
def test_equals_greedy_where_one_ask_is_enough(seed: int, min_sinr_db: float) -> None:
    rng = np.random.default_rng(seed)
    sinr = signal_to_interference(np.exp(rng.normal(3, 3, (20, 4, 50))).astype(np.float32))
    min_sinr = 10 ** (min_sinr_db / 10)
    assert ((sinr >= min_sinr).sum(1) <= 1).all()  # what the short cut rests on
    serves = associate(sinr, min_sinr, 5)
    assert (serves.sum(2) == 5).any()
    for network in range(len(sinr)):
        np.testing.assert_array_equal(serves[network], greedy(sinr[network], min_sinr, 5))


def test_refused_users_ask_elsewhere_by_hand() -> None:
    sinr = np.array([[[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]]], np.float32)
    np.testing.assert_array_equal(associate(sinr, 0.5, 1), [[[True, False, False], [False, False, True]]])
    np.testing.assert_array_equal(associate(sinr, 0.5, 2), [[[True, True, False], [False, False, True]]])


def test_capacity_above_the_number_of_users() -> None:
    sinr = np.array([[[0.9, 0.8]]], np.float32)
    assert associate(sinr, 0.5, 12).all()
