"""Motion of a chain of links in the plane, exact: what MuJoCo computes without contacts, in closed form.

Compiled code. One row of ``state`` ``(N, 5, 6)`` is an arm: joint angles, their speeds, their cosines and
sines, and the newest action.

Axes: N environments.
"""

from __future__ import annotations

import math

from numba import njit
from numba.np.numpy_support import carray

from lit_rl.envs.arm.trigonometry import sin_cos
from lit_rl.envs.compiled import on_stack

ANGLE, SPEED, COS, SIN, ACTION = range(5)
LENGTH, GEAR, RADIUS, DAMPING, INERTIA, LOG_MASS = range(6)
"""Columns of ``table`` ``(bodies, 6, 6)``, in SI units; ``INERTIA`` is the armature, ``LOG_MASS`` the
logarithm of the mass of a link over that of a standard one."""
SPEED_GAIN, MAX_SPEED = 0.15, 8.0
"""Motor torque per error of the joint speed (Nm s/rad), and the speed (rad/s) at an action of 1, where
actions are speeds."""


@njit(forceinline=True)
def swing(joints, e, b, state, coupling, table, step_s, as_speed):
    """Move arm ``e``, whose body is ``b``, by one step of MuJoCo's Euler integrator.

    ``phi_i`` is the absolute angle of link i, ``w_i`` its rate, h stands in ``body.py``::

        A_ij = h_ij cos(phi_i - phi_j)             s_i = sum_j h_ij sin(phi_i - phi_j) w_j^2
        (T' A T + diag(armature + step_s * damping)) a = torque - damping * speed - T' s
        speed += step_s * a;   angle += step_s * speed

    T, the lower triangle of ones, sums joint speeds to those of links. Friction counts at the end of the step
    (implicitly), as in MuJoCo.

    Args:
        joints: A tuple with one entry per joint: the compiler then knows their number, and unrolls all loops.
        e: Number of the environment.
        b: Number of its body.
        state: Read and written.
        coupling: ``h`` of all bodies.
        table: Constants of the joints of all bodies.
        step_s: Length of the step.
        as_speed: Whether actions are joint speeds, which a motor follows as far as its torque allows.
    """
    n = len(joints)
    zero, one = state.dtype.type(0), state.dtype.type(1)  # 0 and 1 would turn float32 into float64
    mass, line = carray(on_stack(state.dtype), (6, 6)), carray(on_stack(state.dtype), (4, 6))
    gain, top_speed = state.dtype.type(SPEED_GAIN), state.dtype.type(MAX_SPEED)
    c, s = state[e, COS, 0], state[e, SIN, 0]
    w = state[e, SPEED, 0]
    line[0, 0], line[1, 0], line[2, 0], line[3, 0] = c, s, w * w, zero
    for i in range(1, n):  # absolute angles by the addition theorems
        cos, sin = state[e, COS, i], state[e, SIN, i]
        c, s = c * cos - s * sin, s * cos + c * sin
        w += state[e, SPEED, i]
        line[0, i], line[1, i], line[2, i], line[3, i] = c, s, w * w, zero
    for i in range(n):
        mass[i, i] = coupling[b, i, i]
        for j in range(i):
            h = coupling[b, i, j]
            inertia = h * (line[0, i] * line[0, j] + line[1, i] * line[1, j])
            twist = h * (line[1, i] * line[0, j] - line[0, i] * line[1, j])
            mass[i, j] = inertia
            mass[j, i] = inertia
            line[3, i] += twist * line[2, j]
            line[3, j] -= twist * line[2, i]
    behind = zero
    for i in range(n - 1, -1, -1):  # T' A T below the diagonal, the right side in line[3]
        row = zero
        for j in range(n - 1, i, -1):
            row += mass[i, j]
        for j in range(i, -1, -1):
            row += mass[i, j]
            mass[i, j] = row + mass[i + 1, j] if i < n - 1 else row
        behind += line[3, i]
        speed, action = state[e, SPEED, i], state[e, ACTION, i]
        if as_speed:
            action = gain * (top_speed * action - speed) / table[b, i, GEAR]
            action = max(min(action, one), -one)
        damping = table[b, i, DAMPING]
        line[3, i] = table[b, i, GEAR] * action - damping * speed - behind
        mass[i, i] += table[b, i, INERTIA] + step_s * damping
    _eliminate(joints, (), mass)
    _eliminate(joints, (0,), mass)
    _eliminate(joints, (0, 0), mass)
    if n > 3:
        _eliminate(joints, (0, 0, 0), mass)
    if n > 4:
        _eliminate(joints, (0, 0, 0, 0), mass)
    if n > 5:
        _eliminate(joints, (0, 0, 0, 0, 0), mass)
    for i in range(1, n):
        value = line[3, i]
        for k in range(i):
            value -= mass[i, k] * line[3, k]
        line[3, i] = value
    for i in range(n - 1, -1, -1):
        value = line[3, i] * mass[i, i]
        for k in range(i + 1, n):
            value -= mass[k, i] * line[3, k]
        line[3, i] = value
    for i in range(n):
        speed = state[e, SPEED, i] + step_s * line[3, i]
        angle = state[e, ANGLE, i] + step_s * speed
        state[e, SPEED, i], state[e, ANGLE, i] = speed, angle
        state[e, SIN, i], state[e, COS, i] = sin_cos(angle, state.dtype.type)


@njit(forceinline=True)
def _eliminate(joints, before, mass):
    """Compute the next column of ``L D L' = mass``; ``before`` has an entry for each column that is done.

    The inverse of D comes to stand on the diagonal, L below it, and L D, transposed, above it. A loop over
    the columns in its place would be too long for the compiler to unroll, at six joints.
    """
    n, j = len(joints), len(before)
    pivot = mass[j, j]
    for k in range(j):
        pivot -= mass[j, k] * mass[k, j]
    inverse = mass.dtype.type(1) / pivot
    mass[j, j] = inverse
    for i in range(j + 1, n):
        value = mass[i, j]
        for k in range(j):
            value -= mass[i, k] * mass[k, j]
        mass[j, i] = value
        mass[i, j] = value * inverse


@njit(forceinline=True)
def place(n, e, b, state, table, frame):
    """Write where the links of arm ``e`` are into ``frame`` ``(4, 7)``.

    Its rows are x and y of the joints, and cosine and sine of the absolute angles of the links; column n is
    the tip.
    """
    x = y = s = state.dtype.type(0)
    c = state.dtype.type(1)
    for i in range(n):
        cos, sin = state[e, COS, i], state[e, SIN, i]
        c, s = c * cos - s * sin, s * cos + c * sin
        frame[0, i], frame[1, i], frame[2, i], frame[3, i] = x, y, c, s
        x += table[b, i, LENGTH] * c
        y += table[b, i, LENGTH] * s
    frame[0, n], frame[1, n] = x, y


@njit(forceinline=True)
def wrap(n, e, state):
    """Bring the joint angles of arm ``e`` back into [-pi, pi], where float32 is precise."""
    for i in range(n):
        angle = state[e, ANGLE, i]
        if abs(angle) > math.pi:
            state[e, ANGLE, i] = angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))
