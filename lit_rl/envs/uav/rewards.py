"""The reward of the team, as named terms.

Every term is a multiple of 2**-20 (about 1e-6), so that their sum is the reward exactly, in any order and in
float32 as in float64.

Axes: N environments (networks).
"""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library
from lit_rl.envs.uav.energy import min_power_w, propulsion_power_w
from lit_rl.envs.uav.radio import Signals
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World

COVERAGE, THROUGHPUT, CONNECTIVITY, ENERGY, COLLISION = 0.5, 0.3, 0.2, 0.05, 0.1
"""Weights of the dense terms."""
DENSE_TERMS = ("coverage", "throughput", "connectivity", "energy", "collision")
SPARSE_TERMS = ("success",)
_GRID = 2.0**20
_FULL_SPEED_W = float(propulsion_power_w(np.array(30.0)))


def term_names(scenario: Scenario) -> tuple[str, ...]:
    """Names of the terms of the reward."""
    return SPARSE_TERMS if scenario.sparse else DENSE_TERMS


def reward_terms(
    scenario: Scenario, world: World, signals: Signals, has_succeeded: Array, xp: Library = NUMPY
) -> Array:
    """The terms ``(terms, N)`` float32 in the order of :func:`term_names`; their sum is the reward.

    Dense: ``0.5 coverage + 0.3 min(1, throughput / target) + 0.2 fraction of UAVs with a route
    - 0.05 mean of (P(V) - P_min) / P(30 m/s) - 0.1 [two UAVs are closer than the safe distance]``.
    Sparse: 1 at the step that completes the goal, once per episode.

    Args:
        scenario: Targets.
        world: World after the step.
        signals: Signals of that world.
        has_succeeded: ``(N,)`` bool, the goal was reached in this very step.
        xp: The library that computes.
    """
    if scenario.sparse:
        return xp.astype(has_succeeded[None], xp.float32)
    excess_w = xp.maximum(world.power_w - min_power_w(), 0.0).mean(1)
    is_close = signals.peer2 < scenario.safe_distance_m**2
    terms = xp.empty((len(DENSE_TERMS), len(excess_w)), xp.float32)
    terms[0] = COVERAGE / scenario.num_users * signals.num_connected
    terms[1] = THROUGHPUT * xp.minimum(signals.throughput_mbps / scenario.target_throughput_mbps, 1.0)
    terms[2] = CONNECTIVITY / scenario.num_uavs * (signals.routes.hops > 0).sum(1)
    terms[3] = -ENERGY / _FULL_SPEED_W * excess_w
    terms[4] = -COLLISION * is_close.any((1, 2))
    terms *= _GRID
    xp.rint(terms, out=terms)
    terms /= _GRID
    return terms


def update_goal(scenario: Scenario, world: World, signals: Signals) -> Array:
    """Count how long the goal coverage has been held; ``(N,)`` bool, the goal was reached in this step."""
    world.streak[:] += 1
    world.streak[signals.num_connected < scenario.goal_users] = 0
    has_succeeded = (world.streak >= scenario.goal_steps) & ~world.reached
    world.reached[:] |= has_succeeded
    return has_succeeded
