"""``GO2-v0``: thousands of quadrupeds in one call, as a ``VectorEnv``.

Axes: N environments, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.arguments import Copies, RenderMode, check_arguments
from lit_rl.envs.go2.contract import contract_of, trials_of
from lit_rl.envs.go2.kernel import (
    MEASURES,
    begin,
    command,
    judge,
    limit_torques,
    make_rows,
    numbers_of,
)
from lit_rl.envs.go2.model import (
    HIP_M,
    LEG_M,
    LEGS,
    NUM_JOINTS,
    THIGH_OFFSET_M,
    TORQUE_NM,
    TRUNK,
    make_model,
)
from lit_rl.envs.go2.rewards import TERMS
from lit_rl.envs.go2.symmetry import mirror_of
from lit_rl.envs.go2.task import NAME, make_task
from lit_rl.envs.mujoco_batch import Simulations, check_record
from lit_rl.envs.native import REWARD_PREFIX
from lit_rl.envs.streams import make_keys
from lit_rl.types import CRITIC, OBSERVATION, ActionSpec, EnvSpec, LeafSpec, NestedArray, Step

REPORTED = (*MEASURES, *(REWARD_PREFIX + term for term in TERMS))
"""Names that ``record`` may ask for."""
_FALLEN, _DIVERGED = MEASURES.index("has_fallen"), MEASURES.index("has_diverged")


class Go2Batch:
    """Quadrupeds that shall walk with the velocity that they are asked for.

    Spaces: observation ``(N, 48)`` float32 (``observations.py``; 45 as a robot can measure it, longer with a
    history, a dict with a further part for critics); action ``(N, 12)`` within [-1, 1], which moves the
    target angles of the joints around the stance. The reward is the sum of the terms of ``rewards.py``.
    Episodes terminate when a robot falls, and are truncated after ``max_traj_length`` steps. Environment i
    draws from its own stream, that of ``seed + i``.

    Args:
        num_envs: Number N of robots.
        render_mode: ``rgb_array`` or None; :meth:`frame` works with both.
        record: Names of ``REPORTED`` to return in ``Step.metrics``.
        **settings: Fields of ``Go2Task`` (``task.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    def __init__(
        self, num_envs: Copies, *, render_mode: RenderMode = None, record: Sequence[str] = (), **settings: Any
    ) -> None:
        check_arguments(Go2Batch, locals())
        self._record = check_record(record, REPORTED, NAME)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.task = task = make_task(settings)
        seen = LeafSpec([task.history * task.num_features])
        bounds = [1.0] * NUM_JOINTS
        self.spec = EnvSpec(
            name=NAME,
            observation={OBSERVATION: seen, CRITIC: LeafSpec([60])} if task.critic else seen,
            action=ActionSpec("box", [NUM_JOINTS], low=[-bound for bound in bounds], high=bounds),
            mirror=mirror_of(task.observation == "full", task.history, task.critic),
        )
        model = make_model(task.timestep_s, task.stiffness, task.damping, task.solver)
        self._trunk = model.body(TRUNK).id
        self._simulations = sims = Simulations(model, num_envs, min(task.num_threads, num_envs), NAME)
        self._torque, self._force = sims.bind("actuator_force"), sims.bind("sensordata")
        self._mass, self._centre = float(model.body_mass[self._trunk]), model.body_ipos[self._trunk].copy()
        self._varied = {field: sims.vary(field) for field in self._fields_that_vary()}
        self._numbers, self._rows = numbers_of(task), make_rows(num_envs, task)
        self._controls = np.zeros((num_envs, task.num_substeps, NUM_JOINTS))
        self._change2 = np.zeros(num_envs)
        self._rows.key[:] = make_keys(0, num_envs)
        self._begin(np.arange(num_envs), is_start=True)

    def _fields_that_vary(self) -> list[str]:
        """Name the fields of the model that differ between robots."""
        task = self.task
        limits = ["actuator_forcerange"] if task.actuator == "pd_torque_speed" else []
        if not task.randomize:
            return limits
        gains = ["actuator_gainprm", "actuator_biasprm"] if tuple(task.gain_factor) != (1, 1) else []
        masses = ["body_mass"] if tuple(task.added_mass_kg) != (0, 0) else []
        return [*limits, *gains, *masses, *(["body_ipos"] if task.shift_m else []), "geom_friction"]

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self._rows.key[:] = make_keys(seed, self.num_envs)
        self._rows.num_drawn[:] = 0
        self._begin(np.arange(self.num_envs), is_start=True)
        return self._observation()

    def begin_episodes(self, rows: np.ndarray) -> NestedArray:
        """Begin new episodes in the environments ``rows`` ``(E,)``, wherever they are; obs ``(E, ...)``."""
        self._begin(np.asarray(rows, np.int64))
        return self._observation(rows)

    def step(self, action: np.ndarray) -> Step:
        """Move all robots for one step; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape.
            FloatingPointError: The simulations of all robots diverged at once.
        """
        if action.shape != (self.num_envs, NUM_JOINTS):
            expected = f"action must have shape {(self.num_envs, NUM_JOINTS)} (robots, joints)"
            raise ValueError(f"{NAME}: {expected}, got {tuple(action.shape)}")
        sims, num = self._simulations, self.num_envs
        command(np.asarray(action), self._rows, self._numbers, self._controls, self._change2)
        has_diverged = np.zeros(num, bool)
        for row in self._advance():
            has_diverged[row] = True
        reward = np.empty(num, np.float32)
        terms, measures = np.empty((num, len(TERMS))), np.empty((num, len(MEASURES)))
        terminated, truncated = np.empty(num, bool), np.empty(num, bool)
        judge(
            sims.qpos, sims.qvel, self._torque, self._force, has_diverged, self._change2, self._rows,
            self._numbers, terms, measures, reward, terminated, truncated,
        )  # fmt: skip
        rows, final_obs = np.flatnonzero(terminated | truncated), None
        if len(rows):
            final_obs = self._observation(rows)
            self._begin(rows)
        reported = np.concatenate([measures, terms], 1).astype(np.float32) if self._record else measures
        metrics = {name: reported[:, REPORTED.index(name)].copy() for name in self._record}
        return Step(self._observation(), reward, terminated, truncated, final_obs, None, metrics)

    def _advance(self) -> np.ndarray:
        """Take the substeps of one step; return the robots whose simulation diverged."""
        sims, task = self._simulations, self.task
        if task.actuator == "pd_torque_speed":  # what motors can give changes with every substep
            diverged, limits = [], self._varied["actuator_forcerange"]
            for k in range(task.num_substeps):
                limit_torques(sims.qvel[:, 6:], TORQUE_NM, limits)
                sims.ctrl[:] = self._controls[:, k]
                diverged.append(sims.advance(1))
            return np.concatenate(diverged)
        if self._rows.targets.shape[1] > 1:
            return sims.advance_through(self._controls)
        sims.ctrl[:] = self._controls[:, 0]
        return sims.advance(task.num_substeps)

    def _begin(self, rows: np.ndarray, *, is_start: bool = False) -> None:
        """Begin episodes in ``rows``, and give their models what was drawn."""
        sims = self._simulations
        sims.clear(rows)
        begin(rows, sims.qpos, sims.qvel, self._rows, self._numbers, is_start)
        self._apply(rows)

    def _apply(self, rows: np.ndarray) -> None:
        """Give the models of ``rows`` what was drawn for their robots."""
        drawn, varied, task = self._rows.drawn[rows], self._varied, self.task
        if "geom_friction" in varied:  # a contact takes the larger one of its two geoms
            varied["geom_friction"][rows, :, 0] = drawn[:, :1]
        if "actuator_gainprm" in varied:
            varied["actuator_gainprm"][rows, :, 0] = task.stiffness * drawn[:, 2:3]
            varied["actuator_biasprm"][rows, :, 1] = -task.stiffness * drawn[:, 2:3]
            varied["actuator_biasprm"][rows, :, 2] = -task.damping * drawn[:, 2:3]
        if "body_ipos" in varied:
            varied["body_ipos"][rows, self._trunk] = self._centre + drawn[:, 3:]
        if "body_mass" in varied:
            varied["body_mass"][rows, self._trunk] = self._mass + drawn[:, 1]
        if "body_ipos" in varied or "body_mass" in varied:
            self._simulations.update_constants(rows)

    def _observation(self, rows: np.ndarray | slice = slice(None)) -> NestedArray:
        """Return new arrays of what the robots ``rows`` saw last."""
        frames = self._rows.frames[rows]
        seen = np.array(frames.reshape(len(frames), -1))
        return {OBSERVATION: seen, CRITIC: np.array(self._rows.critic[rows])} if self.task.critic else seen

    def frame(self, env: int = 0) -> np.ndarray:
        """RGB image ``(height, width, 3)`` uint8 of one robot, seen from beside it."""
        return self._simulations.image(env, "follow")

    def picture(self, env: int) -> dict[str, Any]:
        """Describe one robot as plain types, from which a report draws how it walks."""
        sims, rows = self._simulations, self._rows
        if not 0 <= env < self.num_envs:
            raise IndexError(f"env must be from 0 to {self.num_envs - 1}, got {env}")
        return {
            "kind": "quadruped",
            "legs": list(LEGS),
            "step_s": self.task.control_s,
            "place": sims.qpos[env, :3].round(4).tolist(),
            "rotation": sims.qpos[env, 3:7].round(4).tolist(),
            **_points(sims.qpos[env]),
            "command": rows.command[env].round(4).tolist(),
            "velocity": self._velocity(env).round(4).tolist(),
            "foot_force": self._force[env].round(2).tolist(),
        }

    def contract(self) -> dict[str, Any]:
        """Describe joints, controller, timing and observation, for those who run a policy on the robot."""
        return contract_of(self.task)

    def trials(self) -> dict[str, Any]:
        """Name other worlds in which a policy is tried before it leaves, and what it must reach there."""
        return trials_of(self.task)

    def _velocity(self, env: int) -> np.ndarray:
        """Return x and y velocity of one trunk in its own frame, and its turning rate."""
        velocity = self._simulations.qvel[env]
        ahead, left, _ = _matrix(*self._simulations.qpos[env, 3:7]).T @ velocity[:3]
        return np.array([ahead, left, velocity[5]])

    def get_state(self) -> dict[str, Any]:
        """Return simulations, episodes and random streams, as tensors and plain types."""
        import torch

        rows = {
            name: torch.from_numpy(
                values.view(np.int64).copy() if values.dtype == np.uint64 else values.copy()
            )
            for name, values in self._rows._asdict().items()
        }
        return {"simulations": self._simulations.get_state(), "rows": rows}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of robots, or of another task.
        """
        saved = {name: value.numpy() for name, value in state["rows"].items()}
        saved.setdefault("air", np.zeros_like(self._rows.air))  # states of earlier versions lack it
        for name, old in self._rows._asdict().items():
            if saved[name].shape != old.shape:
                raise ValueError(
                    f"{NAME}: the state has {name} of shape {saved[name].shape}, expected {old.shape}; make "
                    "as many environments, with the same settings, as were saved"
                )
        self._simulations.set_state(state["simulations"])
        for name, old in self._rows._asdict().items():
            old[...] = saved[name].view(old.dtype)
        self._apply(np.arange(self.num_envs))

    def close(self) -> None:
        """Release what draws; further calls do nothing."""
        self._simulations.close()


def _points(qpos: np.ndarray) -> dict[str, Any]:
    """Return places in m of the trunk's ends, and of hip, thigh, knee and foot of each leg."""
    trunk, at = _matrix(*qpos[3:7]), qpos[:3]
    legs = []
    for leg, (x, y) in enumerate(HIP_M):
        hip, thigh, calf = qpos[7 + 3 * leg : 10 + 3 * leg]
        side = np.sign(y)
        frame = trunk @ _about_x(hip)
        places = [at + trunk @ [x, y, 0]]
        places.append(places[0] + frame @ [0, side * THIGH_OFFSET_M, 0])
        for angle in (thigh, calf):
            frame = frame @ _about_y(angle)
            places.append(places[-1] + frame @ [0, 0, -LEG_M])
        legs.append(np.array(places).round(3).tolist())
    ends = [at + trunk @ [end, 0, 0] for end in (-0.19, 0.19)]
    return {"trunk_points": np.array(ends).round(3).tolist(), "leg_points": legs}


def _matrix(w: float, x: float, y: float, z: float) -> np.ndarray:
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _about_x(angle: float) -> np.ndarray:
    return _matrix(np.cos(angle / 2), np.sin(angle / 2), 0.0, 0.0)


def _about_y(angle: float) -> np.ndarray:
    return _matrix(np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0)
