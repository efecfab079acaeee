"""Random numbers of each environment, drawn inside compiled code: SplitMix64 over a key and a counter.

Number k of the environment with seed s depends on (s, k) only, so neither the number of environments nor
their order matters.
"""

from __future__ import annotations

import numpy as np

from lit_rl.envs.jit import njit

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _S11, _S27, _S30, _S31 = (np.uint64(number) for number in (1, 11, 27, 30, 31))


@njit
def mix(bits):
    """Finish SplitMix64: every bit of the result depends on every bit of ``bits``."""
    bits = (bits ^ (bits >> _S30)) * _FIRST
    bits = (bits ^ (bits >> _S27)) * _SECOND
    return bits ^ (bits >> _S31)


@njit
def uniform(e, key, count):
    """Draw the next number of environment ``e`` in [0, 1), in float64, and count it."""
    count[e] += _ONE
    return float(mix(key[e] + count[e] * _STEP) >> _S11) * 2.0**-53


def make_keys(seed: int, num: int) -> np.ndarray:
    """Keys of the streams with seeds ``seed``, ``seed + 1``, ...: ``(num,)`` uint64."""
    bits = (np.arange(1, num + 1, dtype=np.uint64) + np.uint64(seed % 2**64)) * _STEP
    bits = (bits ^ (bits >> _S30)) * _FIRST
    bits = (bits ^ (bits >> _S27)) * _SECOND
    return bits ^ (bits >> _S31)
