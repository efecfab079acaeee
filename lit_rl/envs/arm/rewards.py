"""The reward of one step, as named terms that are comparable across arms of all sizes. Compiled code.

Every term is a multiple of 2**-20 (about 1e-6), so that their sum is the reward exactly, in any order and in
float32 as in float64.

Axes: N environments.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TERMS = ("distance", "effort", "smoothness", "success", "contact")
DISTANCE, EFFORT, SMOOTHNESS, SUCCESS, CONTACT = 1.0, 0.01, 0.002, 0.5, 0.1
"""Weights of the terms."""
_GRID = 2.0**20


@njit(forceinline=True)
def write_terms(e, terms, distance, effort, change, is_success, is_touching):
    """Write the terms of arm ``e`` into ``terms`` ``(N, 5)``, in the order of ``TERMS``.

    ``-d / R - 0.01 mean(u^2) - 0.002 mean(du^2) + 0.5 [success] - 0.1 [contact]``; means are over the joints
    that the arm has, so that long arms do not pay more.

    Args:
        e: Number of the environment.
        terms: Written to.
        distance: Distance d from the tip to the goal over the length R of the task.
        effort: Mean square of the actions u.
        change: Mean square of their changes du since the step before.
        is_success: Whether the tip is at the goal.
        is_touching: Whether the arm touches itself or an obstacle.

    Returns:
        The reward.
    """
    terms[e, 0] = -np.floor(DISTANCE * distance * _GRID + 0.5) / _GRID
    terms[e, 1] = -np.floor(EFFORT * effort * _GRID + 0.5) / _GRID
    terms[e, 2] = -np.floor(SMOOTHNESS * change * _GRID + 0.5) / _GRID
    terms[e, 3] = SUCCESS if is_success else 0.0
    terms[e, 4] = -np.floor(CONTACT * _GRID + 0.5) / _GRID if is_touching else 0.0
    return terms[e, 0] + terms[e, 1] + terms[e, 2] + terms[e, 3] + terms[e, 4]
