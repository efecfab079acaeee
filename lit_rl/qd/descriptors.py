"""What makes planar arms different from each other, from their bodies alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_rl.qd.grid import Grid

if TYPE_CHECKING:
    from lit_rl.envs.arm.body import ArmSpace, Bodies

LOWEST = -0.7
"""Lowest fitness of ``fitness.arm_fitness``: no success, as far off as the task is long, strongest motors."""


def arm_grid(space: ArmSpace, length_cells: int = 20, centroid_cells: int = 10) -> Grid:
    """Return the cells of an archive of the arms of ``space``: one row of cells per joint count.

    With the default space these are 800 cells; many are empty by nature, because three links cannot be
    0.8 m long.
    """
    fewest, most = min(space.joints), max(space.joints)
    return Grid(
        names=("joints", "length_m", "torque_centroid"),
        cells=(most - fewest + 1, length_cells, centroid_cells),
        ranges=(
            (fewest - 0.5, most + 0.5),
            (fewest * space.length_m[0], most * space.length_m[1] + 1e-9),
            (0.2, 0.8),
        ),
        offset=LOWEST,
    )


def arm_measures(bodies: Bodies) -> np.ndarray:
    """Return joint count, length of all links in m, and torque centroid: ``(bodies, 3)``.

    The torque centroid says where along the arm its strength lies: 0 is all at the base, 1 all at the last
    joint. With ``g_i`` the torque of joint i, from 0, of n joints it is ``sum(i g_i) / ((n - 1) sum(g_i))``.
    """
    gear = bodies.gear * bodies.has_joint
    place = np.arange(gear.shape[1])
    centroid = (place * gear).sum(1) / ((bodies.num_joints - 1) * gear.sum(1))
    return np.stack([bodies.num_joints.astype(np.float64), bodies.reach_m, centroid], 1)
