"""Measures planar arms: all of them, on all goals, in one batch.

Axes: N environments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.body import ArmSpace, Bodies
from lit_rl.envs.arm.controller import jacobian_transpose
from lit_rl.envs.arm.task import MAX_SPIRAL_M, spiral
from lit_rl.qd.descriptors import arm_measures
from lit_rl.qd.fitness import Fitness, arm_fitness
from lit_rl.qd.search import Measured

Play = Callable[[PlanarArms, int], tuple[np.ndarray, np.ndarray]]
"""Resets with a seed, plays one episode of every environment, and returns success and last distance in m:
``(N,)`` each."""
EPISODE = {"goals", "start_noise_rad", "joints", "bodies", "num_bodies"}


@dataclass(frozen=True)
class Goals:
    """Episodes on which every body is measured: the same for all, so that luck decides nothing.

    Args:
        places: ``(goals, 2)`` in m.
        noise_rad: Each joint starts at most this far from the usual start pose.
        seed: Seed of the start poses.
    """

    places: np.ndarray
    noise_rad: float = 0.0
    seed: int = 0

    @property
    def length_m(self) -> float:
        """Distance of the farthest goal from the base, by which distances are divided."""
        return float(np.linalg.norm(self.places, axis=1).max())


def fixed_goals(num: int = 16) -> Goals:
    """Return goals on a spiral that covers a disc of 0.47 m evenly."""
    return Goals(spiral(num))


def fresh_goals(seed: int, num: int = 16) -> Goals:
    """Return goals drawn from the disc of :func:`fixed_goals`, with start poses that differ, too."""
    rng = np.random.default_rng([seed, 2])
    radius, angle = MAX_SPIRAL_M * np.sqrt(rng.random(num)), 2 * np.pi * rng.random(num)
    return Goals(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), noise_rad=0.1, seed=seed)


def play_jacobian(
    arms: PlanarArms, seed: int, kp: float = 10.0, kd: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Play one episode with the Jacobian-transpose controller, which learns nothing."""
    arms.reset(seed)
    while True:
        step = arms.step(jacobian_transpose(arms, kp, kd))
        if step.truncated.all():
            return step.metrics["is_success"], step.metrics["distance_m"]


def measure_arms(
    space: ArmSpace,
    genes: np.ndarray,
    goals: Goals,
    play: Play = play_jacobian,
    fitness: Fitness = arm_fitness,
    **settings: Any,
) -> Measured:
    """Measure the arms of genotypes ``(bodies, genes)`` on all goals.

    Args:
        space: Arms that the genes describe.
        genes: The genotypes. One that is not finite is a failed body.
        goals: Episodes of each arm.
        play: Plays one episode of every environment.
        fitness: The objective.
        **settings: Fields of ``ArmTask``, such as the layout that a policy reads.
    """
    is_arm = np.asarray(np.isfinite(genes).all(axis=1))
    problems = ["" if is_fine else "genes are not finite" for is_fine in is_arm.tolist()]
    objective, measures = np.full(len(genes), np.nan), np.full((len(genes), 3), np.nan)
    if is_arm.any():
        bodies = space.decode(genes[is_arm])
        success, distance_m = play_goals(space, bodies, goals, play, settings)
        objective[is_arm] = fitness(bodies, success, distance_m, goals.length_m)
        measures[is_arm] = arm_measures(bodies)
    return Measured(objective, measures, problems)


def place_arms(space: ArmSpace, bodies: Bodies, goals: Goals, settings: dict[str, Any]) -> PlanarArms:
    """Make one environment for each body and each goal, those of the first body first.

    Args:
        space: Arms from which the bodies come.
        bodies: The bodies.
        goals: Episodes of each.
        settings: Fields of ``ArmTask``; what says which bodies and goals there are is left out.
    """
    num_goals = len(goals.places)
    own = {name: value for name, value in settings.items() if name not in EPISODE}
    if own.get("fixed_bodies"):
        own["num_bodies"] = len(bodies)  # so many are numbered
    arms = PlanarArms(
        len(bodies) * num_goals,
        record=("is_success", "distance_m"),
        joints=list(space.joints),
        goals=goals.places.tolist(),
        start_noise_rad=goals.noise_rad,
        **own,
    )
    arms.set_bodies(bodies, np.repeat(np.arange(len(bodies)), num_goals))
    return arms


def play_goals(
    space: ArmSpace, bodies: Bodies, goals: Goals, play: Play, settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return success and last distance in m of each body on each goal: ``(bodies, goals)`` each."""
    num_goals = len(goals.places)
    arms = place_arms(space, bodies, goals, settings)
    try:
        # environment i takes goal i, counted on and on
        success, distance_m = play(arms, goals.seed * num_goals)
    finally:
        arms.close()
    return success.reshape(len(bodies), num_goals), distance_m.reshape(len(bodies), num_goals)
