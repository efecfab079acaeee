"""Which links touch each other, an obstacle or the base, by the distances of their centre lines.

Compiled code.

Axes: N environments.
"""

from __future__ import annotations

from numba import njit

from lit_rl.envs.arm.dynamics import LENGTH, RADIUS

OBSTACLE, SELF, BASE = 1, 2, 4
"""Bits of what :func:`touched` returns."""


@njit(forceinline=True)
def distance2_to_point(frame, i, x, y):
    """Squared distance of the centre line of link ``i`` to a point."""
    ax, ay = frame[0, i], frame[1, i]
    ux, uy = frame[0, i + 1] - ax, frame[1, i + 1] - ay
    wx, wy = x - ax, y - ay
    length2 = ux * ux + uy * uy
    along = min(max((wx * ux + wy * uy) / length2, 0.0), 1.0)
    dx, dy = wx - along * ux, wy - along * uy
    return dx * dx + dy * dy


@njit(forceinline=True)
def distance2_of_links(frame, i, j):
    """Squared distance of the centre lines of links ``i`` and ``j`` (Ericson 2004, section 5.1.9)."""
    ux, uy = frame[0, i + 1] - frame[0, i], frame[1, i + 1] - frame[1, i]
    vx, vy = frame[0, j + 1] - frame[0, j], frame[1, j + 1] - frame[1, j]
    rx, ry = frame[0, i] - frame[0, j], frame[1, i] - frame[1, j]
    a, e, b = ux * ux + uy * uy, vx * vx + vy * vy, ux * vx + uy * vy
    c, f = ux * rx + uy * ry, vx * rx + vy * ry
    denominator = a * e - b * b
    s = 0.0
    if denominator > 1e-9 * a * e:  # not parallel
        s = min(max((b * f - c * e) / denominator, 0.0), 1.0)
    t = (b * s + f) / e
    if t < 0.0:
        t, s = 0.0, min(max(-c / a, 0.0), 1.0)
    elif t > 1.0:
        t, s = 1.0, min(max((b - c) / a, 0.0), 1.0)
    dx, dy = rx + s * ux - t * vx, ry + s * uy - t * vy
    return dx * dx + dy * dy


@njit(forceinline=True)
def touched(n, b, frame, table, obstacles):
    """Tell what the arm with body ``b``, whose links stand in ``frame``, touches.

    Links that share a joint never count. The base is a disc as thick as the first link around the first
    joint.

    Args:
        n: Number of its joints.
        b: Number of its body.
        frame: Places of its links, ``(4, 7)``; see ``place`` in ``dynamics.py``.
        table: Constants of the joints of all bodies.
        obstacles: ``(obstacles, 3)``, x, y and radius.

    Returns:
        The sum of the bits ``OBSTACLE``, ``SELF`` and ``BASE``.
    """
    found = 0
    for i in range(n):
        for k in range(len(obstacles)):
            limit = table[b, i, RADIUS] + obstacles[k, 2]
            if distance2_to_point(frame, i, obstacles[k, 0], obstacles[k, 1]) < limit * limit:
                found |= OBSTACLE
    for j in range(2, n):
        limit = table[b, 0, RADIUS] + table[b, j, RADIUS]
        if distance2_to_point(frame, j, frame[0, 0], frame[1, 0]) < limit * limit:
            found |= BASE
        for i in range(j - 1):
            limit = table[b, i, RADIUS] + table[b, j, RADIUS]
            far = limit + (table[b, i, LENGTH] + table[b, j, LENGTH]) / 2
            mx = frame[0, i] + frame[0, i + 1] - frame[0, j] - frame[0, j + 1]
            my = frame[1, i] + frame[1, i + 1] - frame[1, j] - frame[1, j + 1]
            is_near = mx * mx + my * my < 4 * far * far  # compares twice the distance of the middles
            if is_near and distance2_of_links(frame, i, j) < limit * limit:
                found |= SELF
    return found
