"""What an arm observes: three layouts, their sizes, and the compiled code that writes them.

``trig`` (3n + 5 numbers for n joints): cosines, sines and 0.1 times the speeds of the joints; goal, goal
minus tip, and their distance, all over the length R of the task.

``seed`` (2n + 8 numbers): joint angles in [-pi, pi] over pi, speeds; tip, goal and distance in m; and whether
the arm touches anything, the base or itself (1 or 0). Those are flags of this step, not counts.

``tokens``: a dict with 16 numbers per joint, 9 for the whole arm, and 4 per obstacle, all without a unit.
Joint: sine, cosine, 0.1 times the speed, cosine and sine of the direction of its link, tip minus joint and
goal minus joint over R, length over 0.1 m, logarithm of the mass over that of a standard link, gear over 0.2
Nm, damping over 0.01 Nm s/rad, depth in the arm from 0 to 1, number of joints over 6, and the last action.
Arm: goal, tip, goal minus tip and distance over R, reach over R, and the share of time that is left.
Obstacle: centre and radius over R, and distance to the nearest link over R.

R is the reach of the arm where goals are drawn within reach, else the distance of the farthest goal.

Axes: N environments, O observation features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from lit_rl.envs.arm.body import DAMPING as STANDARD_DAMPING
from lit_rl.envs.arm.body import GEAR_NM, LENGTH_M, RADIUS_M
from lit_rl.envs.arm.contacts import BASE, OBSTACLE, SELF, distance2_to_point
from lit_rl.envs.arm.dynamics import (
    ACTION,
    ANGLE,
    COS,
    DAMPING,
    GEAR,
    LENGTH,
    LOG_MASS,
    RADIUS,
    SIN,
    SPEED,
)

LAYOUTS = ("trig", "seed", "tokens")
TRIG, SEED, TOKENS = range(3)
JOINT_TOKENS, GLOBAL_TOKEN, JOINT_MASK, OBSTACLE_TOKENS = (
    "joint_tokens", "global_token", "joint_mask", "obstacle_tokens",
)  # fmt: skip
"""Keys of the layout ``tokens``; ``joint_mask``, 1 where an arm has a joint, comes with padded layouts."""
PADDED = "padded"
"""Key of the numbers of ``trig`` and ``seed`` where arms of several sizes are padded to one."""

BODY_NUMBER = "body_number"
"""Key of the number of an arm, where environments keep their arms."""


@dataclass(frozen=True)
class Layout:
    """Places of the numbers of an observation in the row ``(O,)`` that compiled code writes.

    Args:
        name: One of ``LAYOUTS``.
        width: Joints for which there is room.
        is_padded: Whether arms may have fewer joints, so that a mask says which there are.
        morph: Whether ``trig`` and ``seed`` end in lengths, gears and radii over those of a standard link.
        num_obstacles: Obstacles, of which ``tokens`` speaks.
    """

    name: str
    width: int
    is_padded: bool
    morph: bool
    num_obstacles: int

    @property
    def num_numbers(self) -> int:
        """Numbers of ``trig`` or ``seed``, without the mask."""
        of_layout = {"trig": 3 * self.width + 5, "seed": 2 * self.width + 8}
        return of_layout[self.name] + 3 * self.width * self.morph

    @property
    def parts(self) -> dict[str, tuple[int, list[int]]]:
        """Key to offset and shape; the only key is ``""`` where the observation is one array."""
        if self.name == "tokens":
            shapes = {JOINT_TOKENS: [self.width, 16], GLOBAL_TOKEN: [9], JOINT_MASK: [self.width]}
            if self.num_obstacles:
                shapes[OBSTACLE_TOKENS] = [self.num_obstacles, 4]
        elif self.is_padded:
            shapes = {PADDED: [self.num_numbers], JOINT_MASK: [self.width]}
        else:
            shapes = {"": [self.num_numbers]}
        offsets = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())]).tolist()
        return {key: (offset, shape) for (key, shape), offset in zip(shapes.items(), offsets, strict=False)}

    @property
    def size(self) -> int:
        """O, numbers of the whole row."""
        return max(offset + math.prod(shape) for offset, shape in self.parts.values())

    @property
    def mask_at(self) -> int:
        """Offset of the mask; -1 without one."""
        return self.parts[JOINT_MASK][0] if JOINT_MASK in self.parts else -1

    def split(self, row_NO: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Return rows as the observation: one array, or views of its parts."""
        if "" in self.parts:
            return row_NO
        return {
            key: row_NO[:, offset : offset + math.prod(shape)].reshape(len(row_NO), *shape)
            for key, (offset, shape) in self.parts.items()
        }


