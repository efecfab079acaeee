"""One call steps any number of different arms: physics, reward, observation and the next episode.

Compiled code. Arms of three and of six joints go through the same call; each runs what was compiled for its
number of joints, and padding costs nothing.

Axes: N environments, U action dimensions, O observation features.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit
from numba.np.numpy_support import carray

from lit_rl.envs.arm.contacts import touched
from lit_rl.envs.arm.dynamics import ACTION, ANGLE, COS, SIN, SPEED, place, swing, wrap
from lit_rl.envs.arm.observations import write_observation
from lit_rl.envs.arm.rewards import write_terms
from lit_rl.envs.arm.trigonometry import sin_cos
from lit_rl.envs.compiled import compiled, on_stack
from lit_rl.envs.sources import digest_of_sources
from lit_rl.envs.streams import uniform

MEASURES = (
    "distance_m",
    "distance_per_reach",
    "is_success",
    "is_within_5cm",
    "is_touching",
    "mean_square_action",
    "num_joints",
)
"""What is measured of every step, beside the terms of the reward."""
_ATTEMPTS = 64  # goals that are drawn before one inside an obstacle is taken


@njit
def begin(
    e, state, body, step_count, key, count, goal_number, goal, scale, num_joints, reach, goals, obstacles,
    noise, inner, outer, goal_scale, draws_body,
):  # fmt: skip
    """Begin an episode of arm ``e``: perhaps another body, a start pose, and a goal.

    The arm starts bent by 0.3 / (i + 1) rad at joint i, and by ``noise`` rad more or less at each. A goal
    that is drawn lies ``inner`` to ``outer`` times the reach from the base, uniformly over that ring.
    """
    if draws_body:
        body[e] = int(uniform(e, key, count) * len(num_joints))
    b = body[e]
    for i in range(num_joints[b]):
        angle = 0.3 / (i + 1) + noise * (2 * uniform(e, key, count) - 1)
        state[e, ANGLE, i] = angle
        angle = state[e, ANGLE, i]
        state[e, SPEED, i] = state[e, ACTION, i] = 0.0
        state[e, SIN, i], state[e, COS, i] = sin_cos(angle, state.dtype.type)
    if len(goals):
        k = goal_number[e] % len(goals)
        goal[e, 0], goal[e, 1], scale[e] = goals[k, 0], goals[k, 1], goal_scale
    else:
        for _ in range(_ATTEMPTS):
            share = inner * inner + (outer * outer - inner * inner) * uniform(e, key, count)
            radius, angle = reach[b] * math.sqrt(share), 2 * math.pi * uniform(e, key, count)
            x, y, is_free = radius * math.cos(angle), radius * math.sin(angle), True
            for m in range(len(obstacles)):
                gap = math.hypot(x - obstacles[m, 0], y - obstacles[m, 1]) - obstacles[m, 2]
                is_free = is_free and gap > 0.02
            goal[e, 0], goal[e, 1] = x, y
            if is_free:
                break
        scale[e] = reach[b]
    goal_number[e] += 1
    step_count[e] = 0


def _make_play(stamp: str) -> Any:
    """Make :func:`play`, which names ``stamp``, the digest of all files that are compiled into it."""

    @compiled
    def play(
        start, stop, num_physics, begins, action, state, body, step_count, key, count, goal_number, goal,
        scale, num_joints, coupling, table, reach, goals, obstacles, step_s, num_steps, success_m, noise,
        inner, outer, goal_scale, as_speed, has_contacts, draws_body, layout, width, morph, mask_at, obs,
        final_obs, terms, measures, reward, truncated,
    ):  # fmt: skip
        _ = stamp
        one = state.dtype.type(1)
        frame = carray(on_stack(state.dtype), (4, 7))
        for e in range(start, stop):
            b = body[e]
            n = num_joints[b]
            touching = 0
            if not begins:
                effort = change = 0.0
                for i in range(n):
                    u = state.dtype.type(action[e, i])
                    if u > one:  # not min and max: NaN must come through
                        u = one
                    elif u < -one:
                        u = -one
                    du = u - state[e, ACTION, i]
                    effort += u * u
                    change += du * du
                    state[e, ACTION, i] = u
                for _k in range(num_physics):
                    if n == 3:
                        swing((0, 0, 0), e, b, state, coupling, table, step_s, as_speed)
                    elif n == 4:
                        swing((0, 0, 0, 0), e, b, state, coupling, table, step_s, as_speed)
                    elif n == 5:
                        swing((0, 0, 0, 0, 0), e, b, state, coupling, table, step_s, as_speed)
                    else:
                        swing((0, 0, 0, 0, 0, 0), e, b, state, coupling, table, step_s, as_speed)
                wrap(n, e, state)
                step_count[e] += 1
                place(n, e, b, state, table, frame)
                touching = touched(n, b, frame, table, obstacles) if has_contacts else 0
                dx, dy = goal[e, 0] - frame[0, n], goal[e, 1] - frame[1, n]
                distance = math.sqrt(dx * dx + dy * dy)
                is_success = distance < success_m
                effort, change = effort / n, change / n
                reward[e] = write_terms(
                    e, terms, distance / scale[e], effort, change, is_success, (touching & 3) != 0
                )
                measures[e, 0], measures[e, 1] = distance, distance / reach[b]
                measures[e, 2] = 1.0 if is_success else 0.0
                measures[e, 3] = 1.0 if distance < 0.05 else 0.0
                measures[e, 4] = 1.0 if (touching & 3) != 0 else 0.0
                measures[e, 5], measures[e, 6] = effort, n
                truncated[e] = step_count[e] >= num_steps
            for k in range(2):  # what is seen after the step; once more after an episode has begun
                if begins or k == 1:
                    begin(
                        e, state, body, step_count, key, count, goal_number, goal, scale, num_joints, reach,
                        goals, obstacles, noise, inner, outer, goal_scale, draws_body,
                    )  # fmt: skip
                    b = body[e]
                    n = num_joints[b]
                    place(n, e, b, state, table, frame)
                    touching = touched(n, b, frame, table, obstacles) if has_contacts else 0
                left = 1 - step_count[e] / num_steps
                out = final_obs if not begins and truncated[e] and k == 0 else obs
                write_observation(
                    e, n, b, out, state, frame, goal, scale, table, reach, obstacles, touching, left, layout,
                    width, morph, mask_at,
                )  # fmt: skip
                if begins or not truncated[e]:
                    break

    return play


play = _make_play(digest_of_sources(__file__))
"""Step the arms ``start`` to ``stop``, or (``begins``) begin episodes there.

``PlanarArms`` holds the arrays. ``num_physics`` physics steps of ``step_s`` seconds are taken; none where
another simulator has moved ``state``. ``obs``, ``final_obs`` (only where an episode ended), ``terms``,
``measures``, ``reward`` and ``truncated`` are written to.
"""
