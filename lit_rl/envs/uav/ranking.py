"""The k smallest of each row by sorting integers, several times faster than ``argsort`` of floats."""

from __future__ import annotations

import numpy as np

_LOW_BITS = (1 << 32) - 1


def rank_up(values: np.ndarray) -> np.ndarray:
    """int32 keys in the order of ``values``, float32 numbers of at least 0 (their bits are in order)."""
    return values.view(np.int32)


def rank_down(values: np.ndarray) -> np.ndarray:
    """int32 keys in the opposite order of ``values``."""
    return -values.view(np.int32)


def smallest(keys: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k smallest keys of each row, ascending; among equals the lower index comes first.

    Args:
        keys: ``(..., M)`` int32.
        k: At most M.

    Returns:
        ``(..., k)`` int64.
    """
    packed = keys.astype(np.int64)
    packed <<= 32
    packed |= np.arange(keys.shape[-1])
    packed.sort(-1)
    return packed[..., :k] & _LOW_BITS
