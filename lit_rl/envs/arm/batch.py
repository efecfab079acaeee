"""``PlanarArm-v0``: thousands of different arms in one call, as a ``VectorEnv``.

Axes: N environments, U action dimensions, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lit_rl.arguments import Copies, RenderMode, check_arguments
from lit_rl.checks import nearest
from lit_rl.envs.arm.body import (
    ARMATURE,
    DAMPING,
    DENSITY,
    LENGTH_M,
    MAX_JOINTS,
    RADIUS_M,
    Bodies,
    coupling,
)
from lit_rl.envs.arm.dynamics import COS, SIN
from lit_rl.envs.arm.kernel import MEASURES, play
from lit_rl.envs.arm.observations import BODY_NUMBER, LAYOUTS, PADDED, Layout
from lit_rl.envs.arm.rewards import TERMS
from lit_rl.envs.arm.task import INNER, OUTER, make_task
from lit_rl.envs.native import REWARD_PREFIX
from lit_rl.envs.streams import make_keys
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, NestedArray, Step

NAME = "PlanarArm-v0"
REPORTED = (*MEASURES, *(REWARD_PREFIX + term for term in TERMS))
"""Names that ``record`` may ask for."""
_STANDARD_MASS = DENSITY * np.pi * RADIUS_M**2 * (LENGTH_M + 4 / 3 * RADIUS_M)
_SAVED = ("state", "body", "step_count", "key", "count", "goal_number", "goal", "scale")


class PlanarArms:
    """Arms of three to six joints, in a horizontal plane, whose tips shall go to a goal and stay there.

    Spaces: observation ``(N, 3n + 5)`` float32 for n joints at the defaults (see ``observations.py`` for the
    other layouts); action ``(N, U)`` within [-1, 1], one torque per joint. The reward is the sum of the terms
    of ``rewards.py``. Episodes are truncated after ``num_steps``, and never terminate. Environment i draws
    from its own stream, that of ``seed + i``.

    Args:
        num_envs: Number N of arms.
        render_mode: ``rgb_array`` or None; :meth:`frame` works with both.
        record: Names of ``REPORTED`` to return in ``Step.metrics``.
        **settings: Fields of ``ArmTask`` (``task.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    def __init__(
        self, num_envs: Copies, *, render_mode: RenderMode = None, record: Sequence[str] = (), **settings: Any
    ) -> None:
        check_arguments(PlanarArms, locals())
        for name in record:
            if name not in REPORTED:
                hint = nearest(name, REPORTED)
                known = ", ".join(REPORTED)
                raise ValueError(f"record={name!r} is not reported by {NAME}.{hint} Known: {known}")
        self.task = task = make_task(settings)
        self.num_envs, self.render_mode, self._record = num_envs, render_mode, tuple(record)
        bodies = task.make_bodies()
        self.width, self._is_padded = task.room_for(bodies)
        self.layout = Layout(task.layout, self.width, self._is_padded, task.morph, len(task.obstacles))
        leaves = {key: LeafSpec(shape) for key, (_, shape) in self.layout.parts.items()}
        if task.fixed_bodies:
            leaves = {key or PADDED: leaf for key, leaf in leaves.items()}
            leaves[BODY_NUMBER] = LeafSpec([], "int64", [len(bodies)])
        bounds = [1.0] * self.width
        self.spec = EnvSpec(
            name=NAME,
            observation=leaves.get("", leaves),
            action=ActionSpec("box", [self.width], low=[-bound for bound in bounds], high=bounds),
        )
        self.dtype = np.dtype(task.precision)
        self.state = np.zeros((num_envs, 5, MAX_JOINTS), self.dtype)
        self.step_count = np.zeros(num_envs, np.int64)
        self.key, self.count = make_keys(0, num_envs), np.zeros(num_envs, np.uint64)
        self.goal_number = np.arange(num_envs)
        self.goal, self.scale = np.zeros((num_envs, 2), self.dtype), np.ones(num_envs, self.dtype)
        self.body = np.arange(num_envs) % len(bodies) if task.fixed_bodies else np.zeros(num_envs, np.int64)
        self._draws_body = len(bodies) > 1 and not task.fixed_bodies
        self.tables = make_tables(bodies, self.dtype)
        self.bodies = bodies
        self._fixed = self._fixed_arguments()
        self._pool = ThreadPoolExecutor(task.threads) if task.threads > 1 else None
        self._simulators = None
        if task.backend == "mujoco":
            from lit_rl.envs.arm.simulator import Simulators

            self._simulators = Simulators(task, num_envs)
        self._out = _Out(num_envs, self.layout.size)
        self._begin(slice(0, num_envs))

    def _fixed_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of ``play`` that belong to the task."""
        task, real = self.task, self.dtype.type
        goals = task.goal_table
        return (
            goals.astype(self.dtype),
            np.array(task.obstacles, self.dtype).reshape(-1, 3),
            real(task.step_s),
            task.num_steps,
            real(task.success_m),
            task.start_noise_rad,
            INNER,
            OUTER,
            float(np.hypot(*goals.T).max()) if len(goals) else 1.0,
            task.control == "speed",
            task.contacts,
        )

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self.key, self.count = make_keys(seed, self.num_envs), np.zeros(self.num_envs, np.uint64)
        self.goal_number = int(seed) + np.arange(self.num_envs)
        return self._observation(self._begin(slice(0, self.num_envs)), self.body)

    def begin_episodes(self, rows: np.ndarray) -> NestedArray:
        """Begin new episodes in the environments ``rows`` ``(E,)``, wherever they are; obs ``(E, ...)``."""
        seen = np.concatenate([self._begin(slice(int(e), int(e) + 1)) for e in rows])
        return self._observation(seen, self.body[rows])

    def set_bodies(self, bodies: Bodies, body: np.ndarray | None = None) -> NestedArray:
        """Give the environments these arms from now on, and begin new episodes.

        Args:
            bodies: The arms, which fit the room of observation and action.
            body: ``(N,)`` int, the number of the arm that each environment has; None gives environment i the
                arm ``i % len(bodies)``.

        Returns:
            The first observations.

        Raises:
            ValueError: An arm has more joints than there is room for, or fewer where no mask tells so; or
                ``body`` names no arm.
        """
        smallest, largest = int(bodies.num_joints.min()), int(bodies.num_joints.max())
        if largest > self.width or (smallest < self.width and not self._is_padded):
            expected = f"at most {self.width}" if self._is_padded else f"exactly {self.width}"
            raise ValueError(
                f"{NAME}: set_bodies expects arms of {expected} joints here, got {smallest} to {largest}; "
                "give joints or max_joints when the environments are made"
            )
        leaf = self.spec.observation.get(BODY_NUMBER) if isinstance(self.spec.observation, dict) else None
        if leaf is not None and len(bodies) > leaf.categories[0]:
            raise ValueError(
                f"{NAME}: set_bodies expects at most {leaf.categories[0]} arms, which fixed_bodies numbers, "
                f"got {len(bodies)}"
            )
        body = np.arange(self.num_envs) % len(bodies) if body is None else np.array(body, np.int64)
        if body.shape != (self.num_envs,) or body.min() < 0 or body.max() >= len(bodies):
            raise ValueError(
                f"{NAME}: body must hold {self.num_envs} numbers from 0 to {len(bodies) - 1}, "
                f"got shape {body.shape}"
            )
        self.bodies, self.body, self._draws_body = bodies, body, False
        self.tables = make_tables(bodies, self.dtype)
        if self._simulators is not None:
            self._simulators.forget()
        return self._observation(self._begin(slice(0, self.num_envs)), self.body)

    def step(self, action: np.ndarray) -> Step:
        """Move all arms for one step; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape.
        """
        if action.shape != (self.num_envs, self.width):
            expected = f"action must have shape {(self.num_envs, self.width)} (arms, joints)"
            raise ValueError(f"{NAME}: {expected}, got {tuple(action.shape)}")
        action = np.ascontiguousarray(action, np.float32)
        num_physics = self.task.frame_skip
        if self._simulators is not None:
            self._simulators.step(self.bodies, self.state, action)
            num_physics = 0
        out = self._out
        out.renew()
        self._play(num_physics, False, action)
        rows = np.flatnonzero(out.truncated)
        final_obs = None
        if len(rows):
            final_obs = self._observation(out.final_obs[rows], self.body[rows])
            if self._simulators is not None:
                self._simulators.place(self.bodies, self.body, self.state, rows)
        return Step(
            self._observation(out.obs, self.body),
            out.reward,
            np.zeros(self.num_envs, bool),
            out.truncated,
            final_obs,
            None,
            {name: out.column(name) for name in self._record},
        )

    def _observation(self, row: np.ndarray, body: np.ndarray) -> NestedArray:
        """Return rows as the observation, with the numbers of the bodies where these are fixed."""
        seen = self.layout.split(row)
        if not self.task.fixed_bodies:
            return seen
        return (seen if isinstance(seen, dict) else {PADDED: seen}) | {BODY_NUMBER: body.copy()}

    def _begin(self, rows: slice) -> np.ndarray:
        """Begin episodes in ``rows``, and return what is seen there, one row each."""
        self._out.renew()
        self._play(0, True, np.empty((self.num_envs, self.width), np.float32), rows)
        if self._simulators is not None:
            self._simulators.place(self.bodies, self.body, self.state, np.arange(self.num_envs)[rows])
        return self._out.obs[rows]

    def _play(self, num_physics: int, begins: bool, action: np.ndarray, rows: slice | None = None) -> None:
        """Let compiled code play the environments ``rows``, shared by the threads; None plays all."""
        state = (
            self.state,
            self.body,
            self.step_count,
            self.key,
            self.count,
            self.goal_number,
            self.goal,
            self.scale,
        )
        layout, out = self.layout, self._out
        end = (
            self._draws_body,
            LAYOUTS.index(layout.name),
            layout.width,
            layout.morph,
            layout.mask_at,
        )

        def play_part(start: int, stop: int) -> None:
            play(
                start, stop, num_physics, begins, action, *state, *self.tables, *self._fixed, *end,
                out.obs, out.final_obs, out.terms, out.measures, out.reward, out.truncated,
            )  # fmt: skip

        if self._pool is None or rows is not None:
            play_part(*(rows or slice(0, self.num_envs)).indices(self.num_envs)[:2])
            return
        edges = np.linspace(0, self.num_envs, self.task.threads + 1).astype(int).tolist()
        list(self._pool.map(play_part, edges[:-1], edges[1:]))

    def frame(self, env: int = 0) -> np.ndarray:
        """RGB image ``(height, width, 3)`` uint8 of one arm."""
        from lit_rl.envs.arm.render import Scene, draw

        places, body = self.joint_places(env), int(self.body[env])
        return draw(
            Scene(
                places=places,
                radius_m=self.bodies.radius_m[body, : len(places) - 1],
                reach_m=float(self.bodies.reach_m[body]),
                goal=self.goal[env].astype(np.float64),
                success_m=self.task.success_m,
                obstacles=self.task.obstacles,
                step=int(self.step_count[env]),
            )
        )

    def picture(self, env: int) -> dict[str, Any]:
        """Describe one arm and its goal in m as plain types, from which a report draws it."""
        return {
            "kind": "planar_arm",
            "places": self.joint_places(env).round(4).tolist(),
            "reach_m": round(float(self.bodies.reach_m[self.body[env]]), 4),
            "goal": self.goal[env].astype(np.float64).round(4).tolist(),
            "success_m": self.task.success_m,
            "obstacles": [list(map(float, obstacle)) for obstacle in self.task.obstacles],
        }

    def joint_places(self, env: int) -> np.ndarray:
        """Return x and y in m of the joints and of the tip of one arm: ``(joints + 1, 2)``.

        Raises:
            IndexError: There is no such arm.
        """
        if not 0 <= env < self.num_envs:
            raise IndexError(f"env must be from 0 to {self.num_envs - 1}, got {env}")
        body = int(self.body[env])
        n = int(self.bodies.num_joints[body])
        sine, cosine = self.state[env, SIN, :n], self.state[env, COS, :n]
        angle = np.arctan2(sine, cosine).astype(np.float64).cumsum()
        links = self.bodies.length_m[body, :n, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        return np.concatenate([np.zeros((1, 2)), links.cumsum(0)])

    def get_state(self) -> dict[str, Any]:
        """Return arms, episodes and random streams, as tensors and plain types."""
        import torch

        saved = {name: getattr(self, name) for name in _SAVED}
        for name in ("key", "count"):
            saved[name] = saved[name].view(np.int64)
        bodies = {
            name: torch.tensor(getattr(self.bodies, name))
            for name in ("num_joints", "length_m", "gear", "radius_m")
        }
        state = {name: torch.tensor(values) for name, values in saved.items()}
        state |= {"bodies": bodies, "draws_body": self._draws_body}
        if self._simulators is not None:
            state["simulators"] = self._simulators.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of environments, or of another precision.
        """
        for name in _SAVED:
            old, new = getattr(self, name), state[name].numpy()
            if new.shape != old.shape or (name == "state" and new.dtype != old.dtype):
                raise ValueError(
                    f"{NAME}: the state has {name} of shape {new.shape} ({new.dtype}), expected {old.shape} "
                    f"({old.dtype}); make as many environments, of the same precision, as were saved"
                )
        for name in _SAVED:
            old, new = getattr(self, name), state[name].numpy()
            setattr(self, name, new.view(np.uint64).copy() if old.dtype == np.uint64 else new.copy())
        self.bodies = Bodies(**{name: values.numpy().copy() for name, values in state["bodies"].items()})
        self._draws_body = state["draws_body"]
        self.tables = make_tables(self.bodies, self.dtype)
        if self._simulators is not None:
            self._simulators.forget()
            self._simulators.place(self.bodies, self.body, self.state, np.arange(self.num_envs))
            self._simulators.set_state(state["simulators"])

    def close(self) -> None:
        """End the threads, if there are any."""
        if self._pool is not None:
            self._pool.shutdown()


class _Out:
    """Arrays that ``play`` writes: those of :meth:`renew` are given away, the others are copied from."""

    def __init__(self, num_envs: int, size: int) -> None:
        self._shape = (num_envs, size)
        self.final_obs = np.empty(self._shape, np.float32)
        self.terms = np.empty((num_envs, len(TERMS)), np.float32)
        self.measures = np.empty((num_envs, len(MEASURES)), np.float32)
        self.renew()

    def renew(self) -> None:
        """Make new arrays of what the caller keeps."""
        self.obs = np.empty(self._shape, np.float32)
        self.reward = np.empty(len(self.obs), np.float32)
        self.truncated = np.zeros(len(self.obs), bool)

    def column(self, name: str) -> np.ndarray:
        """Return what was reported by a name."""
        if name in MEASURES:
            return self.measures[:, MEASURES.index(name)].copy()
        return self.terms[:, TERMS.index(name.removeprefix(REWARD_PREFIX))].copy()


def make_tables(bodies: Bodies, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Return what compiled code knows of the arms.

    Returns:
        Joint counts ``(bodies,)``, inertia of pairs of links ``(bodies, 6, 6)``, the columns of
        ``dynamics.py`` ``(bodies, 6, 6)``, and reaches ``(bodies,)``.
    """
    has_joint = bodies.has_joint
    ones = np.ones_like(bodies.length_m)
    mass = np.where(has_joint, bodies.mass_kg, _STANDARD_MASS)
    columns = [
        bodies.length_m,
        bodies.gear,
        bodies.radius_m,
        DAMPING * ones,
        ARMATURE * ones,
        np.log(mass / _STANDARD_MASS),
    ]
    table = np.stack(columns, -1)
    return (
        bodies.num_joints.astype(np.int64),
        coupling(bodies).astype(dtype),
        np.ascontiguousarray(table, dtype),
        bodies.reach_m.astype(dtype),
    )