@njit(forceinline=True)
def write_observation(
    e, n, b, out, state, frame, goal, scale, table, reach, obstacles, touching, left, layout, width, morph,
    mask_at,
):  # fmt: skip
    """Write what arm ``e`` observes into ``out`` ``(N, O)``.

    Args:
        e: Number of the environment.
        n: Number of its joints.
        b: Number of its body.
        out: Written to.
        state: Joint angles, speeds, cosines, sines and actions.
        frame: Places of its links.
        goal: Goals of all environments.
        scale: Lengths R of their tasks.
        table: Constants of the joints of all bodies.
        reach: Reaches of all bodies.
        obstacles: x, y and radius of each.
        touching: Bits of what the arm touches.
        left: Share of the episode that is left.
        layout: ``TRIG``, ``SEED`` or ``TOKENS``.
        width: Joints for which there is room.
        morph: Whether the body is described, too.
        mask_at: Offset of the mask, or -1.
    """
    out[e, :] = 0.0
    if mask_at >= 0:
        for i in range(n):
            out[e, mask_at + i] = 1.0
    if layout == TOKENS:
        _write_tokens(e, n, b, out, state, frame, goal, scale, table, reach, obstacles, left, width, mask_at)
        return
    gx, gy, tx, ty = goal[e, 0], goal[e, 1], frame[0, n], frame[1, n]
    dx, dy = gx - tx, gy - ty
    distance = math.sqrt(dx * dx + dy * dy)
    if layout == TRIG:
        per = 1 / scale[e]
        for i in range(n):
            out[e, i] = state[e, COS, i]
            out[e, width + i] = state[e, SIN, i]
            out[e, 2 * width + i] = 0.1 * state[e, SPEED, i]
        k = 3 * width
        out[e, k], out[e, k + 1] = gx * per, gy * per
        out[e, k + 2], out[e, k + 3], out[e, k + 4] = dx * per, dy * per, distance * per
        k += 5
    else:
        for i in range(n):
            out[e, i] = state[e, ANGLE, i] / math.pi
            out[e, width + i] = state[e, SPEED, i]
        k = 2 * width
        out[e, k], out[e, k + 1], out[e, k + 2], out[e, k + 3] = tx, ty, gx, gy
        out[e, k + 4] = distance
        out[e, k + 5] = 1.0 if touching & (OBSTACLE | SELF | BASE) else 0.0
        out[e, k + 6] = 1.0 if touching & BASE else 0.0
        out[e, k + 7] = 1.0 if touching & SELF else 0.0
        k += 8
    if morph:
        for i in range(n):
            out[e, k + i] = table[b, i, LENGTH] / LENGTH_M
            out[e, k + width + i] = table[b, i, GEAR] / GEAR_NM
            out[e, k + 2 * width + i] = table[b, i, RADIUS] / RADIUS_M


@njit
def _write_tokens(
    e, n, b, out, state, frame, goal, scale, table, reach, obstacles, left, width, mask_at
):  # fmt: skip
    """Write the layout ``tokens``, whose mask stands there already."""
    per = 1 / scale[e]
    gx, gy, tx, ty = goal[e, 0], goal[e, 1], frame[0, n], frame[1, n]
    for i in range(n):
        k, x, y = 16 * i, frame[0, i], frame[1, i]
        out[e, k] = state[e, SIN, i]
        out[e, k + 1] = state[e, COS, i]
        out[e, k + 2] = 0.1 * state[e, SPEED, i]
        out[e, k + 3], out[e, k + 4] = frame[2, i], frame[3, i]
        out[e, k + 5], out[e, k + 6] = (tx - x) * per, (ty - y) * per
        out[e, k + 7], out[e, k + 8] = (gx - x) * per, (gy - y) * per
        out[e, k + 9] = table[b, i, LENGTH] / LENGTH_M
        out[e, k + 10] = table[b, i, LOG_MASS]
        out[e, k + 11] = table[b, i, GEAR] / GEAR_NM
        out[e, k + 12] = table[b, i, DAMPING] / STANDARD_DAMPING
        out[e, k + 13] = i / (n - 1)
        out[e, k + 14] = n / 6
        out[e, k + 15] = state[e, ACTION, i]
    k = 16 * width
    dx, dy = gx - tx, gy - ty
    out[e, k], out[e, k + 1], out[e, k + 2], out[e, k + 3] = gx * per, gy * per, tx * per, ty * per
    out[e, k + 4], out[e, k + 5], out[e, k + 6] = dx * per, dy * per, math.sqrt(dx * dx + dy * dy) * per
    out[e, k + 7], out[e, k + 8] = reach[b] * per, left
    for m in range(len(obstacles)):
        nearest2 = distance2_to_point(frame, 0, obstacles[m, 0], obstacles[m, 1])
        gap = math.sqrt(nearest2) - table[b, 0, RADIUS]
        for i in range(1, n):
            distance = math.sqrt(distance2_to_point(frame, i, obstacles[m, 0], obstacles[m, 1]))
            gap = min(gap, distance - table[b, i, RADIUS])
        k = mask_at + width + 4 * m
        out[e, k], out[e, k + 1] = obstacles[m, 0] * per, obstacles[m, 1] * per
        out[e, k + 2], out[e, k + 3] = obstacles[m, 2] * per, (gap - obstacles[m, 2]) * per
