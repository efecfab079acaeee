"""The k smallest of each row by sorting integers, several times faster than ``argsort`` of floats.

Axes: G ground users.
"""

from __future__ import annotations

from lit_rl.envs.uav.arrays import NUMPY, Array, Library

_LOW_BITS = (1 << 32) - 1


def rank_up(values: Array, xp: Library = NUMPY) -> Array:
    """int32 keys in the order of ``values``, float32 numbers of at least 0 (their bits are in order)."""
    return values.view(xp.int32)


def rank_down(values: Array, xp: Library = NUMPY) -> Array:
    """int32 keys in the opposite order of ``values``."""
    return -values.view(xp.int32)


def smallest(keys: Array, k: int, xp: Library = NUMPY) -> Array:
    """Return the indices of the k smallest keys of each row, ascending; of equals the lower comes first.

    Args:
        keys: ``(..., G)`` int32.
        k: Number of keys, at most G.
        xp: The library that computes.

    Returns:
        ``(..., k)`` int64.
    """
    packed = xp.astype(keys, xp.int64)
    packed <<= 32
    packed |= xp.arange(keys.shape[-1])
    return xp.lowest(packed, k) & _LOW_BITS
