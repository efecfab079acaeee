"""Random numbers for thousands of environments in one call, without a generator object for each.

Axes: N environments (a stream each), E chosen environments.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library

_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, 2**64 / golden ratio


class Streams:
    """N independent random streams: SplitMix64 (Steele 2014, doi 10.1145/2660193.2660195), read by index.

    Number k of stream i is ``mix(key_i + k * step)``. It depends on the seed of stream i and on how many
    numbers it gave before, never on N or on the other streams.

    Args:
        seed: Stream i has the seed ``seed + i``.
        num: N.
    """

    def __init__(self, seed: int, num: int) -> None:
        seeds = np.arange(1, num + 1, dtype=np.uint64) + np.uint64(seed % 2**64)
        self._key = _mix(seeds * _STEP)
        self._count = np.zeros(num, np.uint64)

    def uniform(self, rows: np.ndarray, num: int) -> np.ndarray:
        """The next ``num`` numbers in [0, 1) of the E streams ``rows``: ``(E, num)`` float64."""
        index = self._count[rows, None] + np.arange(1, num + 1, dtype=np.uint64)
        self._count[rows] += np.uint64(num)
        bits = _mix(self._key[rows, None] + index * _STEP)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform_where(self, has_N: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
        """The E streams where ``has_N``, and their next ``num`` numbers: ``(E, num)`` float64."""
        rows = np.flatnonzero(has_N)
        return rows, self.uniform(rows, num) if len(rows) else np.empty((0, num))

    def normal(self, rows: np.ndarray, num: int) -> np.ndarray:
        """The next ``num`` standard normal numbers: ``(E, num)`` float64."""
        return box_muller(self.uniform(rows, 2 * ((num + 1) // 2)), num, NUMPY)

    def get_state(self) -> dict[str, Any]:
        """Keys and counters, as tensors."""
        import torch

        return {
            "key": torch.from_numpy(self._key.view(np.int64).copy()),
            "count": torch.from_numpy(self._count.view(np.int64).copy()),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`."""
        self._key = state["key"].numpy().view(np.uint64).copy()
        self._count = state["count"].numpy().view(np.uint64).copy()


def box_muller(uniform: Array, num: int, xp: Library) -> Array:
    """``num`` standard normal numbers of each row of uniform ones (Box and Muller 1958): ``(E, num)``."""
    pairs = uniform.shape[1] // 2
    radius, angle = xp.sqrt(-2.0 * xp.log1p(-uniform[:, :pairs])), 2.0 * math.pi * uniform[:, pairs:]
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)], 1)[:, :num]


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of ``bits``."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
