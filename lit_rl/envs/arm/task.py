"""Every setting of the planar arm, with its unit and its default, and the bodies that it describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, cast

import numpy as np

from lit_rl.arguments import Finite, NonNegative, Positive, Range, Seed, SmallCount, Steps, check_arguments
from lit_rl.checks import nearest
from lit_rl.envs.arm.body import (
    RADIUS_M,
    ArmSpace,
    Bodies,
    Joints,
    are_numbers,
    bodies_from,
    standard_bodies,
)

LayoutName = Literal["trig", "seed", "tokens"]
Control = Literal["torque", "speed"]
Backend = Literal["kernel", "mujoco"]
Precision = Literal["float32", "float64"]
_GOAL_CHOICES = ("reach", "spiral")
INNER, OUTER = 0.15, 0.95
"""Goals within reach are drawn between these shares of it."""
MAX_SPIRAL_M = 0.47
"""Distance of the farthest goal of the spiral."""


@dataclass(frozen=True)
class ArmTask:
    """The task. Lengths in m, torques in Nm, angles in rad.

    Args:
        joints: Joint counts of the arms, each from 3 to 6.
        bodies: Arms that are described one by one: ``{"lengths": [...], "gears": [...], "radii": [...]}``,
            radii may be left out. None takes standard arms (links of 0.1 m, motors of 0.2 Nm), one for each
            of ``joints``, or random ones.
        num_bodies: How many random arms to draw from the ranges below; None draws none. With several arms,
            every episode draws one of them, all with the same chance.
        body_seed: Seed of the random arms.
        fixed_bodies: Whether environment i always has arm ``i % number of arms``, and observes the number of
            it at ``body_number`` (the other numbers of ``trig`` and ``seed`` then stand at ``padded``), as
            policies that each belong to one arm need it.
        length_m: Shortest and longest link of random arms.
        gear: Weakest and strongest motor of random arms.
        radius_m: Thinnest and thickest link of random arms; the radius decides the mass.
        max_joints: Joints for which observation and action have room; None takes the largest of ``joints``.
            Where arms may have fewer, observations come padded, with a mask.
        layout: What is observed (``observations.py``): ``trig``, ``seed`` or ``tokens``.
        morph: Whether ``trig`` and ``seed`` describe the body, too.
        control: ``torque``: actions in [-1, 1] are shares of the motors' torques. ``speed``: they are joint
            speeds, which the motors follow as far as their torques allow.
        goals: ``reach`` draws goals uniformly within 0.15 to 0.95 of an arm's reach; ``spiral`` takes 32
            fixed ones, the same for all arms; or a list of ``[x, y]``. Fixed goals follow each other, from
            the one on that has the number of the environment's seed.
        obstacles: ``[x, y, radius]`` of discs. Arms of the backend ``kernel`` notice them, and pay for
            touching them; those of ``mujoco`` are stopped by them.
        contacts: Whether an arm notices that it touches itself or an obstacle.
        num_steps: Steps until an episode is truncated; none ends earlier.
        frame_skip: Physics steps per step.
        step_s: Seconds per physics step.
        start_noise_rad: Each joint starts at most this far from the usual start pose.
        success_m: The tip is at the goal when it is closer.
        backend: ``kernel`` computes all arms in one compiled call; ``mujoco`` gives each a simulator, which
            knows the forces of contacts, and is much slower.
        precision: Numbers of the physics; observations are float32 always.
        threads: Threads that share the arms of the backend ``kernel``.

    Raises:
        ValueError: A setting is out of its range, or does not fit another one.
    """

    joints: Joints | Sequence[Joints] = 3
    bodies: Sequence[Mapping[str, Sequence[Positive]]] | None = None
    num_bodies: Annotated[int, Range(at_least=1, at_most=10**6)] | None = None
    body_seed: Seed = 0
    fixed_bodies: bool = False
    length_m: Sequence[Positive] = (0.04, 0.14)
    gear: Sequence[Positive] = (0.05, 0.40)
    radius_m: Sequence[Positive] = (RADIUS_M, RADIUS_M)
    max_joints: Joints | None = None
    layout: LayoutName = "trig"
    morph: bool = False
    control: Control = "torque"
    goals: str | Sequence[Sequence[Finite]] = "reach"
    obstacles: Sequence[Sequence[Finite]] = ()
    contacts: bool = True
    num_steps: Steps = 200
    frame_skip: SmallCount = 2
    step_s: Positive = 0.01
    start_noise_rad: NonNegative = 0.1
    success_m: Positive = 0.02
    backend: Backend = "kernel"
    precision: Precision = "float32"
    threads: SmallCount = 1

    def __post_init__(self) -> None:
        check_arguments(ArmTask, vars(self))
        if self.bodies is not None and self.num_bodies is not None:
            raise ValueError(
                "bodies describes the arms one by one, num_bodies draws random ones; give only one"
            )
        _ = self.space  # checks joint counts and ranges
        self._check_goals()
        self._check_obstacles()
        if self.morph and self.layout == "tokens":
            raise ValueError("morph=True is for the layouts trig and seed; tokens describe the body already")

    def _check_goals(self) -> None:
        if isinstance(self.goals, str):
            if self.goals not in _GOAL_CHOICES:
                hint = nearest(self.goals, _GOAL_CHOICES)
                raise ValueError(
                    f"goals must be reach, spiral, or a list of [x, y] in m, got {self.goals!r}.{hint}"
                )
        elif not self.goals or not all(are_numbers(goal, 2) for goal in self.goals):
            raise ValueError(f"goals must hold at least one [x, y] in m, got {self.goals!r:.80}")
        elif not self.goal_table.any():
            raise ValueError("goals must not all lie in the base at [0, 0]")

    def _check_obstacles(self) -> None:
        for obstacle in self.obstacles:
            if not are_numbers(obstacle, 3) or obstacle[2] <= 0:
                raise ValueError(
                    f"each of obstacles must be [x, y, radius] in m with radius > 0, got {obstacle!r}"
                )
            thickest = max(self.radius_m[1], RADIUS_M)
            if math.hypot(obstacle[0], obstacle[1]) < obstacle[2] + thickest:
                raise ValueError(f"obstacles must leave the base at [0, 0] free, got {list(obstacle)}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Joint counts of the arms."""
        return tuple(self.joints) if isinstance(self.joints, list | tuple) else (cast("int", self.joints),)

    @property
    def space(self) -> ArmSpace:
        """The arms that may be drawn."""
        return ArmSpace(self.counts, self.length_m, self.gear, self.radius_m)

    @property
    def goal_table(self) -> np.ndarray:
        """Fixed goals ``(goals, 2)``; empty where they are drawn."""
        if isinstance(self.goals, str):
            return spiral() if self.goals == "spiral" else np.empty((0, 2))
        return np.array(self.goals, np.float64)

    def make_bodies(self) -> Bodies:
        """Build the arms: the described ones, random ones, or standard ones."""
        if self.bodies is not None:
            return bodies_from(self.bodies)
        if self.num_bodies is None:
            return standard_bodies(self.counts)
        return self.space.decode(self.space.draw(self.num_bodies, np.random.default_rng(self.body_seed)))

    def room_for(self, bodies: Bodies) -> tuple[int, bool]:
        """Return the joints for which there is room, and whether arms may have fewer.

        Raises:
            ValueError: An arm has more joints than ``max_joints``.
        """
        largest = int(bodies.num_joints.max())
        if self.bodies is None:
            largest = max(largest, *self.counts, 0)
        width = largest if self.max_joints is None else self.max_joints
        if largest > width:
            raise ValueError(f"max_joints={width} has no room for an arm of {largest} joints")
        smallest = int(bodies.num_joints.min()) if self.bodies is not None else min(self.counts)
        return width, self.max_joints is not None or smallest < width


def spiral(num: int = 32, farthest_m: float = MAX_SPIRAL_M, inner_m: float = 0.02) -> np.ndarray:
    """Return goals on a golden-angle spiral, which covers a disc evenly: ``(goals, 2)`` in m."""
    k = np.arange(num)
    angle = 2 * math.pi * ((k * 0.618034) % 1)
    radius = np.sqrt((k + 0.5) / num) * (farthest_m - inner_m) + inner_m
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def make_task(settings: Mapping[str, Any]) -> ArmTask:
    """Make a task of the settings given by name; the others have their defaults.

    Raises:
        ValueError: There is no such setting, or a value is out of its range.
    """
    known = [field.name for field in fields(ArmTask)]
    for name in settings:
        if name not in known:
            raise ValueError(f"PlanarArm has no setting {name!r}.{nearest(name, known)}")
    return ArmTask(**settings)
