"""How good a planar arm is, from what it reached in its episodes.

Fitness functions take the bodies, the success and the last distance of each episode
``(bodies, episodes)``, and the length by which distances are divided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from lit_rl.envs.arm.body import Bodies

DISTANCE, EFFORT = 0.5, 0.2
"""Weights of the distance that is left, and of the strength of the motors."""
STRONGEST = 0.40
"""Torque in Nm of a motor that costs all of ``EFFORT``."""


class Fitness(Protocol):
    """Says how good bodies are."""

    def __call__(
        self, bodies: Bodies, success: np.ndarray, distance_m: np.ndarray, length_m: float
    ) -> np.ndarray:
        """Return ``(bodies,)``, larger is better."""
        ...


def arm_fitness(bodies: Bodies, success: np.ndarray, distance_m: np.ndarray, length_m: float) -> np.ndarray:
    """Return success rate - 0.5 distance left / length - 0.2 mean torque / strongest torque.

    The motors cost something, because without a cost random arms are as good as the best ones.
    """
    torque = (bodies.gear * bodies.has_joint).sum(1) / bodies.num_joints
    return success.mean(1) - DISTANCE * distance_m.mean(1) / length_m - EFFORT * torque / STRONGEST


def genetic_fitness(
    bodies: Bodies, success: np.ndarray, distance_m: np.ndarray, length_m: float
) -> np.ndarray:
    """Return fitness in tiers by reach: an arm that is too short is judged by its length, not by success.

    With ``r`` the share of ``length_m`` that 0.85 of the arm's reach is: below 1 it is ``0.5 r``; from there
    on ``0.6 + 0.25 success rate + 0.1 min(1, r / 2) + 0.05 (1 - distance left / length)``.
    """
    share = 0.85 * bodies.reach_m / length_m
    left = np.minimum(distance_m.mean(1) / length_m, 1.0)
    long_enough = 0.6 + 0.25 * success.mean(1) + 0.1 * np.minimum(1.0, share / 2) + 0.05 * (1 - left)
    return np.where(share < 1, 0.5 * share, long_enough)
