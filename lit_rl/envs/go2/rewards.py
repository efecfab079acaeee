"""The reward of one step, as named terms. Compiled code.

Every term is a multiple of 2**-20 (about 1e-6), so that their sum is the reward exactly, in any order and in
float32 as in float64.

Axes: N environments.
"""

from __future__ import annotations

import math

import numpy as np

from lit_rl.envs.jit import njit

WEIGHTS: dict[str, float] = {
    "tracking": 1.5,
    "turning": 0.75,
    "sideways": 1.0,
    "bouncing": 1.0,
    "rolling": 0.05,
    "tilt": 1.0,
    "posture": 0.0,
    "torque": 2e-4,
    "action_change": 0.01,
    "fall": 10.0,
    "steps": 0.0,
}
"""Weights of the terms, in their order; ``forward`` weighs ``turning`` by ``FORWARD_TURNING``."""
TERMS = tuple(WEIGHTS)
"""Names of the terms."""
FORWARD_TURNING = 0.3
SLOWEST_MPS, SLOWEST_RADPS = 0.4, 0.5
"""Commands below these count as these where an error is compared with its command."""
SHORT_STEP_S = 0.1
"""Feet that were in the air for less time than this are shuffled, not lifted."""
_GRID = 2.0**20


@njit(forceinline=True)
def write_terms(
    e, terms, weights, is_joystick, velocity, turn, gravity, command, bend2, torque2, change2, has_fallen,
    lifted
):  # fmt: skip
    """Write the terms of robot ``e`` into ``terms`` ``(N, terms)``, in the order of ``TERMS``.

    With the usual weights ``forward`` pays ``1.5 clip(1 - |vx - cx| / cx, -1, 1) - 0.3 (wz - cz)^2
    - (vy - cy)^2``, which is 0 for a robot at rest. ``joystick`` pays ``1.5 clip(1 - |v - c| / max(|c|, 0.4),
    -1, 1)`` for the horizontal velocity and ``0.75 clip(1 - |wz - cz| / max(|cz|, 0.5), -1, 1)`` for turning.
    Both pay ``- vz^2 - 0.05 (wx^2 + wy^2) - (gx^2 + gy^2) - 2e-4 |torque|^2 - 0.01 |a - a_before|^2
    - 10 [fall]``. Two terms weigh nothing unless ``reward_weights`` says so: the posture, ``- |q -
    q_stance|^2``, and the steps, ``sum of t - 0.1`` over the feet that touch the ground again after t
    seconds in the air, while the robot is asked to move (Rudin 2021, arXiv:2109.11978, with 0.5).

    Args:
        e: Number of the robot.
        terms: Written to.
        weights: Weights of the terms, in the order of ``TERMS``.
        is_joystick: Whether the task is ``joystick``.
        velocity: Velocity (x, y, z) of the trunk in its own frame, m/s.
        turn: Turning rates (x, y, z) in that frame, rad/s.
        gravity: Direction of gravity in that frame.
        command: Wanted x and y velocity and turning rate.
        bend2: Sum of the squared differences between joint angles and those of the stance.
        torque2: Sum of the squared torques, Nm^2.
        change2: Sum of the squared changes of the action.
        has_fallen: Whether the robot fell at this step.
        lifted: Sum, over the feet that touched the ground again at this step, of the seconds they were in
            the air beyond ``SHORT_STEP_S``; negative where they were shuffled.

    Returns:
        The reward.
    """
    error_x, error_y, error_turn = velocity[0] - command[0], velocity[1] - command[1], turn[2] - command[2]
    if is_joystick:
        error = math.sqrt(error_x * error_x + error_y * error_y)
        size = math.sqrt(command[0] * command[0] + command[1] * command[1])
        tracking = min(max(1 - error / max(size, SLOWEST_MPS), -1.0), 1.0)
        share = abs(error_turn) / max(abs(command[2]), SLOWEST_RADPS)
        turning = min(max(1 - share, -1.0), 1.0)
        sideways = 0.0
    else:
        tracking = min(max(1 - abs(error_x) / command[0], -1.0), 1.0)
        turning = -error_turn * error_turn
        sideways = -error_y * error_y
    roll2 = turn[0] * turn[0] + turn[1] * turn[1]
    tilt2 = gravity[0] * gravity[0] + gravity[1] * gravity[1]
    fall = 1.0 if has_fallen else 0.0
    values = (
        tracking, turning, sideways, -velocity[2] * velocity[2],
        -roll2, -tilt2, -bend2, -torque2, -change2, -fall, lifted,
    )  # fmt: skip
    total = 0.0
    for k in range(len(values)):
        terms[e, k] = np.floor(weights[k] * values[k] * _GRID + 0.5) / _GRID
        total += terms[e, k]
    return total
