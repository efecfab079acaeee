"""What a quadruped observes. Compiled code.

``robot`` (45 numbers) is what a robot can measure, all in the frame of its trunk: 0.25 times the turning
rates (3), direction of gravity (3), the command times 2, 2 and 0.25 (3), joint angles minus those of the
stance (12), 0.05 times the joint speeds (12), and the last action (12). ``full`` (48) has twice the velocity
of the trunk (3) in front.

``critic`` (60) is what only a simulator knows: ``full`` without noise or bias, and 0.02 times the torques of
the joints (12).

Joints go by ``model.JOINT_NAMES``. Axes: O observation features.
"""

from __future__ import annotations

from lit_rl.envs.go2.model import NUM_JOINTS
from lit_rl.envs.jit import njit
from lit_rl.envs.streams import uniform

NUM_CRITIC = 60
TURN_NOISE, GRAVITY_NOISE, ANGLE_NOISE, SPEED_NOISE = 0.2, 0.05, 0.01, 1.5
"""Largest noise of what a robot measures, in the units of the quantity, before it is scaled."""
SPEED_SCALE, TURN_SCALE, VELOCITY_SCALE = 0.05, 0.25, 2.0
_TORQUE_SCALE = 0.02


@njit(forceinline=True)
def _noisy(value, size, e, rows):
    return value + size * (2 * uniform(e, rows.key, rows.num_drawn) - 1) if size > 0 else value


@njit
def write_frame(e, out, at, is_full, velocity, turn, gravity, angles, speeds, stance, noise, rows):
    """Write one observation of robot ``e`` into ``out`` ``(O,)`` from ``at`` on; return where it ends.

    Args:
        e: Number of the robot.
        out: Written to.
        at: Place of the first number.
        is_full: Whether the velocity of the trunk stands in front.
        velocity: Velocity (x, y, z) of the trunk in its own frame.
        turn: Turning rates (x, y, z) in that frame.
        gravity: Direction of gravity in that frame.
        angles: Joint angles as measured (12,).
        speeds: Joint speeds (12,).
        stance: Joint angles of the stance (12,).
        noise: Factor of the usual noise; with 0 nothing is drawn.
        rows: The robots' own numbers.
    """
    if is_full:
        for i in range(3):
            out[at + i] = VELOCITY_SCALE * velocity[i]
        at += 3
    for i in range(3):
        out[at + i] = TURN_SCALE * _noisy(turn[i], noise * TURN_NOISE, e, rows)
    for i in range(3):
        out[at + 3 + i] = _noisy(gravity[i], noise * GRAVITY_NOISE, e, rows)
    for i in range(3):
        out[at + 6 + i] = (VELOCITY_SCALE if i < 2 else TURN_SCALE) * rows.command[e, i]
    at += 9
    for i in range(NUM_JOINTS):
        out[at + i] = _noisy(angles[i] - stance[i], noise * ANGLE_NOISE, e, rows)
        out[at + 12 + i] = SPEED_SCALE * _noisy(speeds[i], noise * SPEED_NOISE, e, rows)
        out[at + 24 + i] = rows.action[e, i]
    return at + 36


@njit
def write_critic(e, out, velocity, turn, gravity, angles, speeds, stance, rows):
    """Write what only a simulator knows of robot ``e`` into ``out`` ``(60,)``; arguments as above."""
    at = write_frame(e, out, 0, True, velocity, turn, gravity, angles, speeds, stance, 0.0, rows)
    for i in range(NUM_JOINTS):
        out[at + i] = _TORQUE_SCALE * rows.torque[e, i]


@njit
def push_frame(frames, frame, is_first):
    """Add an observation ``(O,)`` to ``frames`` ``(history, O)``, oldest first; fill them if it is first."""
    length = len(frames)
    if not is_first:
        for k in range(length - 1):
            frames[k] = frames[k + 1]
        frames[length - 1] = frame
        return
    for k in range(length):
        frames[k] = frame
