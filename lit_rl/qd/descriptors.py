"""What makes planar arms different from each other, from their bodies alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_rl.qd.grid import Grid

if TYPE_CHECKING:
    from lit_rl.envs.arm.body import Bodies

LOWEST = -0.7
"""Lowest fitness of ``fitness.arm_fitness``: no success, as far off as the task is long, strongest motors."""
ARM_GRID = Grid(
    names=("joints", "length_m", "torque_centroid"),
    cells=(4, 20, 10),
    ranges=((2.5, 6.5), (0.12, 0.84), (0.2, 0.8)),
    offset=LOWEST,
)
"""800 cells; many are empty by nature, because three links cannot be 0.8 m long."""


def arm_measures(bodies: Bodies) -> np.ndarray:
    """Return joint count, length of all links in m, and torque centroid: ``(bodies, 3)``.

    The torque centroid says where along the arm its strength lies: 0 is all at the base, 1 all at the last
    joint. With ``g_i`` the torque of joint i, from 0, of n joints it is ``sum(i g_i) / ((n - 1) sum(g_i))``.
    """
    gear = bodies.gear * bodies.has_joint
    place = np.arange(gear.shape[1])
    centroid = (place * gear).sum(1) / ((bodies.num_joints - 1) * gear.sum(1))
    return np.stack([bodies.num_joints.astype(np.float64), bodies.reach_m, centroid], 1)
